"""Error-compensated rounding: smaller output error than nearest rounding, the same levels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from etinynet.quantize.layers import Layer, run_layer
from etinynet.quantize.rounding import InputMoments, round_compensated
from etinynet.quantize.weights import QuantizedWeight, quantize_weight

SHAPES = {
    "conv2d": ((6, 4, 3, 3), 3, 2, 1),
    "depthwise": ((5, 1, 3, 3), 3, 1, 1),
    "pointwise": ((6, 12, 1, 1), 1, 1, 0),
    "dense": ((6, 12), 1, 1, 0),
}


def layer_of(kind: str, generator: torch.Generator) -> Layer:
    shape, kernel, stride, padding = SHAPES[kind]
    weight = torch.randn(shape, generator=generator)
    one, zero = torch.ones(shape[0]), torch.zeros(shape[0])
    return Layer(kind, "a", "input", kernel, stride, padding, weight, gain=one, shift=zero)


def correlated(kind: str, generator: torch.Generator) -> Tensor:
    """Inputs whose channels are mixtures of a few and whose neighbours are alike, with a mean."""
    shape = SHAPES[kind][0]
    channels = shape[0] if kind == "depthwise" else shape[1]
    sources = torch.randn(8, 3, 4, 4, generator=generator)
    mixed = torch.einsum("cs,nsyx->ncyx", torch.randn(channels, 3, generator=generator), sources)
    smooth = functional.interpolate(mixed, scale_factor=4, mode="bilinear")
    if kind == "dense":
        smooth = smooth.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
    return smooth + 0.1 * torch.randn(smooth.shape, generator=generator) + 3


def error(layer: Layer, rounded: QuantizedWeight, x: Tensor) -> Tensor:
    """Variance of each output's error; its mean is made up for by the shift."""
    difference = layer.weight.double() - rounded.dequantized().double().reshape(layer.weight.shape)
    bare = Layer(
        layer.kind, "a", "input", layer.kernel, layer.stride, layer.padding, difference,
        gain=layer.gain.double(), shift=layer.shift.double(),
    )  # fmt: skip
    return run_layer(bare, x.double(), None).transpose(0, 1).flatten(1).var(1)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("kind", SHAPES)
def test_less_error_than_nearest_rounding(kind: str, bits: int) -> None:
    generator = torch.Generator().manual_seed(5)
    ratios = []
    for _ in range(6):
        layer, x = layer_of(kind, generator), correlated(kind, generator)
        nearest = quantize_weight(layer.weight, bits)
        moments = InputMoments()
        for part in x.split(3):
            moments.add(layer, part)
        result = round_compensated(layer.weight, nearest, moments)
        top = 2 ** (bits - 1) - 1
        assert result.integers.dtype == torch.int8
        assert result.integers.shape == layer.weight.shape
        assert int(result.integers.abs().max()) <= top
        assert torch.equal(result.scale, nearest.scale)
        assert result.bits == bits
        ratios.append(float(error(layer, result, x).sum() / error(layer, nearest, x).sum()))
    assert sum(ratios) / len(ratios) < 0.7, ratios


def test_moments_are_the_covariance_of_what_the_weights_meet() -> None:
    generator = torch.Generator().manual_seed(1)
    layer, x = layer_of("pointwise", generator), correlated("pointwise", generator)
    moments = InputMoments()
    moments.add(layer, x[:5])
    moments.add(layer, x[5:])
    wanted = torch.cov(x.double().transpose(0, 1).flatten(1), correction=0)
    torch.testing.assert_close(moments.central(), wanted[None], rtol=1e-6, atol=1e-6)


def test_depthwise_channels_have_moments_of_their_own() -> None:
    generator = torch.Generator().manual_seed(1)
    layer, x = layer_of("depthwise", generator), correlated("depthwise", generator)
    moments = InputMoments()
    moments.add(layer, x)
    assert moments.central().shape == (5, 9, 9)
    for channel in range(5):
        patches = functional.unfold(x[:, channel : channel + 1].double(), 3, padding=1)
        wanted = torch.cov(patches.transpose(0, 1).flatten(1), correction=0)
        torch.testing.assert_close(moments.central()[channel], wanted, rtol=1e-6, atol=1e-6)


def test_independent_inputs_keep_nearest_rounding() -> None:
    """Where nothing can be made up for, the nearest level is best."""
    generator = torch.Generator().manual_seed(2)
    layer = layer_of("dense", generator)
    moments = InputMoments()
    moments.add(
        layer,
        torch.eye(12).repeat(2, 1)[..., None, None]
        * torch.tensor([1, -1]).repeat_interleave(12)[:, None, None, None],
    )
    nearest = quantize_weight(layer.weight, 4)
    assert torch.equal(round_compensated(layer.weight, nearest, moments).integers, nearest.integers)


@pytest.mark.parametrize("size", [0.0, 1e-6, 1.0, 3e4])
@pytest.mark.parametrize("kind", SHAPES)
def test_inputs_that_never_vary(kind: str, size: float) -> None:
    """Constant or absent inputs say nothing: any level in range will do, and none fails."""
    generator = torch.Generator().manual_seed(4)
    layer, x = layer_of(kind, generator), correlated(kind, generator)
    moments = InputMoments()
    moments.add(layer, size * x[:1, :, :1, :1].expand(4, -1, x.shape[2], x.shape[3]))
    nearest = quantize_weight(layer.weight, 3)
    result = round_compensated(layer.weight, nearest, moments)
    assert int(result.integers.abs().max()) <= 3


def test_weights_on_the_grid_stay() -> None:
    generator = torch.Generator().manual_seed(3)
    layer, x = layer_of("conv2d", generator), correlated("conv2d", generator)
    moments = InputMoments()
    moments.add(layer, x)
    nearest = quantize_weight(layer.weight, 4)
    result = round_compensated(nearest.dequantized(), nearest, moments)
    assert torch.equal(result.integers, nearest.integers)
