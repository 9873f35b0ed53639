"""Layers extracted from a network compute what the network computes, in both orders."""

from __future__ import annotations

import pytest
import torch
from small_networks import ORDERS, pictures, small_network

from etinynet.errors import UnsupportedError
from etinynet.quantize.layers import SCORES, layers_of, run_layers


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


def test_no_scores_no_layers() -> None:
    with pytest.raises(UnsupportedError, match="without classifier gives no scores"):
        layers_of(small_network(ORDERS[0], classes=0))


def test_clipped_activations_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="activation_clip has no integer form"):
        layers_of(small_network(ORDERS[0], activation_clip=12.0))
