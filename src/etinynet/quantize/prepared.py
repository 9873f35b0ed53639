"""The network to be trained with quantized weights: layers whose roundings pass gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from etinynet.quantize.layers import SCORES, Layer, run_layers
from etinynet.quantize.methods import start_value
from etinynet.quantize.quantizers import asq, clamped, dorefa_symmetric, levels, lsq, rescaled
from etinynet.quantize.weights import QuantizedWeight

__all__ = ["PreparedNetwork"]


class _PreparedLayer(nn.Module):
    """One layer with weights. Every parameter is near 1 or counted in levels, so that one rate of
    an optimizer that normalizes gradients suits them all.

    `latent` is the float weight in units of `unit`, about one level; `spread` the logarithm of λ,
    or of the step, over its start; `gain` that of the layer's gain over its start, `shift` the
    change of its additive constant in standard deviations of the output.
    """

    unit: Tensor
    start: Tensor
    deviation: Tensor

    def __init__(
        self,
        layer: Layer,
        method: str,
        per_channel: bool,
        start: QuantizedWeight,
        deviation: Tensor,
    ) -> None:
        super().__init__()
        assert layer.gain is not None
        self.layer, self.method, self.per_channel = layer, method, per_channel
        self.bits, self.rounds = start.bits, True
        value = start.scale
        if method != "best":
            value = start_value(method, start.rounded(), self.bits, per_channel)
        shape = (-1, *[1] * (start.position.dim() - 1))
        self.register_buffer("unit", start.scale.float().reshape(shape))
        self.register_buffer("start", value.float().reshape(-1))
        self.register_buffer("deviation", deviation)
        self.latent = nn.Parameter(start.position.clone())
        self.spread = nn.Parameter(torch.zeros_like(self.start))
        self.gain = nn.Parameter(torch.zeros_like(layer.gain))
        self.shift = nn.Parameter(torch.zeros_like(layer.gain))

    def weight(self) -> Tensor:
        """The quantized weight as float; of ASQ and DoReFa, without `rounds`, the clamped one."""
        weight, value = self.latent * self.unit, self.start * self.spread.exp()
        if self.method in ("best", "lsq"):
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

    def current(self) -> Layer:
        """The layer as it is now; gradients reach the parameters."""
        layer, change = self.layer, self.shift * self.deviation
        assert layer.gain is not None
        assert layer.shift is not None
        return dataclasses.replace(
            layer,
            weight=self.weight(),
            gain=layer.gain * self.gain.exp(),
            bias=None if layer.bias is None else layer.bias + change,
            shift=layer.shift + (change if layer.bias is None else 0),
        )

    def quantized(self) -> QuantizedWeight:
        """The integers that `weight` stands for, and their scale."""
        value = self.start * self.spread.exp()
        scale = (value if self.method in ("best", "lsq") else self.unit.flatten()).double()
        scale = scale.expand(len(self.latent)).clone()
        shape = (-1, *[1] * (self.latent.dim() - 1))
        scales = scale.reshape(shape)
        codes = (self.weight().double() / scales).round()
        position = (self.latent * self.unit / scales).float()
        return QuantizedWeight(codes.to(torch.int8), scale, self.bits, position)


class PreparedNetwork(nn.Module):
    """A classifier whose weights are quantized as they are used.

    `layers` give everything but the weights: those of `method` (methods.METHODS) start as `starts`
    has them, by layer name. `deviations`: the standard deviation of each channel of each output.
    Called with inputs
    (N, 3, H, W), pixel minus 128, it gives the scores (N, classes), and keeps every layer's
    output in `values` until the next call.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        method: str,
        per_channel: bool,
        starts: Mapping[str, QuantizedWeight],
        deviations: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self._layers = list(layers)
        self._prepared = nn.ModuleDict()
        for layer in layers:
            if layer.weight is not None:
                self._prepared[_key(layer.name)] = _PreparedLayer(
                    layer, method, per_channel, starts[layer.name], deviations[layer.name]
                )
        self.values: dict[str, Tensor] = {}

    def round_weights(self, rounds: bool) -> None:
        """Whether ASQ and DoReFa round, or clamp only: the paper's first stage."""
        for layer in self._prepared.values():
            layer.rounds = rounds

    def hold(self, name: str) -> None:
        """Keeps the layer `name` as it starts: no gradient reaches its parameters."""
        self._prepared[_key(name)].requires_grad_(False)

    def current(self) -> list[Layer]:
        """All layers as they are now."""
        return [
            self._prepared[_key(layer.name)].current() if layer.weight is not None else layer
            for layer in self._layers
        ]

    @torch.no_grad()
    def quantized(self) -> tuple[list[Layer], dict[str, QuantizedWeight]]:
        """The layers without gradients, and their integers by name."""
        integers = {
            layer.name: self._prepared[_key(layer.name)].quantized()
            for layer in self._layers
            if layer.weight is not None
        }
        return self.current(), integers

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, classes)."""
        self.values = run_layers(self.current(), x)
        return self.values[SCORES].flatten(1)


def _key(name: str) -> str:
    """Module names have no dots."""
    return name.replace(".", "_")
