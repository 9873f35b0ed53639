"""A narrower network is a part of the wider one, channel by channel."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from etinynet.errors import ConfigError
from etinynet.model.config import Block, EtinyNetConfig
from etinynet.model.etinynet import EtinyNet
from etinynet.model.narrow import narrowed


def _config(stem: int, first: int, second: int, **others: object) -> EtinyNetConfig:
    stages = (
        (Block("lb", stem, first, 2),),
        (Block("dlb", first, second), Block("dlb", second, second)),
    )
    return EtinyNetConfig("net", stem, stages, classes=3, size=32, **others)


def _network(config: EtinyNetConfig) -> EtinyNet:
    torch.manual_seed(0)
    network = EtinyNet(config).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def test_all_channels_give_the_same_network() -> None:
    network = _network(_config(8, 12, 16))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(narrowed(network, network.config).eval()(x), network(x))


def test_dead_channels_go_first_and_take_nothing_along() -> None:
    """Channels without gain in all that makes them: leaving them out changes no score."""
    network = _network(_config(8, 12, 16))
    last = network.blocks[2]
    units = [
        (network.stem, 2), (network.blocks[0].dw1, 2),
        (network.blocks[0].pw, 3), (network.blocks[0].dw2, 3), (network.blocks[1].dw1, 3),
        (network.blocks[1].pw, 4), (network.blocks[1].dw2, 4),
        (last.dw1, 4), (last.pw, 4), (last.dw2, 4),
    ]  # fmt: skip
    with torch.no_grad():
        for unit, dead in units:
            unit.norm.weight[:dead] = 0
            unit.norm.bias[:dead] = 0
        x = torch.randn(2, 3, 32, 32)
        found = narrowed(network, _config(6, 9, 12)).eval()(x)
        assert torch.allclose(found, network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (_config(8, 12, 20), "20 channels; net has 16 there"),
        (dataclasses.replace(_config(8, 12, 12), classes=4), "classes is 4"),
        (_config(8, 12, 12, normalization="conv_relu_bn"), "normalization is 'conv_relu_bn'"),
        (_config(8, 12, 12, activation_clip=6.0), "activation_clip is 6.0"),
        (_config(8, 12, 12), "its blocks are not those of net, narrower"),
    ],
)
def test_what_is_no_narrower_twin(config: EtinyNetConfig, words: str) -> None:
    if "blocks" in words:
        config = dataclasses.replace(config, stages=config.stages[:1])
    with pytest.raises(ConfigError, match=words):
        narrowed(_network(_config(8, 12, 16)), config)
