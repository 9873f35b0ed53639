"""Channels of negative range are turned over: negative scale, turned weights, the same numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from lowering import (
    Steps,
    each_operator_is_its_layer_within_a_step,
    image,
    lowered,
    steps_of,
)
from small_networks import ORDERS, SCORES, layers_of, pictures, small_network

from etinynet.frontend.float_graph import Layer, run_layers
from etinynet.graph import execute, execute_all

#: Their outputs are read by depthwise layers, shortcuts and the global average only.
MAKERS = [f"b{index}.{part}" for index in range(4) for part in ("pw", "dw2")]


def one_sided(order: str, shortcuts: bool, seed: int) -> list[Layer]:
    """Layers of MAKERS without shift: odd channels never above 0, even ones never below it."""
    layers = []
    for layer in layers_of(small_network(order, seed=seed)):
        if layer.name in MAKERS:
            signs = torch.ones_like(layer.gain)
            signs[1::2] = -1
            layer = dataclasses.replace(
                layer,
                gain=layer.gain.abs() * signs,
                shift=torch.zeros_like(layer.shift),
                inputs=layer.inputs if shortcuts else layer.inputs[:1],
            )
        layers.append(layer)
    return layers


def prepared(order: str, shortcuts: bool, bits: int, seed: int = 0) -> Steps:
    done = steps_of(one_sided(order, shortcuts, seed), bits)
    assert any(layer.residual for layer in done.layers) == shortcuts
    return done


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shortcuts", [False, True], ids=["plain", "shortcuts"])
@pytest.mark.parametrize("order", ORDERS)
def test_each_operator_is_its_layer(order: str, shortcuts: bool, bits: int) -> None:
    done = prepared(order, shortcuts, bits)
    for name in MAKERS:
        scale, statistics = done.activations[name].scale, done.statistics[name]
        one_signed = torch.minimum(statistics.high, -statistics.low) == 0
        live = one_signed & (statistics.high - statistics.low > 0)
        assert bool(live.any()), name
        # One zero point suits all: turned channels differ in sign from the others.
        signs = torch.sign(scale) * torch.where(statistics.high > 0, 1, -1)
        assert len(set(signs[live].tolist())) == 1, name
        assert {-1.0, 1.0} == set(torch.sign(scale).tolist()), name
    each_operator_is_its_layer_within_a_step(done)


@pytest.mark.parametrize("order", ORDERS)
def test_weights_that_read_a_turned_channel_are_turned(order: str) -> None:
    done = prepared(order, True, 8)
    for op in lowered(done).ops:
        if op.kind == "depthwise":
            signs = torch.sign(done.activations[op.input].scale).to(torch.int8)
            wanted = done.weights[op.name].integers[:, 0] * signs[:, None, None]
            assert np.array_equal(op.weight, wanted.numpy())
        elif op.kind in ("pointwise", "dense"):
            assert np.array_equal(op.weight, done.weights[op.name].integers.flatten(1).numpy())


@pytest.mark.parametrize("order", ORDERS)
def test_a_turned_channel_falls_where_the_float_one_rises(order: str) -> None:
    """Turned integers lie on the zero point's other side than the real values."""
    done = prepared(order, False, 8)
    values = execute_all(lowered(done), image(pictures(1, seed=9)[0]))
    for name in MAKERS:
        activation = done.activations[name]
        distance = values[name].astype(np.int32) - activation.zero_point
        real = distance * torch.sign(activation.scale).numpy()
        assert real[..., 0::2].min() >= -1
        assert real[..., 1::2].max() <= 1


@pytest.mark.parametrize("shortcuts", [False, True], ids=["plain", "shortcuts"])
@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_the_graph_follows_the_float_layers(order: str, shortcuts: bool) -> None:
    """Random weights amplify rounding: 9 dB on the mean of 4."""
    x = pictures(24, seed=5)
    ratios = []
    for seed in range(4):
        done = prepared(order, shortcuts, 8, seed)
        graph = lowered(done)
        wanted = run_layers(done.layers, x)[SCORES].flatten(1).numpy()
        got = np.stack([execute(graph, image(picture)) for picture in x])
        error = got * graph.tensors[SCORES].scale - wanted
        ratios.append(10 * np.log10(wanted.var(0).sum() / (error**2).mean(0).sum()))
    assert np.mean(ratios) > 9, ratios
    assert min(ratios) > 7, ratios


def mirrored(layers: list[Layer]) -> list[Layer]:
    """The same scores from tensors whose odd channels have the other sign."""
    signs: dict[str, torch.Tensor] = {}
    result = []
    for layer in layers:
        changes = {}
        if layer.name in MAKERS:
            signs[layer.name] = torch.ones_like(layer.gain)
            signs[layer.name][1::2] = -1
            changes = {key: getattr(layer, key) * signs[layer.name] for key in ("gain", "shift")}
        if layer.kind == "global_avg_pool":
            signs[layer.name] = signs[layer.input]
        if layer.input in signs and layer.kind == "depthwise":
            changes["weight"] = layer.weight * signs[layer.input][:, None, None, None]
        if layer.input in signs and layer.kind == "dense":
            changes["weight"] = layer.weight * signs[layer.input]
        result.append(dataclasses.replace(layer, **changes))
    return result


@pytest.mark.parametrize("shortcuts", [False, True], ids=["plain", "shortcuts"])
@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_mirrored_channels_give_the_same_integers(order: str, shortcuts: bool) -> None:
    """Turned over, a channel and its mirror image are the same; the average's may round apart."""
    layers = layers_of(small_network(order, seed=1))
    if not shortcuts:
        layers = [dataclasses.replace(layer, inputs=layer.inputs[:1]) for layer in layers]
    x = pictures(4, seed=9)
    others = mirrored(layers)
    torch.testing.assert_close(run_layers(others, x)[SCORES], run_layers(layers, x)[SCORES])
    one, other = (lowered(steps_of(each, 8)) for each in (layers, others))
    for picture in x:
        values, same = (execute_all(graph, image(picture)) for graph in (one, other))
        for name in values:
            if name not in ("features", SCORES):
                assert np.array_equal(values[name], same[name]), name
        features = same["features"].astype(np.int32)
        features[..., 1::2] *= -1
        assert np.abs(features - values["features"]).max() <= 1
