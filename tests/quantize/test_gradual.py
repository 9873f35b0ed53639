"""Gradual rounding: it starts as the float network, within the levels' range."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_networks import SCORES, chain, pictures
from test_prepared import moved, network_of, started

from etinynet.frontend.float_graph import run_layers
from etinynet.quantize.gradual import pull_at
from etinynet.quantize.prepared import PreparedNetwork
from etinynet.quantize.quantizers import asq_latent, levels, rescaled
from etinynet.quantize.weights import lowest_code


def float_start(method: str, bits: int) -> PreparedNetwork:
    layers, start = started(method, "conv_relu_bn", bits, True)
    return PreparedNetwork(chain(layers), method, True, start.weights, start.statistics)


@pytest.mark.parametrize("method", ["best", "asq"])
@pytest.mark.parametrize("bits", [3, 8])
def test_it_starts_as_the_float_network(method: str, bits: int) -> None:
    """Each weight, clipped to the levels of its channel's scale."""
    layers, start = started(method, "conv_relu_bn", bits, True)
    network = float_start(method, bits)
    for layer, current in zip(layers, network.current(), strict=True):
        if layer.weight is None:
            continue
        scale = start.weights[layer.name].scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        limit = (levels(bits) * scale).float()
        low = -levels(bits) if method == "asq" else lowest_code(layer.kind, bits)
        wanted = torch.maximum(layer.weight, (low * scale).float()).minimum(limit)
        torch.testing.assert_close(
            current.weight, wanted, rtol=2e-4, atol=1e-5 * float(limit.max())
        )
    if bits == 8:  # nothing to speak of is clipped
        x = pictures(4, seed=3)
        wanted = run_layers(layers, x)[SCORES].flatten(1)
        with torch.no_grad():
            error = (network(x) - wanted).abs().max()
        assert float(error) < 0.05 * float(wanted.abs().max())


@pytest.mark.parametrize("method", ["best", "asq"])
def test_only_training_leaves_weights_between_levels(method: str) -> None:
    network = moved(network_of(method)[0])
    for weight in network.gradual():
        between = weight.positions()
        weight.eval()
        rounded = weight.positions()
        assert torch.equal(rounded, between.round())
        assert not torch.equal(rounded, between)
        assert torch.equal(weight.quantized().integers, rounded.to(torch.int8))
        assert weight.lowest <= int(rounded.min())
        assert int(rounded.max()) <= levels(4)


def test_a_latent_weight_comes_back_into_the_range() -> None:
    """Beyond the last level it would never feel a gradient again."""
    for beyond in (100, -100):
        network = float_start("best", 4)
        with torch.no_grad():
            for weight in network.gradual():
                weight.latent += beyond
        x = pictures(2, seed=3)
        network(x).square().sum().backward()
        lows = {each.lowest for each in network.gradual()}
        assert lows == {-7, -8}  # of depthwise layers, and of the others
        for weight in network.gradual():
            last = levels(4) if beyond > 0 else weight.lowest
            assert bool((weight.latent == last).all())
            assert weight.latent.grad is not None
            assert bool(weight.latent.grad.any())


@pytest.mark.parametrize("method", ["best", "asq"])
def test_a_pull_takes_weights_to_their_levels_and_no_further(method: str) -> None:
    network = moved(network_of(method)[0])
    for weight in network.gradual():
        before = weight.positions().detach().clone()
        weight.draw(0.02)
        after = weight.positions().detach().clone()
        left = (before - before.round()).abs()
        wanted = (
            before - torch.minimum(left, 0.02 * (1 - 2 * left)) * (before - before.round()).sign()
        )
        torch.testing.assert_close(after, wanted, rtol=0, atol=5e-3 if method == "asq" else 1e-6)
        for _ in range(300):
            weight.draw(0.5)
        between = left > 0.49  # halfway nothing pulls
        ended = weight.positions().detach().clone()
        torch.testing.assert_close(ended[~between], before.round()[~between], rtol=0, atol=2e-3)


def test_the_pull_grows_to_its_last_and_stays() -> None:
    pulls = [pull_at(i / 100) for i in range(101)]
    ratios = [b / a for a, b in pairwise(pulls[:91])]
    assert ratios == pytest.approx([ratios[0]] * 90)
    assert pulls[90] == pytest.approx(pulls[100]) == pytest.approx(pulls[95])
    assert pulls[0] < pulls[45] < 1 < pulls[90]


@given(st.integers(0, 2**31 - 1), st.floats(0.5, 50), st.sampled_from([2, 4, 8]))
def test_latent_weights_of_asq(seed: int, lam: float, bits: int) -> None:
    """Their clamp is what was asked for; a channel of zeros stays one."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 9, generator=generator, dtype=torch.float64)
    weight[3] = 0
    largest = weight.abs().amax(1, keepdim=True)
    normal = weight / torch.where(largest > 0, largest, 1)
    latent, found = asq_latent(normal, torch.full((6,), lam, dtype=torch.float64))
    torch.testing.assert_close(rescaled(latent, found, True), normal, rtol=1e-6, atol=1e-9)
    # λ is the wanted one where atanh can reach it: it is at most that of almost straight levels.
    reached = (found / lam - 1).abs() < 1e-3
    straight = found > 100
    steep = (latent.abs().amax(1) > 4) | straight | reached
    assert bool(steep.all()), (found, latent.abs().amax(1))
