"""From float to integers: the only place of tolerances, each stated in steps or decibels."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import torch
from lowering import (
    Steps,
    each_operator_is_its_layer_within_a_step,
    image,
    lowered,
    steps,
    steps_of,
    widths_of,
)
from small_networks import ORDERS, SCORES, chain, layers_of, pictures, small_network
from torch import Tensor

from etinynet.errors import ConfigError, DataError, GraphError
from etinynet.frontend.float_graph import INPUT, Layer, run_layers
from etinynet.graph import (
    INT8,
    MIXED,
    Graph,
    Precision,
    check,
    execute,
    execute_all,
    graph_to_bytes,
)
from etinynet.quantize.activations import Activation, fake_quantize
from etinynet.quantize.calibrate import calibrate
from etinynet.quantize.correct import round_and_correct
from etinynet.quantize.lower import lower
from etinynet.quantize.methods import rounder_of
from etinynet.quantize.pipeline import Quantization, quantize_model


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("dead", [False, True], ids=["live", "dead"])
@pytest.mark.parametrize("order", ORDERS)
def test_each_operator_is_its_layer_within_a_step(order: str, dead: bool, bits: int) -> None:
    each_operator_is_its_layer_within_a_step(steps(order, bits, dead=dead))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [8, 2])
def test_calibration_pictures_without_any_spread(order: str, bits: int) -> None:
    """One picture, one picture many times, or one colour leave inputs that never vary."""
    one = pictures(1)
    for x in (one, one.expand(3, -1, -1, -1), torch.zeros(2, 3, 32, 32), 0 * one - 128):
        check(quantize_model(small_network(order), x, Quantization(bits), "small", None, {}))


def noise_ratio(graph: Graph, order: str, **options: Any) -> float:
    """Decibels of the scores' variation over the error, on pictures that did not calibrate."""
    model = small_network(order, **options)
    x = pictures(24, seed=5)
    with torch.no_grad():
        wanted = model(x).numpy()
    got = np.stack([execute(graph, image(picture)) for picture in x])
    error = got * graph.tensors[SCORES].scale - wanted
    return float(10 * np.log10(wanted.var(0).sum() / (error**2).mean(0).sum()))


@functools.cache
def quantized(order: str, bits: int = 8, **options: Any) -> Graph:
    model = small_network(order, **options)
    return quantize_model(model, pictures(32), Quantization(bits, pictures=32), "small", None, {})


@pytest.mark.parametrize("order", ORDERS)
def test_the_integer_network_follows_the_float_network(order: str) -> None:
    """Random weights amplify rounding more than trained ones do: 12 dB on the mean of 4."""
    ratios = [noise_ratio(quantized(order, seed=s), order, seed=s) for s in range(4)]
    assert np.mean(ratios) > 12, ratios
    assert min(ratios) > 5, ratios


@pytest.mark.parametrize("order", ORDERS)
def test_dead_channels_do_not_spoil_the_others(order: str) -> None:
    graph = quantized(order, dead=True)
    check(graph)
    assert noise_ratio(graph, order, dead=True) > 5


@torch.no_grad()
def test_a_channel_that_never_fires() -> None:
    """A ReLU that is 0 on every calibration picture gives 0, at a multiplier in range."""
    model = small_network("conv_bn_relu")
    model.blocks[1].pw.norm.bias[2] = -50
    model.blocks[2].dw2.norm.bias[3] = -50
    graph = quantize_model(model, pictures(32), Quantization(8, pictures=32), "small", None, {})
    values = execute_all(graph, image(pictures(1)[0]))
    for name, channel in (("b1.pw", 2), ("b2.dw2", 3)):
        tensor = graph.tensors[name]
        if name == "b1.pw":
            assert np.all(values[name][..., channel] == tensor.zero_point)
        rule = next(op.requantization for op in graph.ops if op.name == name)
        assert rule.shift >= 2


@pytest.mark.parametrize("order", ORDERS)
def test_more_bits_are_better(order: str) -> None:
    eight, four, two = (noise_ratio(quantized(order, bits), order) for bits in (8, 4, 2))
    assert eight > four + 3 > two + 3


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_correction_reduces_the_error(order: str) -> None:
    """Of the scores with 4-bit weights, mean over networks."""
    gained = []
    for seed in range(3):
        done = steps(order, 4, method="lsq", seed=seed)
        bare = [
            layer
            if layer.weight is None
            else dataclasses.replace(layer, weight=done.weights[layer.name].dequantized())
            for layer in done.layers
        ]
        plain = lowered(dataclasses.replace(done, corrected=bare))
        pair = [noise_ratio(graph, order, seed=seed) for graph in (lowered(done), plain)]
        gained.append(pair[0] - pair[1])
    assert np.mean(gained) > 0.5, gained


class Fine:
    """In the place of ActivationRules: 24 bits for every tensor."""

    def __init__(self, layers: list[Layer], batches: list[Tensor]) -> None:
        self.statistics = calibrate(layers, batches)

    def choose(self, layer: Layer, *others: object) -> Activation:
        high = self.statistics[layer.name].high
        return Activation(high.double().abs().amax().expand(len(high)) / 2**20, 0, 24)


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_correction_of_an_exact_network_changes_little(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of whole steps and activations of many bits leave gain and shift where they were."""
    # no operator has so many bits
    monkeypatch.setattr("etinynet.quantize.correct.with_integer_offset", lambda layer, *_: layer)
    exact = steps(order, method="lsq").weights
    layers = [
        layer
        if layer.weight is None
        else dataclasses.replace(layer, weight=exact[layer.name].dequantized())
        for layer in layers_of(small_network(order))
    ]
    rounder = rounder_of("lsq", widths_of(layers, 8), True)
    rules = Fine(layers, [pictures(8)])
    done = round_and_correct(chain(layers), rounder, rules, [pictures(8)])
    for name, weight in done.weights.items():
        assert torch.equal(weight.integers, exact[name].integers)
    for layer, fitted in zip(layers, done.layers, strict=True):
        if layer.gain is not None:
            torch.testing.assert_close(fitted.gain, layer.gain, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(fitted.shift, layer.shift, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("order", ORDERS)
def test_deterministic(order: str) -> None:
    assert graph_to_bytes(quantized(order)) == graph_to_bytes(quantized.__wrapped__(order))


def test_the_form_of_the_graph() -> None:
    graph = quantized("conv_relu_bn", 4)
    assert graph.metadata == {
        "quantization": {
            "weight_bits": 4,
            "method": "best",
            "layer_bits": [],
            "per_layer": False,
            "pictures": 32,
            "precision": "mixed",
        }
    }
    assert graph.tensors[INPUT].shape == (32, 32, 3)
    for op in graph.ops:
        tensor = graph.tensors[op.output]
        assert tensor.name == op.name
        wide = op.name.endswith("dw1") or op.kind in ("global_avg_pool", "dense")
        assert (tensor.bits > 8) == wide
        if op.weight is not None:
            assert op.weight_bits == 4
            assert op.weight.min() >= (-7 if op.kind == "depthwise" else -8)
            assert op.weight.max() <= 7
        if op.bias is not None:
            assert op.requantization.relu


@torch.no_grad()
def test_fake_quantize_stands_for_the_integers() -> None:
    activation = Activation(torch.tensor([0.5, 2.0]).double(), 3, 8)
    values = torch.tensor([0.3, 0.8, -1000, 1000]).reshape(1, 1, 2, 2).repeat(1, 2, 1, 1)
    expected = [[0.5, 1.0, -65.5, 62.0], [0, 0, -262, 248]]
    assert fake_quantize(values, activation).flatten(2)[0].tolist() == expected


def impossible(done: Steps, **changes: Any) -> Steps:
    layers = [
        dataclasses.replace(x, **{k: getattr(x, k) * v for k, v in changes.items()})
        if x.name == "b1.pw"
        else x
        for x in done.corrected
    ]
    return dataclasses.replace(done, corrected=layers)


def test_impossible_numbers_are_refused_in_words() -> None:
    done = steps("conv_bn_relu")
    with pytest.raises(
        ConfigError, match=r"layer 'b1.pw': channel \d+: multiplier .* leaves int32; "
    ):
        lowered(impossible(done, gain=1e6))
    with pytest.raises(ConfigError, match=r"layer 'b1.pw': channel \d+: offset .* leaves int32"):
        lowered(impossible(done, shift=1e12))
    worst = int(next(x.bias for x in done.corrected if x.name == "b1.pw").abs().argmax())
    with pytest.raises(ConfigError, match=rf"layer 'b1.pw': channel {worst}: bias .* leaves int32"):
        lowered(impossible(done, bias=1e12))
    network = chain(done.corrected)
    with pytest.raises(GraphError, match=r"lowering 'a b': graph: name is 'a b', allowed is a C"):
        lower("a b", network, done.weights, done.activations, MIXED, None, {})


def test_a_sum_beyond_int32_is_refused() -> None:
    done = steps("conv_bn_relu")
    with pytest.raises(GraphError, match=r"lowering 'small': .* accumulator bound is"):
        lowered(impossible(done, bias=_up_to_the_limit(done)))


def _up_to_the_limit(done: Steps) -> float:
    """The factor that brings the largest bias of b1.pw just below 2^31."""
    layer = next(x for x in done.corrected if x.name == "b1.pw")
    step = done.weights["b1.pw"].scale * done.activations["b1.dw1"].scale[0]
    return float((2**31 - 2**16) / (layer.bias.double() / step).abs().max())


def test_configuration() -> None:
    for field, value in (
        ("weight_bits", 9),
        ("weight_bits", 1),
        ("pictures", 0),
        ("pictures", 2.0),
    ):
        with pytest.raises(ConfigError, match=f"{field} is {value!r}, allowed are "):
            Quantization(**{field: value})


def test_calibration_needs_finite_numbers() -> None:
    layers = layers_of(small_network("conv_bn_relu"))
    with pytest.raises(DataError, match="calibration: 0 pictures, at least 1 is needed"):
        calibrate(layers, [])
    with pytest.raises(DataError, match="layer 'stem': channel 0 gives a number"):
        calibrate(layers, [pictures(1) * float("nan")])


@pytest.mark.parametrize("precision", [MIXED, INT8], ids=lambda precision: precision.name)
def test_a_tensor_has_the_bits_that_all_its_readers_take(precision: Precision) -> None:
    """Read by a pool and a pointwise layer it has 8 bits, and one scale for all channels."""
    done = steps("conv_bn_relu")
    extra = dataclasses.replace(done.layers[3], name="more", inputs=("stem",))
    network = chain([*done.layers, extra])
    widths = {**done.rules.widths, "more": 8}
    rules = dataclasses.replace(done.rules, network=network, widths=widths, precision=precision)
    shared = rules.choose(done.layers[0], done.weights["stem"], done.activations)
    assert shared.bits == 8
    assert len(shared.scale.unique()) == 1
    own = done.rules.choose(done.layers[0], done.weights["stem"], done.activations)
    assert own.bits == 8
    assert len(own.scale.unique()) > 1
    wide = rules.choose(done.layers[2], done.weights["b0.dw1"], done.activations)
    assert (wide.bits > 8) == (precision is MIXED)


def mean_offsets(done: Steps) -> float:
    """How far the mean of each channel is from the float network's, in deviations: the root of the
    mean square over all 8-bit tensors, on the calibration pictures."""
    x = torch.cat([pictures(16), pictures(16, seed=2)])
    graph = lowered(done)
    found = [execute_all(graph, image(picture)) for picture in x]
    floats = run_layers(done.layers, x)
    squares = []
    for layer in done.layers:
        activation = done.activations[layer.name]
        if layer.weight is None or activation.bits != 8:
            continue
        integers = torch.from_numpy(np.stack([values[layer.name] for values in found])).double()
        real = (integers - activation.zero_point) * activation.scale
        wanted = floats[layer.name].double().permute(0, 2, 3, 1)
        difference = (real - wanted).mean((0, 1, 2)) / done.statistics[layer.name].deviation
        squares.append(difference.square())
    return float(torch.cat(squares).mean().sqrt())


@pytest.mark.parametrize("order", ORDERS)
def test_the_rounding_of_an_offset_is_made_up_for(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset of few fractional bits moves its channel everywhere; the layers behind see it."""
    networks = [layers_of(small_network(order, seed=seed)) for seed in range(1, 5)]
    done = sum(mean_offsets(steps_of(layers, 4)) for layers in networks)
    monkeypatch.setattr("etinynet.quantize.correct.with_integer_offset", lambda layer, *_: layer)
    assert done < 0.8 * sum(mean_offsets(steps_of(layers, 4)) for layers in networks)
