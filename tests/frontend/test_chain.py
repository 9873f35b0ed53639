"""Networks of users: traced, quantized and run on the host and an emulated part, to the bit."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from networks import CLASSIFIERS, SQUARE, TwoMaps, images, prepared

from etinynet.frontend.modules import float_graph
from etinynet.graph import INT8, MIXED, Classification, Graph, execute_all
from etinynet.quantize.equalize import equalized
from etinynet.quantize.lower import lower
from etinynet.quantize.methods import Widths, rounder_of
from etinynet.quantize.pipeline import batches_of, quantize_network
from etinynet.target.base import get_target
from etinynet.target.verify import verify


def quantized(module: torch.nn.Module, shape, head, precision, bits: int) -> Graph:
    network = equalized(float_graph(module, shape))
    widths = Widths(bits).of(network.layers)
    rounder = rounder_of("best", widths, True)
    batches = batches_of(images(24, shape))
    done = quantize_network(network, widths, rounder, precision, batches)
    network = network.with_layers(done.layers)
    return lower("net", network, done.weights, done.activations, precision, head, {})


@functools.cache
def classifier(name: str, precision: str = "mixed", bits: int = 8):
    kind, arguments, shape = CLASSIFIERS[name]
    module = prepared(kind, arguments, shape)
    chosen = {"mixed": MIXED, "int8": INT8}[precision]
    return module, quantized(module, shape, Classification(None), chosen, bits)


def as_images(pictures: torch.Tensor) -> list[np.ndarray]:
    return [picture.permute(1, 2, 0).numpy().astype(np.int8) for picture in pictures]


def relative_error(graph: Graph, name: str, pictures: torch.Tensor, real: torch.Tensor) -> float:
    """Squared error of an output by the square of its float values (N, C, H, W) or (N, C)."""
    tensor = graph.tensors[name]
    integers = np.stack([execute_all(graph, image)[name] for image in as_images(pictures)])
    found = tensor.scale * (integers.astype(np.float64) - tensor.zero_point)
    wanted = real.reshape(*real.shape[:2], *tensor.shape[:2]).permute(0, 2, 3, 1).numpy()
    return float(np.square(found - wanted).sum() / np.square(wanted).sum())


@pytest.mark.parametrize("precision", ["mixed", "int8"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_integers_are_near_the_floats(name: str, precision: str) -> None:
    module, graph = classifier(name, precision)
    pictures = images(6, CLASSIFIERS[name][2], seed=2)
    with torch.no_grad():
        error = relative_error(graph, graph.outputs[0], pictures, module(pictures))
    assert error < 4e-4
    if precision == "int8":
        inside = [t.bits for n, t in graph.tensors.items() if n not in graph.outputs]
        assert max(inside) == 8


@pytest.mark.parametrize("mode", ["fast", "inplace", "stream"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_host_equals_the_reference(name: str, mode: str) -> None:
    _, graph = classifier(name)
    shape = CLASSIFIERS[name][2]
    with get_target("host", mode=mode).load(graph) as program:
        found = verify(graph, program, as_images(images(2, shape, seed=3)), tensors=True)
    assert found.passed, found.first


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_emulated_part_equals_the_reference(name: str) -> None:
    _, graph = classifier(name, "int8" if name == "windows" else "mixed", 4)
    shape = CLASSIFIERS[name][2]
    with get_target("stm32f746").load(graph) as program:
        found = verify(graph, program, as_images(images(2, shape, seed=3)))
    assert found.passed, found.first


def test_two_outputs_from_different_depths() -> None:
    module = prepared(TwoMaps, (), SQUARE)
    graph = quantized(module, SQUARE, None, MIXED, 8)
    assert graph.outputs == ("stem", "mix")
    pictures = images(6, SQUARE, seed=2)
    with torch.no_grad():
        for name, real in zip(graph.outputs, module(pictures), strict=True):
            assert relative_error(graph, name, pictures, real) < 1e-4
