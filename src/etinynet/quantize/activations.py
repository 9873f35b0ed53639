"""Activation scales: of the bits that a tensor's readers take, one a channel where they may be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from etinynet.frontend.float_graph import FloatGraph, Layer
from etinynet.graph.ops import OPS
from etinynet.graph.precision import MIXED, Precision
from etinynet.quantize.calibrate import ChannelStatistics
from etinynet.quantize.weights import QuantizedWeight, lowest_code, takes_bias

__all__ = [
    "Activation",
    "ActivationRules",
    "accumulator_step",
    "fake_quantize",
    "input_activation",
    "least_weight_scale",
]

# A 16-bit tensor has bits to spare: twice the calibrated range keeps unseen pictures unclipped.
_WIDE_MARGIN = 2.0
# The requantization's multiplier stands for less than one half (docs/arithmetic.md).
_LARGEST_STEP = 0.38
# A shortcut is not read in finer steps than this part of its own.
_LARGEST_RATIO = 64.0
# Nor may a channel that is constant on the calibration pictures take the fractional bits of all
# others: its multiplier is this much smaller. Constant is what varies less than an 8-bit step.
_STILL_MARGIN = 8.0
_STILL = 2.0**-8
# A tensor that ends at a ceiling has as many bits as its makers' multipliers allow, but not fewer:
# below, they are multiplied by a power of two (shifts below 0).
_FEWEST_WIDE = 12

# A layer's own bias in units of its accumulator: the products take up to 2^30, int32 has 2^31.
_MOST_BIAS = 2.0**29


@dataclass(frozen=True, eq=False)
class Activation:
    """real[c] = scale[c] * (integer - zero_point), integer of `bits` bits; scale float64, not 0.

    Scales that differ by channel are channel equalization (Nagel et al. 2019, section 4.1): where
    only depthwise layers, pools and shortcuts read a tensor, each channel's factor, sign
    included, moves into the multipliers of its maker and its readers, and the integer tensor has
    one scale.
    """

    scale: Tensor
    zero_point: int
    bits: int


def input_activation(channels: int) -> Activation:
    """That of the picture: pixel minus 128."""
    return Activation(torch.ones(channels, dtype=torch.float64), 0, 8)


def _finest(layer: Layer, step: Tensor) -> Tensor:
    """Smallest scale of each channel for which the multiplier is in range; float64."""
    gain = torch.ones(1) if layer.gain is None else layer.gain
    return (gain.double() * step).abs() / _LARGEST_STEP


def _equalized(
    statistics: ChannelStatistics, finest: Tensor, importance: Tensor, may_turn: bool
) -> Activation:
    """8 bits: scales that cover each channel's range, for the zero point of the least noise.

    A channel whose range lies on the other side of zero than most is turned over where
    `may_turn`: its scale is negative, and the zero point suits it too. `finest` bounds the scales
    from below: a dead channel has no range that would.
    """
    finest = _least(statistics, finest)
    low = statistics.low.double().clamp_max(0)
    high = statistics.high.double().clamp_min(0)
    best: tuple[float, Tensor, int] | None = None
    for zero_point in range(-127, 127):
        scale = torch.maximum(_covering(low, high, zero_point), finest)
        if may_turn:
            turned = torch.maximum(_covering(-high, -low, zero_point), finest)
            scale = torch.where(turned < scale, -turned, scale)
        noise = (importance * scale**2).sum().item()
        if best is None or noise < best[0]:
            best = (noise, scale, zero_point)
    assert best is not None
    return Activation(best[1], best[2], 8)


def _least(statistics: ChannelStatistics, finest: Tensor) -> Tensor:
    """`finest`, and more for channels that never vary."""
    reach = torch.maximum(statistics.high.abs(), statistics.low.abs())
    still = statistics.high - statistics.low <= _STILL * reach
    return torch.where(still, finest * _STILL_MARGIN, finest).clamp_min(1e-8)


def _from_zero(
    statistics: ChannelStatistics, finest: Tensor, ceiling: float, channelwise: bool, bits: int
) -> Activation:
    """Scales whose lowest integer is 0 and whose highest is at most `ceiling`: saturation clamps.

    Where `channelwise`, they cover each channel's range. Else all channels have one scale: with a
    finite ceiling that which ends there, of at most `bits`, not more than `finest` allows.
    """
    if channelwise:
        scale = torch.maximum(statistics.high.double() / 255, _least(statistics, finest))
        return Activation(scale.clamp_max(ceiling / 255), -128, 8)
    if ceiling == math.inf:
        high = statistics.high.double().amax() * (_WIDE_MARGIN if bits > 8 else 1)
        scale = torch.maximum(high / (2**bits - 1), finest.amax()).clamp_min(1e-12)
        return Activation(scale.expand(len(finest)), -(2 ** (bits - 1)), bits)
    fitting = int(torch.log2(ceiling / finest.amax().clamp_min(1e-12) + 1))
    bits = min(bits, max(fitting, min(_FEWEST_WIDE, bits)))
    scale = torch.full_like(finest, ceiling / (2**bits - 1))
    return Activation(scale, -(2 ** (bits - 1)), bits)


def _covering(low: Tensor, high: Tensor, zero_point: int) -> Tensor:
    return torch.maximum(low / (-128 - zero_point), high / (127 - zero_point))


def accumulator_step(layer: Layer, source: Activation, weight: QuantizedWeight | None) -> Tensor:
    """Real value of one unit of the accumulator per output channel, before gain; float64.

    Without weights it is that of one unit of the input (ops.Operator.unit says how many a layer
    sums up).
    """
    return source.scale if weight is None else weight.scale * _input_step(layer, source)


def _input_step(layer: Layer, source: Activation) -> Tensor:
    """Real value of one unit of what each output channel's weights multiply.

    Where a depthwise layer reads a channel that is turned over, its weights are turned too.
    """
    return source.scale.abs() if layer.kind == "depthwise" else source.scale[0]


def least_weight_scale(layer: Layer, source: Activation) -> Tensor:
    """The finest weight scale of each output channel at which its bias fits the accumulator.

    Weights that coarser steps round to nothing, as those of a normalization of almost no gain, do
    not move the channel by a step of its output.
    """
    assert layer.gain is not None
    bias = torch.zeros_like(layer.gain) if layer.bias is None else layer.bias
    return bias.double().abs() / (_input_step(layer, source) * _MOST_BIAS)


def _even(statistics: ChannelStatistics, finest: Tensor, bits: int) -> Activation:
    """One scale of few bits for all channels, and the zero point for which it is smallest."""
    low = statistics.low.double().amin().clamp_max(0)
    high = statistics.high.double().amax().clamp_min(0)
    steps = 2**bits - 1
    scale = torch.maximum((high - low) / steps, finest.amax()).clamp_min(1e-12)
    lowest = -(2 ** (bits - 1))
    zero_point = int((lowest - low / scale).round().clamp(lowest, lowest + steps))
    return Activation(scale.expand(len(finest)), zero_point, bits)


def _wide(statistics: ChannelStatistics, finest: Tensor, bits: int) -> Activation:
    """Signed symmetric scale of `bits` bits, coarse enough for the multiplier's range."""
    largest = torch.maximum(statistics.high, -statistics.low).double().amax()
    scale = torch.maximum(largest * _WIDE_MARGIN / (2 ** (bits - 1) - 1), finest.amax())
    return Activation(scale.clamp_min(1e-12).expand(len(statistics.high)), 0, bits)


def _bits_before(layer: Layer, readers: Sequence[Layer], widths: Mapping[str, int]) -> int:
    """Most bits, at most 16, whose products the int32 accumulators of all readers hold.

    Some add a bias. Where the lowest output is 0 so is the lowest integer's value, which makes the
    zero point large.
    """
    bits = 16
    from_zero = layer.clamp is not None and layer.clamp[0] == 0
    for reader in readers:
        if reader.input == layer.name and reader.weight is not None:
            width = widths[reader.name]
            total = -reader.weight[0].numel() * lowest_code(reader.kind, width)
            limit = 2**30 if takes_bias(reader, width) or from_zero else 2**31
            while total << (bits - 1) >= limit:
                bits -= 1
    return bits


@dataclass(frozen=True, eq=False)
class ActivationRules:
    """What decides the scale of every tensor but the rounded layer that makes it.

    `statistics` and `importance` (sensitivity.output_sensitivity's) by layer name; `widths`, the
    weight bits of every layer that has weights.
    """

    network: FloatGraph
    statistics: Mapping[str, ChannelStatistics]
    importance: Mapping[str, Tensor]
    widths: Mapping[str, int]
    precision: Precision = MIXED

    def choose(
        self, layer: Layer, weight: QuantizedWeight | None, chosen: Mapping[str, Activation]
    ) -> Activation:
        """Scale, zero point and bits of the output of `layer`, whose gain and weight are final.

        `chosen` holds those of the tensors before it.
        """
        operator = OPS[layer.kind]
        if not operator.requantized:
            return chosen[layer.input]
        step = accumulator_step(layer, chosen[layer.input], weight)
        if weight is None:
            step = step / operator.unit(layer.window, self.network.shapes[layer.input])
        finest = _finest(layer, step)
        if layer.residual is not None:
            finest = torch.maximum(finest, chosen[layer.residual].scale.abs() / _LARGEST_RATIO)
        statistics = self.statistics[layer.name]
        bits, channelwise = self._wanted(layer)
        if layer.clamp is not None and layer.clamp[0] == 0:
            return _from_zero(statistics, finest, layer.clamp[1], channelwise, bits)
        if channelwise:
            may_turn = not any(r.kind == "max_pool" for r in self.network.consumers[layer.name])
            return _equalized(statistics, finest, self.importance[layer.name], may_turn)
        if bits <= 8:
            return _even(statistics, finest, bits)
        return _wide(statistics, finest, bits)

    def _wanted(self, layer: Layer) -> tuple[int, bool]:
        """Bits of the output, and whether each channel may have its own scale.

        That has 8 bits. A tensor that is only added to another has it too.
        """
        readers = self.network.consumers[layer.name]
        kinds = {r.kind for r in readers if r.input == layer.name and r.kind != "add"}
        is_output = layer.name in self.network.outputs
        channelwise = all(self.precision.takes_channel_scales(kind) for kind in kinds)
        if channelwise and readers and not is_output:
            return 8, True
        bits = min((self.precision.bits(kind) for kind in kinds), default=16)
        return min(bits, _bits_before(layer, readers, self.widths)), False


def fake_quantize(values: Tensor, activation: Activation) -> Tensor:
    """`values` (N, C, H, W) as the integer tensor stands for them, float32."""
    scale = activation.scale.float().reshape(1, -1, 1, 1)
    low, high = -(2 ** (activation.bits - 1)), 2 ** (activation.bits - 1) - 1
    integers = torch.round(values / scale + activation.zero_point).clamp(low, high)
    return (integers - activation.zero_point) * scale
