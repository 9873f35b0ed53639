"""Every operator of the executor against loops over Python integers, written apart from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from etinynet.errors import GraphError
from etinynet.graph import Graph, Op, execute, execute_all
from graph_cases import WIDE, GraphBuilder, at_shift, inverted_graph, random_graph, random_image

#: What the executor means does not depend on what backends read.
Values = dict[tuple[int, int, int], int]


def window(op: Op, row: int, column: int) -> Iterator[tuple[int, int, int, int]]:
    """(input row, input column, kernel row, kernel column) of one output position."""
    (height, width), (down, right), (top, left, *_) = (
        *(op.window.kernel, op.window.stride, op.window.padding),
    )
    for i, j in product(range(height), range(width)):
        yield row * down - top + i, column * right - left + j, i, j


def accumulator(op: Op, x: Values, channels: int, pad: int, at: tuple[int, int, int]) -> int:
    """Sum of products at output position `at` = (row, column, channel), bias included."""
    row, column, out = at
    bias = 0 if op.bias is None else int(op.bias[out])
    total = bias
    for r, c, i, j in window(op, row, column):
        for channel in [out] if op.kind == "depthwise" else range(channels):
            index = {
                "conv2d": (out, i, j, channel),
                "depthwise": (out, i, j),
            }.get(op.kind, (out, channel))
            total += x.get((r, c, channel), pad) * int(op.weight[index])
    return total


def requantized(op: Op, total: int, channel: int, shortcut: int | None, bits: int) -> int:
    rule = op.requantization

    def constant(array: NDArray[np.int32]) -> int:
        return int(array[channel if len(array) > 1 else 0])

    if rule.relu and total < 0:
        total = 0
    if rule.shift < 0:
        total *= 2**-rule.shift
    total = (constant(rule.offset) * 2**32 + total * constant(rule.multiplier) + 2**31) // 2**32
    if shortcut is not None:
        total += shortcut * constant(rule.residual_multiplier) // 2**16
    top = 2 ** (bits - 1)
    return max(-top, min(top - 1, total // 2 ** max(rule.shift, 0)))


def unweighted(op: Op, x: Values, pad: int, at: tuple[int, int, int]) -> int:
    """Accumulator of the operators without weights at `at`."""
    row, column, out = at
    if op.kind == "add":
        return x[at] * 65536
    if op.kind == "global_avg_pool":
        return sum(value for (_, _, channel), value in x.items() if channel == out)
    return sum(x.get((r, c, out), pad) for r, c, _, _ in window(op, row, column))


def run(graph: Graph, op: Op, values: dict[str, Values]) -> Values:
    source, target = graph.tensors[op.input], graph.tensors[op.output]
    x = values[op.input]
    result = {}
    for at in product(*map(range, target.shape)):
        row, column, out = at
        if op.kind == "max_pool":
            result[at] = max(x[r, c, out] for r, c, _, _ in window(op, row, column))
            continue
        if op.weight is None:
            total = unweighted(op, x, source.zero_point, at)
        else:
            total = accumulator(op, x, source.shape[2], source.zero_point, at)
        shortcut = None if op.residual is None else values[op.residual][at]
        result[at] = requantized(op, total, out, shortcut, target.bits)
    return result


def compare(graph: Graph, image: NDArray[np.int8]) -> None:
    values = {graph.input: {at: int(value) for at, value in np.ndenumerate(image)}}
    got = execute_all(graph, image)
    assert set(got) == set(graph.tensors)
    for op in graph.ops:
        values[op.output] = run(graph, op, values)
        tensor = graph.tensors[op.output]
        assert got[op.output].shape == tensor.shape
        assert got[op.output].dtype == (np.int8 if tensor.bits <= 8 else np.int16)
        assert {at: int(v) for at, v in np.ndenumerate(got[op.output])} == values[op.output]
    scores = execute(graph, image)
    assert scores.dtype == np.int16
    np.testing.assert_array_equal(scores, got[graph.outputs[0]].reshape(-1))


@st.composite
def small_graphs(draw: st.DrawFn, kind: str) -> tuple[Graph, NDArray[np.int8]]:
    """One operator of `kind` between a picture and a classifier, with what it can have."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(3, 6)), draw(st.integers(3, 6)), draw(st.integers(1, 3)))
    builder = GraphBuilder(rng, "net", shape)
    windowed = ("conv2d", "depthwise", "max_pool", "avg_pool")
    kernel = draw(st.integers(1, 3)) if kind in windowed else 1
    options = {
        "kernel": kernel,
        "stride": draw(st.integers(1, 3)) if kernel > 1 else 1,
        "weight_bits": draw(st.integers(2, 8)),
        "relu": draw(st.booleans()),
        "bits": draw(st.integers(2, 16)),
    }
    channels = draw(st.integers(1, 4))
    source = builder.add("pointwise", "first", "input", channels=channels, bits=8)
    if kind == "max_pool":
        source = builder.add(kind, "op", source, kernel=kernel, stride=options["stride"])
    elif kind == "avg_pool":
        padding = draw(st.integers(0, kernel - 1))
        source = builder.add(kind, "op", source, padding=padding, **{**options, "weight_bits": 8})
    elif kind == "add":
        other = builder.add("pointwise", "other", "input", channels=channels, bits=options["bits"])
        source = builder.add(kind, "op", source, bits=options["bits"], residual=other)
    elif kind in ("conv2d", "depthwise", "pointwise"):
        padding = draw(st.integers(0, kernel - 1))
        bias = draw(st.booleans())
        same = options["stride"] == 1 and 2 * padding == kernel - 1
        source = builder.add(
            kind, "op", source, channels=channels, padding=padding, bias=bias,
            residual=source if same and draw(st.booleans()) else None, **options,
        )  # fmt: skip
    if draw(st.booleans()):
        last = builder.ops[-1]
        builder.ops[-1] = at_shift(last, -draw(st.integers(1, 4))) if last.requantization else last
    graph = builder.finish(source, 3, weight_bits=options["weight_bits"], precision=WIDE)
    return graph, random_image(rng, graph)


@pytest.mark.parametrize(
    "kind", ["conv2d", "depthwise", "pointwise", "max_pool", "avg_pool", "add", "the ends"]
)
def test_operator_equals_the_loops(kind: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(small_graphs(kind))
    def check(case: tuple[Graph, NDArray[np.int8]]) -> None:
        compare(*case)

    check()


def test_a_whole_network_equals_the_loops() -> None:
    rng = np.random.default_rng(5)
    graph = random_graph(rng, max_side=16)
    compare(graph, random_image(rng, graph))


def test_an_inverted_network_equals_the_loops() -> None:
    rng = np.random.default_rng(6)
    graph = inverted_graph(rng, max_side=16)
    compare(graph, random_image(rng, graph))


def test_padding_reads_the_zero_point() -> None:
    """A picture equal to the zero point everywhere gives the same value at edge and centre."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder(rng, "net", (5, 5, 2))
    builder.tensors["input"] = replace(builder.tensors["input"], zero_point=-37)
    builder.add("conv2d", "conv", "input", channels=3, kernel=3, padding=1)
    graph = builder.finish("conv", 2)
    made = execute_all(graph, np.full((5, 5, 2), -37, np.int8))["conv"]
    np.testing.assert_array_equal(made, np.broadcast_to(made[2, 2], made.shape))


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.int8), np.zeros((16, 16, 3), np.uint8)], ids=["shape", "dtype"]
)
def test_another_image_is_refused(image: NDArray[np.int8]) -> None:
    builder = GraphBuilder(np.random.default_rng(0), "net", (16, 16, 3))
    graph = builder.finish("input", 2)
    seen = rf"got {image.dtype} \({image.shape[0]}, .*allowed is int8 \(16, 16, 3\)"
    with pytest.raises(GraphError, match=rf"input 'input': {seen}"):
        execute(graph, image)


def test_an_illegal_graph_is_not_executed() -> None:
    builder = GraphBuilder(np.random.default_rng(0), "net", (4, 4, 3))
    graph = builder.finish("input", 2)
    with pytest.raises(GraphError, match="number of operators is 0"):
        execute(replace(graph, ops=()), np.zeros((4, 4, 3), np.int8))
