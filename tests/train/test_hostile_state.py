"""State files with the right checksum and the wrong content: refused in one line, or trained on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save

from etinynet.artefact import sha256
from etinynet.data.images import Preprocess
from etinynet.data.labels import Dataset
from etinynet.errors import ArtefactError, ConfigError
from etinynet.model.config import EtinyNetConfig
from etinynet.model.networks import build
from etinynet.train.checkpoint import read_state
from etinynet.train.history import Run
from etinynet.train.loop import STATE, fit, label_loss, saved_recipe
from etinynet.train.pictures import TrainingData, load_training_data
from etinynet.train.recipe import Recipe

Arrays = dict[str, NDArray[Any]]
Edit = Callable[[dict[str, Any], Arrays], None]
#: resume(edit): trains the rest of a run whose state file was edited and sealed again.
Resume = Callable[[Edit], Run]

RECIPE = Recipe(epochs=2, batch_size=24, warmup_epochs=1, optimizer="adam", learning_rate=1e-3)


class _Stop(KeyboardInterrupt):
    """Stands for Ctrl-C."""


def sealed(info: object, arrays: Arrays) -> bytes:
    """A state file with a good checksum."""
    text = json.dumps(info)
    checksum = sha256(text.encode() + save(arrays))
    return save(arrays, {"etinynet-training": f"{checksum} {text}"})


@pytest.fixture(scope="module")
def data(bars: Dataset) -> TrainingData:
    return load_training_data(bars, Preprocess.for_size(16))


@pytest.fixture
def resume(data: TrainingData, config: EtinyNetConfig, tmp_path: Path) -> Resume:
    config = dataclasses.replace(config, size=16)

    def go(resume: bool, stop: bool) -> Run:
        def progress(at: object) -> None:
            if stop and at.epoch == 2:
                raise _Stop

        torch.manual_seed(0)
        return fit(
            build(config), data, RECIPE, label_loss(RECIPE), tmp_path,
            identity={"network": config.name, "names": ["a", "b"]}, resume=resume,
            progress=progress,
        )  # fmt: skip

    with pytest.raises(_Stop):
        go(False, True)
    original = (tmp_path / STATE).read_bytes()

    def run(edit: Edit) -> Run:
        (tmp_path / STATE).write_bytes(original)
        info, arrays = read_state(tmp_path / STATE)
        edit(info, arrays)
        (tmp_path / STATE).write_bytes(sealed(info, arrays))
        return go(True, False)

    return run


def test_sealing_nothing_gives_the_file(resume: Resume, tmp_path: Path) -> None:
    written = (tmp_path / STATE).read_bytes()
    assert sealed(*read_state(tmp_path / STATE)) == written
    assert [row.epoch for row in resume(lambda info, arrays: None).history] == [1, 2]


def row(**changes: Any) -> Edit:
    return lambda info, _: info["history"][0].update(changes)


def identity(**changes: Any) -> Edit:
    return lambda info, _: info["identity"].update(changes)


def top(**changes: Any) -> Edit:
    return lambda info, _: info.update(changes)


def array(name: str, value: Callable[[NDArray[Any]], Any] | None) -> Edit:
    def edit(info: dict[str, Any], arrays: Arrays) -> None:
        found = arrays.pop(name)
        if value is not None:
            arrays[name] = np.asarray(value(found))

    return edit


def lost(*keys: Any) -> Edit:
    def edit(info: dict[str, Any], arrays: Arrays) -> None:
        place: Any = info
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return edit


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


WEIGHT = "model.classifier.weight"
MEAN = "optimizer.exp_avg.classifier.weight"
SQUARE = "optimizer.exp_avg_sq.classifier.weight"
STEP = "optimizer.step.classifier.weight"
FIRST = r"history\[0\]"

HOSTILE = {
    "no history": (lost("history"), "history is None; a list of at most 2 epochs"),
    "nested deep": (top(more=nested(900)), "not a training state, or damaged"),
    "history a word": (top(history="x"), "history is 'x'"),
    "history of words": (top(history=["x"]), f"{FIRST} is 'x'; allowed are exactly epoch"),
    "history too long": (top(history=[{}] * 3), "a list of at most 2 epochs is allowed"),
    "row without loss": (lost("history", 0, "loss"), f"{FIRST} is .*allowed are exactly"),
    "row with more": (row(x=1), f"{FIRST} is .*allowed are exactly"),
    "epoch negative": (row(epoch=-1), f"{FIRST}: epoch is -1; 1 is allowed"),
    "epoch huge": (row(epoch=10**300), f"{FIRST}: epoch is 1000.*; 1 is allowed$"),
    "epoch true": (row(epoch=True), f"{FIRST}: epoch is True"),
    "epoch a surrogate": (row(epoch="\ud800"), rf"{FIRST}: epoch is '\\ud800'"),
    "loss nan": (row(loss=float("nan")), f"{FIRST}: loss is nan; a finite number"),
    "loss infinite": (row(loss=float("inf")), f"{FIRST}: loss is inf"),
    "loss a word": (row(loss="low\n"), rf"{FIRST}: loss is 'low\\n'"),
    "top1 above 1": (row(top1=1.5), f"{FIRST}: top1 is 1.5; a finite number 0 to 1"),
    "top5 negative": (row(top5=-0.5), f"{FIRST}: top5 is -0.5"),
    "seconds negative": (row(seconds=-1.0), f"{FIRST}: seconds is -1.0"),
    "seconds nested": (row(seconds=nested(50)), f"{FIRST}: seconds is "),
    "lengthened a number": (top(lengthened=3), "lengthened is 3; a list of pairs"),
    "lengthened later": (top(lengthened=[[1, 2]]), r"lengthened is \[\[1, 2\]\]"),
    "lengthened triple": (top(lengthened=[[0, 1, 1]]), "a list of pairs"),
    "no identity": (lost("identity"), "identity is None"),
    "identity a list": (top(identity=[]), r"identity is \[\]"),
    "no epochs": (lost("identity", "epochs"), "epochs is None"),
    "epochs negative": (identity(epochs=-2), "recipe: epochs is -2; an integer 1 to"),
    "epochs a list": (identity(epochs=[2]), r"epochs is \[2\]"),
    "epochs a surrogate": (identity(epochs="\ud800"), r"epochs is '\\ud800'"),
    "rate nan": (identity(learning_rate=float("nan")), "learning_rate is nan"),
    "optimizer a surrogate": (identity(optimizer="\udfff"), r"optimizer is '\\udfff'"),
    "optimizer nested": (identity(optimizer=nested(50)), "optimizer is "),
    "weight lost": (array(WEIGHT, None), "state of another network"),
    "weight of another shape": (array(WEIGHT, lambda a: a[:1]), "state of another network"),
    "weight doubles": (array(WEIGHT, lambda a: a.astype(float)), "is float64 .*; float32"),
    "weight integers": (array(WEIGHT, lambda a: a.astype(np.int64)), "is int64"),
    "weight wide integers": (array(WEIGHT, lambda a: a.astype(np.uint64)), "is uint64"),
    "weight nan": (array(WEIGHT, lambda a: a * np.float32("nan")), "not finite"),
    "variance negative": (
        array("model.blocks.0.pw.norm.running_var", lambda a: -a - 1), "holds a value below 0"
    ),
    "mean lost": (array(MEAN, None), "'optimizer.exp_avg.classifier.weight' is missing"),
    "mean of another shape": (array(MEAN, lambda a: a[:, :1]), r"is float32 \(2, 1\)"),
    "mean halves": (array(MEAN, lambda a: a.astype(np.float16)), "is float16"),
    "square negative": (array(SQUARE, lambda a: a - 1), "holds a value below 0"),
    "square infinite": (array(SQUARE, lambda a: a + np.float32("inf")), "not finite"),
    "step negative": (array(STEP, lambda a: a - 9), "holds a value below 0"),
    "step a list": (array(STEP, lambda a: a.reshape(1)), r"float32 \(1,\); float32 \(\)"),
    "foreign array": (
        lambda _, arrays: arrays.update({"optimizer.\x1b.x": np.zeros(1)}), "belongs to no part"
    ),
    "foreign key": (
        lambda _, arrays: arrays.update({"optimizer.step.x": np.zeros(1)}), "belongs to no part"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_states(resume: Resume, tmp_path: Path, edit: Edit, words: str) -> None:
    with pytest.raises(ArtefactError, match=words) as caught:
        resume(edit)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / STATE))
    assert message.isprintable()
    assert len(message) < len(str(tmp_path)) + 400


def test_another_run_with_long_and_deep_names(resume: Resume) -> None:
    for value in (nested(50), "\ud800" * 10_000, ["x" * 10_000], None):
        with pytest.raises(ConfigError, match="made with names ") as caught:
            resume(identity(names=value))
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600


def test_the_recipe_of_a_run(resume: Resume, tmp_path: Path) -> None:
    assert saved_recipe(tmp_path) == RECIPE
    with pytest.raises(ArtefactError, match="cannot read this training state"):
        saved_recipe(tmp_path / "none")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
KINDS = (np.float16, np.float64, np.int8, np.int64, np.uint16, np.uint64, np.bool_)


def _edit_array(draw: Callable[..., Any], arrays: Arrays) -> None:
    name = draw(st.sampled_from(sorted(arrays)))
    found = arrays.pop(name)
    kind = draw(st.sampled_from(["lost", "type", "shape", "value", "name", "twice"]))
    if kind == "type":
        arrays[name] = found.astype(draw(st.sampled_from(KINDS)))
    elif kind == "shape":
        arrays[name] = np.resize(found, draw(st.lists(st.integers(0, 5), max_size=5)))
    elif kind == "value":
        values = np.full_like(found, draw(st.integers(-(2**31), 2**31)))
        large = values if found.dtype.kind == "i" else values * np.float32(1e20)
        arrays[name] = np.asarray(large, found.dtype)
    elif kind in ("name", "twice"):
        arrays[draw(st.text(max_size=8)) + draw(st.sampled_from(["", name]))] = found
        if kind == "twice":
            arrays[name] = found


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["info", "identity", "row", "array"]), st.data())
def test_any_change_is_refused_or_trained_on(
    resume: Resume, place: str, draw: st.DataObject
) -> None:
    def edit(info: dict[str, Any], arrays: Arrays) -> None:
        if place == "array":
            _edit_array(draw.draw, arrays)
            return
        part = {"info": info, "identity": info["identity"], "row": info["history"][0]}[place]
        part[draw.draw(st.sampled_from(sorted(part)) | st.text(max_size=5))] = draw.draw(JSON)

    words, epochs = "", [1, 2]
    try:
        epochs = [row.epoch for row in resume(edit).history]
    except (ArtefactError, ConfigError) as error:
        words = str(error)
    assert words.isprintable()
    assert epochs == [1, 2]
