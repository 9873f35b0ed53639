"""Quantized weights: integers of a few bits and one scale per output channel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from etinynet.frontend.float_graph import Layer

__all__ = ["FEW_BITS", "QuantizedWeight", "coarsened", "lowest_code", "takes_bias"]

#: Up to so many bits rounding loses what is worth a few bytes, or a search.
FEW_BITS = 6


def lowest_code(kind: str, bits: int) -> int:
    """The smallest integer that `best` gives a layer of `kind`; the largest is 2^(bits-1) - 1.

    -2^(bits-1), all that two's complement has: at 4 bits one level in 15 more. Symmetric are
    depthwise weights, which may be turned over with a channel of their input, and wide ones.
    """
    symmetric = kind == "depthwise" or bits > FEW_BITS
    return 1 - (1 << (bits - 1)) if symmetric else -(1 << (bits - 1))


def takes_bias(layer: Layer, bits: int) -> bool:
    """Whether `layer`, of weights of `bits` bits, makes up for what they lost before its ReLU too.

    Behind it gain and shift cannot: the ReLU has cut at another place. Wide weights lose too
    little to pay for a constant more an output channel, unless the layer has it anyway.
    """
    return layer.relu and (bits <= FEW_BITS or layer.bias is not None)


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


def coarsened(weight: QuantizedWeight, least: Tensor) -> QuantizedWeight:
    """`weight` with no scale below `least` (output channels,), float64, not negative.

    Channels of finer scale are rounded anew, at last to zeros; the others stay as they are.
    """
    scale = torch.maximum(weight.scale, least)
    finer = replace(weight, scale=(weight.scale < least).double()).scales() > 0
    position = weight.position * replace(weight, scale=weight.scale / scale).scales()
    return QuantizedWeight(
        torch.where(finer, position.round().to(torch.int8), weight.integers),
        scale,
        weight.bits,
        torch.where(finer, position.float(), weight.position),
    )
