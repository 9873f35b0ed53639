"""What becomes of each operation of a torch module, what layers are called, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import SQUARE, Residual, images, prepared
from torch import Tensor, nn
from torch.nn import functional

from etinynet.errors import ConfigError, UnsupportedError
from etinynet.frontend.float_graph import FloatGraph, run_layers
from etinynet.frontend.modules import float_graph
from etinynet.graph import Window
from etinynet.model.config import named_config
from etinynet.model.networks import build
from etinynet.quantize.pipeline import network_of


class Body(nn.Module):
    """A convolution, and `body` on it and the picture."""

    def __init__(self, body: Callable[[nn.Module, Tensor, Tensor], object], **more: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, **{"kernel_size": 3, "padding": 1, **more})
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.body = body
        nn.init.uniform_(self.norm.running_mean)
        nn.init.uniform_(self.norm.bias)

    def forward(self, x: Tensor) -> object:
        return self.body(self, self.conv(x), x)


def traced(body: Callable[[nn.Module, Tensor, Tensor], object], **more: object) -> FloatGraph:
    torch.manual_seed(0)
    module = Body(body, **more).eval()
    network, x = float_graph(module, SQUARE), images(3, SQUARE)
    with torch.no_grad():
        made = module(x)
        values = run_layers(network.layers, x)
    for name, wanted in zip(
        network.outputs, made if isinstance(made, tuple) else (made,), strict=True
    ):
        found = values[name].reshape(wanted.shape)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
    assert not module.training
    return network


Kinds = tuple[str, ...]
CONV = ("conv2d",)
#: What a body is made of: everything that can be is part of the convolution.
FUSED: dict[str, tuple[Callable[[nn.Module, Tensor, Tensor], object], Kinds]] = {
    "norm": (lambda m, y, x: m.norm(y), CONV),
    "norm, ReLU": (lambda m, y, x: m.norm(y).relu(), CONV),
    "ReLU, norm": (lambda m, y, x: m.norm(functional.relu(y)), CONV),
    "norm, ReLU6": (lambda m, y, x: functional.relu6(m.norm(y)), CONV),
    "ReLU, norm, clamp": (lambda m, y, x: m.norm(y.relu()).clamp(-12, 12), CONV),
    "clamp below": (lambda m, y, x: y.clamp(min=-3), CONV),
    "hardtanh": (lambda m, y, x: functional.hardtanh(y, -1, 2), CONV),
    "sum, ReLU": (lambda m, y, x: (m.norm(y) + x).relu(), CONV),
    "ReLU, sum, ReLU": (lambda m, y, x: (y.relu() + x).relu(), CONV),
    "clamp, sum": (lambda m, y, x: y.clamp(-12, 12) + x, (*CONV, "add")),
    "sum, norm": (lambda m, y, x: m.norm(y + x), (*CONV, "depthwise")),
    "norm of the picture": (lambda m, y, x: y + m.norm(x), ("conv2d", "depthwise")),
    "two norms": (lambda m, y, x: m.norm(m.norm(y)), (*CONV, "depthwise")),
    "read before and behind ReLU": (lambda m, y, x: y.relu() + y, (*CONV, "depthwise")),
    "itself twice": (lambda m, y, x: y + y, (*CONV, "add")),
    "dropout, mean": (lambda m, y, x: m.drop(y).mean((-1, -2)), (*CONV, "global_avg_pool")),
    "pool, ReLU": (lambda m, y, x: functional.avg_pool2d(y, 2).relu(), (*CONV, "avg_pool")),
    "largest, ReLU": (
        lambda m, y, x: functional.max_pool2d(y, (1, 2)).relu(), (*CONV, "max_pool", "depthwise")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_layers_compute_what_the_module_computes(name: str) -> None:
    body, kinds = FUSED[name]
    assert tuple(layer.kind for layer in traced(body).layers) == kinds


def test_padding_becomes_part_of_the_window() -> None:
    network = traced(lambda m, y, x: m.conv(functional.pad(y, (0, 1, 2, 0))), padding=0)
    assert network.layers[1].window == Window((3, 3), (1, 1), (2, 0, 0, 1))


def test_foreign_names_give_the_same_stages_and_nothing_reads_them() -> None:
    """A network of ours under other names: the same layers, grouped alike."""
    model = build(named_config("etinynet-0.25", 4, 32)).eval()
    ours = network_of(model, 32)

    def odd(path: str) -> str:
        return "x" + path.replace("blocks", "µ").replace("dw", "_").replace(".", "-")

    theirs = float_graph(model, (32, 32, 3), odd)
    assert [len(stage) for stage in theirs.stages] == [len(stage) for stage in ours.stages]
    assert len(theirs.by_name) == len(ours.layers)
    renamed = dict(zip(ours.by_name, theirs.by_name, strict=True))
    assert theirs.stages == tuple(tuple(renamed[n] for n in stage) for stage in ours.stages)


def test_a_block_is_a_stage_and_layers_are_named_by_their_submodule() -> None:
    network = float_graph(prepared(Residual, (), SQUARE), SQUARE)
    assert list(network.by_name) == ["stem", "conv1", "conv2", "mean", "fc"]
    assert network.stages == (("stem",), ("conv1",), ("conv2",), ("fc",))
    block = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)))
    assert float_graph(block, SQUARE).stages == (("n0.0", "n0.2"),)


def test_long_names_stay_apart() -> None:
    inner: nn.Module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    for _ in range(30):
        inner = nn.Sequential(inner)
    names = list(float_graph(inner, SQUARE).by_name)
    assert len(set(names)) == 2
    assert all(len(name) <= 64 for name in names)


REFUSED: dict[str, Callable[[nn.Module, Tensor, Tensor], object]] = {
    "silu has no integer form": lambda m, y, x: functional.silu(y),
    "select has no integer form": lambda m, y, x: y + m.norm.weight[0],
    "add has summands of different shapes": lambda m, y, x: y + functional.max_pool2d(x, 24),
    "mean is over the axes": lambda m, y, x: y.mean((1,)),
    "flatten makes": lambda m, y, x: y.flatten(1),
    "max_pool2d has padding": lambda m, y, x: functional.max_pool2d(y, 3, 1, 1),
    "leaves its padding out of the mean": lambda m, y, x: functional.avg_pool2d(
        y, 3, 1, 1, count_include_pad=False
    ),
    "clamp has the bounds 1 and inf": lambda m, y, x: y.clamp(min=1),
    "works on a padded tensor": lambda m, y, x: functional.pad(y, (1, 1, 1, 1)).relu(),
    "pad puts 1.0 at the sides": lambda m, y, x: m.conv(functional.pad(y, (1, 1, 1, 1), value=1.0)),
    "cannot be traced": lambda m, y, x: y if y.sum() > 0 else x,
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_has_no_integer_form_is_refused_by_name(words: str) -> None:
    with pytest.raises(UnsupportedError, match=words) as caught:
        float_graph(Body(REFUSED[words]), SQUARE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"dilation": 2}, r"conv: conv2d has dilation \(2, 2\); \(1, 1\) is allowed"),
        ({"padding": "same"}, "conv: conv2d has padding 'same'; numbers are allowed"),
    ],
)
def test_convolutions_that_are_refused(more: dict[str, object], words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        float_graph(Body(lambda m, y, x: y, **more), SQUARE)


def test_groups_of_several_channels_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="has 2 groups of 2 channels for 4 outputs"):
        float_graph(nn.Conv2d(4, 4, 3, groups=2), (8, 8, 4))


def test_constants_that_are_not_finite_name_their_channel() -> None:
    module = Body(lambda m, y, x: m.norm(y))
    with torch.no_grad():
        module.norm.weight[1] = torch.inf
    with pytest.raises(ConfigError, match="layer 'conv': channel 1: gain is not finite"):
        float_graph(module, SQUARE)
