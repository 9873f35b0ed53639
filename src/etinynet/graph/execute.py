"""The reference executor: integers only, every backend equals it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from etinynet.errors import GraphError
from etinynet.graph.arithmetic import Int64Array, requantize
from etinynet.graph.check import check
from etinynet.graph.ir import Graph, Op, Tensor
from etinynet.graph.ops import OPS

__all__ = ["execute", "execute_all"]


def _run(
    op: Op, x: Int64Array, zero_point: int, residual: Int64Array | None, out: Tensor
) -> Int64Array:
    total = OPS[op.kind].accumulate(x, op, zero_point)
    rule = op.requantization
    if rule is None:
        return total
    if op.bias is not None:
        total = total + op.bias
    factor = rule.residual_multiplier
    return requantize(
        total,
        rule.multiplier.astype(np.int64),
        rule.offset.astype(np.int64),
        rule.shift,
        out.bits,
        relu=rule.relu,
        residual=residual,
        residual_multiplier=None if factor is None else factor.astype(np.int64),
    )


def _narrow(value: Int64Array, bits: int) -> NDArray[np.int8] | NDArray[np.int16]:
    return value.astype(np.int8) if bits <= 8 else value.astype(np.int16)


def execute_all(
    graph: Graph, image: NDArray[np.int8]
) -> dict[str, NDArray[np.int8] | NDArray[np.int16]]:
    """Every tensor of `graph` for one `image`, by name, in int8 (up to 8 bits) or int16.

    `image` is int8 (height, width, channels), pixel minus 128. Raises GraphError if the graph is
    not legal or the image has another shape or dtype than the graph's input.
    """
    check(graph)
    expected = graph.tensors[graph.input]
    if image.shape != expected.shape or image.dtype != np.int8:
        raise GraphError(
            f"input {graph.input!r}: got {image.dtype} {image.shape}, "
            f"allowed is int8 {expected.shape}"
        )
    values: dict[str, Int64Array] = {graph.input: image.astype(np.int64)}
    for op in graph.ops:
        residual = None if op.residual is None else values[op.residual]
        zero_point = graph.tensors[op.input].zero_point
        values[op.output] = _run(
            op, values[op.input], zero_point, residual, graph.tensors[op.output]
        )
    return {name: _narrow(value, graph.tensors[name].bits) for name, value in values.items()}


def execute(graph: Graph, image: NDArray[np.int8]) -> NDArray[np.int16]:
    """Scores of `graph` for one `image`: int16 of length classes; see `execute_all`.

    They are the first output, flat, whatever the graph's head.
    """
    return execute_all(graph, image)[graph.outputs[0]].astype(np.int16).reshape(-1)
