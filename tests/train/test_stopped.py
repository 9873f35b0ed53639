"""Runs that are stopped leave their weights; runs that are lengthened follow the new schedule."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from etinynet.data.labels import Dataset
from etinynet.errors import ConfigError
from etinynet.model.config import EtinyNetConfig
from etinynet.model.weights import load_weights
from etinynet.train.classify import Trained, train_classifier
from etinynet.train.loop import Progress, saved_recipe
from etinynet.train.recipe import Recipe, learning_rate_at

#: train(epochs, stop, resume): trains in the fixture `made`; `stop` is (epoch, batch) to stop at.
Train = Callable[..., Trained]


@pytest.fixture
def train(bars: Dataset, config: EtinyNetConfig, made: Path) -> Train:
    def run(
        epochs: int,
        stop: tuple[int, int] | None = None,
        by: type[BaseException] = KeyboardInterrupt,
        folder: Path = made,
        **others: object,
    ) -> Trained:
        def progress(at: Progress) -> None:
            if (at.epoch, at.batch) == stop:
                raise by

        recipe = Recipe(epochs=epochs, batch_size=16, warmup_epochs=1)
        return train_classifier(
            bars, config, recipe, folder, command="train", progress=progress, **others
        )

    return run


@pytest.mark.parametrize("by", [KeyboardInterrupt, SystemExit])
def test_a_stopped_run_leaves_its_last_whole_epoch(
    train: Train, made: Path, tmp_path: Path, by: type[BaseException]
) -> None:
    with pytest.raises(by):
        train(4, (3, 2), by)
    stopped = load_weights(made / "model.safetensors").provenance
    assert stopped["epoch"] == 2
    assert stopped["held_out_top1"] is not None
    whole = train(4, folder=tmp_path / "whole")
    resumed = train(4, resume=True)
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()
    assert resumed.best.read_bytes() == whole.best.read_bytes()


def test_a_run_stopped_in_its_first_epoch_leaves_the_weights_of_that_moment(
    train: Train, made: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(2, (1, 2))
    stopped = load_weights(made / "model.safetensors").provenance
    assert (stopped["epoch"], stopped["held_out_top1"]) == (0, None)
    whole = train(2, folder=tmp_path / "whole")
    assert train(2, resume=True).weights.read_bytes() == whole.weights.read_bytes()


@pytest.mark.parametrize("stop", [None, (2, 1)], ids=["finished", "stopped"])
def test_a_lengthened_run_follows_the_new_schedule(
    train: Train, made: Path, stop: tuple[int, int] | None
) -> None:
    if stop is None:
        train(3)
    else:
        with pytest.raises(KeyboardInterrupt):
            train(3, stop)
    done = 3 if stop is None else 1
    found = train(6, resume=True)
    short, long = (Recipe(epochs=n, batch_size=16, warmup_epochs=1) for n in (3, 6))
    rates = [learning_rate_at(short if n < done else long, n) for n in range(6)]
    assert [row.learning_rate for row in found.history] == rates
    with (made / "metrics.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == list("123456")
    provenance = load_weights(found.weights).provenance
    assert Recipe.from_json(provenance["recipe"]) == long
    assert provenance["lengthened"] == [[done, 3]]
    assert saved_recipe(made) == long


def test_a_lengthened_run_resumes_to_the_same_bits(
    train: Train, made: Path, tmp_path: Path
) -> None:
    for folder in (made, tmp_path / "whole"):
        train(2, folder=folder)
    whole = train(5, folder=tmp_path / "whole", resume=True)
    with pytest.raises(KeyboardInterrupt):
        train(5, (4, 2), resume=True)
    assert train(5, resume=True).weights.read_bytes() == whole.weights.read_bytes()
    twice = train(6, resume=True)
    assert load_weights(twice.weights).provenance["lengthened"] == [[2, 2], [5, 5]]


def test_a_run_that_was_not_lengthened_says_nothing_of_it(train: Train, made: Path) -> None:
    train(2)
    assert "lengthened" not in load_weights(train(2, resume=True).weights).provenance


def test_a_run_cannot_be_shortened(train: Train, bars: Dataset, config: EtinyNetConfig) -> None:
    train(3)
    with pytest.raises(
        ConfigError, match="made with epochs 3, this run has 2; resume with as many"
    ):
        train(2, resume=True)
    with pytest.raises(ConfigError, match=r"made with batch_size 16, this run has 8; resume with"):
        train_classifier(
            bars,
            config,
            dataclasses.replace(Recipe(epochs=6, warmup_epochs=1), batch_size=8),
            Path(train(3, resume=True).weights).parent,
            command="train",
            resume=True,
        )
