"""Training end to end on bars: learns, resumes to the same bits, refuses what cannot work."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from etinynet.data.images import load_picture
from etinynet.data.labels import Dataset, list_folder
from etinynet.data.split import split_held_out
from etinynet.errors import ArtefactError, ConfigError, DataError
from etinynet.model.config import EtinyNetConfig
from etinynet.model.weights import load_weights
from etinynet.train.classify import Trained, train_classifier
from etinynet.train.evaluate import evaluate_float, predict_float
from etinynet.train.loop import Progress
from etinynet.train.recipe import Recipe

Train = Callable[..., Trained]


@pytest.fixture
def train(bars: Dataset, config: EtinyNetConfig, recipe: Recipe, made: Path) -> Train:
    """Trains the tiny network on bars; keywords replace dataset, config, recipe and folder."""

    def run(
        *, dataset: Dataset = bars, config: EtinyNetConfig = config, recipe: Recipe = recipe,
        folder: Path = made, **others: object,
    ) -> Trained:  # fmt: skip
        return train_classifier(dataset, config, recipe, folder, command="train", **others)

    return run


class _Stop(KeyboardInterrupt):
    """Stands for Ctrl-C."""


def _stop_in(epoch: int) -> Callable[[Progress], None]:
    def progress(at: Progress) -> None:
        if at.epoch == epoch and at.batch == 2:
            raise _Stop

    return progress


def test_learns_and_stores_what_it_did(train: Train, bars: Dataset, recipe: Recipe) -> None:
    recipe = dataclasses.replace(recipe, epochs=12)
    result = train(recipe=recipe)
    assert [row.epoch for row in result.history] == list(range(1, 13))
    assert result.history[-1].loss < 0.75 * result.history[0].loss
    loaded = load_weights(result.weights)
    assert loaded.class_names == ("level", "upright")
    assert Recipe.from_json(loaded.provenance["recipe"]) == recipe
    _, held_out = split_held_out(bars)
    found = evaluate_float(loaded.model, loaded.preprocess, held_out)
    assert found.n == result.n == len(held_out.examples)
    assert found.top1 == result.history[-1].top1 == loaded.provenance["held_out_top1"]
    assert found.top1 >= 0.9
    best = load_weights(result.best).provenance
    assert best["held_out_top1"] == max(row.top1 for row in result.history)
    lines = (result.weights.parent / "metrics.csv").read_text().splitlines()
    assert lines[0] == "epoch,learning_rate,loss,top1,top5,seconds"
    assert len(lines) == 13


@pytest.mark.parametrize(("epoch", "optimizer"), [(1, "sgd"), (4, "sgd"), (4, "adam")])
def test_resumed_run_equals_uninterrupted(
    train: Train, tmp_path: Path, recipe: Recipe, epoch: int, optimizer: str
) -> None:
    recipe = dataclasses.replace(recipe, optimizer=optimizer)
    whole = train(folder=tmp_path / "whole", recipe=recipe)
    broken = tmp_path / "broken"
    with pytest.raises(_Stop):
        train(folder=broken, recipe=recipe, progress=_stop_in(epoch))
    resumed = train(folder=broken, recipe=recipe, resume=True)
    for name in ("model.safetensors", "best.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (broken / name).read_bytes()
    untimed = [dataclasses.replace(row, seconds=0) for row in resumed.history]
    assert untimed == [dataclasses.replace(row, seconds=0) for row in whole.history]


def test_other_seed_gives_other_weights(train: Train, tmp_path: Path, recipe: Recipe) -> None:
    short = dataclasses.replace(recipe, epochs=1, warmup_epochs=0)
    hashes = {
        hashlib.sha256(
            train(folder=tmp_path / str(seed), recipe=dataclasses.replace(short, seed=seed))
            .weights.read_bytes()
        ).hexdigest()
        for seed in (0, 1)
    }  # fmt: skip
    assert len(hashes) == 2


def test_resume_refuses_another_run(
    train: Train, made: Path, bars: Dataset, config: EtinyNetConfig, recipe: Recipe
) -> None:
    with pytest.raises(_Stop):
        train(progress=_stop_in(1))
    with pytest.raises(
        ConfigError, match="made with epochs 6, this run has 5; resume with as many"
    ):
        train(resume=True, recipe=dataclasses.replace(recipe, epochs=5))
    with pytest.raises(ConfigError, match="made with optimizer 'sgd', this run has 'adam'"):
        train(resume=True, recipe=dataclasses.replace(recipe, optimizer="adam"))
    with pytest.raises(ConfigError, match="made with data '"):
        train(resume=True, dataset=Dataset(bars.examples[1:], bars.class_names))
    with pytest.raises(ConfigError, match="made with config '"):
        train(resume=True, config=dataclasses.replace(config, activation_clip=6.0))
    with pytest.raises(ArtefactError, match=r"holds a run already \(last.safetensors\)"):
        train()


def test_resume_without_a_run(train: Train, made: Path) -> None:
    with pytest.raises(ArtefactError, match=r"last\.safetensors: cannot read"):
        train(resume=True)


def test_damaged_state(train: Train, made: Path) -> None:
    with pytest.raises(_Stop):
        train(progress=_stop_in(2))
    state = made / "last.safetensors"
    data = state.read_bytes()
    random = np.random.default_rng(0)
    header = 8 + int.from_bytes(data[:8], "little")
    places = [
        *range(0, 8),
        *random.integers(8, header, 40),
        *random.integers(header, len(data), 20),
    ]
    for place in map(int, places):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(random.integers(8))
        state.write_bytes(damaged)
        with pytest.raises(ArtefactError, match="not a training state, or damaged"):
            train(resume=True)
    state.write_bytes(data[:-1])
    with pytest.raises(ArtefactError, match="not a training state, or damaged"):
        train(resume=True)


def test_diverging_run(train: Train, recipe: Recipe) -> None:
    wild = dataclasses.replace(recipe, learning_rate=10.0, momentum=0.999, warmup_epochs=0)
    with pytest.raises(ConfigError, match=r"learning_rate is 10\.0; .* of epoch \d+ is not finite"):
        train(recipe=dataclasses.replace(wild, epochs=60))


def test_classes(train: Train, bars: Dataset, config: EtinyNetConfig) -> None:
    single = Dataset(tuple(e for e in bars.examples if e.label == 0), ("level",))
    with pytest.raises(DataError, match=r"1 class \['level'\]; a classifier needs at least 2"):
        train(dataset=single, config=dataclasses.replace(config, classes=1))
    with pytest.raises(ConfigError, match="classes is 5; the data have 2"):
        train(config=dataclasses.replace(config, classes=5))
    kept = [e for e in bars.examples if e.label == 0]
    with pytest.raises(DataError, match="class 'upright' has no training pictures"):
        train(dataset=Dataset(tuple(kept), bars.class_names))


def test_folder_that_cannot_be_made(train: Train, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match="file/run: cannot make this folder"):
        train(folder=tmp_path / "file" / "run")


def test_predictions(train: Train, bars: Dataset, recipe: Recipe, tmp_path: Path) -> None:
    result = train(recipe=dataclasses.replace(recipe, epochs=2))
    loaded = load_weights(result.weights)
    pictures = [loaded.preprocess.apply(load_picture(e.path)) for e in bars.examples[:3]]
    scores = predict_float(loaded, np.stack(pictures))
    assert scores.shape == (3, 2)
    assert scores.dtype == np.float32
    assert predict_float(loaded, np.stack(pictures)[:0]).shape == (0, 2)
    with pytest.raises(DataError, match=r"uint8 \(3, 16, 16, 3\); uint8 \(N, 32, 32, 3\)"):
        predict_float(loaded, np.zeros((3, 16, 16, 3), np.uint8))
    empty = list_folder(bars.examples[0].path.parents[1])
    with pytest.raises(DataError, match="0 pictures"):
        evaluate_float(loaded.model, loaded.preprocess, Dataset((), empty.class_names))
