"""Labelled pictures kept in memory: opened once, resized once, split once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etinynet.data.images import Preprocess
from etinynet.data.labels import Dataset, Example
from etinynet.data.reading import Reading
from etinynet.data.record import HeldOut
from etinynet.data.split import BY_CLASS, rule_of, split_held_out
from etinynet.errors import DataError

__all__ = [
    "Pictures",
    "TrainingData",
    "load_pictures",
    "load_split",
    "load_training_data",
    "load_unlabelled",
    "to_network",
]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pixels uint8 (N, side, side, 3), R, G, B, and labels int64 (N)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, most: int) -> Pictures:
        """At most `most` of them, evenly spaced; none for 0."""
        part = slice(None, None, max(-(-len(self) // most), 1)) if most else slice(0)
        return Pictures(self.pixels[part], self.labels[part])


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Both parts of a data set; `digest` is the SHA-256 of their names, labels and pixels, `split`
    the rule that made them (data.split).

    Held-out pictures are as the network will see them. Training pictures keep the whole short
    side and the middle of the long one: augmentation crops from that square. `marks`: which files
    are held out (data.record), "" where that is not recorded.
    """

    train: Pictures
    held_out: Pictures
    class_names: tuple[str, ...]
    preprocess: Preprocess
    digest: str
    split: str = BY_CLASS
    marks: str = ""

    def to_json(self) -> dict[str, Any]:
        """What weights keep of the pictures that they were trained on."""
        return {
            "sha256": self.digest,
            "train": len(self.train),
            "held_out": len(self.held_out),
            "split": self.split,
            "held_out_pictures": self.marks,
        }


def load_pictures(
    dataset: Dataset,
    preprocess: Preprocess,
    opened: Callable[[], None] | None = None,
    reading: Reading | None = None,
) -> Pictures:
    """All pictures of `dataset` after `preprocess`; calls `opened` after each.

    Damaged pictures are left out and noted in `reading`. Raises DataError where they are too many.
    """
    reading = Reading(len(dataset.examples)) if reading is None else reading
    found, _ = _squares(dataset, preprocess, opened, reading)
    reading.check()
    return found


def _opened(
    dataset: Dataset,
    square: Preprocess,
    opened: Callable[[], None] | None,
    reading: Reading,
    apply: Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]],
) -> tuple[Pictures, Dataset]:
    """The pictures of `dataset`, each decoded once, without the damaged ones; which they are.

    `apply` makes squares of index and picture.
    """
    shape = len(dataset.examples), square.size, square.size, 3
    pixels = np.empty(shape, np.uint8)
    kept: list[Example] = []
    for example in dataset.examples:
        picture = reading.open(example.path, square.short)
        if picture is not None:
            pixels[len(kept)] = apply(len(kept), picture)
            kept.append(example)
        if opened is not None:
            opened()
    labels = torch.tensor([example.label for example in kept], dtype=torch.int64)
    return Pictures(torch.from_numpy(pixels[: len(kept)]), labels), dataset.of(kept)


def load_training_data(
    dataset: Dataset,
    preprocess: Preprocess,
    opened: Callable[[], None] | None = None,
    reading: Reading | None = None,
) -> TrainingData:
    """`dataset` split by data.split and loaded; calls `opened` after each picture.

    Damaged pictures are left out and noted in `reading`. Raises DataError: fewer than two
    classes, a class without training pictures, too many damaged pictures.
    """
    if len(dataset.class_names) < 2:
        raise DataError(
            f"{len(dataset.class_names)} class {list(dataset.class_names)!r}; "
            "a classifier needs at least 2, each a folder in the one that is given"
        )
    found = _loaded(dataset, preprocess, opened, reading, _squares)
    present = set(found.train.labels.tolist())
    for label, name in enumerate(dataset.class_names):
        if label not in present:
            raise DataError(f"class {name!r} has no training pictures; add pictures of it")
    return found


def load_split(
    dataset: Dataset,
    preprocess: Preprocess,
    opened: Callable[[], None] | None = None,
    reading: Reading | None = None,
) -> TrainingData:
    """As `load_training_data`, where some classes may have no pictures. Raises DataError."""
    return _loaded(dataset, preprocess, opened, reading, _squares)


def load_unlabelled(
    dataset: Dataset,
    preprocess: Preprocess,
    opened: Callable[[], None] | None = None,
    reading: Reading | None = None,
) -> TrainingData:
    """Pictures whose labels nobody reads, split like labelled ones. Raises DataError.

    Training pictures that would have to be enlarged to half as much again, or more, are laid side
    by side with those after them instead: an enlarged picture has no fine detail to learn from.
    """
    return _loaded(dataset, preprocess, opened, reading, _side_by_side)


def _squares(
    dataset: Dataset, square: Preprocess, opened: Callable[[], None] | None, reading: Reading
) -> tuple[Pictures, Dataset]:
    return _opened(dataset, square, opened, reading, lambda _, p: square.apply(p))


def _side_by_side(
    dataset: Dataset, square: Preprocess, opened: Callable[[], None] | None, reading: Reading
) -> tuple[Pictures, Dataset]:
    """As `_squares`, with squares of several small pictures in their own size."""
    small: dict[int, list[tuple[int, NDArray[np.uint8]]]] = {}

    def apply(index: int, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        short = min(picture.shape[:2])
        tiles = max(round(square.size / short), 1)
        if tiles > 1:
            part = -(-square.size // tiles)
            middle = Preprocess(part, max(short, part)).apply(picture)
            small.setdefault(tiles, []).append((index, middle))
        return square.apply(picture)

    found, kept = _opened(dataset, square, opened, reading, apply)
    pixels = found.pixels.numpy()
    for tiles, members in small.items():
        for at, (index, _) in enumerate(members):
            chosen = [members[(at + i) % len(members)][1] for i in range(tiles**2)]
            lines = [np.concatenate(chosen[i : i + tiles], 1) for i in range(0, tiles**2, tiles)]
            pixels[index] = np.concatenate(lines)[: square.size, : square.size]
    return found, kept


def to_network(pixels: Tensor) -> Tensor:
    """Pixels uint8 (N, H, W, 3) as network input float32 (N, 3, H, W), minus 128."""
    x = pixels.permute(0, 3, 1, 2).float() - 128
    return x.contiguous(memory_format=torch.channels_last)


def _loaded(
    dataset: Dataset,
    preprocess: Preprocess,
    opened: Callable[[], None] | None,
    reading: Reading | None,
    load: Callable[..., tuple[Pictures, Dataset]],
) -> TrainingData:
    """Both parts; `load` makes the squares of the training part."""
    reading = Reading(len(dataset.examples)) if reading is None else reading
    parts = split_held_out(dataset)
    square = Preprocess(preprocess.resize_short, preprocess.resize_short)
    train, trained = load(parts[0], square, opened, reading)
    held_out, measured = _squares(parts[1], preprocess, opened, reading)
    reading.check()
    for name, part in (("training", train), ("held-out", held_out)):
        if not len(part):
            raise DataError(f"no {name} picture can be read: {reading.words()}")
    digest = _digest((trained, train), (measured, held_out))
    marks = HeldOut.of(example.path for example in measured.examples).to_json()
    names = dataset.class_names
    return TrainingData(train, held_out, names, preprocess, digest, rule_of(dataset), marks)


def _digest(*parts: tuple[Dataset, Pictures]) -> str:
    digest = hashlib.sha256()
    for dataset, pictures in parts:
        for example in dataset.examples:
            digest.update(f"{example.label} {example.key}\n".encode("utf-8", "surrogateescape"))
        digest.update(pictures.pixels.numpy().tobytes())
    return digest.hexdigest()
