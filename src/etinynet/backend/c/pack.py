"""Weights in the order the C kernels read them, and the scratch memory each kernel needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from etinynet.graph.ir import Graph, Op, Window

__all__ = [
    "gather_bytes",
    "is_3x3",
    "pack_weight",
    "scratch_bytes",
    "tight_bytes",
    "tight_span",
    "weight_c_type",
]

PackedWeight = NDArray[np.uint32] | NDArray[np.int8] | NDArray[np.uint8]

#: Pixels whose columns conv2d holds at one time; ETN_CONV2D_PIXELS of etn_conv2d.h.
_CONV2D_PIXELS = 32

#: Taps in the order of the nibbles of a depthwise channel; the tenth nibble is unused.
_DEPTHWISE_NIBBLES = (0, 6, 3, 1, 2, 8, 5, 4, 7)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _weight(op: Op) -> NDArray[np.int8]:
    assert op.weight is not None
    return op.weight


def _pack_matrix(weight: NDArray[np.int8], bits: int) -> NDArray[np.uint32]:
    """(out, depth) to words: see etn_weights.h for the order inside a word."""
    channels, depth = weight.shape
    step = 2 if bits > 4 else 4
    padded = np.zeros((_round_up(channels, 2), _round_up(depth, step)), np.int8)
    padded[:channels, :depth] = weight
    pairs = padded.reshape(len(padded) // 2, 2, -1, step)
    if bits > 4:
        packed = pairs.transpose(0, 2, 3, 1)
    else:
        # k = 2 * half + lane: a byte holds both halves, bytes are in order (lane, channel).
        nibbles = (pairs.reshape(*pairs.shape[:3], 2, 2) + 8).astype(np.uint8)
        ordered = nibbles.transpose(0, 2, 4, 1, 3)
        packed = ordered[..., 0] | ordered[..., 1] << 4
    words = np.ascontiguousarray(packed).view(np.uint8).reshape(-1, 4)
    return words.view("<u4").astype(np.uint32).reshape(-1)


def is_3x3(window: Window) -> bool:
    """Whether a depthwise operator of `window` has a kernel of its own: 3x3, padding 1, stride 1
    or 2."""
    return window in (Window.square(3, 1, 1), Window.square(3, 2, 1))


def _pack_taps(weight: NDArray[np.int8], bits: int) -> NDArray[np.int8] | NDArray[np.uint8]:
    """(channels, kernel, kernel) in order of rows, for etn_depthwise_any."""
    taps = weight.reshape(len(weight), -1)
    if bits > 4:
        return taps.reshape(-1)
    nibbles = np.zeros((len(taps), _round_up(taps.shape[1], 2)), np.uint8)
    nibbles[:, : taps.shape[1]] = taps + 8
    return (nibbles[:, 0::2] | nibbles[:, 1::2] << 4).reshape(-1)


def _pack_depthwise(weight: NDArray[np.int8], bits: int) -> NDArray[np.int8] | NDArray[np.uint8]:
    channels = len(weight)
    taps = weight.reshape(channels, 9)
    if bits > 4:
        # The kernel reads whole words, one byte further than the last tap.
        packed = np.zeros(_round_up(9 * channels + 1, 4), np.int8)
        packed[: 9 * channels] = taps.reshape(-1)
        return packed
    nibbles = np.zeros((channels, 10), np.uint8)
    nibbles[:, :9] = taps[:, _DEPTHWISE_NIBBLES] + 8
    return (nibbles[:, 0::2] | nibbles[:, 1::2] << 4).reshape(-1)


def pack_weight(op: Op) -> PackedWeight:
    """The constant array that the kernel of `op` reads, one-dimensional.

    uint32 for conv2d, pointwise and dense; for depthwise int8 above 4 weight bits, else uint8.
    Weights of 2 to 4 bits take half a byte, those of 5 to 8 bits one byte; kernels/etn_weights.h
    describes the order. `op` must be of a legal graph and of a kind with weights.
    """
    weight = _weight(op)
    if op.kind == "depthwise":
        pack = _pack_depthwise if is_3x3(op.window) else _pack_taps
        return pack(weight, op.weight_bits)
    return _pack_matrix(weight.reshape(len(weight), -1), op.weight_bits)


def weight_c_type(op: Op) -> str:
    """Element type, in C, of the array that `pack_weight` makes of `op`."""
    if op.kind == "depthwise":
        return "int8_t" if op.weight_bits > 4 else "uint8_t"
    return "uint32_t"


def scratch_bytes(op: Op, graph: Graph) -> int:
    """Bytes of scratch, 4-byte aligned, that the kernel of `op` needs during a call; 0 for none."""
    if op.kind == "pointwise":
        return 4 * _round_up(graph.tensors[op.input].shape[2], 4)
    if op.kind == "conv2d":
        depth = op.window.area * graph.tensors[op.input].shape[2]
        return 4 * _round_up(depth, 4) + 2 * _CONV2D_PIXELS * _round_up(depth, 2)
    return 0


def gather_bytes(op: Op, graph: Graph, rows: int) -> int:
    """Bytes of the pixels of `rows` input rows of a pointwise `op`, as it gathers them."""
    _, width, channels = graph.tensors[op.input].shape
    return _round_up(2 * rows * width * channels, 4)


def tight_span(op: Op, graph: Graph, most: int) -> int:
    """Columns that a depthwise `op` on rows without padding copies for up to `most` outputs."""
    if most < graph.tensors[op.output].shape[1]:
        return _round_up(op.window.stride[1] * most + 2, 4)
    return graph.tensors[op.input].shape[1]


def tight_bytes(op: Op, graph: Graph, most: int) -> int:
    """Scratch of that kernel: three lines, and a byte a channel where that is not the whole row."""
    _, width, channels = graph.tensors[op.output].shape
    column = _round_up(channels, 4) if most < width else 0
    return 3 * _round_up(tight_span(op, graph, most) + 8, 4) + column
