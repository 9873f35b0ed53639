"""Single kernel calls: what they are, their memory, and what must be in it afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from etinynet.backend.c.pack import is_3x3, pack_weight, scratch_bytes, tight_bytes
from etinynet.graph.arithmetic import requantize
from etinynet.graph.ir import Graph, Op, Requantization, Tensor, Window
from etinynet.graph.ops import COPY, OPS, output_shape

__all__ = ["KINDS", "NUMBERS", "Case", "KernelCall", "Place"]

#: In the order of the kinds in kernel_harness_calls.h.
KINDS = (*OPS, COPY)

#: Fields of harness_call.
NUMBERS = (
    *("kind", "height", "width_in", "in_channels", "width_out", "out_channels"),
    *("kernel_height", "kernel_width", "stride", "padding", "zero_point", "weight_bits"),
    *("row_stride", "line_stride"),
    *("out_start", "out_row", "out_pixel", "out_channel", "wide"),
    *("residual_start", "residual_row", "residual_pixel", "residual_channel", "residual_wide"),
    *("shift", "bits", "relu", "per_tensor", "narrow_offset", "narrow_bias", "left"),
    *("most", "over", "gather"),
    *("in_start", "in_pixel", "in_channel", "in_wide", "three"),
)
_ROW_KINDS = ("conv2d", "depthwise", "max_pool", "avg_pool")
_MAX_ROWS = 8


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


@dataclass(frozen=True)
class Place:
    """A memory layout: `order` hwc or hcw, `pad` before each line (hcw) and `gap` after each row
    (hwc) or line (hcw, in words) in elements, `wide` for int16; `tight` lines have nothing else."""

    order: str = "hcw"
    wide: bool = False
    pad: int = 0
    gap: int = 0
    tight: bool = False

    def strides(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Elements from row to row, pixel to pixel and channel to channel."""
        _, width, channels = shape
        if self.order == "hwc":
            return width * channels + self.gap, channels, 1
        if self.tight:
            return channels * width, 1, width
        line = _round_up(width + self.pad, 4) + 4 * self.gap
        return channels * line + 4 * min(self.pad, 1), 1, line

    def put(self, values: NDArray[np.int64], fill: int) -> bytes:
        """Memory with `values` (height, width, channels); every other element is `fill`."""
        dtype = np.int16 if self.wide else np.int8
        strides = self.strides(values.shape)
        size = (values.shape[0] - 1) * strides[0]
        size += values.shape[1] * values.shape[2] if self.order == "hwc" else strides[0]
        memory = np.full(size, fill, dtype)
        unit = memory.itemsize
        view = as_strided(memory[self.pad :], values.shape, [unit * step for step in strides])
        view[...] = values
        return memory.tobytes()


@dataclass(frozen=True)
class Case:
    """One call: `op` on `x` (height, width, channels); `x` has as many rows as the call reads.

    `op.window.padding` pads left and right only. `out` and `residual_place` say where things lie.
    With `narrow_offset` the kernel gets offsets as int16, which their values must allow; biases are
    int16 where they allow it. `in_place` is the input's where the kernel takes any.

    With `most` a depthwise call is etn_depthwise_tight, in parts of up to so many outputs; then
    `over` is the input row that the output overwrites, and `missing` the one that is not there
    (-1: none), whose values are the zero point. `gather` takes a pointwise input through
    etn_pointwise_gather.
    """

    op: Op
    x: NDArray[np.int64]
    out_bits: int = 8
    zero_point: int = 0
    residual: NDArray[np.int64] | None = None
    out: Place = field(default_factory=Place)
    residual_place: Place = field(default_factory=Place)
    in_gap: int = 0
    narrow_offset: bool = False
    most: int = 0
    over: int = -1
    missing: int = -1
    gather: bool = False
    in_place: Place = field(default_factory=Place)

    def expected_shape(self) -> tuple[int, int, int]:
        """Shape of the output."""
        op, channels = self.op, self.x.shape[2]
        if op.kind == COPY:
            return self.x.shape
        channels = channels if op.weight is None else len(op.weight)
        return output_shape(op.kind, self.x.shape, channels, self._rows_there())

    def _rows_there(self) -> Window:
        """The window without padding above and below: these rows are among the input's."""
        _, left, _, right = self.op.window.padding
        return replace(self.op.window, padding=(0, left, 0, right))

    def expected(self) -> NDArray[np.int64]:
        """What graph/execute.py makes of it."""
        if self.op.kind == COPY:
            return self.x
        op = replace(self.op, window=self._rows_there())
        total = OPS[op.kind].accumulate(self.x, op, self.zero_point)
        rule = op.requantization
        if rule is None:
            return total
        return requantize(
            total if op.bias is None else total + op.bias,
            rule.multiplier.astype(np.int64),
            rule.offset.astype(np.int64),
            rule.shift,
            self.out_bits,
            relu=rule.relu,
            residual=self.residual,
            residual_multiplier=_factor(rule),
        )


def _offset(rule: Requantization, narrow: bool) -> NDArray[np.int16] | NDArray[np.int32]:
    if not narrow:
        return rule.offset
    offset = rule.offset.astype(np.int16)
    assert np.array_equal(offset, rule.offset)
    return offset


def _factor(rule: Requantization) -> NDArray[np.int64]:
    factor = rule.residual_multiplier
    return np.zeros(len(rule.multiplier), np.int64) if factor is None else factor.astype(np.int64)


@dataclass(frozen=True)
class KernelCall:
    """Numbers and blobs of a call, and the output memory it must leave."""

    numbers: tuple[int, ...]
    blobs: tuple[bytes, ...]
    after: bytes

    @classmethod
    def of(cls, case: Case) -> KernelCall:
        op, expected = case.op, case.expected()
        rule = op.requantization
        rows, place = _input(case)
        row_stride, pixel_stride, line_stride = place.strides(case.x.shape)
        if case.gather:
            row_stride = case.x.shape[1] * case.x.shape[2]
        shortcut = (0, 0, 0)
        residual = b""
        if case.residual is not None:
            shortcut = case.residual_place.strides(case.residual.shape)
            residual = case.residual_place.put(case.residual, 99)
        scale = (max(rule.shift, 0), case.out_bits, int(rule.relu)) if rule else (0, 8, 0)
        numbers = (
            *(KINDS.index(op.kind), *case.x.shape, expected.shape[1], expected.shape[2]),
            *(*op.window.kernel, op.window.stride[1], op.window.padding[1], case.zero_point),
            *(8 if op.weight_bits > 4 else 4, row_stride, line_stride),
            *(case.out.pad, *case.out.strides(expected.shape), int(case.out.wide)),
            *(case.residual_place.pad, *shortcut, int(case.residual_place.wide)),
            *scale,
            int(rule is not None and len(rule.multiplier) == 1),
            int(case.narrow_offset),
            int(op.bias is None or _narrowed(op.bias).dtype == np.int16),
            0 if rule is None else max(-rule.shift, 0),
            *(case.most, case.over, int(case.gather)),
            *(place.pad, pixel_stride, line_stride, int(place.wide)),
            int(op.kind == "depthwise" and is_3x3(op.window)),
        )
        constants = (
            b"" if op.weight is None else pack_weight(op).tobytes(),
            b"" if op.bias is None else _narrowed(op.bias).tobytes(),
            b"" if rule is None else rule.multiplier.tobytes(),
            b"" if rule is None else _offset(rule, case.narrow_offset).tobytes(),
            b"" if case.residual is None or rule is None else _factor(rule).astype("<i4").tobytes(),
        )
        after = case.out.put(expected, 90)
        before = case.out.put(np.full_like(expected, 90), 90)
        scratch = bytes(_scratch(case))
        return cls(numbers, (*constants, residual, before, scratch, *rows), after)


def _narrowed(bias: NDArray[np.int32]) -> NDArray[np.int16] | NDArray[np.int32]:
    return bias.astype(np.int16) if np.abs(bias.astype(np.int64)).max() < 2**15 else bias


def _scratch(case: Case) -> int:
    shape = (1, *case.x.shape[1:])
    tensors = {"x": Tensor("x", shape, 8, 0, 1.0), "y": Tensor("y", case.expected_shape(), 8, 0, 1)}
    graph = Graph("case", tensors, (), "x", ("y",))
    if case.most:
        return tight_bytes(case.op, graph, case.most)
    return scratch_bytes(case.op, graph) + (2 * case.x.size if case.gather else 0)


def _input(case: Case) -> tuple[list[bytes], Place]:
    """Blobs of the input (rows, or one and nothing), and how they lie in memory."""
    kind = case.op.kind
    if case.gather:
        place = Place(wide=case.in_place.wide, tight=True)
    elif case.most:
        place = Place(tight=True)
    elif kind in ("pointwise", "dense"):
        place = Place("hwc", wide=True, gap=case.in_gap)
    elif kind == "conv2d":
        place = Place("hwc")
    elif kind in ("add", COPY):
        place = case.in_place
    elif kind == "depthwise" and is_3x3(case.op.window):
        place = Place("hcw", pad=case.op.window.padding[1], gap=case.in_gap)
    else:
        place = Place("hcw", gap=case.in_gap)
    fill = case.zero_point if kind == "depthwise" else 77
    rows = [case.x]
    if kind in _ROW_KINDS or case.gather:
        rows = [case.x[row : row + 1] for row in range(len(case.x))]
    blobs = [place.put(row, fill) for row in rows]
    if case.missing >= 0:
        blobs[case.missing] = b""
    return blobs + [b""] * (_MAX_ROWS - len(blobs)), place
