"""Weights that are trained between levels and are drawn to them little by little."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from etinynet.quantize.methods import start_value
from etinynet.quantize.quantizers import asq_latent, deviation, levels, rescaled, round_through
from etinynet.quantize.weights import QuantizedWeight

__all__ = ["SLOW", "FollowingWeight", "GradualWeight", "pull_at"]

# Pull at the first and the last step, in units of the optimizer's step: so weak that hardly any
# weight moves, and so strong that none stays between two levels.
_WEAKEST, _STRONGEST = 0.04, 8.0
# The pull has its full strength after this part of the training.
_RAMP = 0.9
# Steps, or λ, move by this part of the optimizer's rate: each acts on all weights of a channel.
SLOW = 0.15
# Weights that follow move by this part of it, in levels: their unrest would hide what a change of
# the weights before them does.
_FOLLOW = 0.25
# Largest number that atanh takes.
_ALMOST = 1 - 1e-6


class GradualWeight(nn.Module):
    """The weights of one layer as positions between levels, rounded in evaluation mode alone.

    They start as `weight`, clipped to the range of `start`'s scale, which method best has from
    `lowest` levels on; that of asq is symmetric. `latent` is counted in levels; `SLOW · spread` is
    the logarithm of the step (method best), or of λ (asq), over its start. The latent weights of
    asq start as those whose clamp, tanh(Ŵ) / max|tanh(Ŵ)|, gives `weight`: the paper's clamped
    weights as initial points (section 3, "Training").
    """

    unit: Tensor
    start: Tensor
    curve: Tensor

    def __init__(self, weight: Tensor, start: QuantizedWeight, method: str, lowest: int) -> None:
        super().__init__()
        self.method, self.bits, self.top = method, start.bits, levels(start.bits)
        self.lowest = -self.top if method == "asq" else lowest
        scale = start.scales()
        position = (weight.detach().double() / scale).clamp(self.lowest, self.top)
        value, curve = torch.ones_like(start.scale), torch.ones_like(scale)
        if method == "asq":
            largest = position.abs().amax(list(range(1, weight.dim())), keepdim=True)
            stretch = torch.where(largest > 0, self.top / largest, 1)
            scale, position = scale / stretch, position * stretch
            lam = start_value("asq", weight, start.bits, True)
            latent, value = asq_latent(position / self.top, lam)
            curve = latent.abs().amax(list(range(1, weight.dim())), keepdim=True) / self.top
            curve = torch.where(curve > 0, curve, 1)
            position = latent / curve
        self.register_buffer("unit", scale.float())
        self.register_buffer("start", value.float())
        self.register_buffer("curve", curve.float())
        self.latent = nn.Parameter(position.float())
        self.spread = nn.Parameter(torch.zeros_like(self.start))

    def _value(self) -> Tensor:
        """The step over its start (method best), or λ (asq), one an output channel."""
        return self.start * (SLOW * self.spread).exp()

    def positions(self) -> Tensor:
        """Weights in levels, rounded in evaluation mode."""
        if self.method == "asq":
            found = self.top * rescaled(self.latent * self.curve, self._value(), True)
        else:
            with torch.no_grad():
                self.latent.clamp_(self.lowest, self.top)
            found = self.latent.view_as(self.latent)  # no parameter of its own when it is kept
        return found if self.training else round_through(found)

    def scale(self) -> Tensor:
        """Real value of a level, one an output channel, in a shape that meets the weights'."""
        if self.method == "asq":
            return self.unit
        return self.unit * self._value().reshape(self.unit.shape)

    def weight(self) -> Tensor:
        """The weight as float; gradients reach the parameters."""
        return self.positions() * self.scale()

    @torch.no_grad()
    def draw(self, most: float) -> None:
        """Moves each weight towards its nearest level, no further than it: by `most` levels where
        it lies on one, so that a weight which arrives stays, and by 0 halfway between two."""
        position = self.positions()
        left = position.round() - position
        move = torch.minimum(left.abs(), most * (1 - 2 * left.abs())) * left.sign()
        if self.method == "asq":
            self._place(position + move)
        else:
            self.latent += move

    def _place(self, position: Tensor) -> None:
        """Latent weights of asq whose clamp is `position`, by the channel's present constants."""
        axes = list(range(1, position.dim()))
        weight = self.latent * self.curve
        ratio = self._value().reshape(self.curve.shape) * deviation(weight, True)
        largest = torch.tanh(weight / ratio).abs().amax(axes, keepdim=True)
        normal = (position / self.top * largest).clamp(-_ALMOST, _ALMOST)
        self.latent.copy_(torch.atanh(normal) * ratio / self.curve)

    def quantized(self) -> QuantizedWeight:
        """The integers that the weight rounds to, and their scale."""
        position = self.positions()
        codes = position.round().to(torch.int8)
        return QuantizedWeight(codes, self.scale().double().flatten(), self.bits, position)


class FollowingWeight(nn.Module):
    """Float weights, `start`'s steps telling how fast they learn, that are not drawn to levels."""

    unit: Tensor
    start: Tensor

    def __init__(self, weight: Tensor, start: QuantizedWeight) -> None:
        super().__init__()
        self.register_buffer("start", weight.detach().clone())
        self.register_buffer("unit", _FOLLOW * start.scales().float())
        self.latent = nn.Parameter(torch.zeros_like(self.start))

    def weight(self) -> Tensor:
        """The weight as float; gradients reach the parameter."""
        return self.start + self.latent * self.unit


def pull_at(done: float) -> float:
    """Strength of the pull after the part `done`, 0 to 1, of the training: it grows as a power.

    It is counted in steps of an optimizer that normalizes gradients: a weight whose gradients
    agree, whatever their size, withstands a pull of almost 1, and one whose gradients are noise
    alone gives way to any.
    """
    return float(_WEAKEST * (_STRONGEST / _WEAKEST) ** min(done / _RAMP, 1.0))
