"""Lowering: float layers with their quantizers become the integer graph (docs/arithmetic.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etinynet import graph as integer
from etinynet.errors import ConfigError, GraphError
from etinynet.frontend.float_graph import INPUT, FloatGraph, Layer
from etinynet.graph.coding import nearest_short
from etinynet.graph.ops import OPS
from etinynet.graph.precision import Precision
from etinynet.quantize.activations import Activation, accumulator_step
from etinynet.quantize.weights import QuantizedWeight

__all__ = ["lower", "with_integer_offset"]

# More fractional bits would add nothing to the result, and the offsets would outgrow int16.
_MOST_SHIFT = 6
_LEAST_SHIFT = -16


def _array(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.double().numpy(), np.float64)


def _to_int32(values: NDArray[np.float64], where: str, field: str) -> NDArray[np.int32]:
    rounded = np.rint(values)
    channel = int(np.abs(rounded).argmax())
    if not np.abs(rounded[channel]) < 2**31:
        raise ConfigError(
            f"layer {where!r}: channel {channel}: {field} {values[channel]:.3g} leaves int32; "
            "gain, shift and weights of this channel are out of proportion"
        )
    return rounded.astype(np.int32)


def _integer_weight(layer: Layer, weight: QuantizedWeight, source: Activation) -> NDArray[np.int8]:
    """Torch's (out, in, h, w) in the graph's order of axes, turned where the input is turned."""
    array = weight.integers.numpy()
    if layer.kind == "conv2d":
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    if layer.kind == "depthwise":
        signs = np.sign(_array(source.scale)).astype(np.int8)
        return np.ascontiguousarray(array[:, 0] * signs[:, None, None])
    return np.ascontiguousarray(array.reshape(array.shape[:2]))


def _to_short(values: NDArray[np.float64], where: str, field: str) -> NDArray[np.int32]:
    """Factors of few significant bits, which the `.etn` file holds in two bytes each."""
    _to_int32(values, where, field)
    return nearest_short(values).astype(np.int32)


class _Rule:
    """One requantization in real numbers of output steps.

    y = multiplier * (relu?(accumulator) + added) + offset + ratio * (shortcut - shortcut_zero)
    """

    def __init__(
        self, layer: Layer, step: Tensor, source: Activation, target: Activation, unit: int
    ) -> None:
        """`unit`: the accumulator of a layer without weights where all its inputs are 1."""
        channels = len(target.scale)
        gain = np.ones(channels) if layer.gain is None else _array(layer.gain)
        shift = np.zeros(channels) if layer.shift is None else _array(layer.shift)
        scale = _array(target.scale)
        self.multiplier = gain * _array(step) / (unit * scale)
        self.offset = shift / scale + target.zero_point
        self.added: NDArray[Any] = np.zeros(channels)
        if layer.weight is None:
            self.added = self.added - unit * source.zero_point
        self.ratio: NDArray[np.float64] | None = None
        self.shortcut_zero = 0

    def read_shortcut(self, shortcut: Activation, target: Activation) -> None:
        self.ratio = _array(shortcut.scale) / _array(target.scale)
        self.shortcut_zero = shortcut.zero_point

    def constant(
        self, multiplier: NDArray[np.float64], ratio: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """All that is added whatever the picture, where these are the factors."""
        total = self.offset + multiplier * self.added
        return total if ratio is None else total - ratio * self.shortcut_zero

    def at(self, shift: int, name: str, relu: bool) -> integer.Requantization:
        """Integers for `shift` fractional bits; the half of the final rounding is in the offset.

        Below 0 there are none, and the accumulator is multiplied instead.

        The offset is that of the rounded factors, so that their rounding moves no zero point.
        The product is already rounded to a fractional unit: half of one less makes both unbiased.
        """
        fraction = max(shift, 0)
        unit, residual_unit = 2.0 ** (32 + shift), 2.0 ** (16 + fraction)
        multiplier = _to_short(self.multiplier * unit, name, "multiplier")
        residual, ratio, half = None, None, _half(fraction, False)
        if self.ratio is not None:
            residual = _to_short(self.ratio * residual_unit, name, "residual multiplier")
            ratio = residual / residual_unit
            half = _half(fraction, True)
        offset = self.constant(multiplier / unit, ratio) + half
        return integer.Requantization(
            multiplier=multiplier,
            offset=_to_int32(offset * 2.0**fraction, name, "offset"),
            shift=shift,
            relu=relu,
            residual_multiplier=residual,
        )

    def lost(self, made: integer.Requantization) -> NDArray[np.float64]:
        """By how much the offset of `made` is too large, in output steps."""
        fraction = max(made.shift, 0)
        ratio, residual = None, made.residual_multiplier
        if residual is not None:
            ratio = residual / 2.0 ** (16 + fraction)
        exact = self.constant(made.multiplier / 2.0 ** (32 + made.shift), ratio)
        return made.offset / 2.0**fraction - _half(fraction, residual is not None) - exact


def _half(fraction: int, shortcut: bool) -> float:
    """What makes the final floor a rounding: half a step, less what has been rounded already.

    The shortcut's product is floored: the mean of that is half a fractional unit more.
    """
    return 0.5 if shortcut else 0.5 - 2.0 ** (-fraction - 1)


def _fitting_shift(rule: _Rule, spread: float, least: int) -> int:
    """Most fractional bits for which every constant and every sum stays well inside int32."""
    constant = np.abs(rule.constant(rule.multiplier, rule.ratio)).max()
    factor = np.abs(rule.multiplier).max() * 2.0**33
    limits = [(constant + spread) * 2.0]
    if rule.ratio is not None:
        limits.append(float(np.abs(rule.ratio).max()) * 2.0**17)
    shift = _MOST_SHIFT
    while shift > least and (
        max(factor * 2.0**shift, max(limits) * 2.0 ** max(shift, 0)) >= 2.0**32 * 0.999
    ):
        shift -= 1
    return shift


def _bias(layer: Layer, step: Tensor, source: Activation, weight: NDArray[np.int8]) -> Any:
    """Accumulator units: the layer's own bias, less what the input's zero point contributes."""
    bias = -float(source.zero_point) * _sums(weight)
    if layer.bias is not None:
        bias = bias + _array(layer.bias) / _array(step)
    return _to_int32(bias, layer.name, "bias")


def _sums(weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """Of each output channel's weights."""
    return weight.reshape(len(weight), -1).sum(1, dtype=np.int64)


def with_integer_offset(
    layer: Layer, weight: QuantizedWeight, activations: Mapping[str, Activation]
) -> Layer:
    """`layer` with the additive constants that its operator will have.

    Offsets have few fractional bits: each channel is moved by up to half a step, the same
    everywhere. `activations` holds those of its inputs and its output.
    """
    assert layer.shift is not None
    made, rule = _op(layer, weight, activations, (1, 1, 1))
    assert made.requantization is not None
    assert rule is not None
    change = rule.lost(made.requantization) * _array(activations[layer.name].scale)
    layer = dataclasses.replace(layer, shift=layer.shift + torch.from_numpy(change).float())
    if layer.bias is None or made.bias is None:
        return layer
    assert made.weight is not None
    source = activations[layer.input]
    units = made.bias + source.zero_point * _sums(made.weight)
    bias = units * _array(accumulator_step(layer, source, weight))
    return dataclasses.replace(layer, bias=torch.from_numpy(bias).float())


def _op(
    layer: Layer,
    weight: QuantizedWeight | None,
    activations: Mapping[str, Activation],
    source_shape: tuple[int, int, int],
) -> tuple[integer.Op, _Rule | None]:
    """The operator, and what its requantization rounds; None where it has none."""
    source, target = activations[layer.input], activations[layer.name]
    common: dict[str, Any] = {
        "kind": layer.kind,
        "name": layer.name,
        "inputs": layer.inputs,
        "output": layer.name,
        "window": layer.window,
    }
    row = OPS[layer.kind]
    if not row.requantized:
        return integer.Op(**common), None
    step = accumulator_step(layer, source, weight)
    unit = 1 if row.has_weight else row.unit(layer.window, source_shape)
    rule = _Rule(layer, step, source, target, unit)
    if layer.residual is not None:
        rule.read_shortcut(activations[layer.residual], target)
    array, bias, bits = None, None, 8
    if weight is not None:
        array, bits = _integer_weight(layer, weight, source), weight.bits
        bias = _bias(layer, step, source, array)
        if not layer.relu:  # without ReLU the bias is one more additive constant
            rule.added = rule.added + bias
        if not layer.relu or not bias.any():
            bias = None
    spread = _spread(rule, array, source, bias, unit)
    if layer.residual is not None and rule.ratio is not None:
        bits_of_shortcut = activations[layer.residual].bits
        spread += float(np.abs(rule.ratio).max()) * 2.0 ** (bits_of_shortcut - 1)
    # what begins at 0 may have a step finer than two units of its accumulator
    from_zero = layer.clamp is not None and layer.clamp[0] == 0
    shift = _fitting_shift(rule, spread, _LEAST_SHIFT if from_zero else 0)
    made = integer.Op(
        **common,
        weight=array,
        weight_bits=bits,
        bias=bias,
        requantization=rule.at(shift, layer.name, layer.relu),
    )
    return made, rule


def _spread(
    rule: _Rule, weight: NDArray[np.int8] | None, source: Activation, bias: Any, unit: int
) -> float:
    """Largest magnitude of multiplier * accumulator over all inputs, in output units."""
    most = 2.0 ** (source.bits - 1)
    if weight is None:
        return float(np.abs(rule.multiplier).max() * unit * most)
    sums = np.abs(weight.reshape(len(weight), -1).astype(np.float64)).sum(1) * most
    if bias is not None:
        sums = sums + np.abs(bias)
    return float(np.abs(rule.multiplier * sums).max())


def lower(
    name: str,
    network: FloatGraph,
    weights: Mapping[str, QuantizedWeight],
    activations: Mapping[str, Activation],
    precision: Precision,
    head: integer.Classification | None,
    metadata: Mapping[str, Any],
) -> integer.Graph:
    """The legal integer graph of `network`.

    `weights` and `activations` are keyed by layer name; `name` is a C identifier; `precision`,
    `head` and `metadata` are the graph's. Raises GraphError or ConfigError where the numbers do
    not fit the integer arithmetic.
    """
    ops = [
        _op(layer, weights.get(layer.name), activations, network.shapes[layer.input])[0]
        for layer in network.layers
    ]
    tensors = {}
    for tensor, shape in network.shapes.items():
        activation = activations[tensor]
        scale = float(torch.exp(torch.log(activation.scale.abs()).mean()))
        tensors[tensor] = integer.Tensor(
            tensor, shape, activation.bits, activation.zero_point, scale
        )
    result = integer.Graph(
        name, tensors, tuple(ops), INPUT, network.outputs, head, precision, dict(metadata)
    )
    try:
        integer.check(result)
    except GraphError as error:
        raise GraphError(f"lowering {name!r}: {error}") from None
    return result
