"""Which pictures calibrate, train without labels and verify: in a fixed mixed order."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from etinynet.data.files import find_files, no_pictures, sub_folders
from etinynet.data.labels import Dataset, Example, class_folders, list_folder, with_classes
from etinynet.data.record import HeldOut
from etinynet.data.split import BY_FOLDER, parts_of, rule_of
from etinynet.errors import DataError

__all__ = ["HELD_OUT", "find_pictures", "list_pictures", "mixed", "training_pictures"]

#: What pictures that were held out are called among those passed over.
HELD_OUT = "held-out pictures"
_UNLABELLED = ("unlabelled",)


def mixed(examples: Iterable[Example], most: int | None = None) -> list[Example]:
    """At most `most` of `examples`, by SHA-256 of their keys.

    The order mixes classes and is the same on every machine.
    """
    return sorted(examples, key=lambda one: _digest(one.key))[:most]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def find_pictures(folder: Path, most: int) -> list[Path]:
    """At most `most` pictures of `folder` and the folders in it (data.files), mixed.

    Raises DataError: not a folder, unreadable, no picture.
    """
    return [one.path for one in list_pictures(folder).examples[:most]]


def list_pictures(
    folder: Path, class_names: Sequence[str] | None = None, rule: str | None = None
) -> Dataset:
    """All pictures of `folder` and the folders in it, mixed; every label is 0.

    With `rule`, the one that a model of these `class_names` was trained by, its held-out pictures
    are left out where the folder's classes are the model's. Raises DataError: not a folder,
    unreadable, no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder of pictures")
    dataset = _known_classes(folder, class_names) if rule is not None else None
    if dataset is not None:
        chosen = _split(dataset, rule)
        if chosen is not None:
            examples = [replace(one, label=0) for one in mixed(chosen[0].examples)]
            return Dataset(tuple(examples), _UNLABELLED, None, _with_held_out(dataset, chosen))
    found = find_files(folder)
    if not found.paths:
        raise no_pictures(folder, found.passed_over)
    every = [Example(path, 0, path.relative_to(folder).as_posix()) for path in found.paths]
    return Dataset(tuple(mixed(every)), _UNLABELLED, None, found.passed_over)


def _with_held_out(dataset: Dataset, parts: tuple[Dataset, Dataset]) -> Mapping[str, int]:
    return {**dataset.passed_over, HELD_OUT: len(parts[1].examples)}


def _split(dataset: Dataset, rule: str | None) -> tuple[Dataset, Dataset] | None:
    """Both parts by the folders or else by `rule`; None where the rule is of other folders."""
    if dataset.held_out_keys is not None:
        return parts_of(dataset)
    return None if rule == BY_FOLDER else parts_of(dataset, rule)


def _known_classes(folder: Path, class_names: Sequence[str] | None) -> Dataset | None:
    """`folder` as a data set of `class_names`, if its class folders are all named as one each."""
    if class_names is None:
        return None
    try:
        names = [path.name for path in sub_folders(class_folders(folder)[0])]
    except DataError:
        return None
    if not names or not all(class_names.count(name) == 1 for name in names):
        return None
    return with_classes(list_folder(folder), class_names)


def training_pictures(
    folders: Sequence[Path],
    most: int,
    class_names: Sequence[str] | None,
    rule: str | None = None,
    record: HeldOut | None = None,
) -> tuple[Dataset, bool]:
    """(pictures, whether they are labelled) of `folders`, at most `most` of each.

    Held out again is what the model's training held out, as `record` says, if any of it is there.
    Else `_by_rule` decides. Raises DataError.
    """
    if record is not None:
        dataset, labelled = _by_rule(folders, most, class_names, BY_FOLDER)
        keys = frozenset(one.key for one in dataset.examples if record.has(one.path))
        if keys:
            return replace(dataset, held_out_keys=keys), labelled
    return _by_rule(folders, most, class_names, rule)


def _by_rule(
    folders: Sequence[Path], most: int, class_names: Sequence[str] | None, rule: str | None
) -> tuple[Dataset, bool]:
    """(pictures, whether they are labelled) of `folders`, at most `most` of each.

    Labelled is one folder whose class folders are all named as one class of `class_names` each.
    It is split by `rule`, that of the model with these classes, else as `train` does: what the
    model was not trained on stays held out. Otherwise every label is 0, and pictures that the
    model held out are left out. Raises DataError.
    """
    if len(folders) == 1:
        dataset = _known_classes(Path(folders[0]), class_names)
        if dataset is not None:
            parts = _split(dataset, rule) or parts_of(dataset, rule_of(dataset))
            train, held_out = (set(one.examples) for one in parts)
            chosen = [e for e in mixed(dataset.examples, most) if e in train or e in held_out]
            keys = frozenset(e.key for e in chosen if e in held_out)
            return replace(dataset.of(chosen), held_out_keys=keys), True
    examples: list[Example] = []
    passed_over: Counter[str] = Counter()
    for number, folder in enumerate(folders):
        found = list_pictures(folder, class_names, rule)
        passed_over.update(found.passed_over)
        examples += [replace(e, key=f"{number}/{e.key}") for e in found.examples[:most]]
    return Dataset(tuple(examples), _UNLABELLED, None, passed_over), False
