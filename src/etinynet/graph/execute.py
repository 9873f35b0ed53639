"""The reference executor: one function per operator, integers only, every backend equals it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from etinynet.errors import GraphError
from etinynet.graph.arithmetic import Int64Array, requantize
from etinynet.graph.check import check
from etinynet.graph.ir import Graph, Op, Tensor

__all__ = [
    "ACCUMULATE",
    "add",
    "avg_pool",
    "conv2d",
    "dense",
    "depthwise",
    "execute",
    "execute_all",
    "global_avg_pool",
    "max_pool",
    "pointwise",
]


def _windows(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    """(height, width, channels) to (out_height, out_width, channels, kernel, kernel)."""
    pad = op.padding
    padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0)), constant_values=zero_point)
    view = sliding_window_view(padded, (op.kernel, op.kernel), axis=(0, 1))
    return view[:: op.stride, :: op.stride]


def _weight(op: Op) -> Int64Array:
    assert op.weight is not None
    return op.weight.astype(np.int64)


def conv2d(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    """Accumulators of a dense convolution, (out_height, out_width, out_channels)."""
    windows = _windows(x, op, zero_point)
    columns = windows.transpose(0, 1, 3, 4, 2).reshape(*windows.shape[:2], -1)
    return columns @ _weight(op).reshape(len(_weight(op)), -1).T


def depthwise(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    """Accumulators of a depthwise convolution, (out_height, out_width, channels)."""
    windows = _windows(x, op, zero_point)
    weight = _weight(op)
    taps = [(row, column) for row in range(op.kernel) for column in range(op.kernel)]
    total = np.zeros(windows.shape[:3], np.int64)
    for row, column in taps:
        total += windows[..., row, column] * weight[:, row, column]
    return total


def pointwise(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    """Accumulators of a 1x1 convolution, (height, width, out_channels)."""
    return x @ _weight(op).T


def dense(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    """Accumulators of a fully connected layer on a (1, 1, in_channels) tensor."""
    return x @ _weight(op).T


def max_pool(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    """Largest value of each window; no padding, no requantization."""
    return np.asarray(_windows(x, op, zero_point).max(axis=(-2, -1)))


def avg_pool(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    """Sums over each window; the division is in the requantization."""
    return np.asarray(_windows(x, op, zero_point).sum(axis=(-2, -1)))


def global_avg_pool(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    """Sums over height and width, (1, 1, channels); the division is in the requantization."""
    return np.asarray(x.sum(axis=(0, 1), keepdims=True))


def add(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    """Each value times 2^16, so that its factor may be 1; the other summand is the shortcut."""
    return x << 16


#: The sums of each kind of operator, before requantization.
ACCUMULATE: dict[str, Callable[[Int64Array, Op, int], Int64Array]] = {
    "conv2d": conv2d,
    "depthwise": depthwise,
    "pointwise": pointwise,
    "dense": dense,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "global_avg_pool": global_avg_pool,
    "add": add,
}


def _run(
    op: Op, x: Int64Array, zero_point: int, residual: Int64Array | None, out: Tensor
) -> Int64Array:
    total = ACCUMULATE[op.kind](x, op, zero_point)
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
    """Scores of `graph` for one `image`: int16 of length classes; see `execute_all`."""
    return execute_all(graph, image)[graph.output].astype(np.int16).reshape(-1)
