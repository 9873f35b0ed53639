"""The operator table: one row a kind, read by the check, the executor and every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from etinynet.graph.arithmetic import Int64Array, signed_range
from etinynet.graph.ir import Op, Tensor, Window

__all__ = [
    "COPY",
    "OPS",
    "Operator",
    "accumulator_range",
    "macs",
    "output_shape",
    "reads_all",
    "weight_shape",
]

Shape = tuple[int, int, int]


def _windows(x: Int64Array, window: Window, zero_point: int) -> Int64Array:
    """(height, width, channels) to (out_height, out_width, channels, kernel height, width)."""
    top, left, bottom, right = window.padding
    sides = ((top, bottom), (left, right), (0, 0))
    padded = np.pad(x, sides, constant_values=zero_point)
    view = sliding_window_view(padded, window.kernel, axis=(0, 1))
    return view[:: window.stride[0], :: window.stride[1]]


def _weight(op: Op) -> Int64Array:
    assert op.weight is not None
    return op.weight.astype(np.int64)


def _conv2d(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    windows = _windows(x, op.window, zero_point)
    columns = windows.transpose(0, 1, 3, 4, 2).reshape(*windows.shape[:2], -1)
    return columns @ _weight(op).reshape(len(_weight(op)), -1).T


def _depthwise(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    windows = _windows(x, op.window, zero_point)
    weight = _weight(op)
    total = np.zeros(windows.shape[:3], np.int64)
    for row, column in np.ndindex(op.window.kernel):
        total += windows[..., row, column] * weight[:, row, column]
    return total


def _matrix(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    return x @ _weight(op).T


def _max_pool(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    return np.asarray(_windows(x, op.window, zero_point).max(axis=(-2, -1)))


def _avg_pool(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    return np.asarray(_windows(x, op.window, zero_point).sum(axis=(-2, -1)))


def _global_avg_pool(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    return np.asarray(x.sum(axis=(0, 1), keepdims=True))


def _add(x: Int64Array, op: Op, zero_point: int) -> Int64Array:
    return x << 16


def _one(window: Window, shape: Shape) -> int:
    return 1


@dataclass(frozen=True)
class Operator:
    """What an operator of `kind` is.

    `accumulate(x, op, zero_point)` gives the sums before bias and requantization, int64 of the
    output's shape, from an int64 input (height, width, channels); padding reads `zero_point`.
    `weight_axes` names the axes of the weight, "out", "in", "height" and "width" of the kernel;
    none for operators without weights. `windowed` operators may have another window than 1 x 1.
    `keeps_channels`: as many output as input channels. `reads_all`: each output channel reads the
    whole height and width, and has one pixel. `inputs` is the fewest and the most of them.
    `requantized` is false where the output has the integers of the input. `unit(window, shape)` is
    the accumulator of an input of `shape` whose values are all 1, where there are no weights.
    """

    kind: str
    accumulate: Callable[[Int64Array, Op, int], Int64Array]
    weight_axes: tuple[str, ...] = ()
    windowed: bool = False
    keeps_channels: bool = False
    reads_all: bool = False
    inputs: tuple[int, int] = (1, 1)
    requantized: bool = True
    unit: Callable[[Window, Shape], int] = _one

    @property
    def has_weight(self) -> bool:
        """Whether it multiplies by weights, and may have a bias."""
        return bool(self.weight_axes)


_ROWS = (
    Operator("conv2d", _conv2d, ("out", "height", "width", "in"), windowed=True, inputs=(1, 2)),
    Operator(
        *("depthwise", _depthwise, ("out", "height", "width")),
        windowed=True,
        keeps_channels=True,
        inputs=(1, 2),
    ),
    Operator("pointwise", _matrix, ("out", "in"), inputs=(1, 2)),
    Operator("dense", _matrix, ("out", "in"), reads_all=True),
    Operator("max_pool", _max_pool, windowed=True, keeps_channels=True, requantized=False),
    Operator(
        *("avg_pool", _avg_pool),
        windowed=True,
        keeps_channels=True,
        unit=lambda window, shape: window.area,
    ),
    Operator(
        *("global_avg_pool", _global_avg_pool),
        keeps_channels=True,
        reads_all=True,
        unit=lambda window, shape: shape[0] * shape[1],
    ),
    # each value times 2^16, so that its factor may be 1
    Operator("add", _add, keeps_channels=True, inputs=(2, 2), unit=lambda window, shape: 1 << 16),
)

#: The row of each kind; the same word names the kernel of each backend.
OPS: dict[str, Operator] = {row.kind: row for row in _ROWS}

#: A call that backends put between operators: a tensor once more. No graph has it.
COPY = "copy"


def reads_all(op: Op) -> bool:
    """Whether a row of the output reads every row of the input."""
    return op.kind != COPY and OPS[op.kind].reads_all


def output_shape(kind: str, shape: Shape, out_channels: int, window: Window) -> Shape:
    """Shape (height, width, channels) that an operator makes of an input of `shape`.

    `out_channels` counts where the operator does not keep the channels of its input.
    """
    row = OPS[kind]
    channels = shape[2] if row.keeps_channels else out_channels
    if row.reads_all:
        return 1, 1, channels
    return *window.output_sides(*shape[:2]), channels


def weight_shape(kind: str, in_channels: int, out_channels: int, window: Window) -> tuple[int, ...]:
    """Shape of an operator's weight; () for one that has none."""
    height, width = window.kernel
    sizes = {"out": out_channels, "in": in_channels, "height": height, "width": width}
    return tuple(sizes[axis] for axis in OPS[kind].weight_axes)


def accumulator_range(op: Op, source: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Smallest and largest accumulator per output channel, bias included, over all inputs.

    `source` is the first input. The bounds also hold for every partial sum in any order: positive
    and negative products are summed apart.
    """
    low, high = signed_range(source.bits)
    if op.weight is None:
        unit = OPS[op.kind].unit(op.window, source.shape)
        ones = np.full((source.shape[2], 1), unit, np.int64)
    else:
        ones = op.weight.reshape(len(op.weight), -1).astype(np.int64)
    positive, negative = np.maximum(ones, 0).sum(1), np.minimum(ones, 0).sum(1)
    bias = np.int64(0) if op.bias is None else op.bias.astype(np.int64)
    smallest = positive * low + negative * high + np.minimum(bias, 0)
    largest = positive * high + negative * low + np.maximum(bias, 0)
    return smallest, largest


def macs(op: Op, result: Tensor) -> int:
    """Multiplications of `op` with weights to make `result`, padding counted; 0 without weights."""
    if op.weight is None:
        return 0
    height, width, channels = result.shape
    return height * width * channels * int(op.weight[0].size)
