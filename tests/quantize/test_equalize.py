"""Equalized columns: another split between a depthwise and a pointwise layer, the same function."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_networks import ORDERS, SCORES, chain, layers_of, pictures, small_network
from torch import Tensor

from etinynet.frontend.float_graph import Layer, run_layers
from etinynet.graph import Window
from etinynet.quantize.equalize import equalized

PAIRS = [(f"b{index}.dw1", f"b{index}.pw") for index in range(4)]


def scores(layers: list[Layer], x: Tensor) -> Tensor:
    return run_layers(layers, x)[SCORES].flatten(1)


def sizes(weight: Tensor) -> Tensor:
    """Root of the mean square of each column."""
    return weight.square().mean((0, 2, 3)).sqrt()


@pytest.mark.parametrize("dead", [False, True], ids=["live", "dead"])
@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_the_same_function(order: str, dead: bool) -> None:
    """float64 to its last digits, float32 to a thousandth of the largest score."""
    model = small_network(order, dead=dead)
    layers, x = layers_of(model), pictures(4)
    plain = scores(layers, x)
    assert (
        float((scores(equalized(chain(layers)).layers, x) - plain).abs().max())
        < 1e-3 * plain.abs().max()
    )
    layers, x = layers_of(model.double()), x.double()
    torch.testing.assert_close(
        scores(equalized(chain(layers)).layers, x), scores(layers, x), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("order", ORDERS)
def test_columns_of_less_different_size(order: str) -> None:
    """Half of the difference from the mean goes, counted in logarithms; the maker takes it up."""
    model = small_network(order).double()
    with torch.no_grad():
        model.blocks[1].pw.conv.weight[:, 3] *= 5
        model.blocks[2].pw.conv.weight[:, 4] /= 5
    before = {layer.name: layer for layer in layers_of(model)}
    after = {layer.name: layer for layer in equalized(chain(list(before.values()))).layers}
    assert list(after) == list(before)
    for maker, reader in PAIRS:
        old, new = sizes(before[reader].weight), sizes(after[reader].weight)
        torch.testing.assert_close(new, (old * old.mean()).sqrt())
        factor = (old / old.mean()).sqrt()
        torch.testing.assert_close(after[maker].gain, before[maker].gain * factor)
        torch.testing.assert_close(after[maker].shift, before[maker].shift * factor)
        assert after[maker].weight is before[maker].weight
        for key in ("gain", "shift", "bias"):
            assert getattr(after[reader], key) is getattr(before[reader], key)
    changed = {name for pair in PAIRS for name in pair}
    assert all(after[name] is before[name] for name in before if name not in changed)


@pytest.mark.parametrize("order", ORDERS)
def test_a_column_of_almost_nothing(order: str) -> None:
    """It grows tenfold at most; a weight of zeros alone stays one, and nothing is infinite."""
    layers = {layer.name: layer for layer in layers_of(small_network(order).double())}
    small = layers["b1.pw"].weight.clone()
    small[:, 2], small[:, 5] = 0, small[:, 5] * 1e-9
    layers["b1.pw"] = dataclasses.replace(layers["b1.pw"], weight=small)
    silent = torch.zeros_like(layers["b2.pw"].weight)
    layers["b2.pw"] = dataclasses.replace(layers["b2.pw"], weight=silent)
    after = {layer.name: layer for layer in equalized(chain(list(layers.values()))).layers}
    assert not after["b1.pw"].weight[:, 2].any()
    torch.testing.assert_close(after["b1.pw"].weight[:, 5], small[:, 5] * 10)
    torch.testing.assert_close(after["b1.dw1"].gain[5], layers["b1.dw1"].gain[5] / 10)
    assert torch.equal(after["b2.pw"].weight, silent)
    assert bool(torch.isfinite(after["b2.dw1"].gain).all())
    x = pictures(2).double()
    wanted = scores(list(layers.values()), x)
    torch.testing.assert_close(scores(list(after.values()), x), wanted, rtol=0, atol=1e-9)


def layer(kind: str, name: str, source: str, *, residual: str | None = None) -> Layer:
    shape = (4, 1, 3, 3) if kind == "depthwise" else (4, 4, 1, 1)
    weight = torch.arange(1.0, 1 + shape[1] * 4 * shape[2] ** 2).reshape(shape)
    one = torch.ones(4)
    if kind == "max_pool":
        return Layer(kind, name, (source,), Window.square(2, 2))
    inputs = (source,) if residual is None else (source, residual)
    window = Window.square(shape[2], 1, shape[2] // 2)
    return Layer(kind, name, inputs, window, weight=weight, gain=one, shift=one)


@pytest.mark.parametrize(
    "layers",
    [
        [layer("pointwise", "a", "input")],
        [layer("max_pool", "a", "input"), layer("pointwise", "b", "a")],
        [layer("depthwise", "a", "input"), layer("depthwise", "b", "a")],
        [
            layer("depthwise", "a", "input"),
            layer("pointwise", "b", "a"),
            layer("pointwise", "c", "a"),
        ],
        [
            layer("depthwise", "a", "input"),
            layer("pointwise", "b", "a"),
            layer("depthwise", "c", "b", residual="a"),
        ],
        [
            layer("depthwise", "a", "input"),
            layer("depthwise", "b", "a", residual="a"),
            layer("pointwise", "c", "b"),
        ],
    ],
    ids=["input", "pool", "no-pointwise", "two-readers", "read-as-shortcut", "has-shortcut"],
)
def test_tensors_that_are_not_free(layers: list[Layer]) -> None:
    assert all(old is new for old, new in zip(layers, equalized(chain(layers)).layers, strict=True))


def test_a_chain_of_pointwise_layers() -> None:
    """A layer in the middle is maker and reader: both changes are kept."""
    layers = [
        layer("depthwise", "a", "input"),
        layer("pointwise", "b", "a"),
        layer("pointwise", "c", "b"),
    ]
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    plain, after = (run_layers(each, x)["c"] for each in (layers, equalized(chain(layers)).layers))
    assert float((after - plain).abs().max()) < 1e-4 * float(plain.abs().max())
    assert equalized(chain(layers)).layers[1].weight is not layers[1].weight
    assert equalized(chain(layers)).layers[1].gain is not layers[1].gain
