"""A small legal graph with every kind of operator, and copies of graphs with one thing changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from etinynet.graph import Graph
from graph_cases import GraphBuilder

__all__ = ["edit_op", "edit_rule", "edit_tensor", "edit_window", "every_kind"]


def every_kind() -> Graph:
    """Operators stem, pool, dw, pw, dw2 (shortcut from pw), avg, sum (of avg and dw2), pool_all, fc
    on a 12 x 10 picture."""
    builder = GraphBuilder(np.random.default_rng(11), "net", (12, 10, 3))
    builder.add(
        "conv2d", "stem", "input", channels=4, kernel=3, stride=2, padding=1, relu=True, bias=True
    )
    builder.add("max_pool", "pool", "stem", kernel=2, stride=2)
    builder.add("depthwise", "dw", "pool", kernel=3, padding=1, bits=12)
    builder.add("pointwise", "pw", "dw", channels=5, relu=True, weight_bits=4)
    builder.add("depthwise", "dw2", "pw", kernel=3, padding=1, bias=True, residual="pw")
    builder.add("avg_pool", "avg", "dw2", kernel=3, padding=1)
    builder.add("add", "sum", "avg", residual="dw2")
    return builder.finish("sum", 3, weight_bits=3)


def edit_op(graph: Graph, name: str, /, **changes: Any) -> Graph:
    """`graph` with `changes` in operator `name`."""
    ops = tuple(replace(op, **changes) if op.name == name else op for op in graph.ops)
    return replace(graph, ops=ops)


def edit_window(graph: Graph, name: str, /, **changes: Any) -> Graph:
    """`graph` with `changes` in the window of operator `name`; an integer is all sides."""
    window = next(op.window for op in graph.ops if op.name == name)
    sides = {"kernel": 2, "stride": 2, "padding": 4}
    whole = {k: (v,) * sides[k] if type(v) is int else v for k, v in changes.items()}
    return edit_op(graph, name, window=replace(window, **whole))


def edit_rule(graph: Graph, name: str, /, **changes: Any) -> Graph:
    """`graph` with `changes` in the requantization of operator `name`."""
    rule = next(op.requantization for op in graph.ops if op.name == name)
    return edit_op(graph, name, requantization=replace(rule, **changes))


def edit_tensor(graph: Graph, key: str, /, **changes: Any) -> Graph:
    """`graph` with `changes` in the tensor stored under `key`."""
    tensors = {**graph.tensors, key: replace(graph.tensors[key], **changes)}
    return replace(graph, tensors=tensors)
