"""The held-out part of labelled pictures: about a fifth of each class, by the hash of its names."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from etinynet.data.labels import Dataset, Example
from etinynet.errors import DataError

__all__ = [
    "BY_CLASS",
    "BY_FOLDER",
    "BY_NAME",
    "parts_of",
    "recorded_rule",
    "rule_of",
    "split_held_out",
]

#: The rules of a split, as weights record them. Those without a record used the first.
BY_NAME = "by-name"
BY_CLASS = "by-class"
BY_FOLDER = "by-folder"

# Of each class at least a tenth is held out and at most a third; a fifth is usual.
_FEWEST = 10
_MOST = 3


def rule_of(dataset: Dataset) -> str:
    """The rule that `train` splits `dataset` by."""
    return BY_CLASS if dataset.held_out_keys is None else BY_FOLDER


def recorded_rule(provenance: Mapping[str, Any]) -> str | None:
    """The rule that weights with this `provenance` were trained by, None if by no split."""
    data = provenance.get("data")
    if not isinstance(data, dict) or "held_out" not in data:
        return None
    return str(data.get("split", BY_NAME))


def split_held_out(dataset: Dataset, rule: str | None = None) -> tuple[Dataset, Dataset]:
    """`parts_of` the data set; raises DataError if either is empty, too."""
    train, held_out = parts_of(dataset, rule)
    for name, part in (("training", train), ("held-out", held_out)):
        if not part.examples:
            raise DataError(
                f"{len(dataset.examples)} pictures leave the {name} part empty; more are needed"
            )
    return train, held_out


def parts_of(dataset: Dataset, rule: str | None = None) -> tuple[Dataset, Dataset]:
    """(training, held-out) parts of `dataset`, by `rule`, else by `rule_of`.

    By class: of each class the pictures with SHA-256 of the key = 0 mod 5 are held out, but of
    two or more pictures at least one, and a tenth to a third. A picture keeps its side when
    others come or go, except at those bounds. Files of the same bytes are one picture.
    By folder: what lies in the folder of held-out pictures; copies of it are not trained on.
    By name: 0 mod 5, whatever the class.
    The same on every machine. Raises DataError for another rule.
    """
    rule = rule_of(dataset) if rule is None else rule
    dropped: set[str] = set()
    if rule == BY_FOLDER:
        held_out, dropped = _by_folder(dataset)
    elif rule == BY_CLASS:
        held_out = _by_class(dataset.examples)
    elif rule == BY_NAME:
        held_out = {e.key for e in dataset.examples if _digest(e) % 5 == 0}
    else:
        raise DataError(f"held-out pictures: the rule {rule!r} of these weights is unknown")
    train = [e for e in dataset.examples if e.key not in held_out and e.key not in dropped]
    return dataset.of(train), dataset.of(e for e in dataset.examples if e.key in held_out)


def _digest(example: Example) -> int:
    key = example.key.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(key).digest(), "big")


def _by_class(examples: Iterable[Example]) -> set[str]:
    """Keys of the pictures that are held out."""
    classes: dict[int, list[tuple[tuple[bool, int], list[Example]]]] = defaultdict(list)
    for copies in _copies(examples):
        # the copy that comes first decides for all, and which class they count for
        order, first = min(((_digest(e) % 5 != 0, _digest(e)), e.label) for e in copies)
        classes[first].append((order, copies))
    held_out: set[str] = set()
    for members in classes.values():
        members.sort(key=lambda member: member[0])
        count = sum(not others for (others, _), _ in members)
        if len(members) > 1:
            fewest = max(len(members) // _FEWEST, 1)
            count = min(max(count, fewest), max(len(members) // _MOST, 1))
        else:
            count = 0
        held_out |= {e.key for _, copies in members[:count] for e in copies}
    return held_out


def _by_folder(dataset: Dataset) -> tuple[set[str], set[str]]:
    """Keys of the pictures that are held out, and of copies of them elsewhere."""
    keys = dataset.held_out_keys
    if keys is None:
        raise DataError(
            "held-out pictures: these weights were trained on a folder with train and val in it, "
            "and here are none; evaluate the folder of held-out pictures without --held-out"
        )
    dropped: set[str] = set()
    for copies in _copies(dataset.examples):
        found = {example.key for example in copies}
        if found & keys:
            dropped |= found - keys
    return set(keys), dropped


def _copies(examples: Iterable[Example]) -> list[list[Example]]:
    """`examples` in groups of the same bytes; only files of one size are read."""
    sizes: dict[int, list[Example]] = defaultdict(list)
    groups: list[list[Example]] = []
    for example in examples:
        try:
            size = example.path.stat().st_size
        except OSError:  # opening it will say why
            size = 0
        if size:
            sizes[size].append(example)
        else:
            groups.append([example])
    for same in sizes.values():
        contents: dict[bytes, list[Example]] = defaultdict(list)
        for example in same:
            contents[_content(example) if len(same) > 1 else b""].append(example)
        groups += contents.values()
    return groups


def _content(example: Example) -> bytes:
    try:
        with example.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return example.key.encode("utf-8", "surrogateescape")
