"""Small EtinyNets with random weights and statistics, and pictures for them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from etinynet.frontend.float_graph import FloatGraph, Layer
from etinynet.model.config import Block, EtinyNetConfig
from etinynet.model.etinynet import EtinyNet
from etinynet.model.networks import Network
from etinynet.quantize.pipeline import network_of

__all__ = ["ORDERS", "SCORES", "chain", "layers_of", "pictures", "small_config", "small_network"]

SCORES = "scores"

ORDERS = ("conv_bn_relu", "conv_relu_bn")


def small_config(order: str, **changes: object) -> EtinyNetConfig:
    """Both kinds of block, with and without each shortcut and stride; inputs of 32 pixels."""
    stages = (
        (Block("lb", 8, 8), Block("lb", 8, 12, 2)),
        (Block("dlb", 12, 16), Block("dlb", 16, 16)),
    )
    values = {"stem_channels": 8, "stages": stages, "classes": 5, "size": 32}
    return EtinyNetConfig("small", normalization=order, **{**values, **changes})


def pictures(count: int, side: int = 32, seed: int = 1) -> Tensor:
    """Smooth random pictures, pixel minus 128, float32 (count, 3, side, side), whole numbers."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, side // 4, side // 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    noise = torch.randn(count, 3, side, side, generator=generator)
    return (60 * smooth + 10 * noise).round().clamp(-128, 127)


@torch.no_grad()
def small_network(order: str, *, seed: int = 0, dead: bool = False, **changes: object) -> EtinyNet:
    """A network in evaluation mode whose statistics are those of its own activations.

    Gains and shifts of the normalisations are random, one gain of each is negative. `dead` adds
    a channel whose weights are all 0, one whose weights are tiny and one whose gain is 0.
    """
    torch.manual_seed(seed)
    model = EtinyNet(small_config(order, **changes))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.weight.uniform_(0.5, 1.5)
            module.weight[0] *= -1
            module.bias.uniform_(-0.5, 0.5)
    if dead:
        for block in model.blocks:
            block.pw.conv.weight[1] = 0
            block.pw.conv.weight[2] *= 1e-18
            block.pw.norm.weight[3] = 0
            block.dw2.conv.weight[4] = 0
            block.dw2.conv.weight[5] *= 1e-18
            block.dw1.norm.weight[6] = 0
    model.train()
    model(pictures(16, seed=7))
    return model.eval()


def layers_of(model: Network) -> list[Layer]:
    """The traced layers of `model`."""
    return list(network_of(model, model.config.size).layers)


def chain(layers: Sequence[Layer], side: int = 32) -> FloatGraph:
    """`layers` as a network whose output is the last; a stage is what has one name before a dot."""
    names = [layer.name for layer in layers if layer.weight is not None]
    stages = tuple(tuple(part) for _, part in groupby(names, lambda name: name.partition(".")[0]))
    return FloatGraph(tuple(layers), (side, side, 3), (layers[-1].name,), stages)
