"""How each tensor lies in memory: the layout its consumers read fastest, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass, replace

from etinynet.backend.c.pack import is_3x3
from etinynet.backend.c.place import ALIGNMENT
from etinynet.backend.c.schedule import Choice
from etinynet.errors import UnsupportedError
from etinynet.graph.ir import Graph, Op, Tensor

__all__ = ["Layout", "layouts"]

_WIDE_KINDS = ("pointwise", "dense")


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


def _wanted(op: Op, tensor: Tensor, tight: bool, gathers: bool) -> Layout:
    """The layout in which `op` reads its input."""
    if op.kind in _WIDE_KINDS:
        return _tight(tensor, 2) if gathers else _hwc(tensor, 2)
    if tensor.bits > 8:
        raise UnsupportedError(
            f"operator {op.name!r}: {op.kind} reads {tensor.name!r} of {tensor.bits} bits, "
            "the C backend reads at most 8 there"
        )
    if op.kind == "conv2d":
        return _hwc(tensor, 1)
    if op.kind == "depthwise" and is_3x3(op):
        return _tight(tensor, 1) if tight else _hcw(tensor, op.window.padding[1])
    return _hcw(tensor, 0)


def _choose(graph: Graph, name: str, made: dict[str, Layout], choice: Choice) -> Layout:
    """Layout of tensor `name`; `made` holds those of all tensors made after it."""
    tensor = graph.tensors[name]
    numbered = [
        (index, op) for index, op in enumerate(graph.ops) if op.input == name and op.kind != "add"
    ]
    readers = [op for _, op in numbered]
    wanted = [
        _wanted(op, tensor, choice.tight, choice.gathers(graph, index)) for index, op in numbered
    ]
    if name == graph.outputs[0]:
        # The caller's array: it has no spare bytes at the end.
        wanted.append(replace(_hwc(tensor, 2), row_bytes=2 * tensor.shape[2]))
    if name == graph.input:
        wanted.append(_hwc(tensor, 1))
    if not wanted and tensor.bits > 8:
        wanted = [_hwc(tensor, 2)]
    if not wanted:  # summands lie as their sum
        sums = [op.output for op in graph.ops if name in op.inputs]
        like = made[sums[0]]
        row_bytes = _round_up(like.row_bytes, ALIGNMENT)
        wanted = [replace(like, fill=_fill(tensor), row_bytes=row_bytes)]
    if any(other != wanted[0] for other in wanted):
        names = ", ".join(f"{op.kind} {op.name!r}" for op in readers)
        role = " of the graph's input" if name == graph.input else ""
        raise UnsupportedError(
            f"tensor {name!r}: its readers ({names}) want different memory layouts{role}, "
            "the C backend keeps one"
        )
    return wanted[0]


def layouts(graph: Graph, choice: Choice) -> dict[str, Layout]:
    """Layout of every tensor by name.

    Raises UnsupportedError naming tensor or operator where readers disagree or want other bits.
    """
    shapes = [graph.tensors[name].shape for name in graph.outputs]
    if len(shapes) > 1 or shapes[0][:2] != (1, 1):
        raise UnsupportedError(
            f"graph {graph.name!r}: its outputs have the shapes {shapes}; the C backend writes one "
            "of shape (1, 1, scores)"
        )
    found: dict[str, Layout] = {}
    for op in reversed(graph.ops):
        found[op.output] = _choose(graph, op.output, found, choice)
    found[graph.input] = _choose(graph, graph.input, found, choice)
    return found
