"""Accuracy of the float network, and its scores for single pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from etinynet.data.images import Preprocess
from etinynet.data.labels import Dataset
from etinynet.data.recall import Recalls
from etinynet.errors import DataError
from etinynet.model.weights import LoadedModel
from etinynet.train.pictures import Pictures, load_pictures, to_network

__all__ = ["Metrics", "count_correct", "evaluate_float", "measure", "predict_float", "recalls_of"]

_BATCH = 64


@dataclass(frozen=True)
class Metrics:
    """Shares of `n` pictures whose label has the highest score, or one of the five highest."""

    top1: float
    top5: float
    n: int


@torch.no_grad()
def _scores(model: nn.Module, pixels: Tensor) -> Tensor:
    return torch.cat([model(to_network(batch)) for batch in pixels.split(_BATCH)])


def count_correct(scores: Tensor, labels: Tensor) -> tuple[int, int]:
    """How many rows of `scores` (N, classes) have their label first, and among the first five.

    A label that ties with another class does not count as before it.
    """
    own = scores.gather(1, labels[:, None])
    ahead = (scores >= own).sum(1) - 1
    return int((ahead < 1).sum()), int((ahead < 5).sum())


def measure(model: nn.Module, pictures: Pictures) -> Metrics:
    """Metrics of `model`, which must be in evaluation mode, on pictures of its input's size."""
    first, five = count_correct(_scores(model, pictures.pixels), pictures.labels)
    return Metrics(first / len(pictures), five / len(pictures), len(pictures))


def recalls_of(model: nn.Module, pictures: Pictures, class_names: Sequence[str]) -> Recalls:
    """How many of each class's `pictures` a model in evaluation mode puts in their class."""
    scores = _scores(model, pictures.pixels)
    found = Recalls(class_names)
    own = scores.gather(1, pictures.labels[:, None])
    first = (scores >= own).sum(1) == 1
    for label, correct in zip(pictures.labels.tolist(), first.tolist(), strict=True):
        found.add(label, correct)
    return found


def evaluate_float(model: nn.Module, preprocess: Preprocess, dataset: Dataset) -> Metrics:
    """Metrics of a classifier in evaluation mode on `dataset`; raises DataError."""
    if not dataset.examples:
        raise DataError("evaluation: 0 pictures; at least 1 is needed")
    return measure(model, load_pictures(dataset, preprocess))


def predict_float(loaded: LoadedModel, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scores float32 (N, classes) of pictures uint8 (N, size, size, 3) after preprocessing.

    Raises DataError for another shape or type.
    """
    size = loaded.preprocess.size
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
        raise DataError(
            f"pictures are {pixels.dtype} {pixels.shape}; uint8 (N, {size}, {size}, 3) is allowed"
        )
    if not len(pixels):
        return np.empty((0, loaded.config.classes), np.float32)
    scores = _scores(loaded.model, torch.from_numpy(np.ascontiguousarray(pixels)))
    return np.asarray(scores.numpy(), np.float32)
