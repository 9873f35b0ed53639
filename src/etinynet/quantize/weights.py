"""Quantized weights: integers of a few bits and one scale per output channel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["QuantizedWeight"]


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """weight ≈ scale[out channel] * integers; integers int8 in ±(2^(bits-1) - 1), scale float64.

    `position`: what was rounded to the integers, in units of `scale`, float32.
    """

    integers: Tensor
    scale: Tensor
    bits: int
    position: Tensor

    def dequantized(self) -> Tensor:
        """The float weight that the integers stand for, float32."""
        return (self.integers * self.scales()).float()

    def rounded(self) -> Tensor:
        """The float weight that was rounded, float32."""
        return (self.position * self.scales()).float()

    def scales(self) -> Tensor:
        """`scale` in a shape that meets the integers'."""
        return self.scale.reshape(-1, *[1] * (self.integers.dim() - 1))
