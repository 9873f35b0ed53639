"""Weight quantizers: the paper's equations in NumPy, gradients derived by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from etinynet.errors import ConfigError
from etinynet.quantize.quantizers import (
    asq,
    clamped,
    dorefa,
    dorefa_symmetric,
    least_squares_scale,
    levels,
    lsq,
    rescaled,
    round_through,
)

Array = NDArray[np.float64]
WIDTHS = range(2, 9)
#: Parameters of DoReFa's equation 5: none, and no level at 0.
NO_ZERO: list[Tensor] = []


def weights(seed: int = 0, scale: float = 0.1, shape: tuple[int, ...] = (6, 5, 3, 3)) -> Tensor:
    """Float64 weights whose channels differ in spread."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.3, 3, shape[0]).double().reshape(-1, *[1] * (len(shape) - 1))
    return scale * spread * torch.randn(shape, generator=generator, dtype=torch.float64)


def groups(weight: Array, per_channel: bool) -> list[Array]:
    """What one statistic is taken over, flat."""
    return [row.ravel() for row in weight] if per_channel else [weight.ravel()]


def by_groups(weight: Tensor, per_channel: bool, formula: Callable[[Array, int], Array]) -> Array:
    """`formula(group, index)` of every group, in the shape of `weight`."""
    parts = [formula(g, i) for i, g in enumerate(groups(weight.detach().numpy(), per_channel))]
    return np.concatenate(parts).reshape(weight.shape)


def squashed(group: Array) -> Array:
    return np.tanh(group) / np.abs(np.tanh(group)).max()


def asq_formula(lam: list[float], bits: int, multiply: bool) -> Callable[[Array, int], Array]:
    def formula(group: Array, index: int) -> Array:
        factor = lam[index] if multiply else 1 / lam[index]
        deviation = np.sqrt(np.mean((group - group.mean()) ** 2) + 1e-5)
        top = 2 ** (bits - 1) - 1
        return np.round(top * squashed(group * factor / deviation)) / top

    return formula


def gradient(result: Tensor, by: Tensor, outer: Tensor) -> Tensor:
    (found,) = torch.autograd.grad((result * outer).sum(), by, retain_graph=True)
    return found


def outer(weight: Tensor) -> Tensor:
    """The gradient that arrives at the quantized weights: one of random numbers."""
    generator = torch.Generator().manual_seed(99)
    return torch.randn(weight.shape, generator=generator, dtype=weight.dtype)


def test_round_through() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.4999999, 0.5, 1.5, 1e9], requires_grad=True)
    result = round_through(x)
    assert result.tolist() == [-2, -2, 0, 0, 0, 2, 1e9]
    result.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1] * 7


def test_levels() -> None:
    assert [levels(bits) for bits in WIDTHS] == [1, 3, 7, 15, 31, 63, 127]
    for bits in (1, 9, 0, -4, 4.0, True, "4"):
        with pytest.raises(ConfigError, match=r"weight_bits is .*, allowed are 2 to 8"):
            levels(bits)  # type: ignore[arg-type]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", WIDTHS)
def test_values(bits: int, per_channel: bool) -> None:
    weight = weights()
    top, steps = 2 ** (bits - 1) - 1, 2**bits - 1
    found = dorefa(weight, bits, per_channel)
    expected = by_groups(
        weight, per_channel, lambda g, _: 2 / steps * np.round(steps * (squashed(g) / 2 + 0.5)) - 1
    )
    assert np.allclose(found, expected, rtol=0, atol=1e-12)
    found = dorefa_symmetric(weight, bits, per_channel)
    expected = by_groups(weight, per_channel, lambda g, _: np.round(top * squashed(g)) / top)
    assert np.allclose(found, expected, rtol=0, atol=1e-12)
    lam = [1.5, 2.0, 2.5, 3.0, 4.0, 0.7] if per_channel else [2.0]
    for multiply in (False, True):
        formula = asq_formula(lam, bits, multiply)
        found = asq(weight, torch.tensor(lam).double(), bits, per_channel, multiply=multiply)
        assert np.allclose(found, by_groups(weight, per_channel, formula), rtol=0, atol=1e-12)


def test_one_lambda_serves_all_channels() -> None:
    weight = weights()
    one = asq(weight, torch.tensor(2.5), 4, True)
    assert torch.equal(one, asq(weight, torch.full((6,), 2.5), 4, True))
    assert not torch.equal(one, asq(weight, torch.tensor(2.5), 4, False))


def test_multiplying_is_dividing_by_the_inverse() -> None:
    weight, lam = weights(), torch.tensor(4.0)
    multiplied = asq(weight, lam, 4, multiply=True)
    assert torch.equal(multiplied, asq(weight, 1 / lam, 4))


@pytest.mark.parametrize("bits", WIDTHS)
def test_lsq_values(bits: int) -> None:
    weight, top = weights(scale=1), 2 ** (bits - 1) - 1
    for step in (0.31, 0.02):
        found = lsq(weight, torch.tensor(step, dtype=torch.float64), bits)
        expected = step * np.clip(np.round(weight.numpy() / step), -top, top)
        assert np.allclose(found, expected, rtol=0, atol=1e-12)
    steps = np.linspace(0.05, 0.6, 6)
    column = steps.reshape(6, 1, 1, 1)
    expected = column * np.clip(np.round(weight.numpy() / column), -top, top)
    assert np.allclose(lsq(weight, torch.from_numpy(steps), bits), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bits", WIDTHS)
def test_levels_in_use(bits: int) -> None:
    """Evenly spread weights meet every level that the width has, and no other."""
    top = 2 ** (bits - 1) - 1
    line = torch.linspace(-1, 1, 20001, dtype=torch.float64).reshape(1, -1)
    even = torch.atanh(line * np.tanh(1))
    steps = 2**bits - 1
    found = torch.unique((dorefa(even, bits) * steps).round())
    assert found.tolist() == list(range(-steps, steps + 1, 2))
    assert 0 not in found
    symmetric = list(range(-top, top + 1))
    assert torch.unique(dorefa_symmetric(even, bits) * top).round().tolist() == symmetric
    sigma = torch.sqrt(line.var(correction=0) + 1e-5)
    for lam, multiply in ((1 / sigma, False), (sigma, True)):
        codes = asq(even, lam, bits, multiply=multiply) * top
        assert torch.unique(codes.round()).tolist() == symmetric
    assert torch.unique(
        lsq(line, torch.tensor(1 / top, dtype=torch.float64), bits) * top
    ).round().tolist() == (symmetric)


@settings(max_examples=60)
@given(
    st.integers(2, 8),
    st.integers(0, 2**31),
    st.floats(-12, 3),
    st.floats(0.05, 20),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_codes_are_symmetric_integers(
    bits: int, seed: int, exponent: float, lam: float, per_channel: bool, dtype: torch.dtype
) -> None:
    weight = weights(seed, 10**exponent).to(dtype)
    kept, top = weight.clone(), 2 ** (bits - 1) - 1
    for quantizer in (
        lambda w: dorefa_symmetric(w, bits, per_channel),
        lambda w: asq(w, torch.tensor(lam), bits, per_channel),
        lambda w: asq(w, torch.tensor(lam), bits, per_channel, multiply=True),
        lambda w: lsq(w, w.abs().amax(), bits) / w.abs().amax() / top,
    ):
        found = quantizer(weight)
        codes = found * top
        assert found.dtype == dtype
        assert torch.allclose(codes, codes.round(), rtol=0, atol=1e-4)
        assert codes.abs().max() <= top * (1 + 1e-6)
        assert torch.equal(quantizer(-weight), -found)
        assert torch.equal(quantizer(weight), found)
    for quantizer in (dorefa_symmetric, lambda *a: asq(a[0], torch.tensor(lam), *a[1:])):
        most = quantizer(weight, bits, per_channel).abs().flatten(1).amax(1)
        assert most.max() == 1
        assert not per_channel or bool((most == 1).all())
    assert dorefa(weight, bits, per_channel).dtype == dtype
    assert torch.equal(weight, kept)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("quantizer", [dorefa, dorefa_symmetric])
def test_clamp_gradient(quantizer: Callable[..., Tensor], per_channel: bool) -> None:
    """(1 - tanh²W) / max|tanh W|, whatever the number of levels."""
    weight = weights().requires_grad_()
    arriving = outer(weight)
    expected = by_groups(
        weight, per_channel, lambda g, _: (1 - np.tanh(g) ** 2) / np.abs(np.tanh(g)).max()
    )
    for bits in (2, 4, 8):
        found = gradient(quantizer(weight, bits, per_channel), weight, arriving)
        assert np.allclose(found, expected * arriving.numpy(), rtol=1e-12, atol=1e-14)


def asq_gradients(group: Array, lam: float, g: Array, multiply: bool) -> tuple[Array, float]:
    """Of sum(g * Q) by weights and λ: the chain rule by hand, max|tanh| kept constant."""
    factor = lam if multiply else 1 / lam
    sigma = np.sqrt(group.var() + 1e-5)
    hat = group * factor / sigma
    slope = g * (1 - np.tanh(hat) ** 2) / np.abs(np.tanh(hat)).max()
    through_sigma = -(slope * hat).sum() / sigma * (group - group.mean()) / (len(group) * sigma)
    by_lambda = (slope * hat).sum() / lam * (1 if multiply else -1)
    return slope * factor / sigma + through_sigma, by_lambda


@pytest.mark.parametrize("multiply", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_asq_gradient(per_channel: bool, multiply: bool) -> None:
    weight = weights().requires_grad_()
    start = [1.5, 2.0, 2.5, 3.0, 4.0, 0.7] if per_channel else [2.0]
    lam = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    arriving = outer(weight)
    result = asq(weight, lam, 4, per_channel, multiply=multiply)
    parts = [
        asq_gradients(group, start[i], g, multiply)
        for i, (group, g) in enumerate(
            zip(
                groups(weight.detach().numpy(), per_channel),
                groups(arriving.numpy(), per_channel),
                strict=True,
            )
        )
    ]
    by_weight = np.concatenate([part[0] for part in parts]).reshape(weight.shape)
    assert np.allclose(gradient(result, weight, arriving), by_weight, rtol=1e-10, atol=1e-13)
    by_lambda = np.array([part[1] for part in parts])
    assert np.allclose(gradient(result, lam, arriving), by_lambda, rtol=1e-10, atol=1e-13)
    assert (by_lambda != 0).all()


@pytest.mark.parametrize("multiply", [False, True])
def test_lambda_gradient_is_the_slope_of_the_curve(multiply: bool) -> None:
    """Where no weight holds the maximum, the curve before rounding has this slope in λ."""
    weight = torch.cat([weights().flatten(), torch.tensor([30.0, -30.0]).double()]).reshape(1, -1)
    arriving, lam, step = outer(weight), torch.tensor(1.0).double().requires_grad_(), 1e-6
    arriving[0, -2:] = 0
    found = gradient(asq(weight, lam, 4, multiply=multiply), lam, arriving)
    low, high = (
        (rescaled(weight, lam.detach() + d, multiply=multiply) * arriving).sum()
        for d in (-step, step)
    )
    assert found.item() == pytest.approx(((high - low) / (2 * step)).item(), rel=1e-4)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_lsq_gradient(per_channel: bool, bits: int) -> None:
    weight = weights(scale=1).requires_grad_()
    top = 2 ** (bits - 1) - 1
    start = np.linspace(0.05, 0.6, 6) * 7 / top if per_channel else np.array([0.2 * 7 / top])
    step = torch.from_numpy(start).requires_grad_()
    arriving = outer(weight)
    result = lsq(weight, step, bits)
    ratio = weight.detach().numpy() / start.reshape(-1, 1, 1, 1)
    inside = np.abs(ratio) < top
    assert inside.any()
    assert not inside.all()
    expected = arriving.numpy() * inside
    assert np.allclose(gradient(result, weight, arriving), expected, rtol=0, atol=1e-14)
    slope = arriving.numpy() * np.where(inside, np.round(ratio) - ratio, top * np.sign(ratio))
    count = 45 if per_channel else 270
    total = slope.sum((1, 2, 3)) if per_channel else slope.sum(keepdims=True).reshape(1)
    expected = total / np.sqrt(count * top)
    assert np.allclose(gradient(result, step, arriving), expected, rtol=1e-12, atol=1e-14)


def test_lsq_at_its_limits() -> None:
    """A weight at the last level or beyond has no gradient and widens the step."""
    weight = torch.tensor([[-9.0, -7.0, 6.9, 7.0, 7.4]], dtype=torch.float64, requires_grad=True)
    step = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    result = lsq(weight, step, 4)
    assert result.tolist() == [[-7, -7, 7, 7, 7]]
    result.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[0, 0, 1, 0, 0]]
    assert step.grad is not None
    assert step.grad.shape == step.shape
    assert step.grad.item() == pytest.approx((-7 - 7 + 0.1 + 7 + 7) / np.sqrt(5 * 7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("empty", ["channel", "all"])
def test_zeros(empty: str, per_channel: bool, dtype: torch.dtype) -> None:
    weight = weights().to(dtype)
    weight[1 if empty == "channel" else slice(None)] = 0
    weight.requires_grad_()
    count = 6 if per_channel else 1
    parameter = torch.full((count,), 2.0, dtype=dtype, requires_grad=True)
    step = torch.full((count,), 0.05, dtype=dtype).requires_grad_()
    none = torch.zeros(count, dtype=dtype).requires_grad_()
    for result, others in (
        (dorefa_symmetric(weight, 4, per_channel), []),
        (asq(weight, parameter, 4, per_channel), [parameter]),
        (asq(weight, parameter, 4, per_channel, multiply=True), [parameter]),
        (lsq(weight, step, 4), [step]),
        (lsq(weight, none, 4), [none]),
        (dorefa(weight, 4, per_channel), NO_ZERO),
    ):
        level_at_zero = others is not NO_ZERO
        if empty == "all" or per_channel or level_at_zero:
            assert bool((result[1] == 0).all())
        for one in (weight, *others):
            assert bool(torch.isfinite(gradient(result, one, outer(weight))).all())


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("per_channel", [False, True])
def test_extreme_weights_stay_finite(scale: float, per_channel: bool) -> None:
    weight = weights(scale=scale).float().requires_grad_()
    lam = torch.tensor(2.0, requires_grad=True)
    step = (weight.detach().abs().flatten(1).amax(1) / 7).requires_grad_()
    for result in (
        dorefa(weight, 4, per_channel),
        dorefa_symmetric(weight, 4, per_channel),
        lsq(weight, step, 4),
    ):
        assert bool(torch.isfinite(result).all())
        assert bool(torch.isfinite(gradient(result, weight, outer(weight))).all())
    if scale < 1e15:  # the variance of larger ones is beyond float32
        result = asq(weight, lam, 4, per_channel)
        assert bool(torch.isfinite(result).all())
        assert bool(torch.isfinite(gradient(result, lam, outer(weight))).all())


@pytest.mark.parametrize("call", ["asq", "lsq"])
def test_number_of_parameters(call: str) -> None:
    weight, wrong = weights(), torch.ones(5)
    name = {"asq": "lam", "lsq": "step"}[call]
    with pytest.raises(ConfigError, match=f"{name} has 5 values, allowed are 1 and 6"):
        asq(weight, wrong, 4, True) if call == "asq" else lsq(weight, wrong, 4)


@pytest.mark.parametrize("bits", [1, 9])
def test_width_is_checked(bits: int) -> None:
    weight, one = weights(), torch.tensor(1.0)
    for call in (
        lambda: dorefa(weight, bits),
        lambda: dorefa_symmetric(weight, bits),
        lambda: asq(weight, one, bits),
        lambda: lsq(weight, one, bits),
    ):
        with pytest.raises(ConfigError, match=f"weight_bits is {bits}, allowed are 2 to 8"):
            call()


@pytest.mark.parametrize("per_channel", [False, True])
def test_least_squares_scale(per_channel: bool) -> None:
    weight = weights()
    quantized = dorefa_symmetric(weight, 4, per_channel)
    scale = least_squares_scale(weight, quantized, per_channel)
    assert scale.shape == ((6,) if per_channel else ())
    fits = [
        np.linalg.lstsq(q[:, None], w, rcond=None)[0][0]
        for w, q in zip(
            groups(weight.numpy(), per_channel), groups(quantized.numpy(), per_channel), strict=True
        )
    ]
    assert np.allclose(scale, fits, rtol=1e-12)


def test_scale_of_zeros() -> None:
    weight = torch.tensor([[0.0, 0], [1, 2], [4, 8]])
    quantized = torch.tensor([[0.0, 0], [1, 2], [1, 2]])
    assert least_squares_scale(weight, quantized, True).tolist() == [4, 1, 4]
    assert least_squares_scale(weight * 0, quantized * 0, True).tolist() == [1, 1, 1]
    assert least_squares_scale(weight * 0, quantized * 0, False).item() == 1


def test_the_clamp_narrows_large_weights() -> None:
    """What the paper says of equation 4: large weights come closer, small ones further apart."""
    found = clamped(torch.tensor([0.0, 0.5, 1, 2, 4], dtype=torch.float64))
    linear = torch.tensor([0.0, 0.5, 1, 2, 4], dtype=torch.float64) / 4
    assert found.max() == 1
    assert bool((found[1:4] > linear[1:4]).all())
