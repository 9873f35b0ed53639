"""How each tensor lies in memory: the layout its consumers read fastest, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass, replace

from etinynet.backend.c.pack import is_3x3
from etinynet.backend.c.place import ALIGNMENT
from etinynet.backend.c.schedule import Choice
from etinynet.errors import UnsupportedError
from etinynet.graph.ir import Graph, Op, Tensor
from etinynet.graph.ops import COPY

__all__ = ["Layout", "given_layout", "layouts", "wanted_layout"]

_WIDE_KINDS = ("pointwise", "dense")
#: What reads every layout.
_ANY = ("add", COPY)


@dataclass(frozen=True)
class Layout:
    """One row of a tensor. Strides count elements of `element_bytes` bytes, `row_bytes` bytes, a
    multiple of `ALIGNMENT` so that each row has a place.

    Element (pixel x, channel c) of a row is element `pad + x * pixel_stride + c * channel_stride`.
    `order` is "hwc" (pixels outside channels) or "hcw" (one line of `channel_stride` elements for
    each channel). A padded row (`pad` > 0) holds `fill`, the zero point, in every other byte.
    """

    order: str
    element_bytes: int
    pixel_stride: int
    channel_stride: int
    pad: int
    row_bytes: int
    fill: int

    @property
    def line_stride(self) -> int:
        """Bytes from one channel's line to the next ("hcw")."""
        return self.channel_stride


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _fill(tensor: Tensor) -> int:
    """What a pad holds; int16 rows have none."""
    return tensor.zero_point if tensor.bits <= 8 else 0


def _hwc(tensor: Tensor, element_bytes: int) -> Layout:
    _, width, channels = tensor.shape
    row = _round_up(width * channels * element_bytes, ALIGNMENT)
    return Layout("hwc", element_bytes, channels, 1, 0, row, _fill(tensor))


def _hcw(tensor: Tensor, pad: int) -> Layout:
    _, width, channels = tensor.shape
    line = _round_up(width + pad, 4)
    row = _round_up(channels * line + 4 * pad, ALIGNMENT)
    return Layout("hcw", 1, 1, line, pad, row, _fill(tensor))


def _tight(tensor: Tensor, element_bytes: int) -> Layout:
    _, width, channels = tensor.shape
    row = _round_up(width * channels * element_bytes, ALIGNMENT)
    return Layout("hcw", element_bytes, 1, width, 0, row, _fill(tensor))


def wanted_layout(op: Op, tensor: Tensor, tight: bool, gathers: bool) -> Layout:
    """The layout in which `op` reads its input `tensor`; UnsupportedError where it has too many
    bits. `tight` and `gathers` as in schedule.Choice."""
    if op.kind in _WIDE_KINDS:
        return _tight(tensor, 1 if tensor.bits <= 8 else 2) if gathers else _hwc(tensor, 2)
    if tensor.bits > 8:
        raise UnsupportedError(
            f"operator {op.name!r}: {op.kind} reads {tensor.name!r} of {tensor.bits} bits, "
            "the C backend reads at most 8 there"
        )
    if op.kind == "conv2d":
        return _hwc(tensor, 1)
    if op.kind == "depthwise" and is_3x3(op.window):
        return _tight(tensor, 1) if tight else _hcw(tensor, op.window.padding[1])
    return _hcw(tensor, 0)


def given_layout(graph: Graph, name: str) -> Layout | None:
    """The layout that tensor `name` has whoever reads it: the picture's, or that of an output."""
    tensor = graph.tensors[name]
    if name == graph.input:
        return _hwc(tensor, 1)
    if name not in graph.outputs:
        return None
    if graph.head is None:
        return _hwc(tensor, 1 if tensor.bits <= 8 else 2)
    # The caller's array: it has no spare bytes at the end.
    return replace(_hwc(tensor, 2), row_bytes=2 * tensor.shape[2])


def _choose(program: Graph, name: str, made: dict[str, Layout], choice: Choice) -> Layout:
    """Layout of tensor `name`; `made` holds those of all tensors made after it."""
    given = given_layout(program, name)
    if given is not None:
        return given
    tensor, calls = program.tensors[name], program.ops
    readers = [i for i, op in enumerate(calls) if op.input == name and op.kind not in _ANY]
    if readers:
        first = readers[0]
        gathers = choice.gathers(program, first)
        return wanted_layout(calls[first], tensor, choice.tight, gathers)
    if tensor.bits > 8:
        return _hwc(tensor, 2)
    # summands lie as their sum
    like = made[next(op.output for op in calls if name in op.inputs)]
    row_bytes = _round_up(like.row_bytes, ALIGNMENT)
    return replace(like, fill=_fill(tensor), row_bytes=row_bytes)


def layouts(program: Graph, choice: Choice) -> dict[str, Layout]:
    """Layout of every tensor of `program` (program.py) by name.

    Raises UnsupportedError naming an operator that wants other bits.
    """
    found: dict[str, Layout] = {}
    for op in reversed(program.ops):
        found[op.output] = _choose(program, op.output, found, choice)
    found[program.input] = _choose(program, program.input, found, choice)
    return found
