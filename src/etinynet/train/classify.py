"""A classifier from a folder of pictures: loads, trains, writes weights; what `train` calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from etinynet.artefact import provenance, sha256
from etinynet.data.images import Preprocess
from etinynet.data.labels import Dataset
from etinynet.data.reading import Reading
from etinynet.data.recall import Recalls
from etinynet.errors import ConfigError
from etinynet.model.config import NetworkConfig
from etinynet.model.networks import Network, build
from etinynet.model.weights import save_weights
from etinynet.train.evaluate import recalls_of
from etinynet.train.history import Epoch, Run
from etinynet.train.loop import Progress, fit, label_loss
from etinynet.train.pictures import TrainingData, load_training_data
from etinynet.train.recipe import Recipe

__all__ = ["BEST", "WEIGHTS", "Trained", "train_classifier"]

WEIGHTS = "model.safetensors"
BEST = "best.safetensors"


@dataclass(frozen=True)
class Trained:
    """`weights` of the last epoch, whose figures nothing selected; `history` one row an epoch.

    `n` held-out pictures gave the figures, those of each class `recalls`. `best` holds the
    weights of the best held-out epoch: its figure is that of a maximum over epochs, better than
    new pictures will give.
    """

    weights: Path
    best: Path
    history: tuple[Epoch, ...]
    n: int
    recalls: Recalls


def train_classifier(
    dataset: Dataset,
    config: NetworkConfig,
    recipe: Recipe,
    folder: Path,
    *,
    command: str,
    resume: bool = False,
    opened: Callable[[], None] | None = None,
    reading: Reading | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Trains the network of `config` from scratch on `dataset` less its held-out fifth.

    Writes in `folder` after every epoch: model.safetensors, best.safetensors, last.safetensors
    (loop.fit resumes from it), metrics.csv; model.safetensors also where KeyboardInterrupt or
    SystemExit end the first epoch, then without figures. `command` goes into the weights'
    provenance; `opened` is called after each picture, `progress` after each step. Raises
    ConfigError, DataError or ArtefactError.
    """
    if config.classes != len(dataset.class_names):
        raise ConfigError(
            f"{config.name}: classes is {config.classes!r}; the data have "
            f"{len(dataset.class_names)}"
        )
    folder = Path(folder)
    data = load_training_data(dataset, Preprocess.for_size(config.size), opened, reading)
    model = _seeded(config, recipe.seed)

    def write(path: Path, run: Run) -> None:
        origin = _origin(command, recipe, data, run)
        save_weights(
            path,
            model,
            provenance=origin,
            class_names=data.class_names,
            preprocess=data.preprocess,
        )

    def keep(run: Run, best: bool) -> None:
        write(folder / WEIGHTS, run)
        if best:
            write(folder / BEST, run)

    run = fit(
        model,
        data,
        recipe,
        label_loss(recipe),
        folder,
        identity=_identity(config, data.class_names),
        resume=resume,
        progress=progress,
        keep=keep,
    )
    write(folder / WEIGHTS, run)
    found = recalls_of(model, data.held_out, data.class_names)
    return Trained(folder / WEIGHTS, folder / BEST, run.history, len(data.held_out), found)


def _identity(config: NetworkConfig, class_names: tuple[str, ...]) -> dict[str, Any]:
    """What a resumed run must share: readable fields first, then a hash of the whole network."""
    text = json.dumps(config.to_json(), sort_keys=True)
    return {
        "network": config.name,
        "size": config.size,
        "class_names": list(class_names),
        "config": sha256(text.encode()),
    }


def _seeded(config: NetworkConfig, seed: int) -> Network:
    """The untrained network; the caller's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(config)


def _origin(command: str, recipe: Recipe, data: TrainingData, run: Run) -> dict[str, Any]:
    row = run.history[-1] if run.history else None
    origin = {
        **provenance(command, {}),
        "data": data.to_json(),
        "recipe": recipe.to_json(),
        "epoch": len(run.history),
        "held_out_top1": None if row is None else row.top1,
        "held_out_top5": None if row is None else row.top5,
        "torch": torch.__version__,
    }
    return {**origin, **run.changes()}
