"""Sensitivity against measurement: noise added to a channel, variance that the scores gain."""

from __future__ import annotations

import pytest
import torch
from small_networks import ORDERS, SCORES, chain, layers_of, pictures, small_network
from torch import Tensor

from etinynet.frontend.float_graph import INPUT, Layer, run_layer
from etinynet.quantize.sensitivity import output_sensitivity

#: (layer, channel): wide and narrow tensors, early and late, with and without shortcut.
WATCHED = [("stem", 0), ("pool", 3), ("b0.dw1", 1), ("b1.pw", 5), ("b2.pw", 2), ("b3.dw2", 7)]


def centred_scores(layers: list[Layer], x: Tensor, at: str, channel: int, noise: Tensor) -> Tensor:
    values = {INPUT: x}
    for layer in layers:
        residual = None if layer.residual is None else values[layer.residual]
        output = run_layer(layer, values[layer.input], residual)
        if layer.name == at:
            output = output.clone()
            output[:, channel] += noise.reshape(-1, 1, 1) if noise.dim() == 1 else noise
        values[layer.name] = output
    scores = values[SCORES].flatten(1)
    return scores - scores.mean(1, keepdim=True)


@torch.no_grad()
def measured(layers: list[Layer], x: Tensor, at: str, channel: int) -> float:
    """Sum of squared changes of the scores per variance of the noise, on one copy of `x` each."""
    generator = torch.Generator().manual_seed(3)
    shape = output_shape(layers, x, at)
    total = 0.0
    size, rounds = 1e-3, 24
    silent = torch.zeros(shape, dtype=torch.float64)
    plain = centred_scores(layers, x, at, channel, silent)
    for _ in range(rounds):
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        moved = centred_scores(layers, x, at, channel, size * noise)
        total += float(((moved - plain) / size).square().sum())
    return total / rounds


def output_shape(layers: list[Layer], x: Tensor, at: str) -> tuple[int, ...]:
    values = {INPUT: x}
    for layer in layers:
        residual = None if layer.residual is None else values[layer.residual]
        values[layer.name] = run_layer(layer, values[layer.input], residual)
    shape = values[at].shape
    return (shape[0], *shape[2:])


def doubles(order: str) -> list[Layer]:
    model = small_network(order).double()
    return layers_of(model)


@pytest.mark.parametrize("order", ORDERS)
def test_the_gain_of_noise_is_as_measured(order: str) -> None:
    layers, x = doubles(order), pictures(48).double()
    estimates = output_sensitivity(chain(layers), [x[:24], x[24:]])
    for name, channel in WATCHED:
        estimate = float(estimates[name][channel])
        assert estimate == pytest.approx(measured(layers, x, name, channel), rel=0.35), name


def test_the_scores_themselves_have_the_gain_of_their_centring() -> None:
    """A score moves the centred scores by 1 - 1/n of its square, once a picture."""
    layers, x = doubles("conv_bn_relu"), pictures(64).double()
    gains = output_sensitivity(chain(layers), [x] * 20)[SCORES] / (64 * 20)
    torch.testing.assert_close(gains, torch.full((5,), 0.8).double(), rtol=0.12, atol=0)


def test_a_dead_channel_disturbs_nothing() -> None:
    model = small_network("conv_bn_relu")
    model.blocks[1].dw2.conv.weight.data[3] = 0
    gains = output_sensitivity(chain(layers_of(model)), [pictures(4)])
    assert gains["b1.pw"][3] == 0
    assert bool((gains["b1.pw"][[0, 1, 2]] > 0).all())


def test_every_layer_has_its_channels_and_the_seed_decides() -> None:
    layers, batches = layers_of(small_network("conv_relu_bn")), [pictures(4), pictures(4, seed=2)]
    with torch.no_grad():  # a caller that wants no gradients
        gains = output_sensitivity(chain(layers), batches)
    assert {name: len(gain) for name, gain in gains.items()} == {
        layer.name: len(layer.gain)
        if layer.gain is not None
        else {"pool": 8, "features": 16}[layer.name]
        for layer in layers
    }
    again, other = (
        output_sensitivity(chain(layers), batches),
        output_sensitivity(chain(layers), batches, seed=1),
    )
    for name, gain in gains.items():
        assert gain.dtype == torch.float64
        assert not gain.requires_grad
        assert torch.equal(gain, again[name])
        assert not torch.equal(gain, other[name])
