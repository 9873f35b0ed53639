"""Random legal graphs pass; with one field changed they are refused or still run, never worse."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from graph_edits import every_kind
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etinynet.errors import GraphError
from etinynet.graph import Graph, check, execute_all, graph_from_bytes, graph_to_bytes
from etinynet.graph.arithmetic import signed_range
from etinynet.graph.ir import Classification, Op, Tensor, Window
from etinynet.graph.ops import OPS, accumulator_range
from etinynet.graph.precision import INT8, MIXED
from graph_cases import random_graph, random_image

SEEDS = st.integers(0, 2**32 - 1)
BASE = every_kind()
NAMES = [*BASE.tensors, "", "x", "nö", 5]
#: Values of every type a field has, near the ends of what is allowed, and of types none has.
VALUES: list[Any] = [
    None, True, False, -129, -1, 0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 25, 127, 2**31, 2**70,
    0.5, 1.0, float("nan"), float("inf"), "conv2d", "depthwise", "pointwise", "dense", "max_pool",
    "global_avg_pool", "avg_pool", "add",
    [], (), {}, {1}, b"", [1, 2], (3, 2, 4), (3, 2, 5), (1, 1, 5), (1, 1, 3),
    (0, 1, 1), (1, 1), ("a", 1, 1), {"x": 1}, {"x": object()}, object(), INT8, MIXED,
    Classification(), Classification(3), Classification(("a", "b", "c")), ("fc", "pw"), ("fc",),
    ("pw", "pool"), ("pw",), Window(), Window.square(3, 1, 1), Window((1, 3), (1, 1), (0, 1, 0, 1)),
    Window((3, 3), (2, 1), (1, 0, 1, 2)), Window(3), Window((3, 3), (1, 1), (1, 1)),
    *NAMES,
]  # fmt: skip
DTYPES = ["int8", "int16", "int32", "int64", "uint8", "float32", ">i4", "object", "bool"]
SHAPES = [(), (0,), (1,), (3,), (4,), (5,), (5, 4), (3, 5), (4, 3, 3), (5, 3, 3), (4, 3, 3, 3)]


@st.composite
def values(draw: st.DrawFn) -> Any:
    if draw(st.booleans()):
        return draw(st.sampled_from(VALUES))
    fill = draw(st.sampled_from([0, 1, -1, 7, -8, 127, -128]))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    number = 1 if dtype.kind in "ub" and fill < 0 else fill
    array = np.full(draw(st.sampled_from(SHAPES)), number, np.int64).astype(dtype)
    if dtype == np.int32 and draw(st.booleans()):
        array = np.full(array.shape, draw(st.sampled_from([2**31 - 1, -(2**31)])), np.int32)
    return array


@st.composite
def mutated(draw: st.DrawFn) -> Graph:
    """`BASE` with one field of the graph, a tensor, an operator or a requantization replaced."""
    part = draw(st.sampled_from(["graph", "tensor", "op", "op", "rule"]))
    value = draw(values())
    if part == "graph":
        field = draw(st.sampled_from(fields(Graph))).name
        return replace(BASE, **{field: value})
    if part == "tensor":
        key = draw(st.sampled_from(list(BASE.tensors)))
        field = draw(st.sampled_from(fields(Tensor))).name
        changed = replace(BASE.tensors[key], **{field: value})
        return replace(BASE, tensors={**BASE.tensors, key: changed})
    index = draw(st.integers(0, len(BASE.ops) - 1))
    op = BASE.ops[index]
    if part == "rule" and op.requantization is not None:
        rule = op.requantization
        field = draw(st.sampled_from(fields(rule))).name
        op = replace(op, requantization=replace(rule, **{field: value}))
    else:
        op = replace(op, **{draw(st.sampled_from(fields(Op))).name: value})
    return replace(BASE, ops=(*BASE.ops[:index], op, *BASE.ops[index + 1 :]))


def refused(graph: Graph) -> bool:
    try:
        check(graph)
    except GraphError:
        return True
    return False


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_one_change_is_refused_or_runs(graph: Graph) -> None:
    if refused(graph):
        return
    image = random_image(np.random.default_rng(0), graph)
    made = execute_all(graph, image)
    for name, tensor in graph.tensors.items():
        low, high = signed_range(tensor.bits)
        assert made[name].shape == tensor.shape
        assert low <= made[name].min()
        assert made[name].max() <= high
    again = graph_from_bytes(graph_to_bytes(graph), "mutated")
    np.testing.assert_array_equal(
        execute_all(again, image)[graph.outputs[0]], made[graph.outputs[0]]
    )


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_random_graphs_are_legal(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed))
    check(graph)


REQUANTIZED = [kind for kind, row in OPS.items() if row.requantized]


@st.composite
def bounded_ops(draw: st.DrawFn) -> tuple[Op, Tensor]:
    """An operator whose window covers its whole input, so that extreme inputs reach the bound."""
    kind = draw(st.sampled_from(REQUANTIZED))
    rng = np.random.default_rng(draw(SEEDS))
    windowed = ("conv2d", "depthwise", "avg_pool")
    kernel = draw(st.integers(1, 3)) if kind in windowed else 1
    side = {**dict.fromkeys(windowed, kernel), "global_avg_pool": 3}.get(kind, 1)
    inside, outside = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    shape = {
        "conv2d": (outside, kernel, kernel, inside),
        "depthwise": (inside, kernel, kernel),
        "pointwise": (outside, inside),
        "dense": (outside, inside),
    }.get(kind)
    weight = None if shape is None else rng.integers(-128, 128, shape).astype(np.int8)
    bias = None
    if weight is not None and draw(st.booleans()):
        bias = rng.integers(-(10**6), 10**6, len(weight)).astype(np.int32)
    op = Op(kind, "op", ("x",), "y", Window.square(kernel), weight=weight, bias=bias)
    return op, Tensor("x", (side, side, inside), draw(st.integers(2, 16)), 0, 1.0)


@given(bounded_ops(), SEEDS)
def test_accumulator_range_bounds_every_input(case: tuple[Op, Tensor], seed: int) -> None:
    op, source = case
    smallest, largest = accumulator_range(op, source)
    low, high = signed_range(source.bits)
    rng = np.random.default_rng(seed)
    bias = 0 if op.bias is None else op.bias.astype(np.int64)
    for x in (
        rng.integers(low, high + 1, source.shape),
        rng.choice([low, high], source.shape),
        np.full(source.shape, low),
        np.full(source.shape, high),
    ):
        total = OPS[op.kind].accumulate(x.astype(np.int64), op, 0)
        for each in (total, total + bias):
            assert np.all(smallest <= each)
            assert np.all(each <= largest)


@given(bounded_ops())
def test_accumulator_range_is_reached(case: tuple[Op, Tensor]) -> None:
    """The input that is lowest under negative weights and highest under others gives the bound."""
    op, source = case
    smallest, largest = accumulator_range(op, source)
    low, high = signed_range(source.bits)
    for out, (least, most) in enumerate(zip(smallest, largest, strict=True)):
        negative = np.zeros(source.shape, bool)
        if op.kind == "depthwise":
            negative[..., out] = op.weight[out] < 0
        elif op.weight is not None:
            negative = op.weight[out].reshape(source.shape) < 0
        bias = 0 if op.bias is None else int(op.bias[out])
        for bound, at_negative, others, added in (
            (most, low, high, max(bias, 0)),
            (least, high, low, min(bias, 0)),
        ):
            x = np.where(negative, at_negative, others).astype(np.int64)
            reached = OPS[op.kind].accumulate(x, op, 0).reshape(-1)[out]
            assert reached + added == bound


def test_every_field_is_mutated() -> None:
    """The lists above name every part of the graph; a new one has to be added there."""
    parts = {field.name for kind in (Graph, Tensor, Op) for field in fields(kind)}
    rule = {field.name for field in fields(BASE.ops[0].requantization)}
    assert parts | rule == {
        "name", "tensors", "ops", "input", "outputs", "head", "precision", "metadata", "shape",
        "bits", "zero_point", "scale", "kind", "inputs", "output", "window", "weight",
        "weight_bits", "bias", "requantization", "multiplier", "offset", "shift", "relu",
        "residual_multiplier",
    }  # fmt: skip


def test_every_kind_is_in_the_base() -> None:
    kinds = {op.kind for op in BASE.ops}
    assert kinds == set(OPS)
