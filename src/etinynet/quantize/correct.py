"""Layer by layer: weights rounded on what the layers before give, gain and shift refitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from etinynet.quantize.activations import Activation, fake_quantize
from etinynet.quantize.layers import INPUT, Layer, run_layer
from etinynet.quantize.rounding import InputMoments, round_compensated
from etinynet.quantize.weights import QuantizedWeight

__all__ = ["Rounded", "fit_layer", "round_and_correct"]

# A fitted gain further than this from the float one rests on noise: the float one stays.
_LARGEST_CHANGE = 0.3

Values = dict[str, Tensor]


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


def fit_layer(layer: Layer, rounded: Layer, states: Sequence[tuple[Values, Values]]) -> Layer:
    """`rounded` with the gain and shift that bring its output closest to the float layer's.

    `states`: of each batch, the values by name in the float network and in the quantized one.
    """
    assert layer.gain is not None
    bare = dataclasses.replace(
        rounded, gain=torch.ones_like(layer.gain), shift=torch.zeros_like(layer.gain)
    )
    fit = _Fit()
    for real, quantized in states:
        target = run_layer(layer, real[layer.input], None)
        if layer.residual is not None:
            target = target + real[layer.residual] - quantized[layer.residual]
        fit.add(run_layer(bare, quantized[layer.input], None), target)
    gain, shift = fit.solve(layer.gain)
    return dataclasses.replace(rounded, gain=gain.float(), shift=shift.float())


@dataclass(frozen=True, eq=False)
class Rounded:
    """The layers with rounded weights and refitted gain and shift, and the integers themselves."""

    layers: list[Layer]
    weights: dict[str, QuantizedWeight]


@torch.no_grad()
def round_and_correct(
    layers: Sequence[Layer],
    weights: Mapping[str, QuantizedWeight],
    activations: Mapping[str, Activation],
    batches: Sequence[Tensor],
) -> Rounded:
    """Rounds and fits every layer on the quantized outputs of the layers before it.

    `weights` gives scales and bits. Each layer so makes up for what its predecessors shifted (the
    idea of bias correction, Nagel et al. 2019, section 4.2, extended to the gain) and for its own
    roundings (rounding.py). All of it costs nothing in the integer graph.
    """
    states: list[tuple[Values, Values]] = [({INPUT: b}, {INPUT: b}) for b in batches]
    last_read = {n: i for i, x in enumerate(layers) for n in (x.input, x.residual) if n is not None}
    result: list[Layer] = []
    integers: dict[str, QuantizedWeight] = {}
    for index, layer in enumerate(layers):
        rounded = layer
        if layer.weight is not None:
            moments = InputMoments()
            for _, quantized in states:
                moments.add(layer, quantized[layer.input])
            weight = round_compensated(layer.weight, weights[layer.name], moments)
            integers[layer.name] = weight
            rounded = dataclasses.replace(layer, weight=weight.dequantized())
            rounded = fit_layer(layer, rounded, states)
        result.append(rounded)
        for real, quantized in states:
            for values, step in ((real, layer), (quantized, rounded)):
                residual = None if step.residual is None else values[step.residual]
                values[layer.name] = run_layer(step, values[layer.input], residual)
            quantized[layer.name] = fake_quantize(quantized[layer.name], activations[layer.name])
            for name in [n for n in real if last_read.get(n, index + 1) <= index]:
                del real[name], quantized[name]
    return Rounded(result, integers)
