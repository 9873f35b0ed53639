"""A network taught by another on pictures without labels; what `train --teacher` calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from etinynet.artefact import provenance, sha256
from etinynet.model.config import NetworkConfig
from etinynet.model.etinynet import EtinyNet
from etinynet.model.narrow import narrowed
from etinynet.model.weights import LoadedModel, save_weights
from etinynet.train.classify import WEIGHTS
from etinynet.train.loop import Epoch, Loss, Progress, fit
from etinynet.train.pictures import Pictures, TrainingData, to_network
from etinynet.train.recipe import Recipe

__all__ = ["divergence", "first_classes", "student_recipe", "teacher_loss", "train_student"]

_BATCH = 64


def divergence(scores: Tensor, aim: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two networks' class probabilities, mean over the batch."""
    return functional.kl_div(
        scores.log_softmax(1), aim.log_softmax(1), log_target=True, reduction="batchmean"
    )


def teacher_loss(teacher: nn.Module) -> Loss:
    """`divergence` from what `teacher`, in evaluation mode, says of the same inputs."""

    def loss(inputs: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            aim = teacher(inputs)
        return divergence(scores, aim)

    return loss


@torch.no_grad()
def first_classes(pictures: Pictures, scores: Callable[[Tensor], Tensor]) -> Pictures:
    """`pictures` labelled by the first class of `scores`: accuracy then means agreement."""
    found = [scores(to_network(batch)).argmax(1) for batch in pictures.pixels.split(_BATCH)]
    return Pictures(pictures.pixels, torch.cat(found))


def student_recipe(epochs: int, seed: int) -> Recipe:
    """The recipe of a student that starts as a part of its teacher. Raises ConfigError."""
    return Recipe(
        epochs=epochs,
        warmup_epochs=min(1, epochs - 1),
        learning_rate=0.02,
        label_smoothing=0.0,
        flip=True,
        rotation_degrees=0.0,
        colour=0.0,
        seed=seed,
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
) -> tuple[EtinyNet, list[Epoch]]:
    """Trains the network of `config`, at first a part of `teacher` (narrow.py), on its answers.

    Labels of `data` are not read; held-out top-1 is agreement with the teacher. Writes
    model.safetensors in `folder`, where loop.fit keeps its state. Raises ConfigError where the
    student is not the teacher's narrower twin, and fit's errors.
    """
    student = narrowed(teacher.model, config)
    held_out = first_classes(data.held_out, teacher.model)
    origin: dict[str, Any] = {
        **provenance(command, {"data": data.digest.encode()}),
        "teacher": teacher.provenance,
        "recipe": recipe.to_json(),
    }
    history = fit(
        student,
        dataclasses.replace(data, held_out=held_out),
        recipe,
        teacher_loss(teacher.model),
        folder,
        identity={
            "network": config.name,
            "teacher": sha256(repr(teacher.provenance).encode()),
        },
        resume=resume,
        progress=progress,
    )
    save_weights(
        folder / WEIGHTS,
        student,
        provenance={**origin, "agreement": history[-1].top1},
        class_names=teacher.class_names,
        preprocess=teacher.preprocess,
    )
    return student, history
