"""Which pictures a verb uses, by the model's own split, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from etinynet.data.files import words_of
from etinynet.data.labels import Dataset, list_folder, list_table, with_classes
from etinynet.data.reading import Reading
from etinynet.data.record import HeldOut, mark
from etinynet.data.split import recorded_rule, rule_of, split_held_out
from etinynet.errors import DataError
from etinynet.opened import Opened, held_out_of
from etinynet.show import note

__all__ = ["counted", "labelled", "note_found", "note_reading", "to_json", "told", "trained_rule"]


def trained_rule(opened: Opened) -> str | None:
    """The rule by which the pictures were split that `opened` was trained on, None if unknown."""
    if opened.loaded is not None:
        return recorded_rule(opened.loaded.provenance)
    weights = None if opened.graph is None else opened.graph.metadata.get("weights")
    return recorded_rule(weights) if isinstance(weights, Mapping) else None


def labelled(opened: Opened, data: Path, labels: Path | None, held_out: bool) -> Dataset:
    """Pictures of class folders, or of the table `labels`, whose classes `opened` knows by name.

    `held_out`: only those held out when `opened` was trained, wherever they lie now; where that
    is not recorded, by its rule, or as `train` would.
    """
    dataset = list_folder(data) if labels is None else list_table(labels, data)
    names = opened.class_names
    if labels is None and names is not None:
        known = with_classes(dataset, names)
        if known is None:
            unknown = next(name for name in dataset.class_names if names.count(name) != 1)
            raise DataError(
                f"{data}: class folder {unknown!r} is unknown; {opened.source} knows "
                f"{', '.join(names)[:200]}"
            )
        dataset = known
    if not held_out:
        return dataset
    record = held_out_of(opened)
    if record is not None:
        chosen = dataset.of(one for one in dataset.examples if record.has(one.path))
        if chosen.examples:
            _note_absent(record, chosen, data)
            return chosen
        if dataset.held_out_keys is None:
            raise DataError(
                f"{data}: none of the {len(record.marks):,} pictures that the training of "
                f"{opened.source} held out; without --held-out all pictures are measured"
            )
    rule = None if dataset.held_out_keys is not None else trained_rule(opened)
    return split_held_out(dataset, rule or rule_of(dataset))[1]


def _note_absent(record: HeldOut, found: Dataset, data: Path) -> None:
    here = len({mark(one.path) for one in found.examples})
    if here < len(record.marks):
        note(f"{here:,} of {len(record.marks):,} pictures that training held out are in {data}")


def counted(n: int, one: str, many: str) -> str:
    """`n` with its noun."""
    return f"{n:,} {one if n == 1 else many}"


def note_found(what: str, dataset: Dataset) -> None:
    """Says on stderr what is used, such as "40 pictures", and what was passed over."""
    words = f"; passed over: {words_of(dataset.passed_over)}" if dataset.passed_over else ""
    note(f"{what}{words}")


def note_reading(reading: Reading) -> None:
    """Says on stderr which pictures were left out as damaged, and how many have damaged EXIF."""
    if reading.damaged:
        note(f"left out as damaged, {len(reading.damaged):,}: {reading.words()}")
    if reading.flawed:
        first = reading.flawed[0]
        note(f"used, though data beside the pixels are damaged, {len(reading.flawed):,}: {first}")


def told(
    opened: Callable[[], None], what: str, dataset: Dataset, reading: Reading
) -> Callable[[], None]:
    """`opened`, called after each picture of `dataset`; the last time says what was found.

    `what`: what is said after the number of pictures.
    """
    left = len(dataset.examples)

    def after() -> None:
        nonlocal left
        opened()
        left -= 1
        if left == 0 and not reading.too_many():
            count = len(dataset.examples) - len(reading.damaged)
            note_found(f"{counted(count, 'picture', 'pictures')} {what}", dataset)
            note_reading(reading)

    return after


def to_json(dataset: Dataset, reading: Reading) -> dict[str, Any]:
    """Plain JSON of what was passed over and left out."""
    return {"passed_over": dict(dataset.passed_over), **reading.to_json()}
