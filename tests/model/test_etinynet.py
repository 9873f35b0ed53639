"""The torch modules against the paper's equations written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from etinynet.model.blocks import ConvUnit, LinearBlock
from etinynet.model.config import Block, etinynet, etinynet_1_0
from etinynet.model.etinynet import EtinyNet
from etinynet.model.shapes import layers, state_shapes


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(3)


def _convolution(x: np.ndarray, weight: np.ndarray, stride: int, groups: int) -> np.ndarray:
    """Direct sum; x (C, H, W), weight (out, C / groups, k, k), padding k // 2."""
    out, per_group, k, _ = weight.shape
    x = np.pad(x, ((0, 0), (k // 2,) * 2, (k // 2,) * 2))
    height, width = ((side - k) // stride + 1 for side in x.shape[1:])
    y = np.zeros((out, height, width))
    for o in range(out):
        first = o // (out // groups) * per_group
        for r in range(height):
            for c in range(width):
                patch = x[first : first + per_group, r * stride : r * stride + k,
                          c * stride : c * stride + k]  # fmt: skip
                y[o, r, c] = (patch * weight[o]).sum()
    return y


def _unit(x: np.ndarray, unit: ConvUnit) -> np.ndarray:
    norm = unit.norm
    gamma, beta, mean, var = (
        t.detach().double().numpy()[:, None, None]
        for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    weight = unit.conv.weight.detach().double().numpy()
    y = _convolution(x, weight, unit.conv.stride[0], unit.conv.groups)
    if unit.activated and unit.order == "conv_relu_bn":
        y = np.maximum(y, 0)
    y = gamma * (y - mean) / np.sqrt(var + norm.eps) + beta
    if unit.activated and unit.order == "conv_bn_relu":
        y = np.maximum(y, 0)
    return y if unit.clip is None else np.clip(y, -unit.clip, unit.clip)


def _shake_norms(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.normal_()
            module.running_var.uniform_(0.1, 2)


@pytest.mark.parametrize("order", ["conv_bn_relu", "conv_relu_bn"])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize(
    "block",
    [Block("lb", 3, 4, 2), Block("lb", 4, 4), Block("dlb", 3, 4), Block("dlb", 4, 4),
     Block("dlb", 4, 4, 2)],
)  # fmt: skip
def test_block_is_the_papers_equations(block, order, clip):
    config = etinynet(0.25, normalization=order, activation_clip=clip)
    module = LinearBlock(config, block).double().eval()
    _shake_norms(module)
    x = torch.randn(1, block.in_channels, 7, 5, dtype=torch.float64)
    out1 = _unit(_unit(x[0].numpy(), module.dw1), module.pw)
    if block.kind == "dlb" and block.stride == 1 and block.in_channels == block.out_channels:
        out1 = out1 + x[0].numpy()
    out2 = _unit(out1, module.dw2)
    if block.kind == "dlb":
        out2 = out2 + out1
    with torch.no_grad():
        got = module(x)[0].numpy()
    assert got.shape == out2.shape
    assert np.abs(got - out2).max() < 1e-12


def test_first_depthwise_is_linear_and_the_others_are_not():
    model = EtinyNet(etinynet(0.25, 10, 32))
    assert model.stem.activated
    for block in model.blocks:
        assert [unit.activated for unit in (block.dw1, block.pw, block.dw2)] == [False, True, True]


@pytest.mark.parametrize("size", [8, 32, 33, 63, 96, 224, 225])
def test_shapes_computed_are_shapes_measured(size):
    config = etinynet(0.25, 10, size)
    model = EtinyNet(config).eval()
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, (ConvUnit, torch.nn.MaxPool2d)):
            module.register_forward_hook(
                lambda _module, _input, output, name=name: seen.update({name: output.shape})
            )
    with torch.no_grad():
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 10)
    for layer in layers(config):
        if layer.name in seen:
            _, channels, height, width = seen.pop(layer.name)
            assert layer.output == (height, width, channels), layer.name
    assert not seen


def test_stage_sides_are_those_of_table_1():
    sides = {layer.name: layer.output[0] for layer in layers(etinynet_1_0())}
    names = ("stem", "pool", "blocks.3.dw2", "blocks.7.dw2", "blocks.10.dw2", "blocks.13.dw2")
    assert [sides[name] for name in names] == [112, 56, 56, 28, 14, 7]


def test_state_shapes_are_the_models():
    config = etinynet(0.25, 10, 32)
    state = EtinyNet(config).state_dict()
    real = {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert list(state_shapes(config).items()) == list(real.items())


def test_backbone_gives_pooled_features():
    model = EtinyNet(etinynet(0.25, 0, 32)).eval()
    assert model.classifier is None
    with torch.no_grad():
        x = torch.randn(2, 3, 32, 32)
        assert torch.equal(model(x), model.features(x).mean((2, 3)))


def test_gradients_reach_every_parameter():
    model = EtinyNet(etinynet(0.25, 10, 32))
    model(torch.randn(4, 3, 32, 32) * 60).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
