"""All steps from float layers to the graph, and what one operator of it has to keep."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from small_networks import chain, layers_of, pictures, small_network
from torch import Tensor

from etinynet.frontend.float_graph import Layer, run_layer
from etinynet.graph import MIXED, Classification, Graph, execute_all
from etinynet.quantize.activations import Activation, ActivationRules
from etinynet.quantize.calibrate import ChannelStatistics, calibrate
from etinynet.quantize.correct import round_and_correct
from etinynet.quantize.lower import lower
from etinynet.quantize.methods import rounder_of
from etinynet.quantize.sensitivity import output_sensitivity
from etinynet.quantize.weights import QuantizedWeight

__all__ = [
    "Steps",
    "each_operator_is_its_layer_within_a_step",
    "image",
    "lowered",
    "steps",
    "steps_of",
    "widths_of",
]


@dataclasses.dataclass
class Steps:
    """Everything between the float layers and the graph."""

    layers: list[Layer]
    statistics: dict[str, ChannelStatistics]
    rules: ActivationRules
    activations: dict[str, Activation]
    corrected: list[Layer]
    weights: dict[str, QuantizedWeight]


def widths_of(layers: Sequence[Layer], bits: int) -> dict[str, int]:
    return {layer.name: bits for layer in layers if layer.weight is not None}


def steps_of(
    layers: Sequence[Layer],
    bits: int = 8,
    method: str = "best",
) -> Steps:
    layers, widths = list(layers), widths_of(layers, bits)
    batches = [pictures(16), pictures(16, seed=2)]
    statistics = calibrate(layers, batches)
    network = chain(layers)
    importance = output_sensitivity(network, batches)
    rules = ActivationRules(network, statistics, importance, widths)
    done = round_and_correct(network, rounder_of(method, widths, True), rules, batches)
    return Steps(layers, statistics, rules, done.activations, done.layers, done.weights)


@functools.cache
def steps(order: str, bits: int = 8, method: str = "best", **options: Any) -> Steps:
    return steps_of(layers_of(small_network(order, **options)), bits, method)


def lowered(done: Steps) -> Graph:
    parts = chain(done.corrected), done.weights, done.activations
    return lower("small", *parts, MIXED, Classification(), {})


def image(picture: Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).numpy().astype(np.int8)


def real(values: np.ndarray, activation: Activation) -> Tensor:
    """An integer tensor (H, W, C) as the float (1, C, H, W) it stands for."""
    integers = torch.from_numpy(values.astype(np.float64)).permute(2, 0, 1)[None]
    return (integers - activation.zero_point) * activation.scale.reshape(1, -1, 1, 1)


def doubled(layer: Layer) -> Layer:
    tensors = {
        field.name: value.double()
        for field in dataclasses.fields(layer)
        if isinstance(value := getattr(layer, field.name), Tensor)
    }
    return dataclasses.replace(layer, **tensors)


def _products(
    layer: Layer, source: Tensor, residual: Tensor | None, target: Activation
) -> np.ndarray:
    """Magnitudes of what the factors multiply, in output steps, (H, W, C)."""
    bare = dataclasses.replace(layer, clamp=None)
    if layer.shift is not None:
        bare = dataclasses.replace(bare, shift=torch.zeros_like(layer.shift))
    total = run_layer(bare, source, None).abs()
    if residual is not None:
        total = total + residual.abs()
    return (total / target.scale.abs().reshape(1, -1, 1, 1))[0].permute(1, 2, 0).numpy()


@torch.no_grad()
def each_operator_is_its_layer_within_a_step(done: Steps) -> None:
    """Given the integers before it, an operator is the float layer rounded once to a step.

    What the constants' own rounding and that of the product add is below two fractional steps,
    three with a shortcut; a bias is rounded to a unit of the accumulator, and factors to 12
    significant bits, so that each product is off by at most its 4096th part.
    """
    graph = lowered(done)
    values = execute_all(graph, image(pictures(1, seed=9)[0]))
    for layer in map(doubled, done.corrected):
        source = real(values[layer.input], done.activations[layer.input])
        residual = None
        if layer.residual is not None:
            residual = real(values[layer.residual], done.activations[layer.residual])
        target = done.activations[layer.name]
        expected = run_layer(layer, source, residual) / target.scale.reshape(1, -1, 1, 1)
        low, high = -(2 ** (target.bits - 1)), 2 ** (target.bits - 1) - 1
        expected = (expected + target.zero_point).clamp(low, high)[0].permute(1, 2, 0).numpy()
        error = np.abs(values[layer.name] - expected)
        rule = next(op.requantization for op in graph.ops if op.name == layer.name)
        if rule is None:
            assert error.max() < 1e-9
            continue
        fraction = 2.0 ** -max(rule.shift, 0)
        allowed = 0.51 + fraction * (1.25 + (residual is not None))
        allowed += _products(layer, source, residual, target) / 4096
        if layer.bias is not None:
            allowed += 0.5 * float(np.abs(rule.multiplier).max()) * fraction / 2**32
        assert np.all(error <= allowed), layer.name
