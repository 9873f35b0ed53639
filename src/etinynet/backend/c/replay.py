"""The finished plan run on an arena of marks: no row is lost before it is read.

Written apart from the planner: it looks for the next call among all operators and takes windows
from the graph, so that a mistake in the planner's lives, places or offsets shows here.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from etinynet.errors import EtinynetError
from etinynet.graph.ir import Graph, Op

if TYPE_CHECKING:
    from etinynet.backend.c.plan import Plan

__all__ = ["replay"]

_WORD = 4


def _fail(what: str) -> NoReturn:
    raise EtinynetError(f"memory plan: {what}; this is a defect of the planner, please report it")


class _Arena:
    """Every word of the arena knows the buffer and row written there last."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.owner = np.full(plan.arena_bytes // _WORD, -1, np.int32)
        self.marks: dict[tuple[str, int], int] = {}
        self.ends = np.cumsum(plan.regions or (plan.arena_bytes,)).tolist()

    def _words(self, offset: int, size: int, what: str) -> slice:
        end = offset + size
        if offset < 0 or offset % _WORD or end > self.plan.arena_bytes:
            _fail(f"{what} at {offset}, {size} bytes, leaves the arena of {self.plan.arena_bytes}")
        if any(offset < border < end for border in self.ends):
            _fail(f"{what} at {offset}, {size} bytes, lies across the end of a region")
        return slice(offset // _WORD, -(-end // _WORD))

    def row(self, name: str, row: int) -> slice:
        size = self.plan.layouts[name].row_bytes
        return self._words(self.plan.places[name][row], size, f"row {row} of {name!r}")

    def write(self, name: str, row: int) -> None:
        mark = self.marks.setdefault((name, row), len(self.marks))
        self.owner[self.row(name, row)] = mark

    def take(self, offset: int, size: int, what: str) -> None:
        self.owner[self._words(offset, size, what)] = -2

    def check(self, name: str, row: int, reader: str) -> None:
        mark = self.marks.get((name, row))
        if mark is None:
            _fail(f"{reader} reads row {row} of {name!r} before it is made")
        if not np.all(self.owner[self.row(name, row)] == mark):
            _fail(f"{reader} reads row {row} of {name!r} after it was overwritten")

    def check_together(self, name: str, row: int, rows: int, reader: str) -> None:
        size = self.plan.layouts[name].row_bytes
        places = self.plan.places[name][row : row + rows]
        if any(place != places[0] + number * size for number, place in enumerate(places)):
            _fail(f"{reader}: rows {row} to {row + rows - 1} of {name!r} do not lie together")


def _rows_read(graph: Graph, op: Op, row: int, rows: int) -> range:
    height = graph.tensors[op.input].shape[0]
    if op.kind == "global_avg_pool":
        return range(height)
    first = row * op.stride - op.padding
    end = (row + rows - 1) * op.stride - op.padding + op.kernel
    return range(max(first, 0), min(end, height))


def _source(graph: Graph, plan: Plan, index: int) -> Op:
    """The operator whose input the call reads: the one before, if both work in strips."""
    return graph.ops[plan.choice.strips.get(index, index)]


def _next_call(graph: Graph, plan: Plan, made: dict[str, int]) -> tuple[int, int] | None:
    """The last operator that can work, and how many rows it makes."""
    handed = set(plan.choice.strips.values())
    for index in reversed(range(len(graph.ops))):
        op, step = graph.ops[index], plan.steps[index]
        row = made[op.output]
        rows = min(step.rows, graph.tensors[op.output].shape[0] - row)
        if rows == 0 or index in handed:
            continue
        source = _source(graph, plan, index)
        needed = _rows_read(graph, source, row, rows).stop
        if step.barrier:
            needed = graph.tensors[source.input].shape[0]
        if made[source.input] < needed:
            continue
        if op.residual is None or made[op.residual] >= row + rows:
            return index, rows
    return None


def _spared(graph: Graph, plan: Plan, index: int, row: int) -> list[tuple[str, int]]:
    """Rows the kernel has read by the time it writes the same bytes of the row it makes."""
    op, source = graph.ops[index], _source(graph, plan, index)
    if not plan.choice.tight:
        return []
    top = row * source.stride - source.padding
    if op.kind == "depthwise" and (op.kernel, op.padding) == (3, 1) and op.stride <= 2:
        own = row if op.residual == op.input else -1
        return [(op.input, other) for other in range(top, top + op.kernel) if other != own]
    if op.kind not in ("pointwise", "add"):
        return []
    found = []
    if source is not op and source.stride == 1:
        found.append((source.input, top))
    if op.residual is not None and op.residual != source.input:
        found.append((op.residual, row))
    return found


def _in_place(plan: Plan, one: str, other: str) -> bool:
    """Whether lines, or pixels, of both tensors have equal bytes, so that each lies on its like."""
    a, b = plan.layouts[one], plan.layouts[other]
    if a.order == b.order == "hwc":
        return (a.element_bytes, a.pixel_stride) == (b.element_bytes, b.pixel_stride)
    lines = a.channel_stride * a.element_bytes, b.channel_stride * b.element_bytes
    return a.order == b.order == "hcw" and a.pad == b.pad == 0 and lines[0] == lines[1]


def _call(graph: Graph, plan: Plan, arena: _Arena, index: int, row: int, rows: int) -> None:
    op, source = graph.ops[index], _source(graph, plan, index)
    reader = f"operator {op.name!r}"
    gathers = plan.choice.gathers(graph, index)
    inputs = [(source.input, number) for number in _rows_read(graph, source, row, rows)]
    shortcut = []
    if op.residual is not None:
        shortcut = [(op.residual, number) for number in range(row, row + rows)]
        arena.check_together(op.residual, row, rows, reader)
    read = [*inputs, *shortcut]
    for name, number in read:
        arena.check(name, number, reader)
    if source.kind in ("pointwise", "dense", "global_avg_pool") and not gathers:
        arena.check_together(source.input, inputs[0][1], len(inputs), reader)
    arena.check_together(op.output, row, rows, reader)
    if plan.scratch_bytes[index]:
        arena.take(plan.scratch[index], plan.scratch_bytes[index], f"scratch of {op.name!r}")
    if index in plan.pads:
        _take_pad(graph, plan, arena, index, row, rows)
    for name, number in read:
        arena.check(name, number, f"{reader}, having taken scratch,")
    for made in range(row, row + rows):
        arena.write(op.output, made)
    spared = _spared(graph, plan, index, row) if rows == 1 else []
    # what is gathered is input alone: the kernel reads its shortcut while it writes
    for name, number in shortcut if gathers else read:
        lies_on = arena.row(name, number) == arena.row(op.output, row)
        if (name, number) in spared and lies_on and _in_place(plan, name, op.output):
            continue
        arena.check(name, number, f"{reader}, having written,")
    for made in range(row, row + rows):
        arena.check(op.output, made, f"{reader}, having written,")
    _check_scratch(plan, arena, index, op)


def _take_pad(graph: Graph, plan: Plan, arena: _Arena, index: int, row: int, rows: int) -> None:
    op = graph.ops[index]
    end = (row + rows - 1) * op.stride - op.padding + op.kernel
    if row * op.stride - op.padding < 0 or end > graph.tensors[op.input].shape[0]:
        arena.take(plan.pads[index], plan.layouts[op.input].row_bytes, f"pad row of {op.name!r}")


def _check_scratch(plan: Plan, arena: _Arena, index: int, op: Op) -> None:
    if plan.scratch_bytes[index]:
        first = plan.scratch[index] // _WORD
        words = arena.owner[first : first + -(-plan.scratch_bytes[index] // _WORD)]
        if not np.all(words == -2):
            _fail(f"operator {op.name!r} writes its output over its scratch")


def _check_strips(graph: Graph, plan: Plan) -> None:
    """A tensor made in strips is never whole: one operator reads it, once, as input."""
    reads = [name for op in graph.ops for name in (op.input, op.residual)]
    for index, before in plan.choice.strips.items():
        name = graph.ops[before].output
        if graph.ops[index].input != name or reads.count(name) != 1 or name in plan.places:
            _fail(f"tensor {name!r} is made in strips, but not for one reader alone")


def _check_calls(plan: Plan, calls: list[tuple[int, int, int]]) -> None:
    for number, (call, planned) in enumerate(zip_longest(calls, plan.events)):
        if call != planned:
            _fail(f"call {number} (operator, row, rows) is {call}, planned is {planned}")


def replay(graph: Graph, plan: Plan) -> None:
    """Runs all calls of `plan`. Raises EtinynetError if a row is read that is not there."""
    _check_strips(graph, plan)
    arena = _Arena(plan)
    made = dict.fromkeys(graph.tensors, 0)
    calls: list[tuple[int, int, int]] = []
    for picture_row in range(graph.tensors[graph.input].shape[0]):
        arena.write(graph.input, picture_row)
        made[graph.input] += 1
        calls.append((-1, picture_row, 1))
        while (call := _next_call(graph, plan, made)) is not None:
            index, rows = call
            name = graph.ops[index].output
            _call(graph, plan, arena, index, made[name], rows)
            calls.append((index, made[name], rows))
            made[name] += rows
    handed = {graph.ops[index].output for index in plan.choice.strips.values()}
    for name, rows in made.items():
        if rows < graph.tensors[name].shape[0] and name not in handed:
            _fail(f"tensor {name!r} is never completed")
    _check_calls(plan, calls)
    for row in range(graph.tensors[graph.output].shape[0]):
        arena.check(graph.output, row, "the caller")
