"""The float network as a list of layers: convolution, ReLU, affine normalisation, shortcut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from etinynet.errors import UnsupportedError
from etinynet.model.blocks import ConvUnit
from etinynet.model.etinynet import EtinyNet

__all__ = [
    "INPUT",
    "SCORES",
    "Layer",
    "last_reads",
    "layers_of",
    "output_of",
    "run_layer",
    "run_layers",
]

# A channel whose variance in training was below this part of epsilon is constant: its shift alone.
_CONSTANT = 1e-6

INPUT = "input"
SCORES = "scores"


@dataclass(frozen=True, eq=False)
class Layer:
    """output = gain * relu?(kind(input) + bias) + shift [+ residual], all float, NCHW.

    With conv → ReLU → BN, gain and shift are the normalisation; with conv → BN → ReLU it is folded
    into weight and bias and gain is 1. A constant channel has gain 0 in both. `gain` and `shift`
    have one value per output channel; the pools have none. A dense layer keeps its bias in `shift`,
    since it has no ReLU.
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


def _kind(unit: ConvUnit) -> str:
    conv = unit.conv
    if conv.groups == conv.in_channels and conv.groups > 1:
        return "depthwise"
    return "pointwise" if conv.kernel_size == (1, 1) else "conv2d"


def _convolution(unit: ConvUnit, name: str, source: str, residual: str | None) -> Layer:
    """One convolution with its normalisation, in either order of ReLU and BN."""
    weight = unit.conv.weight.detach()
    norm = unit.norm
    gain = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    gain = torch.where(norm.running_var < _CONSTANT * norm.eps, 0, gain)
    shift = norm.bias.detach() - gain * norm.running_mean
    bias = None
    if unit.activated and unit.order == "conv_bn_relu":
        weight, live = weight * gain.reshape(-1, 1, 1, 1), gain != 0
        gain, bias = live.to(gain.dtype), torch.where(live, shift, 0)
        shift = torch.where(live, 0, shift.relu())
    return Layer(
        kind=_kind(unit),
        name=name,
        input=source,
        kernel=unit.conv.kernel_size[0],
        stride=unit.conv.stride[0],
        padding=int(unit.conv.padding[0]),
        weight=weight,
        bias=bias,
        relu=unit.activated,
        gain=gain,
        shift=shift,
        residual=residual,
    )


def layers_of(model: EtinyNet) -> list[Layer]:
    """The layers of a classifier in order of execution; every layer is named as its output.

    Raises UnsupportedError for a backbone without classifier and for clipped activations.
    """
    if model.classifier is None:
        raise UnsupportedError(f"{model.config.name}: a network without classifier gives no scores")
    if model.config.activation_clip is not None:
        raise UnsupportedError(f"{model.config.name}: activation_clip has no integer form yet")
    layers = [_convolution(model.stem, "stem", INPUT, None)]
    layers.append(Layer("max_pool", "pool", "stem", kernel=2, stride=2))
    source = "pool"
    for index, block in enumerate(model.blocks):
        names = [f"b{index}.{part}" for part in ("dw1", "pw", "dw2")]
        first = source if block.first_shortcut else None
        second = names[1] if block.second_shortcut else None
        layers.append(_convolution(block.dw1, names[0], source, None))
        layers.append(_convolution(block.pw, names[1], names[0], first))
        layers.append(_convolution(block.dw2, names[2], names[1], second))
        source = names[2]
    layers.append(Layer("global_avg_pool", "features", source))
    classifier = model.classifier
    layers.append(
        Layer(
            "dense",
            SCORES,
            "features",
            weight=classifier.weight.detach(),
            gain=torch.ones_like(classifier.bias.detach()),
            shift=classifier.bias.detach(),
        )
    )
    return layers


def run_layer(layer: Layer, x: Tensor, residual: Tensor | None) -> Tensor:
    """One layer on a batch (N, C, H, W); dense works on (N, C, 1, 1)."""
    if layer.kind == "max_pool":
        return functional.max_pool2d(x, layer.kernel, layer.stride)
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
