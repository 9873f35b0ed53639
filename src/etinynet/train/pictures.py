"""Labelled pictures kept in memory: opened once, resized once, split once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etinynet.data.images import Preprocess, load_picture, picture_size
from etinynet.data.labels import Dataset, Example, split_held_out
from etinynet.errors import DataError

__all__ = [
    "Pictures",
    "TrainingData",
    "load_pictures",
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
    shape = (len(dataset.examples), preprocess.size, preprocess.size, 3)
    pixels = np.empty(shape, np.uint8)
    for index, example in enumerate(dataset.examples):
        pixels[index] = preprocess.apply(load_picture(example.path))
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
    return _loaded(train, held_out, dataset.class_names, preprocess, opened)


def load_unlabelled(
    dataset: Dataset, preprocess: Preprocess, opened: Callable[[], None] | None = None
) -> TrainingData:
    """Pictures whose labels nobody reads, split like labelled ones. Raises DataError.

    Training pictures that would have to be enlarged to half as much again, or more, are laid side
    by side with those after them instead: an enlarged picture has no fine detail to learn from.
    """
    train, held_out = split_held_out(dataset)
    found = _loaded(train, held_out, dataset.class_names, preprocess, opened)
    side = preprocess.resize_short
    pixels, examples = found.train.pixels.numpy(), train.examples
    small = [i for i, one in enumerate(examples) if _tiles(one, side) > 1]
    for at, index in enumerate(small):
        tiles = _tiles(examples[index], side)
        chosen = [examples[small[(at + i) % len(small)]] for i in range(tiles**2)]
        pixels[index] = _mosaic(chosen, tiles, side)
    digest = hashlib.sha256(found.digest.encode() + pixels.tobytes()).hexdigest()
    return dataclasses.replace(found, digest=digest)


def _tiles(example: Example, side: int) -> int:
    """How many pictures like `example` fill a square's `side` in their own size, at least 1."""
    return max(round(side / min(picture_size(example.path))), 1)


def _mosaic(examples: Sequence[Example], tiles: int, side: int) -> NDArray[np.uint8]:
    """`tiles` x `tiles` pictures, the middle of each, as uint8 (side, side, 3)."""
    part = -(-side // tiles)
    rows = []
    for row in range(tiles):
        line = examples[row * tiles : (row + 1) * tiles]
        rows.append(np.concatenate([_middle(one, part) for one in line], axis=1))
    return np.concatenate(rows)[:side, :side]


def _middle(example: Example, part: int) -> NDArray[np.uint8]:
    """The middle of a picture in its own size, enlarged only if it is smaller than `part`."""
    picture = load_picture(example.path)
    short = max(min(picture.shape[:2]), part)
    return Preprocess(part, short).apply(picture)


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
) -> TrainingData:
    square = Preprocess(preprocess.resize_short, preprocess.resize_short)
    parts = load_pictures(train, square, opened), load_pictures(held_out, preprocess, opened)
    return TrainingData(*parts, class_names, preprocess, _digest(train, held_out, *parts))


def _digest(train: Dataset, held_out: Dataset, *parts: Pictures) -> str:
    digest = hashlib.sha256()
    for dataset, pictures in zip((train, held_out), parts, strict=True):
        for example in dataset.examples:
            digest.update(f"{example.label} {example.key}\n".encode("utf-8", "surrogateescape"))
        digest.update(pictures.pixels.numpy().tobytes())
    return digest.hexdigest()
