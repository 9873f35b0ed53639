"""The verb train: a recipe's fields as options, resuming, Ctrl-C and SIGTERM, lines in a log."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Outcome, Run

from etinynet.commands.recipes import OPTIONS
from etinynet.model.weights import load_weights
from etinynet.show import Lines
from etinynet.train.recipe import Recipe

SMALL = ("--model", "etinynet-0.25", "--size", 32)
#: A value other than the default for every field, and the options that say so.
OTHER = Recipe(
    epochs=1, batch_size=16, learning_rate=0.001, momentum=0.8, weight_decay=0.01,
    warmup_epochs=0, label_smoothing=0.2, smallest_crop=0.25, flip=True, rotation_degrees=5.0,
    colour=0.1, seed=7, optimizer="adam",
)  # fmt: skip
CHOSEN = (
    *("--epochs", 1, "--batch-size", 16, "--rate", 0.001, "--momentum", 0.8),
    *("--weight-decay", 0.01, "--warmup-epochs", 0, "--label-smoothing", 0.2, "--crop", 0.25),
    *("--mirror", "--rotation", 5, "--colour", 0.1, "--seed", 7, "--optimizer", "adam"),
)

Train = Callable[..., Outcome]


@pytest.fixture
def train(run: Run, photos: Path, tmp_path: Path) -> Train:
    return lambda *options: run("train", photos, "-o", tmp_path / "run", *SMALL, *options)


def test_every_field_has_an_option_and_a_default_in_the_help(run: Run) -> None:
    shown = " ".join(run("train", "--help").out.split())
    assert set(OPTIONS) == {field.name for field in dataclasses.fields(Recipe)}
    for field, option in OPTIONS.items():
        default = {True: "yes", False: "no"}.get(getattr(Recipe, field), getattr(Recipe, field))
        assert f"{option} " in shown.replace(",", " ")
        assert f"else {default}." in shown


def test_options_become_the_recipe_and_its_provenance(train: Train, tmp_path: Path) -> None:
    made = train(*CHOSEN, "--json").json()
    provenance = load_weights(Path(made["weights"])).provenance
    assert Recipe.from_json(provenance["recipe"]) == OTHER
    for option, value in zip(CHOSEN[::2], CHOSEN[1::2], strict=False):
        if option in ("--epochs", "--seed", "--rate", "--crop"):
            assert f"{option} {value}" in provenance["command"]
    assert "--mirror" in provenance["command"]


def test_a_resumed_run_keeps_its_options(train: Train, tmp_path: Path) -> None:
    train(*CHOSEN)
    again = train("--resume", "--json").json()
    assert Recipe.from_json(load_weights(Path(again["weights"])).provenance["recipe"]) == OTHER
    longer = train("--resume", "--epochs", 2, "--json").json()
    assert longer["epochs"] == 2
    found = Recipe.from_json(load_weights(Path(longer["weights"])).provenance["recipe"])
    assert found == dataclasses.replace(OTHER, epochs=2)
    assert "made with flip True, this run has False" in train("--resume", "--no-mirror").refused()
    line = train("--resume", "--rate", 0.5).refused()
    assert "made with learning_rate 0.001, this run has 0.5" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--epochs", 0), "--epochs is 0; an integer 1 to 100000 is allowed"),
        (("--rate", "nan"), "--rate is nan; a number 1e-07 to 10.0 is allowed"),
        (("--crop", 0), "--crop is 0.0; a number 0.05 to 1.0 is allowed"),
        (("--batch-size", 1), "--batch-size is 1; an integer 2"),
        (("--rotation", 181), "--rotation is 181.0; a number"),
        (("--optimizer", "lion"), "--optimizer is 'lion'; sgd or adam is allowed"),
        (("--warmup-epochs", 60), "--warmup-epochs is 60; fewer than the 60 epochs"),
        (("--rate", 10, "--momentum", 0.999), "--rate is 10.0; a weight of epoch"),
    ],
)
def test_errors_name_the_option(train: Train, options: tuple[object, ...], words: str) -> None:
    assert words in train(*options).refused()


def test_a_teacher_takes_options_too(run: Run, weights: Path, photos: Path, tmp_path: Path) -> None:
    student = ("--model", "etinynet-0.2", "-o", tmp_path / "run", "--teacher", weights)
    found = run("train", photos, *student, "--epochs", 1, "--rate", 0.001, "--json").json()
    recipe = Recipe.from_json(load_weights(Path(found["weights"])).provenance["recipe"])
    assert (recipe.epochs, recipe.learning_rate, recipe.optimizer) == (1, 0.001, "adam")
    words = run("train", photos, *student, "--label-smoothing", 0.1).refused()
    assert "--label-smoothing is for labels" in words


def started(photos: Path, folder: Path, *options: object) -> subprocess.Popen[str]:
    """`etinynet train` in a process of its own, its first epoch done."""
    # a shell may have told its background jobs to ignore ^C, and children inherit that
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from etinynet.cli import main; main()"
    arguments = ("train", photos, "-o", folder, *SMALL, *options)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    metrics = folder / "metrics.csv"
    for _ in range(1200):
        if metrics.exists() and len(metrics.read_text().splitlines()) > 1:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_weights_and_says_how_to_go_on(
    photos: Path, tmp_path: Path, train: Train, number: int, status: int
) -> None:
    folder = tmp_path / "run"
    process = started(photos, folder, "--epochs", 2000)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "Traceback" not in said
    lines = said.splitlines()
    assert f"the weights so far are {folder / 'model.safetensors'}" in said
    assert "the same command with --resume goes on" in said
    assert lines[-1] == {130: "etinynet: interrupted", 143: "etinynet: terminated"}[status]
    done = load_weights(folder / "model.safetensors").provenance["epoch"]
    assert done >= 1
    assert sorted(p.name for p in folder.iterdir()) == [
        "best.safetensors", "last.safetensors", "metrics.csv", "model.safetensors",
    ]  # fmt: skip


def test_a_log_gets_lines(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a slow training: each look at the clock is a second after the one before."""
    clock = itertools.count().__next__
    monkeypatch.setattr("etinynet.show.Lines", lambda write: Lines(write, clock))
    lines = train("--epochs", 20).err.splitlines()
    assert lines[-1].startswith("training: 20 of 20, epoch 20 of 20, loss ")
    assert sum(line.startswith("training: ") for line in lines) == 10
    assert sum(line.startswith("pictures: ") for line in lines) == 10
    assert any(line.startswith("epoch 1: loss ") for line in lines)
