"""The network in training: it starts as the rounded one, and is always what it says it is."""

from __future__ import annotations

import functools

import pytest
import torch
from lowering import widths_of
from small_networks import ORDERS, SCORES, chain, layers_of, pictures, small_network

from etinynet.frontend.float_graph import Layer, run_layer, run_layers
from etinynet.quantize.activations import ActivationRules
from etinynet.quantize.calibrate import calibrate
from etinynet.quantize.correct import Rounded, round_and_correct
from etinynet.quantize.equalize import equalized
from etinynet.quantize.gradual import SLOW
from etinynet.quantize.methods import METHODS, rounder_of
from etinynet.quantize.prepared import PreparedNetwork
from etinynet.quantize.quantizers import clamped, levels, rescaled
from etinynet.quantize.weights import lowest_code


@functools.cache
def started(method: str, order: str, bits: int, per_channel: bool) -> tuple[list[Layer], Rounded]:
    """The float layers and their start; every channel is as important as every other."""
    network = equalized(chain(layers_of(small_network(order))))
    layers = list(network.layers)
    batches, widths = [pictures(12)], widths_of(layers, bits)
    statistics = calibrate(layers, batches)
    importance = {name: torch.ones(len(one.low)).double() for name, one in statistics.items()}
    rules = ActivationRules(network, statistics, importance, widths)
    rounder = rounder_of(method, widths, per_channel)
    return layers, round_and_correct(network, rounder, rules, batches)


def network_of(
    method: str, order: str = "conv_relu_bn", bits: int = 4, per_channel: bool = True
) -> tuple[PreparedNetwork, Rounded]:
    per_channel = per_channel and method != "asq-paper"
    _, start = started(method, order, bits, per_channel)
    network = PreparedNetwork(
        chain(start.layers), method, per_channel, start.weights, start.statistics
    )
    return network, start


def moved(network: PreparedNetwork) -> PreparedNetwork:
    """Every parameter elsewhere, as training would have it."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.mark.parametrize(
    ("method", "order", "bits", "per_channel"),
    [
        *((method, "conv_relu_bn", 4, True) for method in ("lsq", "asq-paper", "dorefa")),
        *((method, "conv_bn_relu", 2, True) for method in ("lsq", "dorefa")),
        *((method, "conv_relu_bn", 4, False) for method in ("lsq", "asq", "dorefa")),
    ],
)
def test_it_starts_as_the_rounded_network(
    method: str, order: str, bits: int, per_channel: bool
) -> None:
    network, start = network_of(method, order, bits, per_channel)
    layers, integers = network.quantized()
    assert list(integers) == list(start.weights)
    for name, weight in start.weights.items():
        assert torch.equal(integers[name].integers, weight.integers), name
        assert integers[name].bits == bits
        torch.testing.assert_close(integers[name].scale, weight.scale, rtol=1e-6, atol=0)
    x = pictures(4, seed=3)
    wanted = run_layers(start.layers, x)[SCORES].flatten(1)
    found = run_layers(layers, x)[SCORES].flatten(1)
    # Weights equal to float32's last digits.
    assert float((found - wanted).abs().max()) < 1e-3 * float(wanted.abs().max())


@pytest.mark.parametrize("method", METHODS)
def test_it_is_what_it_says_it_is(method: str) -> None:
    network = moved(network_of(method)[0])
    layers, integers = network.quantized()
    x = pictures(4, seed=3)
    assert network.training  # as it was before
    network.eval()
    with torch.no_grad():
        scores = network(x)
    assert torch.equal(scores, run_layers(layers, x)[SCORES].flatten(1))
    assert set(network.values) == {"input", *(layer.name for layer in layers)}
    for layer in layers:
        if layer.weight is not None:
            assert not layer.weight.requires_grad
            found = integers[layer.name]
            torch.testing.assert_close(found.dequantized(), layer.weight, rtol=1e-6, atol=0)
            low = lowest_code(layer.kind, 4) if method == "best" else -levels(4)
            assert low <= int(found.integers.min())
            assert int(found.integers.max()) <= levels(4)
            assert found.position.shape == layer.weight.shape
        else:
            assert layer.name in ("pool", "features")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("method", ["best", "asq-paper"])
def test_gain_shift_and_bias(method: str, order: str) -> None:
    """exp(SLOW · gain) times the gain; SLOW · shift in deviations of the output, and SLOW · bias in
    those divided by the gain behind it."""
    network, start = network_of(method, order)
    changes = {".gain": 0.5, ".shift": 0.3, ".bias": -0.2}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter += changes.get(name[name.rindex(".") :], 0)
    for new, old in zip(network.quantized()[0], start.layers, strict=True):
        if old.gain is None:
            continue
        torch.testing.assert_close(new.gain, old.gain * torch.tensor(0.5 * SLOW).exp())
        deviation = SLOW * start.statistics[old.name].deviation
        torch.testing.assert_close(new.shift, old.shift + 0.3 * deviation)
        assert (new.bias is None) == (not old.relu)
        if old.bias is not None:
            torch.testing.assert_close(new.bias, old.bias - 0.2 * deviation / old.gain.abs())


@pytest.mark.parametrize("bits", [4, 6, 7, 8])
def test_wide_weights_get_no_bias(bits: int) -> None:
    """It would take more bytes than it is worth; one that is there is trained."""
    for order, biased in (("conv_relu_bn", bits <= 6), ("conv_bn_relu", True)):
        layers, start = started("best", order, bits, True)
        for begun in (layers, start.layers):
            network = PreparedNetwork(chain(begun), "best", True, start.weights, start.statistics)
            for layer in network.quantized()[0]:
                assert (layer.bias is not None) == (layer.relu and biased)


@pytest.mark.parametrize(
    ("method", "order"),
    [*((method, "conv_relu_bn") for method in METHODS), ("best", "conv_bn_relu")],
)
def test_gradients_reach_every_parameter(method: str, order: str) -> None:
    network, _ = network_of(method, order)
    network(pictures(4, seed=3)).square().sum().backward()
    for name, parameter in network.named_parameters():
        if method == "dorefa" and name.endswith("spread"):
            assert parameter.grad is None
            continue
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool(parameter.grad.any()), name


def test_the_clamped_stage_rounds_nothing() -> None:
    for method, per_channel in (("asq", False), ("asq-paper", False), ("dorefa", True)):
        network, start = network_of(method, per_channel=per_channel)
        network.round_weights(False)
        layers, _ = network.quantized()
        for layer in layers:
            if layer.weight is None:
                continue
            weight = start.weights[layer.name]
            units = weight.scale.float().reshape(-1, *[1] * (layer.weight.dim() - 1))
            normal = layer.weight / units / levels(4)
            assert float(normal.abs().max()) <= 1.0001
            assert len(normal.unique()) > 2 * levels(4) + 1, layer.name
            if method == "asq-paper":
                wanted = rescaled(weight.rounded(), torch.tensor(2.0))
            elif method == "dorefa":
                wanted = clamped(weight.rounded(), True)
            else:
                continue
            torch.testing.assert_close(normal, wanted, rtol=1e-4, atol=1e-5)
        network.round_weights(True)
        again = network.quantized()[1]
        assert all(torch.equal(again[n].integers, w.integers) for n, w in start.weights.items())


def test_learned_steps_always_round() -> None:
    network, _ = network_of("lsq")
    before = [layer.weight for layer in network.quantized()[0]]
    network.round_weights(False)
    for old, new in zip(before, network.quantized()[0], strict=True):
        assert old is None or torch.equal(old, new.weight)


def test_following_layers_move_as_floats() -> None:
    _, start = network_of("best")
    layers, _ = started("best", "conv_relu_bn", 4, True)
    names = list(start.weights)
    network = PreparedNetwork(
        chain(layers), "best", True, start.weights, start.statistics, names[3:]
    )
    x = pictures(4, seed=3)
    before = {layer.name: layer for layer in network.quantized()[0]}
    for layer in layers[1:]:
        if layer.name in names[3:]:
            assert torch.equal(before[layer.name].weight, layer.weight)
    network(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    after, integers = moved(network).quantized()
    assert list(integers) == names[:3]
    for layer in after:
        if layer.name in names[3:]:
            assert not torch.equal(layer.weight, before[layer.name].weight)
            assert not layer.weight.requires_grad
            step = start.weights[layer.name].scale.float().reshape(-1, 1, 1, 1)
            moves = (layer.weight - before[layer.name].weight).reshape(len(step), -1)
            # A quarter of what weights that are rounded move by, 0.05 levels times noise.
            assert 0.008 < float((moves / step.flatten(1)).std()) < 0.017


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("method", ["best", "asq", "lsq"])
def test_constants_make_up_for_what_moved_weights_do_to_the_mean(method: str, order: str) -> None:
    """An input of each channel's mean meets the same sum, whatever the weights are."""
    network, start = network_of(method, order)
    before, _ = network.quantized()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(".latent"):
                parameter += 0.7 * torch.randn(parameter.shape, generator=generator)
    after, _ = network.quantized()
    for one, two in zip(before, after, strict=True):
        if one.weight is None or two.weight is None:
            continue
        assert not torch.equal(one.weight, two.weight)
        known = start.statistics.get(one.input)
        mean = torch.zeros(3) if known is None else known.mean
        x = mean.reshape(1, -1, 1, 1).expand(1, -1, 9, 9)  # padding does not reach the middle
        first, second = (run_layer(layer, x, None) for layer in (one, two))
        middle = first.shape[2] // 2
        torch.testing.assert_close(
            second[:, :, middle, middle], first[:, :, middle, middle], rtol=1e-4, atol=1e-3
        )
