"""Layers extracted from a network compute what the network computes, in both orders."""

from __future__ import annotations

import pytest
import torch
from small_networks import ORDERS, SCORES, layers_of, pictures, small_network

from etinynet.frontend.float_graph import run_layers
from etinynet.quantize.pipeline import network_of


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", [0, 1, 2])
@torch.no_grad()
def test_layers_equal_the_network(order: str, seed: int) -> None:
    model = small_network(order, seed=seed)
    x = pictures(4)
    scores = run_layers(layers_of(model), x)[SCORES].flatten(1)
    torch.testing.assert_close(scores, model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_dead_channels_are_their_shift(order: str) -> None:
    """Layers drop what is left of a dead channel: at most a thousandth of its gain."""
    model = small_network(order, dead=True)
    layers = {layer.name: layer for layer in layers_of(model)}
    for layer in (layers["b0.pw"], layers["b3.dw2"]):
        scaled = layer.gain * layer.weight.flatten(1).abs().sum(1)
        assert (scaled == 0).nonzero().flatten().tolist()
        assert bool(torch.isfinite(layer.gain).all())
    x = pictures(4)
    scores = run_layers(list(layers.values()), x)[SCORES].flatten(1)
    torch.testing.assert_close(scores, model(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("order", ORDERS)
def test_order_and_shortcuts(order: str) -> None:
    layers = {layer.name: layer for layer in layers_of(small_network(order))}
    assert list(layers) == [
        "stem", "pool", *(f"b{i}.{part}" for i in range(4) for part in ("dw1", "pw", "dw2")),
        "features", SCORES,
    ]  # fmt: skip
    shortcuts = {name: layer.residual for name, layer in layers.items() if layer.residual}
    assert shortcuts == {"b2.dw2": "b2.pw", "b3.pw": "b2.dw2", "b3.dw2": "b3.pw"}
    assert {name for name, layer in layers.items() if layer.relu} == {
        "stem", *(f"b{i}.{part}" for i in range(4) for part in ("pw", "dw2")),
    }  # fmt: skip
    assert (layers["b0.pw"].bias is not None) == (order == "conv_bn_relu")
    assert bool((layers["b0.pw"].gain == 1).all()) == (order == "conv_bn_relu")


@torch.no_grad()
def test_a_network_without_classifier_ends_in_its_last_map() -> None:
    model, x = small_network(ORDERS[0], classes=0), pictures(4)
    network = network_of(model, 32)
    assert network.outputs == ("b3.dw2",) or network.layers[-1].kind == "add"
    assert network.shapes[network.outputs[0]] == (4, 4, 16)
    found = network.scores(run_layers(network.layers, x))
    torch.testing.assert_close(found, model.features(x).flatten(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_clipped_activations_are_clamped_before_what_is_added(order: str) -> None:
    model, x = small_network(order, activation_clip=0.7), pictures(4)
    layers = layers_of(model)
    assert {layer.clamp for layer in layers if layer.weight is not None} == {(-0.7, 0.7), None}
    assert [layer.name for layer in layers if layer.kind == "add"] != []
    scores = run_layers(layers, x)[SCORES].flatten(1)
    torch.testing.assert_close(scores, model(x), rtol=1e-4, atol=1e-4)


def test_stages_are_the_blocks() -> None:
    stages = network_of(small_network(ORDERS[0]), 32).stages
    blocks = [tuple(f"b{i}.{part}" for part in ("dw1", "pw", "dw2")) for i in range(4)]
    assert stages == (("stem",), *blocks, (SCORES,))
