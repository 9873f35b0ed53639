"""Error-compensated rounding: smaller output error than nearest rounding, the same levels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from etinynet.errors import ConfigError
from etinynet.frontend.float_graph import Layer, run_layer
from etinynet.graph import Window
from etinynet.quantize.quantizers import levels
from etinynet.quantize.rounding import (
    InputMoments,
    _columns,
    _polished,
    regressed,
    round_compensated,
)
from etinynet.quantize.weights import QuantizedWeight

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
    window = Window.square(kernel, stride, padding)
    return Layer(kind, "a", ("input",), window, weight, gain=one, shift=zero)


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


def gathered(layer: Layer, x: Tensor, real: Tensor | None = None) -> InputMoments:
    moments = InputMoments()
    moments.add(layer, x, x if real is None else real)
    return moments


def step_of(weight: Tensor, bits: int) -> Tensor:
    """The largest weight of each channel over the top level, float64."""
    largest = weight.double().flatten(1).abs().amax(1)
    return torch.where(largest > 0, largest, 1) / levels(bits)


def nearest(weight: Tensor, bits: int) -> QuantizedWeight:
    """Each weight to the nearest of the levels that reach the largest."""
    scale = step_of(weight, bits)
    position = (weight.double().flatten(1) / scale[:, None]).reshape(weight.shape)
    return QuantizedWeight(position.round().to(torch.int8), scale, bits, position.float())


def error(layer: Layer, rounded: QuantizedWeight, x: Tensor) -> Tensor:
    """Variance of each output's error; its mean is made up for by the shift."""
    difference = layer.weight.double() - rounded.dequantized().double().reshape(layer.weight.shape)
    bare = dataclasses.replace(
        layer, weight=difference, gain=layer.gain.double(), shift=layer.shift.double()
    )
    return run_layer(bare, x.double(), None).transpose(0, 1).flatten(1).var(1)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("kind", SHAPES)
def test_less_error_than_nearest_rounding(kind: str, bits: int) -> None:
    generator = torch.Generator().manual_seed(5)
    ratios = []
    for _ in range(6):
        layer, x = layer_of(kind, generator), correlated(kind, generator)
        moments = InputMoments()
        for part in x.split(3):
            moments.add(layer, part, part)
        result = round_compensated(layer.weight, bits, moments)
        assert result.integers.dtype == torch.int8
        assert result.integers.shape == layer.weight.shape
        assert int(result.integers.abs().max()) <= levels(bits)
        assert result.bits == bits
        plain = nearest(layer.weight, bits)
        ratios.append(float(error(layer, result, x).sum() / error(layer, plain, x).sum()))
    assert sum(ratios) / len(ratios) < 0.7, ratios


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_one_level_more_is_less_error(bits: int) -> None:
    """Below the symmetric codes lies one more of two's complement."""
    generator = torch.Generator().manual_seed(7)
    ratios, lowest, found = [], -(1 << (bits - 1)), set()
    for _ in range(12):
        layer, x = layer_of("pointwise", generator), correlated("pointwise", generator)
        moments = gathered(layer, x)
        wide = round_compensated(layer.weight, bits, moments, lowest)
        plain = round_compensated(layer.weight, bits, moments)
        found.add(int(wide.integers.min()))
        assert int(wide.integers.max()) <= levels(bits)
        assert torch.equal(wide.position.round().to(torch.int8), wide.integers)
        ratios.append(float(error(layer, wide, x).sum() / error(layer, plain, x).sum()))
    assert min(found) == lowest
    assert sum(ratios) / len(ratios) < 0.95, ratios


def squared(target: Tensor, rounded: QuantizedWeight, moments: InputMoments) -> Tensor:
    """The squared output error of each channel, as rounding counts it: damping included."""
    left = (target - rounded.dequantized().double().flatten(1))[:, None]
    return (left @ (moments.central() + moments.damping()) @ left.transpose(1, 2))[:, 0, 0]


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(list(SHAPES)),
    st.integers(2, 4),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.02, 0.5]),
    st.booleans(),
)
@example("depthwise", 4, 1877, 0.0, False)  # where rounding the nearest way is the better start
def test_never_more_error_than_nearest_rounding(
    kind: str, bits: int, seed: int, noise: float, zeros: bool
) -> None:
    """Counted with the same moments, channel by channel; float32 of the result set apart."""
    generator = torch.Generator().manual_seed(seed)
    layer, real = layer_of(kind, generator), correlated(kind, generator)
    if zeros:
        layer.weight[1] = 0
    x = real + noise * torch.randn(real.shape, generator=generator)
    moments = gathered(layer, x, real)
    target = regressed(layer.weight, moments)
    result = round_compensated(layer.weight, bits, moments)
    plain = nearest(target.reshape(layer.weight.shape), bits)
    mine, other = (squared(target, each, moments) for each in (result, plain))
    assert bool((mine <= other * (1 + 1e-5) + 1e-9).all()), (mine / other).max()
    assert torch.equal(result.position.round().to(torch.int8), result.integers)
    assert float((result.position - result.integers).abs().max()) < 0.5
    assert bool((result.scale > 0).all())


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 4), st.integers(0, 2**31), st.sampled_from([1, 5]))
def test_polishing_never_raises_the_error(bits: int, seed: int, groups: int) -> None:
    """From any codes: each sweep's two steps are the best that one scale or one code can do."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(groups, 6, 9, generator=generator, dtype=torch.float64)
    moments = mixed @ mixed.transpose(1, 2) / 9 + 1e-3 * torch.eye(6)
    target = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    top = levels(bits)
    codes = torch.randint(-top, top + 1, (5, 6), generator=generator).double()
    scale = target.abs().amax(1, keepdim=True) / top

    def errors(scale: Tensor, codes: Tensor) -> Tensor:
        left = (target - scale * codes)[:, None]
        return (left @ moments @ left.transpose(1, 2))[:, 0, 0]

    before = errors(scale, codes)
    found, polished = _polished(target, scale, codes.clone(), moments, -top, top)
    assert bool((errors(found, polished) <= before * (1 + 1e-9)).all())
    assert float(polished.abs().max()) <= top
    assert torch.equal(polished, polished.round())


@pytest.mark.parametrize("kind", SHAPES)
def test_regression_is_least_squares(kind: str) -> None:
    """numpy's lstsq on the very columns: as many rows more as the damping stands for."""
    generator = torch.Generator().manual_seed(8)
    layer = layer_of(kind, generator)
    real = torch.cat([correlated(kind, generator) for _ in range(4)])
    x = (real * 2).round() / 2
    moments = gathered(layer, x, real)
    found = regressed(layer.weight, moments)
    mine, other = (_columns(layer, each).double() for each in (x, real))
    weight = layer.weight.double().flatten(1)
    for channel in range(len(weight)):
        group = channel if len(mine) > 1 else 0
        size, count = mine[group].shape
        inputs = (mine[group] - mine[group].mean(1, keepdim=True)).T.numpy()
        outputs = (other[group] - other[group].mean(1, keepdim=True)).T.numpy()
        pull = float(moments.damping()[group, 0, 0] * count) ** 0.5
        rows = np.concatenate([inputs, pull * np.eye(size)])
        own = weight[channel].numpy()
        aims = np.concatenate([outputs @ own, pull * own])
        wanted = np.linalg.lstsq(rows, aims, rcond=None)[0]
        np.testing.assert_allclose(found[channel].numpy(), wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", SHAPES)
def test_regression_makes_up_for_what_is_lost(kind: str) -> None:
    generator = torch.Generator().manual_seed(9)
    layer = layer_of(kind, generator)
    real = torch.cat([correlated(kind, generator) for _ in range(4)])
    x = 0.8 * real  # a layer before that gives too little
    found = regressed(layer.weight, gathered(layer, x, real)).reshape(layer.weight.shape)
    bare = [(layer.weight.double(), real), (found, x), (layer.weight.double(), x)]
    wanted, regained, lost = (
        run_layer(
            dataclasses.replace(
                layer, weight=weight, gain=layer.gain.double(), shift=layer.shift.double()
            ),
            inputs.double(),
            None,
        )
        for weight, inputs in bare
    )
    left, without = ((wanted - each).transpose(0, 1).flatten(1).var(1) for each in (regained, lost))
    assert bool((left < 0.01 * without).all())
    same = regressed(layer.weight, gathered(layer, x))
    torch.testing.assert_close(same, layer.weight.double().flatten(1))


@pytest.mark.parametrize("count", [1, 32 * 12 - 1])
def test_few_positions_leave_the_weight_alone(count: int) -> None:
    generator = torch.Generator().manual_seed(6)
    layer = layer_of("dense", generator)
    real = torch.randn(count + 1, 12, 1, 1, generator=generator)
    own = layer.weight.double().flatten(1)
    assert torch.equal(regressed(layer.weight, gathered(layer, 0.5 * real[1:], real[1:])), own)
    more = regressed(layer.weight, gathered(layer, 0.5 * real, real))
    assert torch.equal(more, own) == (count == 1)


def test_few_positions_are_damped_more() -> None:
    generator = torch.Generator().manual_seed(6)
    layer = layer_of("dense", generator)
    x = torch.randn(32 * 12, 12, 1, 1, generator=generator)
    for count, part in ((32 * 12 - 1, 0.2), (32 * 12, 1e-3)):
        moments = gathered(layer, x[:count])
        spread = moments.central()[0].diagonal().mean() * torch.eye(12).double()
        torch.testing.assert_close(moments.damping()[0], part * spread)


def test_moments_are_the_covariance_of_what_the_weights_meet() -> None:
    generator = torch.Generator().manual_seed(1)
    layer, x = layer_of("pointwise", generator), correlated("pointwise", generator)
    moments = gathered(layer, x[:5], 2 * x[:5])
    moments.add(layer, x[5:], 2 * x[5:])
    wanted = torch.cov(x.double().transpose(0, 1).flatten(1), correction=0)
    torch.testing.assert_close(moments.central(), wanted[None], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moments.cross(), 2 * wanted[None], rtol=1e-6, atol=1e-6)


def test_depthwise_channels_have_moments_of_their_own() -> None:
    generator = torch.Generator().manual_seed(1)
    layer, x = layer_of("depthwise", generator), correlated("depthwise", generator)
    moments = gathered(layer, x)
    assert moments.central().shape == (5, 9, 9)
    for channel in range(5):
        patches = functional.unfold(x[:, channel : channel + 1].double(), 3, padding=1)
        wanted = torch.cov(patches.transpose(0, 1).flatten(1), correction=0)
        torch.testing.assert_close(moments.central()[channel], wanted, rtol=1e-6, atol=1e-6)


def test_independent_inputs_keep_nearest_rounding() -> None:
    """Where nothing can be made up for, the nearest level is best."""
    generator = torch.Generator().manual_seed(2)
    layer = layer_of("dense", generator)
    x = torch.eye(12).repeat(2, 1)
    x[12:] *= -1
    result = round_compensated(layer.weight, 4, gathered(layer, x[..., None, None]))
    codes = (layer.weight.double() / result.scale[:, None]).round().clamp(-7, 7)
    assert torch.equal(result.integers, codes.to(torch.int8))


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("size", [0.0, 1e-6, 1.0, 3e4])
@pytest.mark.parametrize("kind", SHAPES)
def test_inputs_that_never_vary(kind: str, size: float, bits: int) -> None:
    """Constant or absent inputs say nothing: any level in range will do, and none fails."""
    generator = torch.Generator().manual_seed(4)
    layer, x = layer_of(kind, generator), correlated(kind, generator)
    still = size * x[:1, :, :1, :1].expand(4, -1, x.shape[2], x.shape[3])
    result = round_compensated(layer.weight, bits, gathered(layer, still))
    assert int(result.integers.abs().max()) <= levels(bits)
    assert bool(torch.isfinite(result.scale).all())


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("kind", SHAPES)
def test_channels_of_zeros(kind: str, bits: int) -> None:
    generator = torch.Generator().manual_seed(4)
    layer, x = layer_of(kind, generator), correlated(kind, generator)
    layer.weight[2] = 0
    result = round_compensated(layer.weight, bits, gathered(layer, x))
    assert not result.integers[2].any()
    assert result.integers[1].any()
    assert bool((result.scale > 0).all())
    silent = round_compensated(torch.zeros_like(layer.weight), bits, gathered(layer, x))
    assert not silent.integers.any()
    assert silent.scale.tolist() == pytest.approx([silent.scale[0].item()] * len(layer.weight))


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_on_the_grid_stay(bits: int) -> None:
    generator = torch.Generator().manual_seed(3)
    layer, x = layer_of("conv2d", generator), correlated("conv2d", generator)
    plain = nearest(layer.weight, bits)
    result = round_compensated(plain.dequantized(), bits, gathered(layer, x))
    assert torch.equal(result.integers, plain.integers)
    torch.testing.assert_close(result.scale, plain.scale, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bits", [1, 9])
def test_bits(bits: int) -> None:
    layer = layer_of("dense", torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match=f"weight_bits is {bits}, allowed are 2 to 8"):
        round_compensated(layer.weight, bits, InputMoments())
