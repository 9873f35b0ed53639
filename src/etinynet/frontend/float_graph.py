"""The float graph: layers, consumers, outputs and stages as data, and how it runs in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from etinynet.graph.ir import POINT, Window
from etinynet.graph.ops import output_shape

__all__ = [
    "INPUT",
    "FloatGraph",
    "Layer",
    "drop_unread",
    "last_reads",
    "output_of",
    "run_layer",
    "run_layers",
]

#: The name of the picture among the tensors; no layer has it.
INPUT = "input"


@dataclass(frozen=True, eq=False)
class Layer:
    """output = clamp(gain * relu?(kind(first input) + bias) + shift [+ second input]), float, NCHW.

    `kind` is a row of the operator table (graph/ops.py). With conv → ReLU → BN, gain and shift are
    the normalization; with conv → BN → ReLU it is folded into weight and bias and gain is 1. A
    constant channel has gain 0 in both. `gain` and `shift` have one value per output channel;
    layers without weights have none. `clamp` is the lowest and the highest output, None for an
    output without bounds; either may be infinite.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    window: Window = POINT
    weight: Tensor | None = None
    bias: Tensor | None = None
    relu: bool = False
    gain: Tensor | None = None
    shift: Tensor | None = None
    clamp: tuple[float, float] | None = None

    @property
    def input(self) -> str:
        """The tensor that the layer works on."""
        return self.inputs[0]

    @property
    def residual(self) -> str | None:
        """The tensor that is added, if there is one."""
        return self.inputs[1] if len(self.inputs) > 1 else None


@dataclass(frozen=True, eq=False)
class FloatGraph:
    """Layers in order of execution, each named as its output.

    `input_shape` is (height, width, channels). `outputs` are the tensors that leave the network.
    `stages` group the layers with weights, in order of execution, for training: a stage is the
    least that is trained together.
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, int, int]
    outputs: tuple[str, ...]
    stages: tuple[tuple[str, ...], ...]

    @cached_property
    def by_name(self) -> dict[str, Layer]:
        """Each layer by its name."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """(height, width, channels) of every tensor by name, the input's among them."""
        found = {INPUT: self.input_shape}
        for layer in self.layers:
            channels = 0 if layer.weight is None else len(layer.weight)
            found[layer.name] = output_shape(layer.kind, found[layer.input], channels, layer.window)
        return found

    @cached_property
    def consumers(self) -> dict[str, tuple[Layer, ...]]:
        """The layers that read each tensor, whether they work on it or add it."""
        names = (INPUT, *self.by_name)
        return {
            name: tuple(layer for layer in self.layers if name in layer.inputs) for name in names
        }

    def with_layers(self, layers: Sequence[Layer]) -> FloatGraph:
        """The same network with other constants in its layers."""
        return replace(self, layers=tuple(layers))

    def scores(self, values: Mapping[str, Tensor]) -> Tensor:
        """All outputs among `values` of one batch side by side, (N, numbers)."""
        return torch.cat([values[name].flatten(1) for name in self.outputs], 1)

    def stage_ends(self) -> tuple[str, ...]:
        """The last layer of each stage that has more than one."""
        return tuple(stage[-1] for stage in self.stages if len(stage) > 1)


def run_layer(layer: Layer, x: Tensor, residual: Tensor | None) -> Tensor:
    """One layer on a batch (N, C, H, W); dense works on (N, C, 1, 1)."""
    y = _accumulated(layer, x)
    if layer.relu:
        y = functional.relu(y)
    if layer.gain is not None and layer.shift is not None:
        # gain * y + shift in one pass over the memory
        zero, one = torch.zeros_like(layer.gain), torch.ones_like(layer.gain)
        y = functional.batch_norm(y, zero, one, layer.gain, layer.shift, False, 0.0, 0.0)
    if residual is not None:
        y = y + residual
    return y if layer.clamp is None else y.clamp(*layer.clamp)


def _accumulated(layer: Layer, x: Tensor) -> Tensor:
    window = layer.window
    if layer.kind == "add":
        return x
    if layer.kind == "global_avg_pool":
        return x.mean(dim=(2, 3), keepdim=True)
    top, left, bottom, right = window.padding
    padding: tuple[int, int] | int = (top, left)
    if (top, left) != (bottom, right):
        x, padding = functional.pad(x, (left, right, top, bottom)), 0
    if layer.kind == "max_pool":
        return functional.max_pool2d(x, window.kernel, window.stride, padding)
    if layer.kind == "avg_pool":
        return functional.avg_pool2d(x, window.kernel, window.stride, padding)
    assert layer.weight is not None
    weight = layer.weight.reshape(*layer.weight.shape[:2], *window.kernel)
    groups = x.shape[1] if layer.kind == "depthwise" else 1
    return functional.conv2d(x, weight, layer.bias, window.stride, padding, 1, groups)


def output_of(layer: Layer, values: Mapping[str, Tensor]) -> Tensor:
    """`layer` on `values`, the tensors before it by name."""
    residual = None if layer.residual is None else values[layer.residual]
    return run_layer(layer, values[layer.input], residual)


def run_layers(layers: Sequence[Layer], x: Tensor) -> dict[str, Tensor]:
    """Every layer's output for a batch of inputs (N, C, H, W), pixel minus 128, by name."""
    values = {INPUT: x}
    for layer in layers:
        values[layer.name] = output_of(layer, values)
    return values


def last_reads(layers: Sequence[Layer]) -> dict[str, int]:
    """By name of a tensor that a layer reads: the index of the last layer that does."""
    return {name: index for index, layer in enumerate(layers) for name in layer.inputs}


def drop_unread(values: dict[str, Tensor], last_read: Mapping[str, int], index: int) -> None:
    """Deletes from `values` the tensors that no layer behind `index` reads (`last_reads`)."""
    for name in [n for n in values if last_read.get(n, index + 1) <= index]:
        del values[name]
