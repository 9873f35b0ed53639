"""The training loop: any prepared model and loss, resumable after every epoch."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from etinynet.artefact import sha256, write_file
from etinynet.errors import ArtefactError, ConfigError
from etinynet.threads import spared
from etinynet.train.augment import augment
from etinynet.train.checkpoint import State, read_state, restore, state_bytes
from etinynet.train.evaluate import measure
from etinynet.train.history import Epoch, Run, run_from_json, table, words
from etinynet.train.pictures import TrainingData
from etinynet.train.recipe import Recipe, learning_rate_at

__all__ = ["METRICS", "STATE", "Loss", "Progress", "fit", "label_loss", "saved_recipe"]

# Adam's second decay rate: its usual 0.999 remembers longer than a short fine-tuning lasts.
_SQUARES = 0.99
STATE = "last.safetensors"
METRICS = "metrics.csv"

#: loss(inputs, scores, labels); a teacher needs the inputs, labels alone do not.
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

# Called after each batch with its number, from 1, their count, its learning rate, and the mean
# loss of the epoch so far.
_Report = Callable[[int, int, float, float], None]


@dataclass(frozen=True)
class Progress:
    """Where the loop is: `batch` of `batches` done in `epoch` (from 1) of `epochs`.

    `loss` is the epoch's mean so far; `finished` the latest finished epoch's row, None before
    there is one.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    finished: Epoch | None


def label_loss(recipe: Recipe) -> Loss:
    """Cross entropy of scores and labels with the recipe's label smoothing."""

    def loss(inputs: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(scores, labels, label_smoothing=recipe.label_smoothing)

    return loss


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer, whose weight decay spares vectors: normalization and biases."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    rate = recipe.learning_rate
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, betas=(recipe.momentum, _SQUARES))
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=nesterov)


def _generator(recipe: Recipe, epoch: int) -> Generator:
    """The epoch's own source of chance, so that a resumed run needs no other state."""
    digest = sha256(f"{recipe.seed} {epoch}".encode())
    return torch.Generator().manual_seed(int(digest[:15], 16))


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
    recipe: Recipe,
    loss: Loss,
    epoch: int,
    step: _Report,
) -> float:
    """Mean loss over epoch number `epoch` (from 0); every picture is seen once."""
    generator = _generator(recipe, epoch)
    count = len(data.train)
    # No short last batch: its batch statistics would be the noisiest.
    batches = max(count // recipe.batch_size, 1)
    order = torch.randperm(count, generator=generator).tensor_split(batches)
    total, seen = 0.0, 0
    model.train()
    for number, chosen in enumerate(order):
        rate = learning_rate_at(recipe, epoch + number / batches)
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs = augment(data.train.pixels[chosen], data.preprocess.size, recipe, generator)
        labels = data.train.labels[chosen]
        value = loss(inputs, model(inputs), labels)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += value.item() * len(chosen)
        seen += len(chosen)
        _check_finite(math.isfinite(total), "the loss", recipe, epoch)
        step(number + 1, batches, rate, total / seen)
    _check_finite(_is_finite(model), "a weight", recipe, epoch)
    return total / count


def _is_finite(model: nn.Module) -> bool:
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())


def _check_finite(is_finite: bool, what: str, recipe: Recipe, epoch: int) -> None:
    if not is_finite:
        raise ConfigError(
            f"recipe: learning_rate is {recipe.learning_rate!r}; {what} of epoch {epoch + 1} is "
            "not finite, a lower rate is needed"
        )


def _epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
    recipe: Recipe,
    loss: Loss,
    epoch: int,
    step: _Report,
) -> Epoch:
    """Trains epoch number `epoch` (from 0), then measures; the model is left in evaluation mode."""
    started = time.monotonic()
    mean = _train_epoch(model, optimizer, data, recipe, loss, epoch, step)
    model.eval()
    found = measure(model, data.held_out)
    seconds = time.monotonic() - started
    rate = learning_rate_at(recipe, epoch)
    return Epoch(epoch + 1, rate, mean, found.top1, found.top5, seconds)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any], Recipe, State]:
    """(info, identity, recipe, arrays) of a state file; raises ArtefactError."""
    info, arrays = read_state(path)
    identity = info.get("identity")
    if not isinstance(identity, dict):
        raise ArtefactError(f"{path}: identity is {words(identity)}; an object is allowed")
    names = [field.name for field in dataclasses.fields(Recipe)]
    for name in names:
        if not isinstance(identity.get(name), bool | int | float | str):
            raise ArtefactError(f"{path}: {name} is {words(identity.get(name))}; not a recipe's")
    try:
        recipe = Recipe(**{name: identity[name] for name in names})
    except ConfigError as error:
        raise ArtefactError(f"{path}: {error}") from None
    return info, identity, recipe, arrays


def saved_recipe(folder: Path) -> Recipe:
    """The recipe of the run in `folder`; raises ArtefactError where there is none."""
    return _read(Path(folder) / STATE)[2]


def _resume(
    path: Path,
    identity: dict[str, Any],
    epochs: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> Run:
    """The run so far, its state put back; raises ConfigError for another run's state."""
    info, found, recipe, arrays = _read(path)
    for key, value in identity.items():
        if key != "epochs" and found.get(key) != value:
            raise ConfigError(
                f"{path}: made with {key} {words(found.get(key))}, this run has {words(value)}; "
                "resume with the same, or name another folder"
            )
    run = run_from_json(info, recipe.epochs, str(path))
    if epochs < recipe.epochs:
        raise ConfigError(
            f"{path}: made with epochs {recipe.epochs}, this run has {epochs}; resume with as many "
            "or more, or name another folder"
        )
    restore(model, optimizer, arrays, str(path))
    if epochs == recipe.epochs:
        return run
    lengthened = (*run.lengthened, (len(run.history), recipe.epochs))
    return dataclasses.replace(run, lengthened=lengthened)


def fit(
    model: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    loss: Loss,
    folder: Path,
    *,
    identity: dict[str, Any],
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    keep: Callable[[Run, bool], None] | None = None,
    stepped: Callable[[float, float], None] | None = None,
) -> Run:
    """Trains `model` in place, in `folder` (made if absent), and returns what was done.

    After every epoch `folder` holds last.safetensors (weights, momenta, epoch) and metrics.csv.
    `resume` goes on from there; on one machine with the same number of threads the result is the
    uninterrupted run's, bit for bit. `identity` is plain JSON of what must then be unchanged; the
    recipe and the data are added. Only `recipe.epochs` may have grown: from the next epoch on, the
    learning rate follows the schedule of the new number, so that it rises where the old one had
    fallen further.

    `keep` is called in evaluation mode after every epoch with the run so far, and whether its
    last top-1 is the best; and once, with no epoch in the run, when the first one is interrupted.
    `stepped` is called after every step of the optimizer, with the part of the training that is
    done, 0 to 1, and the step's learning rate. Raises ConfigError (another run's folder,
    diverged), ArtefactError (a folder that cannot be written or holds a run already, a damaged
    state).
    """
    folder = Path(folder)
    state = folder / STATE
    identity = {**identity, **recipe.to_json(), "data": data.digest}
    model.to(memory_format=torch.channels_last)  # backward is three times as fast on CPUs
    optimizer = _optimizer(model, recipe)
    run = Run()
    if resume:
        run = _resume(state, identity, recipe.epochs, model, optimizer)
    elif state.exists():
        raise ArtefactError(f"{folder}: holds a run already ({STATE}); resume it, or name another")

    def save() -> None:
        info = {"identity": identity, **run.to_json()}
        write_file(state, state_bytes(model, optimizer, info))
        write_file(folder / METRICS, table(run.history))

    _make(folder)
    save()  # a run interrupted in its first epoch can be resumed too
    try:
        for epoch in range(len(run.history), recipe.epochs):
            report = _reporter(progress, stepped, recipe, epoch, run.history)
            with spared(data.preprocess.size):
                row = _epoch(model, optimizer, data, recipe, loss, epoch, report)
            best = all(row.top1 > earlier.top1 for earlier in run.history)
            run = dataclasses.replace(run, history=(*run.history, row))
            if keep is not None:
                keep(run, best)
            save()
    except (KeyboardInterrupt, SystemExit):
        if keep is not None and not run.history and _is_finite(model):
            model.eval()
            keep(run, False)
        raise
    model.eval()
    return run


def _reporter(
    progress: Callable[[Progress], None] | None,
    stepped: Callable[[float, float], None] | None,
    recipe: Recipe,
    epoch: int,
    history: tuple[Epoch, ...],
) -> _Report:
    last = history[-1] if history else None

    def step(batch: int, batches: int, rate: float, loss: float) -> None:
        if stepped is not None:
            stepped((epoch + batch / batches) / recipe.epochs, rate)
        if progress is not None:
            progress(Progress(epoch + 1, recipe.epochs, batch, batches, loss, last))

    return step


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(f"{folder}: cannot make this folder: {error.strerror}") from None
