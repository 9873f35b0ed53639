"""Quantization-aware training: the prepared network learns from the float one in train/loop.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from etinynet.errors import ConfigError
from etinynet.frontend.float_graph import FloatGraph, Layer, run_layers
from etinynet.quantize.calibrate import ChannelStatistics
from etinynet.quantize.correct import Rounded, round_some
from etinynet.quantize.gradual import pull_at
from etinynet.quantize.methods import is_gradual, start_rounder
from etinynet.quantize.prepared import PreparedNetwork
from etinynet.quantize.weights import QuantizedWeight
from etinynet.train.distil import first_classes, in_small_crops, scores_error
from etinynet.train.loop import STATE, Loss, Progress, fit
from etinynet.train.pictures import TrainingData
from etinynet.train.recipe import Recipe

__all__ = [
    "Finetuned",
    "Finetuning",
    "Stage",
    "distillation",
    "finetune",
    "recipe_of",
    "stages_of",
    "taught",
]

# So many held-out pictures, at most, are looked at after every epoch; they choose nothing.
_HELD_OUT = 200
# Groups of blocks that are rounded one after the other.
_GROUPS = 4


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
        warmup_epochs=1 if gradual and epochs > 1 else 0,
        label_smoothing=0.0,
        smallest_crop=0.25,
        flip=True,
        rotation_degrees=0.0,
        colour=0.0,
        seed=seed,
        optimizer="adam",
    )


def distillation(
    network: PreparedNetwork,
    teacher: FloatGraph,
    statistics: Mapping[str, ChannelStatistics],
    labelled: bool,
    names: Sequence[str],
) -> Loss:
    """Squared error of `network` against the float network, of scores and of tensors `names`.

    That of the scores is distil.scores_error; that of the tensors is in standard deviations of each
    channel; their mean is added, and with `labelled` the labels' cross entropy.
    """
    scale = {
        name: 1 / statistics[name].deviation.clamp_min(1e-6).reshape(1, -1, 1, 1) for name in names
    }

    def loss(inputs: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            real = run_layers(teacher.layers, inputs)
        total = scores_error(scores, teacher.scores(real))
        for name in names:
            error = (network.values[name] - real[name]) * scale[name]
            total = total + error.square().mean() / len(names)
        return total + functional.cross_entropy(scores, labels) if labelled else total

    return loss


def taught(data: TrainingData, teacher: FloatGraph) -> TrainingData:
    """`data` whose held-out labels are the teacher's first classes: accuracy becomes agreement.

    Of many held-out pictures it keeps some, evenly spaced.
    """
    some = data.held_out.some(_HELD_OUT)
    held_out = first_classes(some, lambda x: teacher.scores(run_layers(teacher.layers, x)))
    return dataclasses.replace(data, held_out=held_out)


def _recipe_of_stage(recipe: Recipe, epochs: int) -> Recipe:
    warmup_epochs = min(recipe.warmup_epochs, epochs - 1)
    return dataclasses.replace(recipe, epochs=epochs, warmup_epochs=warmup_epochs)


def _counted(
    progress: Callable[[Progress], None] | None, before: int, epochs: int
) -> Callable[[Progress], None] | None:
    """`progress` of a stage, counted in the `epochs` of all; `before` it there were so many."""
    if progress is None:
        return None

    def step(at: Progress) -> None:
        row = at.finished
        row = None if row is None else dataclasses.replace(row, epoch=row.epoch + before)
        progress(dataclasses.replace(at, epoch=at.epoch + before, epochs=epochs, finished=row))

    return step


def _drawing(network: PreparedNetwork) -> Callable[[float, float], None]:
    """What to do after each step of the optimizer: draw the weights to their levels."""

    def draw(done: float, rate: float) -> None:
        for weight in network.gradual():
            weight.draw(rate * pull_at(done))

    return draw


@dataclass(frozen=True)
class Stage:
    """A part of the training, in a folder `name`: which layers it rounds, which follow as floats.

    `watched`: the tensors that it has to match. `rounds`: False for the paper's clamped stage.
    `whole`: crops are as large as the network's input, not small ones.
    """

    name: str
    epochs: int
    layers: tuple[str, ...]
    watched: tuple[str, ...]
    following: tuple[str, ...] = ()
    rounds: bool = True
    whole: bool = False


def stages_of(
    method: str, gradual: bool, network: FloatGraph, names: Sequence[str], epochs: int
) -> list[Stage]:
    """The stages of training the layers `names` of `network`, in order of execution.

    The tensors that they have to match are the ends of the network's stages, but the last, of which
    the scores are made.

    Gradual methods round groups of blocks from front to back: each group on what those before it
    give as integers, while the layers behind it follow as floats. A weight that is still between
    two levels then meets no others but those of its group. The last group sees whole crops: in
    small ones its maps have few positions, most of them at the border. Raises ConfigError where
    there are fewer epochs than asq-paper has stages.
    """
    everything, matched = tuple(names), network.stage_ends()[:-1]
    if gradual:
        return _groups(network, everything, matched, epochs)
    if method != "asq-paper":
        return [Stage("quantized", epochs, everything, matched)]
    if epochs < 2:
        raise ConfigError(
            f"recipe: epochs is {epochs!r}; 2 and more are allowed, for the two stages of asq-paper"
        )
    clamped = Stage("clamped", epochs // 2, everything, matched, rounds=False)
    return [clamped, Stage("quantized", epochs - clamped.epochs, everything, matched)]


def _groups(
    network: FloatGraph, names: Sequence[str], ends: Sequence[str], epochs: int
) -> list[Stage]:
    parts_of = {name: number for number, part in enumerate(network.stages) for name in part}
    blocks = list(dict.fromkeys(parts_of[name] for name in names))
    count = min(_GROUPS, len(blocks), epochs)
    parts = range(count + 1)
    bounds = [(part * len(blocks) // count, part * epochs // count) for part in parts]

    def within(some: Sequence[str], chosen: Sequence[int]) -> tuple[str, ...]:
        return tuple(name for name in some if parts_of[name] in chosen)

    stages = []
    for number, ((start, begun), (stop, done)) in enumerate(pairwise(bounds), 1):
        layers, matched = within(names, blocks[start:stop]), within(ends, blocks[start:])
        following = within(names, blocks[stop:])
        name, whole = f"group-{number}", number == count
        stages.append(Stage(name, done - begun, layers, matched, following, whole=whole))
    return stages


def finetune(
    network: FloatGraph,
    start: Rounded,
    method: str,
    per_channel: bool,
    how: Finetuning,
    batches: Sequence[Tensor],
    progress: Callable[[Progress], None] | None = None,
) -> Finetuned:
    """Trains quantized weights from `start` until they do what the float `network` does.

    Gradual methods (gradual.py) round each group of blocks on the calibration pictures, `batches`,
    to what it does as floats, trained behind the groups before it, and begin there.
    asq-paper trains the clamped float weights for the first half of the epochs, which are then
    the start of the quantized ones (paper, section Experiments). Raises loop.fit's errors.
    """
    gradual = is_gradual(method, per_channel)
    # Few kinds of picture do not show the classifier what the other classes need.
    names = [name for name in start.weights if how.labelled or name not in network.outputs]
    stages = stages_of(method, gradual, network, names, how.recipe.epochs)
    pairs = zip(network.layers, start.layers, strict=True)
    current = [real if gradual or real.name not in names else rounded for real, rounded in pairs]
    data = how.data if how.labelled else taught(how.data, network)
    integers: dict[str, QuantizedWeight] = {}
    history: list[dict[str, Any]] = []
    for stage, before in zip(stages, [None, *stages], strict=False):
        saved = (how.folder / stage.name / STATE).exists()
        if before is None or stage.layers != before.layers:
            used = {name: start.weights[name] for name in stage.layers + stage.following}
            if gradual and not (how.resume and saved):
                rounder = start_rounder(method, {n: w.bits for n, w in used.items()})
                current, begun = round_some(current, stage.layers, rounder, batches)
                used |= begun
            student = PreparedNetwork(
                network.with_layers(current),
                *(method, per_channel, used, start.statistics, stage.following),
            )
        student.round_weights(stage.rounds)
        # A run may have stopped before this stage.
        started = before is None or saved
        run = fit(
            student,
            data if stage.whole else in_small_crops(data),
            _recipe_of_stage(how.recipe, stage.epochs),
            distillation(student, network, start.statistics, how.labelled, stage.watched),
            how.folder / stage.name,
            # Later stages begin on what earlier ones ended in: none of them may be lengthened.
            identity={**how.identity, "stage": stage.name, "total_epochs": how.recipe.epochs},
            resume=how.resume and started,
            progress=_counted(progress, len(history), how.recipe.epochs),
            stepped=_drawing(student),
        )
        history += [{"stage": stage.name, **dataclasses.asdict(row)} for row in run.history]
        current, found = student.quantized()
        integers |= found
    return Finetuned(current, integers, _record(how, data, history))


def _record(how: Finetuning, data: TrainingData, history: list[dict[str, Any]]) -> dict[str, Any]:
    """What the graph's metadata keep of a training on `data`; `history` has a row an epoch."""
    return {
        "recipe": how.recipe.to_json(),
        "labels": how.labelled,
        "pictures": len(data.train),
        "held_out": len(data.held_out),
        "held_out_pictures": data.marks,
        "history": history,
    }
