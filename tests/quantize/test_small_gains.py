"""Normalizations of almost no gain: a channel that no step of its output tells from a constant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lowering import each_operator_is_its_layer_within_a_step, image, steps_of
from small_networks import ORDERS, SCORES, layers_of, pictures, small_network
from torch import nn

from etinynet.errors import ConfigError
from etinynet.frontend.float_graph import Layer
from etinynet.graph import check, execute
from etinynet.model.config import named_config
from etinynet.model.networks import Network, build_untrained
from etinynet.quantize.activations import input_activation, least_weight_scale
from etinynet.quantize.methods import METHODS
from etinynet.quantize.pipeline import Quantization, quantize_model
from etinynet.quantize.weights import QuantizedWeight, coarsened

GAINS = (1e-5, -1e-5, 1e-9, -1e-20, 1e-38, 1e-40)


@torch.no_grad()
def shrunk(model: Network, *gains: float) -> Network:
    """One of `gains` in one channel of every normalization, its shift above, below or at zero."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for index, norm in enumerate(norms):
        channel = index % len(norm.weight)
        norm.weight[channel] = gains[index % len(gains)]
        norm.bias[channel] = (0.5, -0.5, 0.0)[index % 3]
    return model


@torch.no_grad()
def error(order: str, config: Quantization, *gains: float) -> float:
    """Mean square of the scores' error, in parts of their variance."""
    model = shrunk(small_network(order), *gains)
    graph = quantize_model(model, pictures(16), config, "small", None, {})
    x = pictures(12, seed=5)
    wanted = model(x).numpy()
    got = np.stack([execute(graph, image(picture)) for picture in x]) * graph.tensors[SCORES].scale
    return float(((got - wanted) ** 2).mean(0).sum() / wanted.var(0).sum())


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("order", ORDERS)
def test_operators_are_their_layers_within_a_step(order: str, gain: float, bits: int) -> None:
    layers = layers_of(shrunk(small_network(order), gain))
    each_operator_is_its_layer_within_a_step(steps_of(layers, bits))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("order", ORDERS)
def test_scores_are_as_good_as_with_constant_channels(order: str, bits: int, method: str) -> None:
    """To a half; a gain of exactly 0 is the constant channel."""
    config = Quantization(bits, method, pictures=16)
    assert error(order, config, *GAINS) < 1.5 * error(order, config, 0.0)


@pytest.mark.parametrize("name", ["mobilenet-v1-0.25", "mobilenet-v2-0.35"])
def test_networks_with_ceilings(name: str) -> None:
    x = pictures(2, 32)
    model = shrunk(build_untrained(named_config(name, 10, 32), x), *GAINS)
    check(quantize_model(model, x, Quantization(8, pictures=2), "mobile", None, {}))


@torch.no_grad()
@pytest.mark.parametrize("order", ORDERS)
def test_a_layer_of_nothing_else(order: str) -> None:
    for name in ("pw", "dw1", "dw2"):
        model = small_network(order)
        norm = getattr(model.blocks[2], name).norm
        norm.weight.fill_(1e-12)
        check(quantize_model(model, pictures(8), Quantization(8, pictures=8), "small", None, {}))


def test_coarser_scales_round_anew_and_leave_the_others() -> None:
    position = torch.tensor([[6.6, -3.2], [6.6, -3.2], [6.6, -3.2]])
    integers = torch.tensor([[7, -3], [7, -2], [6, -3]], dtype=torch.int8)
    scale = torch.tensor([0.5, 0.5, 0.5]).double()
    found = coarsened(QuantizedWeight(integers, scale, 4, position), torch.tensor([0.1, 1.0, 1e9]))
    assert found.integers.tolist() == [[7, -3], [3, -2], [0, 0]]
    assert found.scale.tolist() == [0.5, 1.0, 1e9]
    torch.testing.assert_close(found.position[:2], torch.tensor([[6.6, -3.2], [3.3, -1.6]]))
    assert (found.rounded() - 0.5 * position).abs().max() < 1e-6


def test_a_bias_fits_the_accumulator_at_the_least_scale() -> None:
    one = torch.ones(2)
    layer = Layer("conv2d", "a", ("input",), gain=one, bias=torch.tensor([-(2.0**20), 0.0]))
    least = least_weight_scale(layer, input_activation(3))
    assert least.tolist() == [2.0**-9, 0.0]


@torch.no_grad()
def test_what_cannot_be_written_names_its_layer() -> None:
    """Weights beyond all proportion are no fault of the pictures."""
    model = small_network("conv_bn_relu")
    model.blocks[1].pw.norm.running_var[2] = 1e-5
    model.blocks[1].pw.norm.weight[2] = 3e38
    with pytest.raises(ConfigError, match=r"layer 'b1.pw': channel 2: weight is not finite"):
        quantize_model(model, pictures(8), Quantization(8, pictures=8), "small", None, {})
