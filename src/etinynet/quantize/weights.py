"""Quantized weights: integers of a few bits and one scale per output channel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["QuantizedWeight", "lowest_code"]

# Up to so many bits the code below the symmetric ones is worth having.
_LAST_BITS = 6


def lowest_code(kind: str, bits: int) -> int:
    """The smallest integer that `best` gives a layer of `kind`; the largest is 2^(bits-1) - 1.

    -2^(bits-1), all that two's complement has: at 4 bits one level in 15 more. Symmetric are
    depthwise weights, which may be turned over with a channel of their input, and wide ones.
    """
    symmetric = kind == "depthwise" or bits > _LAST_BITS
    return 1 - (1 << (bits - 1)) if symmetric else -(1 << (bits - 1))


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """weight ≈ scale[out channel] * integers; integers int8 of `bits` bits, scale float64.

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
