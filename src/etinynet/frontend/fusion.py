"""Layers as they are put together: a convolution and what behind it becomes part of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from etinynet.errors import ConfigError
from etinynet.frontend.float_graph import Layer
from etinynet.graph.ir import POINT, Window
from etinynet.graph.ops import OPS

__all__ = ["INFINITY", "Draft", "Norm"]

INFINITY = float("inf")
# A channel whose variance in training was below this part of epsilon is constant: its shift alone.
_CONSTANT = 1e-6


@dataclass(frozen=True, eq=False)
class Norm:
    """A batch normalization: an affine map of each channel."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    epsilon: float

    def gain(self) -> Tensor:
        """The factor of each channel; 0 for a constant one."""
        gain = self.weight / torch.sqrt(self.variance + self.epsilon)
        return torch.where(self.variance < _CONSTANT * self.epsilon, 0, gain)


@dataclass(eq=False)
class Draft:
    """A layer in the making, which takes operations in the order in which the network has them.

    `relu` stands before `norm` where `relu_first`, else behind it.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    window: Window = POINT
    weight: Tensor | None = None
    bias: Tensor | None = None
    relu: bool = False
    relu_first: bool = False
    norm: Norm | None = None
    clamp: tuple[float, float] | None = None

    @property
    def takes_norm(self) -> bool:
        """Whether a batch normalization may follow."""
        return self._takes_affine and self.norm is None

    @property
    def takes_clamp(self) -> bool:
        """Whether a ReLU or other bounds may follow."""
        return self.clamp is None and OPS[self.kind].requantized

    @property
    def takes_residual(self) -> bool:
        """Whether another tensor may be added to the output."""
        return self._takes_affine and len(self.inputs) < OPS[self.kind].inputs[1]

    @property
    def _takes_affine(self) -> bool:
        return self.weight is not None and self.clamp is None and len(self.inputs) == 1

    def bound(self, low: float, high: float) -> None:
        """Takes a ReLU, which is a clamp from 0 to infinity, or another clamp."""
        if (low, high) == (0.0, INFINITY) and self._takes_affine and not self.relu:
            self.relu, self.relu_first = True, self.norm is None
        else:
            self.clamp = (low, high)

    def layer(self) -> Layer:
        """The layer that all of it is; ConfigError where its constants are not finite."""
        if self.weight is None:
            return Layer(self.kind, self.name, self.inputs, self.window, clamp=self.clamp)
        weight, bias = self.weight, self.bias
        gain = torch.ones(len(weight), dtype=weight.dtype)
        shift = torch.zeros_like(gain)
        if self.norm is not None:
            gain, mean = self.norm.gain(), self.norm.mean
            if bias is not None and not self.relu_first:
                mean, bias = mean - bias, None
            shift = self.norm.bias - gain * mean
        elif not self.relu and bias is not None:
            shift, bias = bias, None
        if self.relu and not self.relu_first:
            weight, live = weight * gain.reshape(-1, *[1] * (weight.dim() - 1)), gain != 0
            gain, bias = live.to(gain.dtype), torch.where(live, shift, 0)
            shift = torch.where(live, 0, shift.relu())
        made = Layer(
            self.kind, self.name, self.inputs, self.window, weight, bias, self.relu, gain, shift,
            self.clamp,
        )  # fmt: skip
        _require_finite(made)
        return made


def _require_finite(layer: Layer) -> None:
    for field in ("weight", "bias", "gain", "shift"):
        values = getattr(layer, field)
        if values is not None and not values.isfinite().all():
            channel = int(values.reshape(len(values), -1).isfinite().all(1).int().argmin())
            raise ConfigError(
                f"layer {layer.name!r}: channel {channel}: {field} is not finite once its "
                "normalization is folded in"
            )
