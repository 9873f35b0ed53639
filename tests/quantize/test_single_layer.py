"""One layer quantized at a time: the same as running the whole network with that layer changed."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_networks import ORDERS, SCORES, chain, layers_of, pictures, small_network

from etinynet.errors import DataError
from etinynet.frontend.float_graph import run_layers
from etinynet.quantize.single_layer import fitted_versions, measure_versions


@pytest.mark.parametrize("order", ORDERS)
def test_costs_are_those_of_whole_runs(order: str) -> None:
    layers = layers_of(small_network(order))
    batches = list(pictures(12).split(5))
    versions = dict(fitted_versions(layers, 3, batches))
    labels = torch.arange(12) % 5
    found = measure_versions(chain(layers), versions, zip(batches, labels.split(5), strict=True))
    real = run_layers(layers, pictures(12))[SCORES].flatten(1)
    assert found.n == 12
    assert found.float_top1 == (real.argmax(1) == labels).double().mean().item()
    assert list(found.costs) == [layer.name for layer in layers if layer.weight is not None]
    centred = (real - real.mean(1, keepdim=True)).double().square().sum()
    for name, cost in found.costs.items():
        changed = [versions[name] if layer.name == name else layer for layer in layers]
        scores = run_layers(changed, pictures(12))[SCORES].flatten(1)
        assert cost.agreement == (scores.argmax(1) == real.argmax(1)).double().mean().item()
        assert cost.top1 == (scores.argmax(1) == labels).double().mean().item()
        error = (scores - real).double().square().sum() / centred
        assert cost.score_error == pytest.approx(error.item(), rel=1e-3)
        assert cost.score_error > 0


def test_weights_and_fit() -> None:
    layers = layers_of(small_network("conv_relu_bn"))
    inputs = pictures(24)
    real = run_layers(layers, inputs)
    for (name, version), layer in zip(fitted_versions(layers, 2, [inputs]), layers, strict=True):
        assert name == layer.name
        if layer.weight is None:
            assert version is layer
            continue
        assert version.weight is not None
        for channel in version.weight.flatten(1):
            assert len(channel.unique()) <= 3
        unfitted = dataclasses.replace(version, gain=layer.gain, shift=layer.shift)
        residual = None if layer.residual is None else {layer.residual: real[layer.residual]}
        given = {layer.input: real[layer.input], **(residual or {})}
        errors = []
        for one in (version, unfitted):
            changed = [one if x.name == name else x for x in layers[: layers.index(layer) + 1]]
            error = run_layers(changed, inputs)[name] - real[name]
            errors.append(error.square().mean().item())
        assert given
        assert errors[0] <= errors[1] * 1.001


def test_eight_bits_cost_little_and_two_bits_more() -> None:
    layers = layers_of(small_network("conv_relu_bn"))
    batches = [pictures(16)]
    error = {}
    for bits in (2, 4, 8):
        versions = dict(fitted_versions(layers, bits, batches))
        found = measure_versions(chain(layers), versions, [(batches[0], None)])
        assert found.float_top1 is None
        assert all(cost.top1 is None for cost in found.costs.values())
        error[bits] = sum(cost.score_error for cost in found.costs.values())
    assert error[8] < error[4] / 20 < error[2] / 40


def test_bad_pictures() -> None:
    layers = layers_of(small_network("conv_relu_bn"))
    versions = {layer.name: layer for layer in layers}
    with pytest.raises(DataError, match="0 pictures, at least 1"):
        measure_versions(chain(layers), versions, [])
    with pytest.raises(DataError, match="not finite"):
        measure_versions(chain(layers), versions, [(pictures(2) * torch.inf, None)])


def test_same_network_costs_nothing() -> None:
    layers = layers_of(small_network("conv_bn_relu", dead=True))
    versions = {layer.name: layer for layer in layers}
    found = measure_versions(chain(layers), versions, [(pictures(4), None)])
    assert {(c.agreement, c.score_error) for c in found.costs.values()} == {(1.0, 0.0)}
    costs = measure_versions(
        chain(layers), dict(fitted_versions(layers, 4, [pictures(4)])), [(pictures(4), None)]
    ).costs
    assert all(torch.isfinite(torch.tensor(c.score_error)) for c in costs.values())
