"""Quantization-aware training: nearer to the float network, resumable, with labels or without."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import SCORES, chain, layers_of, pictures, small_network
from torch.nn import functional

from etinynet.data.images import Preprocess
from etinynet.errors import ArtefactError, ConfigError
from etinynet.frontend.float_graph import FloatGraph, Layer, run_layers
from etinynet.graph import MIXED
from etinynet.quantize.correct import Rounded
from etinynet.quantize.equalize import equalized
from etinynet.quantize.finetune import (
    Finetuned,
    Finetuning,
    distillation,
    finetune,
    recipe_of,
    stages_of,
    taught,
)
from etinynet.quantize.methods import Widths, rounder_of
from etinynet.quantize.pipeline import quantize_network
from etinynet.quantize.prepared import PreparedNetwork
from etinynet.train.history import Run
from etinynet.train.loop import Progress
from etinynet.train.pictures import Pictures, TrainingData

BITS = 2


def pixels(count: int, side: int, seed: int) -> torch.Tensor:
    return (pictures(count, side, seed) + 128).permute(0, 2, 3, 1).to(torch.uint8)


@pytest.fixture(scope="module")
def network() -> FloatGraph:
    return equalized(chain(layers_of(small_network("conv_relu_bn"))))


@pytest.fixture(scope="module")
def layers(network: FloatGraph) -> list[Layer]:
    return list(network.layers)


@pytest.fixture(scope="module")
def starts(layers: list[Layer]) -> Callable[[str], Rounded]:
    """The start of each method, made once."""
    known: dict[str, Rounded] = {}
    batches, widths = [pictures(12)], Widths(BITS).of(layers)

    def start(method: str) -> Rounded:
        if method not in known:
            rounder = rounder_of(method, widths, method != "asq-paper")
            known[method] = quantize_network(chain(layers), widths, rounder, MIXED, batches)
        return known[method]

    return start


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """24 pictures, a square a little larger than the network's, and 8 held out; labels at will."""
    preprocess = Preprocess.for_size(32)
    side = -(-preprocess.resize_short // 4) * 4
    train = Pictures(pixels(24, side, 3), torch.arange(24) % 5)
    held_out = Pictures(pixels(8, 32, 4), torch.arange(8) % 5)
    return TrainingData(train, held_out, tuple("abcde"), preprocess, "digest")


@pytest.fixture
def how(data: TrainingData, tmp_path: Path) -> Finetuning:
    recipe = dataclasses.replace(recipe_of(2, 0, True), batch_size=4, learning_rate=1e-2)
    return Finetuning(data, False, recipe, tmp_path / "state", {"weights": "small"})


def trained(
    layers: list[Layer],
    starts: Callable[[str], Rounded],
    how: Finetuning,
    method: str = "lsq",
    progress: Callable[[Progress], None] | None = None,
) -> Finetuned:
    per_channel, batches = method != "asq-paper", [pictures(12)]
    return finetune(chain(layers), starts(method), method, per_channel, how, batches, progress)


def loss_of(network: list[Layer], teacher: list[Layer], start: Rounded) -> float:
    """What training lowers, without labels, on pictures that it never sees."""
    x = pictures(16, seed=6)
    real = chain(teacher)
    parts = start.weights, start.statistics
    prepared = PreparedNetwork(chain(start.layers), "lsq", True, *parts)
    loss = distillation(prepared, real, start.statistics, False, real.stage_ends()[:-1])
    with torch.no_grad():
        prepared.values = run_layers(network, x)
        return loss(x, prepared.values[SCORES].flatten(1), torch.zeros(16).long()).item()


@pytest.mark.parametrize("method", ["lsq", "dorefa"])
def test_two_epochs_come_nearer_to_the_float_network(
    layers: list[Layer], starts: Callable[[str], Rounded], how: Finetuning, method: str
) -> None:
    start = starts(method)
    found = trained(layers, starts, how, method)
    before, after = (loss_of(each, layers, start) for each in (start.layers, found.layers))
    assert after < before
    assert [row["epoch"] for row in found.record["history"]] == [1, 2]
    assert found.record["labels"] is False
    assert (found.record["pictures"], found.record["held_out"]) == (24, 8)
    assert found.record["recipe"] == how.recipe.to_json()
    assert json.loads(json.dumps(found.record)) == found.record
    assert {weight.bits for weight in found.weights.values()} == {BITS}
    assert [p.name for p in how.folder.iterdir()] == ["quantized"]


@pytest.mark.parametrize("method", ["best", "lsq"])
def test_without_labels_the_classifier_stays_float(
    layers: list[Layer], starts: Callable[[str], Rounded], how: Finetuning, method: str
) -> None:
    start, found = starts(method), trained(layers, starts, how, method)
    assert set(found.weights) == set(start.weights) - {SCORES}
    assert found.layers[-1] is layers[-1]
    assert not torch.equal(found.layers[0].gain, start.layers[0].gain)
    labelled = dataclasses.replace(how, labelled=True, folder=how.folder / "labels")
    taught_by_labels = trained(layers, starts, labelled, method)
    assert set(taught_by_labels.weights) == set(start.weights)
    assert not torch.equal(taught_by_labels.layers[-1].gain, start.layers[-1].gain)


@pytest.mark.parametrize("method", ["best", "asq"])
def test_gradual_training_ends_on_levels(
    layers: list[Layer], starts: Callable[[str], Rounded], how: Finetuning, method: str
) -> None:
    """What is rounded at the end lies on its level already, or nearly."""
    recipe = dataclasses.replace(how.recipe, epochs=12, learning_rate=3e-2)
    found = trained(layers, starts, dataclasses.replace(how, recipe=recipe), method)
    positions = torch.cat([weight.position.flatten() for weight in found.weights.values()])
    codes = torch.cat([weight.integers.flatten() for weight in found.weights.values()])
    assert torch.equal(positions, codes.float())
    assert bool(codes.any())
    before = starts(method)
    errors = [loss_of(each, layers, before) for each in (before.layers, found.layers)]
    assert errors[1] < errors[0]


class _Stop(KeyboardInterrupt):
    """Stands for Ctrl-C."""


def same(one: Finetuned, two: Finetuned) -> bool:
    """Whether every constant is the same to the bit, and the history but for its seconds."""
    histories = [[{**row, "seconds": 0} for row in each.record["history"]] for each in (one, two)]
    if histories[0] != histories[1]:
        return False
    for name, weight in one.weights.items():
        other = two.weights[name]
        if not torch.equal(weight.integers, other.integers):
            return False
        if not torch.equal(weight.scale, other.scale):
            return False
    return all(
        mine is theirs or torch.equal(mine, theirs)
        for layer, like in zip(one.layers, two.layers, strict=True)
        for mine, theirs in ((getattr(layer, key), getattr(like, key)) for key in ("gain", "shift"))
    )


@pytest.mark.parametrize(
    ("method", "at"), [("best", 4), ("best", 9), ("asq-paper", 3), ("asq-paper", 10)]
)
def test_resumed_training_equals_uninterrupted(
    layers: list[Layer],
    starts: Callable[[str], Rounded],
    how: Finetuning,
    tmp_path: Path,
    method: str,
    at: int,
) -> None:
    """Stopped after `at` steps of 12, in the first stage and in the second."""
    whole = trained(layers, starts, how, method)
    broken = dataclasses.replace(how, folder=tmp_path / "broken")
    steps = iter(range(1, 100))

    def stop(progress: Progress) -> None:
        if next(steps) == at:
            raise _Stop

    with pytest.raises(_Stop):
        trained(layers, starts, broken, method, stop)
    resumed = trained(layers, starts, dataclasses.replace(broken, resume=True), method)
    assert same(resumed, whole)
    finished = trained(layers, starts, dataclasses.replace(broken, resume=True), method)
    assert same(finished, whole)


@pytest.mark.parametrize("method", ["best", "lsq", "asq", "asq-paper", "dorefa"])
def test_a_resumed_run_keeps_its_own_start(
    layers: list[Layer], starts: Callable[[str], Rounded], how: Finetuning, method: str
) -> None:
    """Another version may fit it differently: what was trained belongs to the old one."""
    whole = trained(layers, starts, how, method)
    changed = [
        layer if layer.gain is None else dataclasses.replace(layer, gain=1.1 * layer.gain)
        for layer in starts(method).layers
    ]
    others = {
        name: dataclasses.replace(weight, scale=1.1 * weight.scale)
        for name, weight in starts(method).weights.items()
    }
    moved = dataclasses.replace(starts(method), layers=changed, weights=others)
    resumed = trained(layers, lambda _: moved, dataclasses.replace(how, resume=True), method)
    assert same(resumed, whole)


def test_groups_of_blocks_are_rounded_from_front_to_back(network: FloatGraph) -> None:
    names = [layer.name for layer in network.layers if layer.weight is not None]
    ends = network.stage_ends()[:-1]
    blocks = list(dict.fromkeys(name.partition(".")[0] for name in names))
    for epochs in (1, 2, 7, 80):
        stages = stages_of("best", True, network, names, epochs)
        assert len(stages) == min(epochs, 4, len(blocks))
        assert sum(stage.epochs for stage in stages) == epochs
        assert max(s.epochs for s in stages) - min(s.epochs for s in stages) <= 1
        done: list[str] = []
        for stage in stages:
            done += stage.layers
            assert done + list(stage.following) == names
            assert {n.partition(".")[0] for n in stage.layers}.isdisjoint(
                n.partition(".")[0] for n in stage.following
            )
        for stage in stages:
            later = {name.partition(".")[0] for name in stage.layers + stage.following}
            assert list(stage.watched) == [n for n in ends if n.partition(".")[0] in later]
    assert len({stage.name for stage in stages}) == len(stages)


def test_each_group_ends_as_integers(
    layers: list[Layer], starts: Callable[[str], Rounded], how: Finetuning
) -> None:
    """Every stage has its folder and its epochs; what a stage rounded, the next leaves alone."""
    recipe, steps = dataclasses.replace(how.recipe, epochs=5), []
    found = trained(layers, starts, dataclasses.replace(how, recipe=recipe), "best", steps.append)
    assert [at.epoch for at in steps] == [1 + step // 6 for step in range(30)]
    assert {at.epochs for at in steps} == {5}
    assert {at.finished.epoch for at in steps if at.finished is not None} <= {1, 2, 3, 4}
    rows = [(row["stage"], row["epoch"]) for row in found.record["history"]]
    folders = sorted(path.name for path in how.folder.iterdir())
    assert list(dict.fromkeys(stage for stage, _ in rows)) == folders
    assert len(rows) == 5
    for layer in found.layers:
        if layer.name in found.weights:
            weight = found.weights[layer.name]
            torch.testing.assert_close(layer.weight, weight.dequantized(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("method", "sides"), [("best", [128] * 3 + [160]), ("lsq", [128]), ("asq-paper", [128] * 2)]
)
def test_only_the_last_group_sees_whole_crops(
    layers: list[Layer],
    starts: Callable[[str], Rounded],
    how: Finetuning,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    sides: list[int],
) -> None:
    seen: list[int] = []

    def untrained(network: PreparedNetwork, data: TrainingData, *_: Any, **__: Any) -> Run:
        seen.append(data.preprocess.size)
        return Run()

    monkeypatch.setattr("etinynet.quantize.finetune.fit", untrained)
    large = dataclasses.replace(how.data, preprocess=Preprocess.for_size(160))
    recipe = dataclasses.replace(how.recipe, epochs=8)
    trained(layers, starts, dataclasses.replace(how, data=large, recipe=recipe), method)
    assert seen == sides


def test_asq_paper_trains_in_two_stages(
    layers: list[Layer], starts: Callable[[str], Rounded], how: Finetuning
) -> None:
    recipe = dataclasses.replace(how.recipe, epochs=3)
    found = trained(layers, starts, dataclasses.replace(how, recipe=recipe), "asq-paper")
    assert sorted(p.name for p in how.folder.iterdir()) == ["clamped", "quantized"]
    for stage, epochs in (("clamped", 1), ("quantized", 2)):
        table = (how.folder / stage / "metrics.csv").read_text().splitlines()
        assert len(table) == 1 + epochs
    assert [row["epoch"] for row in found.record["history"]] == [1, 1, 2]
    assert all(len(set(weight.scale.tolist())) == 1 for weight in found.weights.values())
    one = dataclasses.replace(how, recipe=dataclasses.replace(how.recipe, epochs=1))
    with pytest.raises(ConfigError, match="epochs is 1; 2 and more are allowed, for the two stag"):
        trained(layers, starts, one, "asq-paper")


@pytest.mark.parametrize("method", ["lsq", "asq-paper"])
def test_what_cannot_be_resumed(
    layers: list[Layer], starts: Callable[[str], Rounded], how: Finetuning, method: str
) -> None:
    again = dataclasses.replace(how, resume=True)
    with pytest.raises(ArtefactError, match=r"last\.safetensors: cannot read"):
        trained(layers, starts, again, method)
    trained(layers, starts, how, method)
    with pytest.raises(ArtefactError, match=r"holds a run already \(last.safetensors\)"):
        trained(layers, starts, how, method)
    other = dataclasses.replace(again, identity={"weights": "large"})
    with pytest.raises(ConfigError, match="made with weights 'small', this run has 'large'"):
        trained(layers, starts, other, method)


def test_the_loss_is_of_scores_tensors_and_labels(
    network: FloatGraph, starts: Callable[[str], Rounded]
) -> None:
    start = starts("lsq")
    parts = start.weights, start.statistics
    student = PreparedNetwork(chain(start.layers), "lsq", True, *parts)
    x, labels = pictures(6, seed=6), torch.arange(6) % 5
    scores, names = student(x), network.stage_ends()[:-1]
    without, with_labels = (
        distillation(student, network, start.statistics, labelled, names)(x, scores, labels)
        for labelled in (False, True)
    )
    entropy = functional.cross_entropy(scores, labels)
    torch.testing.assert_close(with_labels - without, entropy, rtol=1e-4, atol=1e-5)
    real = run_layers(network.layers, x)
    found, aim = (
        x.double().flatten(1) - x.double().flatten(1).mean(1, keepdim=True)
        for x in (scores, real[SCORES])
    )
    wanted = ((found - aim) ** 2).sum() / (aim**2).sum()
    for name in names:
        deviation = start.statistics[name].deviation.clamp_min(1e-6).reshape(1, -1, 1, 1)
        error = ((student.values[name] - real[name]) / deviation).square().mean()
        wanted = wanted + error / len(names)
    torch.testing.assert_close(without.double(), wanted, rtol=1e-4, atol=1e-5)
    student.values = real
    loss = distillation(student, network, start.statistics, False, names)
    own = loss(x, real[SCORES].flatten(1), labels)
    assert abs(float(own)) < 1e-6


def test_the_last_tensor_of_each_stage_is_matched(network: FloatGraph) -> None:
    names = [layer.name for layer in network.layers]
    found = network.stage_ends()[:-1]
    assert len(found) > 1
    for name in found:  # what follows it is of the next block
        assert names[names.index(name) + 1].startswith(f"b{int(name[1]) + 1}.")
    assert names[-3].startswith(f"b{len(found)}.")  # the last block's own is not matched


def test_without_labels_accuracy_is_agreement(layers: list[Layer], data: TrainingData) -> None:
    found = taught(data, chain(layers))
    assert found.train is data.train
    x = found.held_out.pixels.permute(0, 3, 1, 2).float() - 128
    assert torch.equal(found.held_out.labels, run_layers(layers, x)[SCORES].flatten(1).argmax(1))
    assert torch.equal(found.held_out.pixels, data.held_out.pixels)


def test_of_many_held_out_pictures_some_are_looked_at(
    layers: list[Layer], data: TrainingData
) -> None:
    pixels = data.held_out.pixels
    many = Pictures(pixels.repeat(75, 1, 1, 1), torch.zeros(75 * len(pixels)).long())
    found = taught(dataclasses.replace(data, held_out=many), chain(layers)).held_out
    assert torch.equal(found.pixels, many.pixels[::3])
    assert len(found.labels) == 200


def test_labels_are_learnt_where_they_are_known(
    layers: list[Layer], starts: Callable[[str], Rounded], how: Finetuning, tmp_path: Path
) -> None:
    known = dataclasses.replace(how, labelled=True, folder=tmp_path / "labelled")
    one, two = (trained(layers, starts, each) for each in (how, known))
    assert two.record["labels"] is True
    assert two.record["history"][0]["loss"] > one.record["history"][0]["loss"]
    # Held-out accuracy is that of the labels now: an eighth is one picture of 8.
    assert two.record["history"][0]["top1"] * 8 == int(two.record["history"][0]["top1"] * 8)
