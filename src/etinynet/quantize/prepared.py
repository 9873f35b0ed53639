"""The network to be trained with quantized weights: layers whose roundings pass gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

from etinynet.frontend.float_graph import INPUT, FloatGraph, Layer, run_layers
from etinynet.quantize.calibrate import ChannelStatistics
from etinynet.quantize.gradual import SLOW, FollowingWeight, GradualWeight
from etinynet.quantize.methods import is_gradual, start_value
from etinynet.quantize.quantizers import asq, clamped, dorefa_symmetric, levels, lsq, rescaled
from etinynet.quantize.weights import QuantizedWeight, lowest_code, takes_bias

__all__ = ["PreparedNetwork"]


# A channel whose gain is 0 is constant, and its deviation 0.
_LEAST_GAIN = 1e-12


class _RoundedWeight(nn.Module):
    """Weights that are rounded in every step, the gradient passing (straight-through estimator).

    `latent` is the float weight in units of `unit`, about one level; `spread` the logarithm of λ,
    or of the step, over its start.
    """

    unit: Tensor
    start: Tensor

    def __init__(self, method: str, per_channel: bool, start: QuantizedWeight) -> None:
        super().__init__()
        self.method, self.per_channel = method, per_channel
        self.bits, self.rounds = start.bits, True
        value = start_value(method, start.rounded(), self.bits, per_channel)
        self.register_buffer("unit", start.scales().float())
        self.register_buffer("start", value.float().reshape(-1))
        self.latent = nn.Parameter(start.position.clone())
        self.spread = nn.Parameter(torch.zeros_like(self.start))

    def _value(self) -> Tensor:
        """λ, or the step, one or one an output channel."""
        return self.start * (SLOW * self.spread).exp()

    def weight(self) -> Tensor:
        """The quantized weight as float; of ASQ and DoReFa, without `rounds`, the clamped one."""
        weight, value = self.latent * self.unit, self._value()
        if self.method == "lsq":
            return lsq(weight, value, self.bits)
        if not self.rounds:
            normal = (
                clamped(weight, self.per_channel)
                if self.method == "dorefa"
                else rescaled(weight, value, self.per_channel)
            )
        elif self.method == "dorefa":
            normal = dorefa_symmetric(weight, self.bits, self.per_channel)
        else:
            normal = asq(weight, value, self.bits, self.per_channel)
        return normal * self.unit * levels(self.bits)

    def quantized(self) -> QuantizedWeight:
        """The integers that `weight` stands for, and their scale."""
        scale = (self._value() if self.method == "lsq" else self.unit.flatten()).double()
        scale = scale.expand(len(self.latent)).clone()
        shape = (-1, *[1] * (self.latent.dim() - 1))
        scales = scale.reshape(shape)
        codes = (self.weight().double() / scales).round()
        position = (self.latent * self.unit / scales).float()
        return QuantizedWeight(codes.to(torch.int8), scale, self.bits, position)


class _PreparedLayer(nn.Module):
    """One layer with weights. Every parameter is near 1 or counted in levels, so that one rate of
    an optimizer that normalizes gradients suits them all.

    `gain` is the logarithm of the layer's gain over its start; `shift` and, before a ReLU, `bias`
    are changes of its additive constants in standard deviations of the output. Whatever the weights
    do, these constants make up for what an input of `mean` would notice of it.

    What is trained is kept beside what it changes: a run that goes on from its state may have a
    start that was fitted a little differently.
    """

    deviation: Tensor
    mean: Tensor
    start_sum: Tensor
    start_gain: Tensor
    start_shift: Tensor
    start_bias: Tensor | None

    def __init__(
        self,
        layer: Layer,
        rounding: _RoundedWeight | GradualWeight | FollowingWeight,
        bits: int,
        mean: Tensor,
        deviation: Tensor,
    ) -> None:
        super().__init__()
        assert layer.gain is not None
        assert layer.shift is not None
        self.layer, self.rounding = layer, rounding
        self.register_buffer("deviation", deviation)
        assert layer.weight is not None
        axis = 0 if layer.kind == "depthwise" else 1
        shape = [-1 if n == axis else 1 for n in range(layer.weight.dim())]
        self.register_buffer("mean", mean.reshape(shape).clone())
        self.register_buffer("start_sum", self._sum(layer.weight))
        zero = torch.zeros_like(layer.gain)
        self.register_buffer("start_gain", layer.gain.clone())
        self.register_buffer("start_shift", layer.shift.clone())
        self.gain, self.shift = nn.Parameter(zero.clone()), nn.Parameter(zero.clone())
        biased = takes_bias(layer, bits)
        start = zero if layer.bias is None else layer.bias
        self.register_buffer("start_bias", start.clone() if biased else None)
        self.bias = nn.Parameter(zero.clone()) if biased else None

    def current(self) -> Layer:
        """The layer as it is now; gradients reach the parameters."""
        weight, bias = self.rounding.weight(), self.start_bias
        moved = self._sum(weight) - self.start_sum
        gain = self.start_gain * (SLOW * self.gain).exp()
        shift = self.start_shift + SLOW * self.shift * self.deviation
        if bias is not None and self.bias is not None:
            unit = self.deviation / self.start_gain.abs().clamp_min(_LEAST_GAIN)
            bias = bias + SLOW * self.bias * unit - moved
        elif not self.layer.relu:
            shift = shift - gain * moved
        return dataclasses.replace(self.layer, weight=weight, gain=gain, bias=bias, shift=shift)

    def _sum(self, weight: Tensor) -> Tensor:
        """The accumulator of each output channel where every input is its channel's mean."""
        return (weight * self.mean).flatten(1).sum(1)


class PreparedNetwork(nn.Module):
    """A classifier whose weights are quantized as they are used, in the layers named in `starts`.

    `network` gives everything but the weights: those of `method` (methods.METHODS) start as
    `starts` has them; those of a gradual method start as the weights of `network` and take from
    `starts` the scale. Layers named in `following`, of `starts` too, are trained as floats, to make
    up for what the others lose by rounding. All other layers stay as they are. `statistics` are
    the float layers' (calibrate.py).

    Called with inputs (N, 3, H, W), pixel minus 128, it gives the scores (N, classes), and keeps
    every layer's output in `values` until the next call. In evaluation mode all weights are
    rounded.
    """

    def __init__(
        self,
        network: FloatGraph,
        method: str,
        per_channel: bool,
        starts: Mapping[str, QuantizedWeight],
        statistics: Mapping[str, ChannelStatistics],
        following: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._network = network
        self._prepared = nn.ModuleDict()
        for layer in network.layers:
            if layer.name not in starts:
                continue
            assert layer.weight is not None
            start = starts[layer.name]
            rounding: _RoundedWeight | GradualWeight | FollowingWeight
            if layer.name in following:
                rounding = FollowingWeight(layer.weight, start)
            elif is_gradual(method, per_channel):
                lowest = lowest_code(layer.kind, start.bits)
                rounding = GradualWeight(layer.weight, start, method, lowest)
            else:
                rounding = _RoundedWeight(method, per_channel, start)
            deviation = statistics[layer.name].deviation
            channels = network.shapes[layer.input][2]
            mean = torch.zeros(channels)
            if layer.input != INPUT:
                mean = statistics[layer.input].mean
            prepared = _PreparedLayer(layer, rounding, start.bits, mean, deviation)
            self._prepared[_key(layer.name)] = prepared
        self.values: dict[str, Tensor] = {}

    def round_weights(self, rounds: bool) -> None:
        """Whether ASQ and DoReFa round, or clamp only: the paper's first stage."""
        for layer in self._prepared.values():
            if isinstance(layer.rounding, _RoundedWeight):
                layer.rounding.rounds = rounds

    def gradual(self) -> Iterator[GradualWeight]:
        """The weights that are not rounded in training."""
        for layer in self._prepared.values():
            if isinstance(layer.rounding, GradualWeight):
                yield layer.rounding

    def current(self) -> list[Layer]:
        """All layers as they are now; gradients reach the parameters."""
        return [
            self._prepared[key].current() if (key := _key(layer.name)) in self._prepared else layer
            for layer in self._network.layers
        ]

    @torch.no_grad()
    def quantized(self) -> tuple[list[Layer], dict[str, QuantizedWeight]]:
        """The layers as they are in evaluation, without gradients, and the integers of those that
        are rounded."""
        training, trained = self.training, self.eval()
        integers = {
            prepared.layer.name: prepared.rounding.quantized()
            for prepared in trained._prepared.values()
            if not isinstance(prepared.rounding, FollowingWeight)
        }
        layers = trained.current()
        self.train(training)
        return layers, integers

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, classes)."""
        self.values = run_layers(self.current(), x)
        return self._network.scores(self.values)


def _key(name: str) -> str:
    """Module names have no dots, and layers' names no slashes."""
    return name.replace(".", "/")
