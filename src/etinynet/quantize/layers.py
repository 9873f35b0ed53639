"""The float network as a list of layers: convolution, ReLU, affine normalisation, shortcut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import Linear, functional

from etinynet.errors import ConfigError, UnsupportedError
from etinynet.model import shapes
from etinynet.model.blocks import ConvUnit
from etinynet.model.networks import Network

__all__ = [
    "INPUT",
    "SCORES",
    "Layer",
    "drop_unread",
    "last_reads",
    "layers_of",
    "output_of",
    "run_layer",
    "run_layers",
]

# A channel whose variance in training was below this part of epsilon is constant: its shift alone.
_CONSTANT = 1e-6

INPUT = shapes.INPUT
SCORES = shapes.SCORES


@dataclass(frozen=True, eq=False)
class Layer:
    """output = ceiling?(gain * relu?(kind(input) + bias) + shift) [+ residual], all float, NCHW.

    With conv → ReLU → BN, gain and shift are the normalisation; with conv → BN → ReLU it is folded
    into weight and bias and gain is 1. A constant channel has gain 0 in both. `gain` and `shift`
    have one value per output channel; the pools have none. A dense layer keeps its bias in `shift`,
    since it has no ReLU. `ceiling` clamps to 0 .. ceiling (ReLU6: 6); such a layer has neither
    `relu` nor a residual. A layer `add` is input + residual.
    """

    kind: str
    name: str
    input: str
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    weight: Tensor | None = None
    bias: Tensor | None = None
    relu: bool = False
    gain: Tensor | None = None
    shift: Tensor | None = None
    residual: str | None = None
    ceiling: float | None = None


def _convolution(unit: ConvUnit, kind: str, name: str, source: str) -> Layer:
    """One convolution with its normalisation, in either order of ReLU and BN."""
    weight = unit.conv.weight.detach()
    norm = unit.norm
    gain = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    gain = torch.where(norm.running_var < _CONSTANT * norm.eps, 0, gain)
    shift = norm.bias.detach() - gain * norm.running_mean
    bias = None
    if unit.activated and unit.ceiling is None and unit.order == "conv_bn_relu":
        weight, live = weight * gain.reshape(-1, 1, 1, 1), gain != 0
        gain, bias = live.to(gain.dtype), torch.where(live, shift, 0)
        shift = torch.where(live, 0, shift.relu())
    return Layer(
        kind=kind,
        name=name,
        input=source,
        kernel=unit.conv.kernel_size[0],
        stride=unit.conv.stride[0],
        padding=int(unit.conv.padding[0]),
        weight=weight,
        bias=bias,
        relu=unit.activated and unit.ceiling is None,
        gain=gain,
        shift=shift,
        ceiling=unit.ceiling,
    )


def _dense(classifier: Linear, source: str) -> Layer:
    bias = classifier.bias.detach()
    weight = classifier.weight.detach()
    return Layer("dense", SCORES, source, weight=weight, gain=torch.ones_like(bias), shift=bias)


def _require_finite(layer: Layer) -> None:
    for field in ("weight", "bias", "gain", "shift"):
        values = getattr(layer, field)
        if values is not None and not values.isfinite().all():
            channel = int(values.reshape(len(values), -1).isfinite().all(1).int().argmin())
            raise ConfigError(
                f"layer {layer.name!r}: channel {channel}: {field} is not finite once its "
                "normalization is folded in"
            )


def layers_of(model: Network) -> list[Layer]:
    """The layers of a classifier in order of execution; every layer is named as its output.

    Raises UnsupportedError for a backbone without classifier and for clipped activations,
    ConfigError where a normalization's gain makes numbers that are not finite.
    """
    if model.classifier is None:
        raise UnsupportedError(f"{model.config.name}: a network without classifier gives no scores")
    if model.config.activation_clip is not None:
        raise UnsupportedError(f"{model.config.name}: activation_clip has no integer form yet")
    layers: list[Layer] = []
    for shape in shapes.layers(model.config):
        name, source = shapes.layer_name(shape.name), shapes.layer_name(shape.source)
        if shape.is_unit:
            unit = model.get_submodule(shape.name)
            assert isinstance(unit, ConvUnit)
            layer = _convolution(unit, shape.kind, name, source)
        elif shape.kind == "dense":
            layer = _dense(model.classifier, source)
        elif shape.kind == "max_pool":
            layer = Layer(shape.kind, name, source, kernel=shape.kernel, stride=shape.stride)
        else:
            layer = Layer(shape.kind, name, source)
        _require_finite(layer)
        residual = None if shape.residual is None else shapes.layer_name(shape.residual)
        layers.append(replace(layer, residual=residual))
    return layers


def run_layer(layer: Layer, x: Tensor, residual: Tensor | None) -> Tensor:
    """One layer on a batch (N, C, H, W); dense works on (N, C, 1, 1)."""
    if layer.kind == "max_pool":
        return functional.max_pool2d(x, layer.kernel, layer.stride)
    if layer.kind == "avg_pool":
        return functional.avg_pool2d(x, layer.kernel, layer.stride, layer.padding)
    if layer.kind == "add":
        assert residual is not None
        return x + residual
    if layer.kind == "global_avg_pool":
        return x.mean(dim=(2, 3), keepdim=True)
    assert layer.weight is not None
    assert layer.gain is not None
    assert layer.shift is not None
    weight = layer.weight.reshape(*layer.weight.shape[:2], layer.kernel, layer.kernel)
    groups = x.shape[1] if layer.kind == "depthwise" else 1
    y = functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding, 1, groups)
    if layer.relu:
        y = functional.relu(y)
    # gain * y + shift in one pass over the memory
    zero, one = torch.zeros_like(layer.gain), torch.ones_like(layer.gain)
    y = functional.batch_norm(y, zero, one, layer.gain, layer.shift, False, 0.0, 0.0)
    if layer.ceiling is not None:
        y = y.clamp(0, layer.ceiling)
    return y if residual is None else y + residual


def output_of(layer: Layer, values: Mapping[str, Tensor]) -> Tensor:
    """`layer` on `values`, the tensors before it by name."""
    residual = None if layer.residual is None else values[layer.residual]
    return run_layer(layer, values[layer.input], residual)


def run_layers(layers: Sequence[Layer], x: Tensor) -> dict[str, Tensor]:
    """Every layer's output for a batch of inputs (N, 3, H, W), pixel minus 128, by name."""
    values = {INPUT: x}
    for layer in layers:
        values[layer.name] = output_of(layer, values)
    return values


def last_reads(layers: Sequence[Layer]) -> dict[str, int]:
    """By name of a tensor that is read: the index of the last layer that reads it."""
    return {n: i for i, x in enumerate(layers) for n in (x.input, x.residual) if n is not None}


def drop_unread(values: dict[str, Tensor], last_read: Mapping[str, int], index: int) -> None:
    """Deletes from `values` the tensors that no layer behind `index` reads (`last_reads`)."""
    for name in [n for n in values if last_read.get(n, index + 1) <= index]:
        del values[name]
