"""Calibration: what range each channel of each layer takes on the user's pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from etinynet.errors import DataError
from etinynet.frontend.float_graph import Layer, run_layers

__all__ = ["ChannelStatistics", "calibrate"]


@dataclass(eq=False)
class ChannelStatistics:
    """Smallest, largest, mean and standard deviation of every channel of one layer's output,
    float32."""

    low: Tensor
    high: Tensor
    mean: Tensor
    deviation: Tensor


class _Moments:
    """Running extremes and moments of one layer, per channel."""

    def __init__(self, channels: int) -> None:
        self.low = torch.full((channels,), torch.inf)
        self.high = torch.full((channels,), -torch.inf)
        self.count = 0
        self.total = torch.zeros(channels, dtype=torch.float64)
        self.square = torch.zeros(channels, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        flat = values.transpose(0, 1).flatten(1)
        self.low = torch.minimum(self.low, flat.amin(1))
        self.high = torch.maximum(self.high, flat.amax(1))
        self.count += flat.shape[1]
        self.total += flat.sum(1, dtype=torch.float64)
        self.square += (flat * flat).sum(1, dtype=torch.float64)

    def statistics(self) -> ChannelStatistics:
        mean = self.total / self.count
        variance = (self.square / self.count - mean * mean).clamp_min(0)
        return ChannelStatistics(self.low, self.high, mean.float(), variance.sqrt().float())


@torch.no_grad()
def calibrate(layers: Sequence[Layer], batches: Iterable[Tensor]) -> dict[str, ChannelStatistics]:
    """Statistics of every layer of the float network over batches (N, 3, H, W), pixel minus 128.

    Raises DataError without a picture, or if a layer gives a number that is not finite.
    """
    moments: dict[str, _Moments] = {}
    for batch in batches:
        values = run_layers(layers, batch)
        for layer in layers:
            output = values[layer.name]
            moments.setdefault(layer.name, _Moments(output.shape[1])).add(output)
    if not moments:
        raise DataError("calibration: 0 pictures, at least 1 is needed")
    result = {name: moment.statistics() for name, moment in moments.items()}
    for name, statistics in result.items():
        finite = torch.isfinite(statistics.high - statistics.low)
        if not finite.all():
            channel = int(finite.int().argmin())
            raise DataError(
                f"calibration: layer {name!r}: channel {channel} gives a number that is not finite"
            )
    return result
