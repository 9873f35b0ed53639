"""Quantization-aware training: the prepared network learns from the float one in train/loop.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from etinynet.errors import ConfigError
from etinynet.quantize.calibrate import ChannelStatistics
from etinynet.quantize.correct import Rounded
from etinynet.quantize.gradual import pull_at
from etinynet.quantize.layers import SCORES, Layer, run_layers
from etinynet.quantize.methods import is_gradual
from etinynet.quantize.prepared import PreparedNetwork
from etinynet.quantize.weights import QuantizedWeight
from etinynet.train.distil import first_classes
from etinynet.train.loop import STATE, Epoch, Loss, Progress, fit
from etinynet.train.pictures import Pictures, TrainingData
from etinynet.train.recipe import Recipe

__all__ = [
    "Finetuned",
    "Finetuning",
    "distillation",
    "finetune",
    "recipe_of",
    "taught",
    "watched",
]

# Crops of this side are enough, and quicker: all positions share their weights.
_SIDE = 128
# So many held-out pictures, at most, are looked at after every epoch; they choose nothing.
_HELD_OUT = 500


@dataclass(frozen=True, eq=False)
class Finetuning:
    """What quantization-aware training needs beside the network.

    `data`: with labels that the network knows if `labelled`. `folder` keeps the state, from which
    `resume` goes on; `identity` is plain JSON of what must then be unchanged.
    """

    data: TrainingData
    labelled: bool
    recipe: Recipe
    folder: Path
    identity: dict[str, Any]
    resume: bool = False


@dataclass(frozen=True, eq=False)
class Finetuned:
    """Layers with the trained constants, and what the graph's metadata keep.

    `weights`: the integers of the layers that were trained, by name; the others are float still.
    """

    layers: list[Layer]
    weights: dict[str, QuantizedWeight]
    record: dict[str, Any]


def recipe_of(epochs: int, seed: int, gradual: bool) -> Recipe:
    """The recipe of quantization-aware training: Adam, no decay, crops and mirroring alone.

    `gradual` rounding (gradual.py) takes larger steps, and averages more of them: a weight gives
    way where its mean gradient does not stand out from its noise. Raises ConfigError.
    """
    return Recipe(
        epochs=epochs,
        batch_size=16,
        learning_rate=8e-3 if gradual else 3e-3,
        momentum=0.97 if gradual else 0.9,
        weight_decay=0.0,
        warmup_epochs=0,
        label_smoothing=0.0,
        smallest_crop=0.25,
        flip=True,
        rotation_degrees=0.0,
        colour=0.0,
        seed=seed,
        optimizer="adam",
    )


def watched(layers: Sequence[Layer]) -> list[str]:
    """Tensors that the student has to match: the last of each block (`b3.` and so on), but the
    last of all, of which the scores are made."""
    names = [layer.name for layer in layers if "." in layer.name]
    return list({name.partition(".")[0]: name for name in names}.values())[:-1]


def distillation(
    network: PreparedNetwork,
    teacher: Sequence[Layer],
    statistics: Mapping[str, ChannelStatistics],
    labelled: bool,
) -> Loss:
    """Squared error of `network` against the float network, of scores and of `watched` tensors.

    That of the scores is relative to their variance, all classes alike: the divergence of the
    probabilities would look at the few classes of the training pictures alone, and give up the
    others. That of the tensors is in standard deviations of each channel; their mean is added,
    and with `labelled` the labels' cross entropy.
    """
    names = watched(teacher)
    scale = {
        name: 1 / statistics[name].deviation.clamp_min(1e-6).reshape(1, -1, 1, 1) for name in names
    }

    def loss(inputs: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            real = run_layers(teacher, inputs)
            aim = _centred(real[SCORES].flatten(1))
            power = aim.square().mean().clamp_min(torch.finfo(aim.dtype).tiny)
        total = (_centred(scores) - aim).square().mean() / power
        for name in names:
            error = (network.values[name] - real[name]) * scale[name]
            total = total + error.square().mean() / len(names)
        return total + functional.cross_entropy(scores, labels) if labelled else total

    return loss


def _centred(scores: Tensor) -> Tensor:
    """`scores` (N, classes) less each picture's mean, which decides nothing."""
    return scores - scores.mean(1, keepdim=True)


def taught(data: TrainingData, teacher: Sequence[Layer]) -> TrainingData:
    """`data` whose held-out labels are the teacher's first classes: accuracy becomes agreement.

    Of many held-out pictures it keeps some, evenly spaced.
    """
    part = slice(None, None, max(-(-len(data.held_out) // _HELD_OUT), 1))
    some = Pictures(data.held_out.pixels[part], data.held_out.labels[part])
    held_out = first_classes(some, lambda x: run_layers(teacher, x)[SCORES].flatten(1))
    return dataclasses.replace(data, held_out=held_out)


def _stages(method: str, epochs: int) -> list[tuple[str, int]]:
    """(name, epochs) of each stage; ConfigError where there are fewer epochs than stages."""
    if method != "asq-paper":
        return [("quantized", epochs)]
    if epochs < 2:
        raise ConfigError(
            f"recipe: epochs is {epochs!r}; 2 and more are allowed, for the two stages of asq-paper"
        )
    return [("clamped", epochs // 2), ("quantized", epochs - epochs // 2)]


def finetune(
    layers: Sequence[Layer],
    start: Rounded,
    method: str,
    per_channel: bool,
    how: Finetuning,
    progress: Callable[[Progress], None] | None = None,
) -> Finetuned:
    """Trains quantized weights from `start` until they do what the float `layers` do.

    Gradual methods (gradual.py) begin at the float weights and take from `start` the scales alone.
    asq-paper trains the clamped float weights for the first half of the epochs, which are then
    the start of the quantized ones (paper, section Experiments). Raises loop.fit's errors.
    """
    stages = _stages(method, how.recipe.epochs)
    deviations = {name: found.deviation for name, found in start.statistics.items()}
    gradual = is_gradual(method, per_channel)
    # Few kinds of picture do not show the classifier what the other classes need.
    names = [name for name in start.weights if how.labelled or name != SCORES]
    pairs = zip(layers, start.layers, strict=True)
    begin = [real if gradual or real.name not in names else rounded for real, rounded in pairs]
    starts = {name: start.weights[name] for name in names}
    network = PreparedNetwork(begin, method, per_channel, starts, deviations)
    loss = distillation(network, layers, start.statistics, how.labelled)

    def draw(done: float, rate: float) -> None:
        for weight in network.gradual():
            weight.draw(rate * pull_at(done))

    data = how.data if how.labelled else taught(how.data, layers)
    seen = dataclasses.replace(data.preprocess, size=min(data.preprocess.size, _SIDE))
    data = dataclasses.replace(data, preprocess=seen)
    history: list[Epoch] = []
    for stage, epochs in stages:
        network.round_weights(stage == "quantized")
        # A run may have stopped before its second stage.
        started = stage == stages[0][0] or (how.folder / stage / STATE).exists()
        history += fit(
            network,
            data,
            dataclasses.replace(how.recipe, epochs=epochs),
            loss,
            how.folder / stage,
            identity={**how.identity, "stage": stage},
            resume=how.resume and started,
            progress=progress,
            stepped=draw,
        )
    trained, integers = network.quantized()
    record = {
        "recipe": how.recipe.to_json(),
        "labels": how.labelled,
        "pictures": len(data.train),
        "held_out": len(data.held_out),
        "history": [dataclasses.asdict(row) for row in history],
    }
    return Finetuned(trained, integers, record)
