"""Weights rounded in training, each quantizer with its gradient rule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from etinynet.errors import ConfigError

__all__ = [
    "asq",
    "asq_latent",
    "clamped",
    "deviation",
    "dorefa",
    "dorefa_symmetric",
    "least_squares_scale",
    "levels",
    "lsq",
    "rescaled",
    "round_through",
]

# Paper, equation 6: keeps the deviation of a layer of equal weights above zero.
_EPSILON = 1e-5


class _RoundThrough(Function):
    """Written as a function of its own, since x + (round(x) - x) is not exactly round(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def round_through(x: Tensor) -> Tensor:
    """`x` rounded, halves to even; its gradient is 1 everywhere (straight-through estimator)."""
    rounded: Tensor = _RoundThrough.apply(x)  # type: ignore[no-untyped-call]
    return rounded


def levels(bits: int) -> int:
    """2^(bits-1) - 1, the largest code of symmetric weights; ConfigError outside 2 to 8 bits."""
    if type(bits) is not int or not 2 <= bits <= 8:
        raise ConfigError(f"weight_bits is {bits!r}, allowed are 2 to 8")
    return (1 << (bits - 1)) - 1


def _spread(values: Tensor, weight: Tensor, name: str) -> Tensor:
    """One value, or one an output channel, in a shape that meets `weight`'s."""
    if values.numel() == 1:
        return values.reshape([1] * weight.dim())
    if values.numel() != weight.shape[0]:
        raise ConfigError(
            f"{name} has {values.numel()} values, allowed are 1 and {weight.shape[0]}, "
            "one an output channel"
        )
    return values.reshape(-1, *[1] * (weight.dim() - 1))


def _axes(weight: Tensor, per_channel: bool) -> list[int]:
    """The axes that one statistic is taken over."""
    return list(range(1 if per_channel else 0, weight.dim()))


def clamped(weight: Tensor, per_channel: bool = False) -> Tensor:
    """tanh(W) / max|tanh(W)|, in [-1, 1]: equation 4 before it is moved to [0, 1].

    The maximum, over the layer or over each output channel, is a constant for the gradient:
    dY/dW = (1 - tanh²W) / max|tanh W|. Where all weights are 0 the result is 0.
    """
    curved = torch.tanh(weight)
    largest = curved.detach().abs().amax(_axes(weight, per_channel), keepdim=True)
    return curved / torch.where(largest > 0, largest, 1)


def dorefa(weight: Tensor, bits: int, per_channel: bool = False) -> Tensor:
    """DoReFa as the paper writes it, equations 4 and 5: 2^bits levels in [-1, 1], none of them 0.

    Q = 2/a · round(a · (clamped(W) + 1)/2) - 1 with a = 2^bits - 1. Its codes are odd multiples of
    1/a, so they need bits + 1 signed bits in an integer graph. Gradient: `clamped`'s. A layer or
    channel of zeros gives zeros. Raises ConfigError for `bits` outside 2 to 8.
    """
    steps = 2 * levels(bits) + 1
    normal = clamped(weight, per_channel)
    live = normal.detach().abs().amax(_axes(weight, per_channel), keepdim=True) > 0
    codes = round_through(steps * (normal / 2 + 0.5))
    return torch.where(live, (2 * codes - steps) / steps, 0)


def dorefa_symmetric(weight: Tensor, bits: int, per_channel: bool = False) -> Tensor:
    """DoReFa's clamp with symmetric levels: round(a · clamped(W)) / a, a = levels(bits).

    Codes -a..a fit `bits` signed bits. The paper's figure 3 shows this form, not equation 5: it
    has a level at 0. Gradient: `clamped`'s. Raises ConfigError for `bits` outside 2 to 8.
    """
    top = levels(bits)
    return round_through(top * clamped(weight, per_channel)) / top


def deviation(weight: Tensor, per_channel: bool = False) -> Tensor:
    """sigma of ASQ (equation 6): sqrt(variance + 1e-5), of the layer or of each output channel, in
    a shape that meets `weight`'s; the variance divides by the number of weights."""
    variance = weight.var(_axes(weight, per_channel), correction=0, keepdim=True)
    return torch.sqrt(variance + _EPSILON)


def rescaled(
    weight: Tensor, lam: Tensor, per_channel: bool = False, *, multiply: bool = False
) -> Tensor:
    """W̃ of ASQ (equation 6): tanh(Ŵ) / max|tanh(Ŵ)| with Ŵ = W / (λ·sigma), in [-1, 1].

    sigma = `deviation`. `lam`: λ > 0, one value, or one an output channel; `multiply` reads λ the
    other way, Ŵ = W·λ/sigma. Gradients reach W, also through sigma, and λ:
    dW̃/dλ = -(1 - tanh²Ŵ) / max|tanh Ŵ| · Ŵ/λ, with + where λ multiplies; the maximum is a
    constant. Raises ConfigError for another number of λ.
    """
    lam, sigma = _spread(lam, weight, "lam"), deviation(weight, per_channel)
    return clamped(weight * lam / sigma if multiply else weight / (lam * sigma), per_channel)


def asq(
    weight: Tensor, lam: Tensor, bits: int, per_channel: bool = False, *, multiply: bool = False
) -> Tensor:
    """Adaptive scale quantization (equation 6): round(a · rescaled(W, λ)) / a, a = levels(bits).

    Codes -a..a fit `bits` signed bits. Statistics and parameters as in `rescaled`, whose gradient
    is this one's. Raises ConfigError for `bits` outside 2 to 8 or another number of λ.
    """
    top = levels(bits)
    return round_through(top * rescaled(weight, lam, per_channel, multiply=multiply)) / top


def asq_latent(normal: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """(weight, λ) of every output channel for which `rescaled(weight, λ, True)` is `normal`.

    `normal` in [-1, 1], the largest magnitude of each channel 1, or all 0. Of the many such weights
    it is the one whose λ comes closest to `lam` (output channels,): weight = atanh(m · normal), and
    m, in (0, 1), grows as λ = 1/sigma falls.
    """
    low, high = torch.full_like(lam, 1e-3), torch.full_like(lam, 1 - 1e-4)

    def spread(part: Tensor) -> tuple[Tensor, Tensor]:
        weight = torch.atanh(normal * _spread(part, normal, "lam"))
        return weight, 1 / deviation(weight, True).flatten()

    for _ in range(40):
        middle = (low + high) / 2
        above = spread(middle)[1] > lam
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return spread(low)


class _Lsq(Function):
    """Esser et al. 2020, equations 1 to 3, with the gradient scale of section 2.2."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, top: int, scale: float) -> Tensor:
        ratio = weight / torch.where(step == 0, 1, step)
        code = torch.round(ratio.clamp(-top, top))
        inside = ratio.abs() < top
        ctx.save_for_backward(inside, torch.where(inside, code - ratio, code))
        ctx.step_shape, ctx.scale = step.shape, scale
        return step * code

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        inside, slope = ctx.saved_tensors
        (gradient,) = gradients
        step = (gradient * slope).sum_to_size(ctx.step_shape) * ctx.scale
        return gradient * inside, step, None, None


def lsq(weight: Tensor, step: Tensor, bits: int) -> Tensor:
    """Learned step size (Esser et al. 2020): step · round(clamp(W/step, -a, a)), a = levels(bits).

    `step`: positive, one value, or one an output channel; where it is 0 the result is 0. Gradient
    of W: 1 where |W/step| < a, else 0. Gradient of step: round(W/step) - W/step there, else ±a,
    times 1/sqrt(n·a) with n weights a step. Raises ConfigError for `bits` outside 2 to 8 or
    another number of steps.
    """
    top = levels(bits)
    scale = 1 / math.sqrt(weight.numel() / step.numel() * top)
    steps = _spread(step, weight, "step")
    quantized: Tensor = _Lsq.apply(weight, steps, top, scale)  # type: ignore[no-untyped-call]
    return quantized


def least_squares_scale(weight: Tensor, quantized: Tensor, per_channel: bool) -> Tensor:
    """Scale <W, Q> / <Q, Q>, by which Q comes closest to W: shape (), or (output channels,).

    Where Q is all 0, it is the largest of the others, or 1: any is right there, and this one
    makes nothing else coarser.
    """
    axes = _axes(weight, per_channel)
    power = (quantized * quantized).sum(axes)
    scale = (weight * quantized).sum(axes) / torch.where(power > 0, power, 1)
    spare = torch.where((power > 0).any(), scale.amax(), 1)
    return torch.where(power > 0, scale, spare)
