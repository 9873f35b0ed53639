"""Layer by layer: weights rounded on what the layers before give, the constants refitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from etinynet.frontend.float_graph import (
    INPUT,
    FloatGraph,
    Layer,
    drop_unread,
    last_reads,
    output_of,
    run_layer,
    run_layers,
)
from etinynet.quantize.activations import (
    Activation,
    ActivationRules,
    fake_quantize,
    input_activation,
    least_weight_scale,
)
from etinynet.quantize.calibrate import ChannelStatistics
from etinynet.quantize.lower import with_integer_offset
from etinynet.quantize.rounding import InputMoments
from etinynet.quantize.weights import QuantizedWeight, coarsened, takes_bias

__all__ = ["Rounded", "Rounder", "fit_layer", "round_and_correct", "round_some"]

# Fewer positions a weight do not tell the directions of the inputs apart.
_FEW = 8
# Side of the crops that then are looked at too, relative to the picture's, and in steps of what the
# network divides by.
_CROP, _STEP = 5 / 7, 32
# A fitted gain further than this from the float one rests on noise: the float one stays.
_LARGEST_CHANGE = 0.3

Values = dict[str, Tensor]

#: A layer's weights as integers; the moments of its inputs are gathered if they are asked for.
Rounder = Callable[[Layer, Callable[[], InputMoments]], QuantizedWeight]


class _Fit:
    """Least squares y ≈ gain * x + shift per channel, from sums over batches."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, x: Tensor, y: Tensor) -> None:
        x, y = (t.transpose(0, 1).flatten(1).double() for t in (x, y))
        self.count += x.shape[1]
        for key, value in {"x": x, "y": y, "xx": x * x, "xy": x * y}.items():
            self.sums[key] = self.sums.get(key, torch.zeros(len(x)).double()) + value.sum(1)

    def solve(self, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Fitted (gain, shift); `gain` is the float network's, kept where the fit is not sound."""
        mean = {key: value / self.count for key, value in self.sums.items()}
        variance = mean["xx"] - mean["x"] ** 2
        fitted = (mean["xy"] - mean["x"] * mean["y"]) / variance.clamp_min(1e-30)
        sound = (variance > 1e-9 * mean["xx"]) & ((fitted / gain - 1).abs() < _LARGEST_CHANGE)
        gain = torch.where(sound, fitted, gain.double())
        return gain, mean["y"] - gain * mean["x"]


def fit_layer(
    layer: Layer, rounded: Layer, bits: int, states: Sequence[tuple[Values, Values]]
) -> Layer:
    """`rounded` with the constants that bring its output closest to the float layer's.

    Gain and shift by least squares; before them, where the layer takes_bias, the one that gives
    what the ReLU reads the float mean. `bits` are its weights'. `states`: of each batch, the values
    by name in the float network and in the quantized one.
    """
    assert layer.gain is not None
    if takes_bias(layer, bits):
        rounded = dataclasses.replace(rounded, bias=_fitted_bias(layer, rounded, states))
    bare = dataclasses.replace(
        rounded,
        gain=torch.ones_like(layer.gain),
        shift=torch.zeros_like(layer.gain),
        clamp=None,
    )
    wanted = dataclasses.replace(layer, clamp=None)  # gain and shift act before it
    fit = _Fit()
    for real, quantized in states:
        target = run_layer(wanted, real[layer.input], None)
        if layer.residual is not None:
            target = target + real[layer.residual] - quantized[layer.residual]
        fit.add(run_layer(bare, quantized[layer.input], None), target)
    gain, shift = fit.solve(layer.gain)
    return dataclasses.replace(rounded, gain=gain.float(), shift=shift.float())


def _fitted_bias(layer: Layer, rounded: Layer, states: Sequence[tuple[Values, Values]]) -> Tensor:
    """The bias of `rounded` for which its ReLU reads the mean that the float layer's reads."""
    assert layer.gain is not None
    one, zero = torch.ones_like(layer.gain), torch.zeros_like(layer.gain)
    real, quantized = (
        dataclasses.replace(x, gain=one, shift=zero, bias=bias, relu=False)
        for x, bias in ((layer, layer.bias), (rounded, None))
    )
    total, count = torch.zeros(len(one)).double(), 0
    for wanted, given in states:
        lost = run_layer(real, wanted[layer.input], None)
        lost = lost - run_layer(quantized, given[layer.input], None)
        total += lost.sum((0, 2, 3), dtype=torch.float64)
        count += lost[:, 0].numel()
    return (total / count).float()


@dataclass(frozen=True, eq=False)
class Rounded:
    """The layers with rounded weights and refitted constants, and what they are made of.

    `statistics` are the float layers' (calibrate.py).
    """

    layers: list[Layer]
    weights: dict[str, QuantizedWeight]
    activations: dict[str, Activation]
    statistics: Mapping[str, ChannelStatistics]


@torch.no_grad()
def round_and_correct(
    network: FloatGraph, rounder: Rounder, rules: ActivationRules, batches: Sequence[Tensor]
) -> Rounded:
    """Rounds and fits every layer on the quantized outputs of the layers before it.

    Each layer so makes up for what its predecessors shifted (the idea of bias correction, Nagel
    et al. 2019, section 4.2, extended to the gain; a normalization re-estimated to give the float
    network's moments) and for its own roundings; also for what the rounding of their offsets moves
    (lower.with_integer_offset). In the integer graph all but the biases costs nothing.
    """
    states: list[tuple[Values, Values]] = [({INPUT: b}, {INPUT: b}) for b in batches]
    layers = network.layers
    last_read = last_reads(layers)
    given = {INPUT: input_activation(network.input_shape[2])}
    result = Rounded([], {}, given, rules.statistics)

    def seen_in_crops(name: str) -> Iterator[tuple[Tensor, Tensor]]:
        for crop in (crop for batch in batches for crop in _crops(batch)):
            real = run_layers(layers[: len(result.layers)], crop)
            yield real[name], _quantized(result, crop)[name]

    for index, layer in enumerate(layers):
        rounded, weight = layer, None
        if layer.weight is not None:
            least = least_weight_scale(layer, result.activations[layer.input])
            rounded, weight = _rounded(layer, rounder, states, seen_in_crops, least)
            result.weights[layer.name] = weight
        result.layers.append(rounded)
        activation = rules.choose(rounded, weight, result.activations)
        result.activations[layer.name] = activation
        shown = rounded
        if weight is not None:
            shown = with_integer_offset(rounded, weight, result.activations)
        for real, quantized in states:
            for values, step in ((real, layer), (quantized, shown)):
                values[layer.name] = output_of(step, values)
            quantized[layer.name] = fake_quantize(quantized[layer.name], activation)
            for values in (real, quantized):
                drop_unread(values, last_read, index)
    return result


@torch.no_grad()
def round_some(
    layers: Sequence[Layer], names: Collection[str], rounder: Rounder, batches: Sequence[Tensor]
) -> tuple[list[Layer], dict[str, QuantizedWeight]]:
    """`layers` with those in `names` rounded and fitted to what they do as floats; the integers.

    Each does so on what the rounded ones before it give; their outputs stay float. No layer before
    the first of `names` changes.
    """
    states: list[tuple[Values, Values]] = [({INPUT: b}, {INPUT: b}) for b in batches]
    last_read = last_reads(layers)
    result, integers = list(layers), {}
    for index, layer in enumerate(layers):
        if layer.name in names:
            result[index], weight = _rounded(layer, rounder, states, lambda _: iter(()))
            integers[layer.name] = weight
        if len(integers) == len(names):
            break
        for real, quantized in states:
            output = output_of(layer, real)
            # Before the first rounded layer both networks are one.
            quantized[layer.name] = output_of(result[index], quantized) if integers else output
            real[layer.name] = output
            for values in (real, quantized):
                drop_unread(values, last_read, index)
    return result, integers


def _rounded(
    layer: Layer,
    rounder: Rounder,
    states: Sequence[tuple[Values, Values]],
    seen_in_crops: Callable[[str], Iterator[tuple[Tensor, Tensor]]],
    least: Tensor | None = None,
) -> tuple[Layer, QuantizedWeight]:
    """`layer` with rounded weights and the constants that fit them, and its integers.

    No scale of them is below `least`.
    """
    weight = rounder(layer, lambda: _moments(layer, states, seen_in_crops))
    if least is not None:
        weight = coarsened(weight, least)
    rounded = dataclasses.replace(layer, weight=weight.dequantized())
    return fit_layer(layer, rounded, weight.bits, states), weight


def _moments(
    layer: Layer,
    states: Sequence[tuple[Values, Values]],
    seen_in_crops: Callable[[str], Iterator[tuple[Tensor, Tensor]]],
) -> InputMoments:
    """Those of the inputs of `layer`; where they are few, those of crops too.

    A classifier has one position a picture, and hundreds of weights.
    """
    assert layer.weight is not None
    moments = InputMoments()
    for real, quantized in states:
        moments.add(layer, quantized[layer.input], real[layer.input])
    if moments.count < _FEW * layer.weight[0].numel():
        for seen, rounded in seen_in_crops(layer.input):
            moments.add(layer, rounded, seen)
    return moments


def _quantized(done: Rounded, x: Tensor) -> Values:
    """Values of the layers in `done`, each rounded to its activation."""
    values = {INPUT: x}
    for layer in done.layers:
        values[layer.name] = fake_quantize(output_of(layer, values), done.activations[layer.name])
    return values


def _crops(x: Tensor) -> Iterator[Tensor]:
    """The corners of pictures (N, 3, H, W), and the same mirrored."""
    height, width = (max(round(_CROP * side / _STEP) * _STEP, _STEP) for side in x.shape[2:])
    for rows in (slice(None, height), slice(-height, None)):
        for columns in (slice(None, width), slice(-width, None)):
            corner = x[:, :, rows, columns]
            for crop in (corner, corner.flip(3)):
                yield crop.contiguous(memory_format=torch.channels_last)
