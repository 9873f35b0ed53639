"""ReLU6 is the saturation of its output; sums and windowed means as layers of their own."""

from __future__ import annotations

import pytest
import torch
from lowering import Steps, each_operator_is_its_layer_within_a_step, image, lowered, steps_of
from small_networks import SCORES, chain, layers_of, pictures
from torch import nn

from etinynet.errors import ConfigError
from etinynet.frontend.float_graph import Layer, run_layers
from etinynet.graph import Window, check, execute_all
from etinynet.model.mobilenet_config import MobileBlock, MobileNetConfig
from etinynet.model.networks import Network, build_untrained
from etinynet.quantize.equalize import equalized
from etinynet.quantize.pipeline import Quantization, quantize_model

#: Odd channel counts, both kinds of block, each with and without stride, expansion and shortcut.
SEPARABLE = (MobileBlock(5, 7, 2), MobileBlock(7, 7), MobileBlock(7, 11, 2))
INVERTED = (
    MobileBlock(5, 3, 2, 1, True),
    MobileBlock(3, 3, 1, 5, True),
    MobileBlock(3, 7, 2, 3, True),
    MobileBlock(7, 7, 1, 1, True),
)
CONFIGS = {
    "separable": MobileNetConfig("small", 5, SEPARABLE, 0, 4, 32),
    "inverted": MobileNetConfig("small", 5, INVERTED, 13, 4, 32),
}


@torch.no_grad()
def network(kind: str, gain: float = 1.0) -> Network:
    """A random network; `gain` multiplies that of the normalizations, and so of what is cut off."""
    model = build_untrained(CONFIGS[kind], pictures(16, seed=7))
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            count = len(module.weight)
            module.weight.copy_(gain * (0.5 + 1.5 * torch.rand(count, generator=generator)))
            module.bias.copy_(2 * torch.rand(count, generator=generator))
            module.weight[0] *= -1
    return model


def steps(kind: str, bits: int, gain: float = 1.0) -> Steps:
    return steps_of(equalized(chain(layers_of(network(kind, gain)))).layers, bits)


@pytest.mark.parametrize("kind", CONFIGS)
def test_layers_give_the_models_scores(kind: str) -> None:
    model = network(kind).double()
    x = pictures(4).double()
    with torch.no_grad():
        scores = run_layers(layers_of(model), x)[SCORES].flatten(1)
        torch.testing.assert_close(scores, model(x), rtol=1e-9, atol=1e-9)


SMALL_GAINS = [(kind, gain, bits) for kind in CONFIGS for gain, bits in ((1, 8), (1, 4), (1, 2))]
LARGE_GAINS = [("separable", 40, 8), ("separable", 40, 4), ("inverted", 40, 8), ("inverted", 30, 4)]


@pytest.mark.parametrize(("kind", "gain", "bits"), SMALL_GAINS + LARGE_GAINS)
def test_each_operator_is_its_layer_within_a_step(kind: str, bits: int, gain: float) -> None:
    """At the large gain units of accumulators are more than a step: shifts below 0."""
    done = steps(kind, bits, gain)
    each_operator_is_its_layer_within_a_step(done)
    shifts = [op.requantization.shift for op in lowered(done).ops if op.requantization]
    assert gain == 1 or min(shifts) < 0


def test_a_multiplier_beyond_int32_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"layer 'b3.dw': channel 4: multiplier .* leaves int32"):
        steps("inverted", 4, 40)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_ends_of_the_integers_are_0_and_the_ceiling(kind: str) -> None:
    done = steps(kind, 8)
    graph = lowered(done)
    values = execute_all(graph, image(pictures(1, seed=9)[0]))
    seen = 0
    for layer in done.corrected:
        if layer.clamp is None:
            continue
        activation = done.activations[layer.name]
        low, high = -(2 ** (activation.bits - 1)), 2 ** (activation.bits - 1) - 1
        assert activation.zero_point == low
        top = (high - low) * activation.scale
        assert top.max() <= 6 * (1 + 1e-9)
        if activation.bits > 8:
            torch.testing.assert_close(top, torch.full_like(top, 6))
        rule = next(op for op in graph.ops if op.name == layer.name).requantization
        assert not rule.relu
        seen += values[layer.name].min() == low and values[layer.name].max() == high
    assert seen >= 4


def test_a_shortcut_of_more_than_8_bits() -> None:
    graph = lowered(steps("inverted", 8))
    found = [op for op in graph.ops if op.residual is not None]
    assert [op.name for op in found] == ["b1.pw", "b3.pw"]
    assert [graph.tensors[op.residual].bits for op in found] == [16, 8]


def test_the_whole_pipeline() -> None:
    for kind in CONFIGS:
        check(
            quantize_model(
                network(kind), pictures(8), Quantization(4, pictures=8), "small", None, {}
            )
        )


def test_columns_behind_a_ceiling_stay() -> None:
    """A factor that moved into the layer before would move its ceiling too."""
    before = layers_of(network("separable"))
    for old, new in zip(before, equalized(chain(before)).layers, strict=True):
        assert new is old


def residual_net() -> list[Layer]:
    """Sums that follow a pool, a sum read as a summand, and a windowed mean; random weights."""
    generator = torch.Generator().manual_seed(0)

    def convolution(
        name: str,
        source: str,
        kind: str,
        inside: int,
        outside: int,
        stride: int = 1,
        **more: object,
    ) -> Layer:
        kernel = 1 if kind == "pointwise" else 3
        weight = torch.randn(outside, inside, kernel, kernel, generator=generator) / kernel
        gain = torch.rand(outside, generator=generator) / 10 + 0.05
        shift = torch.randn(outside, generator=generator)
        return Layer(
            kind,
            name,
            (source,),
            Window.square(kernel, stride, kernel // 2),
            weight=weight,
            gain=gain,
            shift=shift,
            **more,
        )

    scores, one = torch.randn(4, 6, 1, 1, generator=generator), torch.ones(4)
    return [
        convolution("stem", "input", "conv2d", 3, 6, stride=2, relu=True),
        Layer("max_pool", "pool", ("stem",), Window.square(2, 2)),
        Layer("avg_pool", "mean", ("stem",), Window.square(3, 2, 1)),
        Layer("add", "sum", ("pool", "mean")),
        convolution("dw", "sum", "depthwise", 1, 6),
        convolution("left", "dw", "pointwise", 6, 6),
        convolution("right", "dw", "pointwise", 6, 6),
        Layer("add", "both", ("left", "right")),
        convolution("last", "both", "pointwise", 6, 6, relu=True),
        Layer("add", "end", ("last", "last")),
        Layer("global_avg_pool", "features", ("end",)),
        Layer("dense", SCORES, ("features",), weight=scores, gain=one, shift=torch.zeros(4)),
    ]


@pytest.mark.parametrize("bits", [8, 3])
def test_sums_and_windowed_means(bits: int) -> None:
    done = steps_of(residual_net(), bits)
    each_operator_is_its_layer_within_a_step(done)
    widths = {name: activation.bits for name, activation in done.activations.items()}
    assert widths["sum"] == widths["mean"] == widths["left"] == widths["right"] == 8
    assert widths["both"] > 8


def test_a_mean_is_that_of_torch() -> None:
    x = torch.randn(2, 3, 9, 8)
    layer = Layer("avg_pool", "mean", ("input",), Window.square(3, 2, 1))
    expected = nn.AvgPool2d(3, 2, 1)(x)
    assert torch.equal(run_layers([layer], x)["mean"], expected)
