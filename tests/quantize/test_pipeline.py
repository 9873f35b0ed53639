"""From a float network to its graph by every method, with layers of several widths, and trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lowering import image
from small_networks import SCORES, pictures, small_network

from etinynet.data.images import Preprocess
from etinynet.errors import ConfigError
from etinynet.frontend.float_graph import FloatGraph, Layer
from etinynet.graph import Graph, check, execute, graph_from_bytes, graph_to_bytes
from etinynet.quantize import pipeline
from etinynet.quantize.correct import Rounded, Rounder
from etinynet.quantize.finetune import Finetuning, recipe_of
from etinynet.quantize.methods import METHODS
from etinynet.quantize.pipeline import (
    Quantization,
    _middles,
    _mixed,
    quantize_model,
    quantize_network,
)
from etinynet.quantize.rounding import InputMoments, round_compensated
from etinynet.target.host import HostTarget
from etinynet.train.pictures import Pictures, TrainingData


def made(config: Quantization, finetuning: Finetuning | None = None) -> Graph:
    config = dataclasses.replace(config, pictures=24)
    return quantize_model(
        small_network("conv_relu_bn"), pictures(24), config, "small", None, {"a": [1]}, finetuning
    )


def test_calibration_pictures_are_mixed() -> None:
    """All of them, each once, in an order of chance that is the same every time."""
    inputs = torch.arange(40).reshape(40, 1, 1, 1)
    mixed = _mixed(inputs)
    assert sorted(mixed.flatten().tolist()) == list(range(40))
    assert not torch.equal(mixed, inputs)
    assert torch.equal(mixed, _mixed(inputs))


def likeness(graph: Graph) -> float:
    """Correlation of the graph's scores with the float network's, over pictures new to both."""
    x = pictures(16, seed=5)
    with torch.no_grad():
        wanted = small_network("conv_relu_bn")(x).numpy()
    got = np.stack([execute(graph, image(picture)) for picture in x]) * graph.tensors[SCORES].scale
    one, two = (values - values.mean(0) for values in (wanted, got))
    return float((one * two).sum() / np.sqrt((one**2).sum() * (two**2).sum()))


#: Random weights amplify rounding: correlation of the scores that is asked for at 4 bits.
LEAST = {"best": 0.85, "lsq": 0.75, "asq": 0.75, "asq-paper": 0.6, "dorefa": 0.75}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_legal_graph(method: str) -> None:
    graph = made(Quantization(4, method))
    check(graph)
    assert all(op.weight_bits == 4 for op in graph.ops if op.weight is not None)
    for op in graph.ops:
        if op.weight is not None:
            wide = method == "best" and op.kind != "depthwise"
            assert op.weight.min() == (-8 if wide else -7) or op.weight.max() == 7
            assert op.weight.min() >= (-8 if wide else -7)
            assert op.weight.max() <= 7
    assert graph.metadata["quantization"]["method"] == method
    assert likeness(graph) > LEAST[method]


@pytest.mark.parametrize("method", ["lsq", "asq", "dorefa"])
def test_one_scale_a_layer(method: str) -> None:
    graph = made(Quantization(8, method, per_layer=True))
    check(graph)
    assert graph.metadata["quantization"]["per_layer"] is True
    assert likeness(graph) > 0.8


def test_layers_of_several_widths() -> None:
    """The graph keeps each layer's, its file too, and its compiled C gives the same scores."""
    config = Quantization(4, "lsq", layer_bits=(("*.dw?", 8), ("b1.*", 3), ("scores", 2)))
    graph = made(config)
    found = {op.name: op.weight_bits for op in graph.ops if op.weight is not None}
    assert found["stem"] == found["b0.pw"] == 4
    assert found["b0.dw1"] == found["b3.dw2"] == 8
    assert found["b1.dw1"] == found["b1.pw"] == found["b1.dw2"] == 3
    assert found["scores"] == 2
    for op in graph.ops:
        if op.weight is not None:
            assert np.abs(op.weight).max() == 2 ** (op.weight_bits - 1) - 1, op.name
    stored = graph_from_bytes(graph_to_bytes(graph), "file")
    assert {op.name: op.weight_bits for op in stored.ops if op.weight is not None} == found
    assert stored.metadata == {
        "a": [1],
        "quantization": {
            "weight_bits": 4,
            "method": "lsq",
            "layer_bits": [["*.dw?", 8], ["b1.*", 3], ["scores", 2]],
            "per_layer": False,
            "pictures": 24,
            "precision": "mixed",
        },
    }
    with HostTarget().load(graph) as program:
        for picture in pictures(3, seed=8):
            expected = execute(graph, image(picture))
            assert np.array_equal(program.run(image(picture)).scores, expected)


def test_wider_layers_are_nearer() -> None:
    narrow = made(Quantization(3, "lsq"))
    wide = made(Quantization(3, "lsq", layer_bits=(("*", 8),)))
    assert likeness(wide) > likeness(narrow)


def training_data() -> TrainingData:
    """16 pictures a little larger than the network's, and 4 held out."""
    pixels = [
        (pictures(count, side, 3) + 128).permute(0, 2, 3, 1).to(torch.uint8)
        for count, side in ((16, 36), (4, 32))
    ]
    parts = [Pictures(each, torch.zeros(len(each)).long()) for each in pixels]
    return TrainingData(*parts, ("unlabelled",), Preprocess.for_size(32), "digest")


@pytest.mark.parametrize("method", ["best", "asq-paper"])
def test_trained(method: str, tmp_path: Path) -> None:
    data = training_data()
    recipe = recipe_of(2, 5, method == "best")
    how = Finetuning(data, False, recipe, tmp_path / "state", {})
    graph = made(Quantization(4, method), how)
    check(graph)
    record = graph.metadata["training"]
    assert json.loads(json.dumps(graph.metadata)) == graph.metadata
    assert record["recipe"] == recipe.to_json()
    assert len(record["history"]) == 2
    assert (record["pictures"], record["held_out"], record["labels"]) == (16, 4, False)
    assert likeness(graph) > LEAST[method] - 0.05  # two steps are no training
    stored = graph_from_bytes(graph_to_bytes(graph), "file")
    assert stored.metadata == graph.metadata


@pytest.mark.parametrize(("most", "chosen"), [(0, []), (1, [0]), (3, [0, 2, 4]), (9, range(5))])
def test_training_pictures_are_calibrated_on_by_their_middles(
    most: int, chosen: Sequence[int]
) -> None:
    shown = Pictures(
        torch.arange(5 * 36 * 36 * 3).reshape(5, 36, 36, 3).to(torch.uint8), torch.zeros(5)
    )
    wanted = shown.pixels[list(chosen), 2:34, 2:34].permute(0, 3, 1, 2).float() - 128
    assert torch.equal(_middles(shown.some(most), 32), wanted)


def test_the_trained_network_is_calibrated_on_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def counting(network: FloatGraph, *others: Any) -> Rounded:
        counts.append(sum(len(batch) for batch in others[-1]))
        return quantize_network(network, *others)

    monkeypatch.setattr(pipeline, "quantize_network", counting)
    data = training_data()
    recipe = recipe_of(1, 5, True)
    made(Quantization(4, "best"), Finetuning(data, False, recipe, tmp_path / "state", {}))
    assert counts == [24, 24 + len(data.train)]


def test_a_classifier_that_asq_did_not_train_has_error_compensated_integers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the nearest levels behind ASQ's tanh, which it has where nothing is trained."""
    used: list[tuple[Layer, Rounder]] = []

    def kept(network: FloatGraph, widths: Any, rounder: Rounder, *others: Any) -> Rounded:
        used.append((network.layers[-1], rounder))
        return quantize_network(network, widths, rounder, *others)

    monkeypatch.setattr(pipeline, "quantize_network", kept)
    how = Finetuning(training_data(), False, recipe_of(1, 5, True), tmp_path / "state", {})
    made(Quantization(4, "asq"), how)
    layer = used[1][0]
    x = torch.randn(64, layer.weight.shape[1], 1, 1, generator=torch.Generator().manual_seed(1))
    moments = InputMoments()
    moments.add(layer, x, x)
    wanted = round_compensated(layer.weight, 4, moments)
    before, after = (rounder(layer, lambda: moments).integers for _, rounder in used)
    assert torch.equal(after, wanted.integers)
    assert not torch.equal(before, after)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weight_bits": 9}, "weight_bits is 9, allowed are 2 to 8"),
        ({"weight_bits": 4.0}, "weight_bits is 4.0, allowed are 2 to 8"),
        ({"pictures": 2049}, "pictures is 2049, allowed are 1 to 2048"),
        ({"method": "gptq"}, "method is 'gptq', allowed are best, lsq, asq, asq-paper, dorefa"),
        ({"per_layer": True}, "per_layer is True; method 'best' has one scale an output channel"),
        ({"precision": "int4"}, "precision 'int4' is unknown, allowed are mixed, int8"),
        ({"layer_bits": (("stem", 1),)}, "layer_bits: 'stem' has 1, allowed are 2 to 8"),
    ],
)
def test_what_cannot_be(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Quantization(**fields)
    assert str(caught.value) == words


def test_a_pattern_without_a_layer() -> None:
    with pytest.raises(ConfigError, match=r"layer_bits: no layer fits 'b9\.\*'; allowed are"):
        made(Quantization(4, layer_bits=(("b9.*", 8),)))


def test_which_methods_have_one_scale_a_layer() -> None:
    assert not Quantization(4, "asq-paper").per_channel
    assert not Quantization(4, "lsq", per_layer=True).per_channel
    assert Quantization(4, "lsq").per_channel
    assert Quantization(4).per_channel
