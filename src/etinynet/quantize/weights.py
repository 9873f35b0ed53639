"""Weight quantization: float weights to integers of a few bits and one scale per output channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from etinynet.errors import ConfigError

__all__ = ["QuantizedWeight", "quantize_weight"]


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """weight ≈ scale[out channel] * integers; integers int8 in ±(2^(bits-1) - 1)."""

    integers: Tensor
    scale: Tensor
    bits: int

    def dequantized(self) -> Tensor:
        """The float weight that the integers stand for, float32."""
        shape = (-1, *[1] * (self.integers.dim() - 1))
        return (self.integers * self.scale.reshape(shape)).float()


def quantize_weight(weight: Tensor, bits: int) -> QuantizedWeight:
    """Linear symmetric quantization per output channel, scale = largest magnitude / top level.

    A channel of zeros gets the scale of the largest channel, or 1 if all are zero. Raises
    ConfigError for `bits` outside 2..8.
    """
    if not 2 <= bits <= 8:
        raise ConfigError(f"weight_bits is {bits!r}, allowed are 2 to 8")
    top = 2 ** (bits - 1) - 1
    flat = weight.detach().double().flatten(1)
    largest = flat.abs().amax(1, keepdim=True)
    spare = largest.amax() / top if largest.any() else torch.ones(())
    scale = torch.where(largest > 0, largest / top, spare)
    integers = torch.round(flat / scale).clamp(-top, top).to(torch.int8)
    return QuantizedWeight(integers.reshape(weight.shape), scale[:, 0], bits)
