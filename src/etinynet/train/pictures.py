"""Labelled pictures kept in memory: opened once, resized once, split once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etinynet.data.images import Preprocess, load_picture
from etinynet.data.labels import Dataset, split_held_out
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
    """Both parts of a data set; `digest` is the SHA-256 of their names, labels and pixels.

    Held-out pictures are as the network will see them. Training pictures keep the whole short
    side and the middle of the long one: augmentation crops from that square.
    """

    train: Pictures
    held_out: Pictures
    class_names: tuple[str, ...]
    preprocess: Preprocess
    digest: str


def load_pictures(
    dataset: Dataset, preprocess: Preprocess, opened: Callable[[], None] | None = None
) -> Pictures:
    """All pictures of `dataset` after `preprocess`; calls `opened` after each. Raises DataError."""
    return _opened(dataset, preprocess.size, opened, lambda _, picture: preprocess.apply(picture))


def _opened(
    dataset: Dataset,
    side: int,
    opened: Callable[[], None] | None,
    apply: Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]],
) -> Pictures:
    """All pictures of `dataset`, each decoded once; `apply` makes squares of index and picture."""
    pixels = np.empty((len(dataset.examples), side, side, 3), np.uint8)
    for index, example in enumerate(dataset.examples):
        pixels[index] = apply(index, load_picture(example.path))
        if opened is not None:
            opened()
    labels = torch.tensor([example.label for example in dataset.examples], dtype=torch.int64)
    return Pictures(torch.from_numpy(pixels), labels)


def load_training_data(
    dataset: Dataset, preprocess: Preprocess, opened: Callable[[], None] | None = None
) -> TrainingData:
    """`dataset` split by data.labels.split_held_out and loaded; calls `opened` after each picture.

    Raises DataError: fewer than two classes, a class without training pictures, or a picture
    that cannot be read.
    """
    if len(dataset.class_names) < 2:
        raise DataError(
            f"{len(dataset.class_names)} class {list(dataset.class_names)!r}; "
            "a classifier needs at least 2"
        )
    train, held_out = split_held_out(dataset)
    present = {example.label for example in train.examples}
    for label, name in enumerate(dataset.class_names):
        if label not in present:
            raise DataError(f"class {name!r} has no training pictures; add pictures of it")
    return _loaded(train, held_out, dataset.class_names, preprocess, opened, load_pictures)


def load_split(
    dataset: Dataset, preprocess: Preprocess, opened: Callable[[], None] | None = None
) -> TrainingData:
    """As `load_training_data`, where some classes may have no pictures. Raises DataError."""
    parts = split_held_out(dataset)
    return _loaded(*parts, dataset.class_names, preprocess, opened, load_pictures)


def load_unlabelled(
    dataset: Dataset, preprocess: Preprocess, opened: Callable[[], None] | None = None
) -> TrainingData:
    """Pictures whose labels nobody reads, split like labelled ones. Raises DataError.

    Training pictures that would have to be enlarged to half as much again, or more, are laid side
    by side with those after them instead: an enlarged picture has no fine detail to learn from.
    """
    parts = split_held_out(dataset)
    return _loaded(*parts, dataset.class_names, preprocess, opened, _side_by_side)


def _side_by_side(
    dataset: Dataset, square: Preprocess, opened: Callable[[], None] | None
) -> Pictures:
    """As `load_pictures`, with squares of several small pictures in their own size."""
    small: dict[int, list[tuple[int, NDArray[np.uint8]]]] = {}

    def apply(index: int, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        short = min(picture.shape[:2])
        tiles = max(round(square.size / short), 1)
        if tiles > 1:
            part = -(-square.size // tiles)
            middle = Preprocess(part, max(short, part)).apply(picture)
            small.setdefault(tiles, []).append((index, middle))
        return square.apply(picture)

    found = _opened(dataset, square.size, opened, apply)
    pixels = found.pixels.numpy()
    for tiles, members in small.items():
        for at, (index, _) in enumerate(members):
            chosen = [members[(at + i) % len(members)][1] for i in range(tiles**2)]
            lines = [np.concatenate(chosen[i : i + tiles], 1) for i in range(0, tiles**2, tiles)]
            pixels[index] = np.concatenate(lines)[: square.size, : square.size]
    return found


def to_network(pixels: Tensor) -> Tensor:
    """Pixels uint8 (N, H, W, 3) as network input float32 (N, 3, H, W), minus 128."""
    x = pixels.permute(0, 3, 1, 2).float() - 128
    return x.contiguous(memory_format=torch.channels_last)


def _loaded(
    train: Dataset,
    held_out: Dataset,
    class_names: tuple[str, ...],
    preprocess: Preprocess,
    opened: Callable[[], None] | None,
    load: Callable[[Dataset, Preprocess, Callable[[], None] | None], Pictures],
) -> TrainingData:
    """Both parts; `load` makes the squares of the training part."""
    square = Preprocess(preprocess.resize_short, preprocess.resize_short)
    parts = load(train, square, opened), load_pictures(held_out, preprocess, opened)
    return TrainingData(*parts, class_names, preprocess, _digest(train, held_out, *parts))


def _digest(train: Dataset, held_out: Dataset, *parts: Pictures) -> str:
    digest = hashlib.sha256()
    for dataset, pictures in zip((train, held_out), parts, strict=True):
        for example in dataset.examples:
            digest.update(f"{example.label} {example.key}\n".encode("utf-8", "surrogateescape"))
        digest.update(pictures.pixels.numpy().tobytes())
    return digest.hexdigest()
