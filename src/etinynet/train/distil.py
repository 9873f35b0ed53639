"""A network taught by another on pictures without labels; what `train --teacher` calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from etinynet.artefact import provenance, sha256
from etinynet.model.config import NetworkConfig
from etinynet.model.etinynet import EtinyNet
from etinynet.model.narrow import narrowed
from etinynet.model.weights import LoadedModel, save_weights
from etinynet.train.classify import WEIGHTS
from etinynet.train.history import Run
from etinynet.train.loop import Loss, Progress, fit
from etinynet.train.pictures import Pictures, TrainingData, to_network
from etinynet.train.recipe import Recipe

__all__ = [
    "first_classes",
    "in_small_crops",
    "scores_error",
    "student_recipe",
    "teacher_loss",
    "train_student",
]

_BATCH = 64
# Crops of this side are enough to learn what a network does, and quicker: all positions of a
# convolution share their weights.
_SIDE = 128


def scores_error(scores: Tensor, aim: Tensor) -> Tensor:
    """Squared error of `scores` (N, classes) relative to the variance of `aim`, all classes alike.

    Each picture's mean is left out, since it decides nothing. The divergence of the class
    probabilities would look at the few classes of the training pictures alone, and give up the
    others.
    """
    wanted = _centred(aim)
    power = wanted.square().mean().clamp_min(torch.finfo(aim.dtype).tiny)
    return (_centred(scores) - wanted).square().mean() / power


def _centred(scores: Tensor) -> Tensor:
    return scores - scores.mean(1, keepdim=True)


def teacher_loss(teacher: nn.Module) -> Loss:
    """`scores_error` against what `teacher`, in evaluation mode, says of the same inputs."""

    def loss(inputs: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            aim = teacher(inputs)
        return scores_error(scores, aim)

    return loss


@torch.no_grad()
def first_classes(pictures: Pictures, scores: Callable[[Tensor], Tensor]) -> Pictures:
    """`pictures` labelled by the first class of `scores`: accuracy then means agreement."""
    found = [scores(to_network(batch)).argmax(1) for batch in pictures.pixels.split(_BATCH)]
    return Pictures(pictures.pixels, torch.cat(found))


def in_small_crops(data: TrainingData) -> TrainingData:
    """`data`, its training pictures seen in crops of 128 pixels a side at most."""
    seen = dataclasses.replace(data.preprocess, size=min(data.preprocess.size, _SIDE))
    return dataclasses.replace(data, preprocess=seen)


def student_recipe(epochs: int, seed: int) -> Recipe:
    """The recipe of a student that starts as a part of its teacher. Raises ConfigError."""
    return Recipe(
        epochs=epochs,
        warmup_epochs=min(1, epochs - 1),
        learning_rate=2e-3,
        weight_decay=0.0,
        label_smoothing=0.0,
        smallest_crop=0.25,
        flip=True,
        rotation_degrees=0.0,
        colour=0.0,
        seed=seed,
        optimizer="adam",
    )


def train_student(
    teacher: LoadedModel,
    config: NetworkConfig,
    data: TrainingData,
    recipe: Recipe,
    folder: Path,
    *,
    command: str,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[EtinyNet, Run]:
    """Trains the network of `config`, at first a part of `teacher` (narrow.py), on its answers.

    Labels of `data` are not read; held-out top-1 is agreement with the teacher. Writes
    model.safetensors in `folder` as train_classifier does; loop.fit keeps its state there.
    Raises ConfigError where the student is not the teacher's narrower twin, and fit's errors.
    """
    student = narrowed(teacher.model, config)
    held_out = first_classes(data.held_out, teacher.model)
    origin: dict[str, Any] = {
        **provenance(command, {"data": data.digest.encode()}),
        "data": data.to_json(),
        "teacher": teacher.provenance,
        "recipe": recipe.to_json(),
    }

    def keep(run: Run, best: bool = False) -> None:
        agreement = run.history[-1].top1 if run.history else None
        save_weights(
            folder / WEIGHTS,
            student,
            provenance={**origin, "agreement": agreement, **run.changes()},
            class_names=teacher.class_names,
            preprocess=teacher.preprocess,
        )

    run = fit(
        student,
        in_small_crops(dataclasses.replace(data, held_out=held_out)),
        recipe,
        teacher_loss(teacher.model),
        folder,
        identity={
            "network": config.name,
            "teacher": sha256(repr(teacher.provenance).encode()),
        },
        resume=resume,
        progress=progress,
        keep=keep,
    )
    keep(run)
    return student, run
