"""The finished plan run on an arena of marks: no row is lost before it is read.

Written apart from the planner: it looks for the next call among all operators and takes windows
from the graph, so that a mistake in the planner's lives, rings or offsets shows here.
"""

from __future__ import annotations

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

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.plan = plan
        self.owner = np.full(plan.arena_bytes // _WORD, -1, np.int64)
        self.marks: dict[tuple[str, int], int] = {}
        self.output = graph.output

    def _words(self, offset: int, size: int, what: str) -> slice:
        if offset < 0 or offset % _WORD or offset + size > self.plan.arena_bytes:
            _fail(f"{what} at {offset}, {size} bytes, leaves the arena of {self.plan.arena_bytes}")
        return slice(offset // _WORD, -(-(offset + size) // _WORD))

    def _row(self, name: str, row: int) -> slice:
        ring, layout = self.plan.rings[name], self.plan.layouts[name]
        offset = ring.offset + (row + ring.phase) % ring.rows * layout.row_bytes
        return self._words(offset, layout.row_bytes, f"row {row} of {name!r}")

    def write(self, name: str, row: int) -> None:
        if name != self.output:
            mark = self.marks.setdefault((name, row), len(self.marks))
            self.owner[self._row(name, row)] = mark

    def take(self, offset: int, size: int, what: str) -> None:
        self.owner[self._words(offset, size, what)] = -2

    def check(self, name: str, row: int, reader: str) -> None:
        mark = self.marks.get((name, row))
        if mark is None:
            _fail(f"{reader} reads row {row} of {name!r} before it is made")
        if not np.all(self.owner[self._row(name, row)] == mark):
            _fail(f"{reader} reads row {row} of {name!r} after it was overwritten")

    def check_together(self, name: str, row: int, rows: int, reader: str) -> None:
        if name == self.output:
            return
        ring = self.plan.rings[name]
        if (row + ring.phase) % ring.rows + rows > ring.rows:
            _fail(f"{reader}: rows {row} to {row + rows - 1} of {name!r} do not lie together")


def _rows_read(graph: Graph, op: Op, row: int, rows: int) -> range:
    height = graph.tensors[op.input].shape[0]
    if op.kind == "global_avg_pool":
        return range(height)
    first = row * op.stride - op.padding
    end = (row + rows - 1) * op.stride - op.padding + op.kernel
    return range(max(first, 0), min(end, height))


def _next_call(graph: Graph, plan: Plan, made: dict[str, int]) -> tuple[int, int] | None:
    """The last operator that can work, and how many rows it makes."""
    for index in reversed(range(len(graph.ops))):
        op, step = graph.ops[index], plan.steps[index]
        row = made[op.output]
        rows = min(step.rows, graph.tensors[op.output].shape[0] - row)
        if rows == 0:
            continue
        needed = _rows_read(graph, op, row, rows).stop
        if step.barrier:
            needed = graph.tensors[op.input].shape[0]
        if made[op.input] < needed:
            continue
        if op.residual is None or made[op.residual] >= row + rows:
            return index, rows
    return None


def _call(graph: Graph, plan: Plan, arena: _Arena, index: int, row: int, rows: int) -> None:
    op = graph.ops[index]
    reader = f"operator {op.name!r}"
    read = [(op.input, source) for source in _rows_read(graph, op, row, rows)]
    if op.residual is not None:
        read += [(op.residual, source) for source in range(row, row + rows)]
        arena.check_together(op.residual, row, rows, reader)
    for name, source in read:
        arena.check(name, source, reader)
    if op.kind in ("pointwise", "dense", "global_avg_pool"):
        arena.check_together(op.input, read[0][1], len(_rows_read(graph, op, row, rows)), reader)
    arena.check_together(op.output, row, rows, reader)
    for made in range(row, row + rows):
        arena.write(op.output, made)
    first = row * op.stride - op.padding
    if (
        first < 0
        or (row + rows - 1) * op.stride - op.padding + op.kernel
        > (graph.tensors[op.input].shape[0])
    ):
        arena.take(plan.pads[index], plan.layouts[op.input].row_bytes, f"pad row of {op.name!r}")
    if plan.scratch_bytes[index]:
        arena.take(plan.scratch[index], plan.scratch_bytes[index], f"scratch of {op.name!r}")
    for name, source in read:
        arena.check(name, source, f"{reader}, having written,")
    for made in range(row, row + rows):
        if op.output != graph.output:
            arena.check(op.output, made, f"{reader}, having written,")


def replay(graph: Graph, plan: Plan) -> None:
    """Runs all calls of `plan`. Raises EtinynetError if a row is read that is not there."""
    arena = _Arena(graph, plan)
    made = dict.fromkeys(graph.tensors, 0)
    calls = 0
    for picture_row in range(graph.tensors[graph.input].shape[0]):
        arena.write(graph.input, picture_row)
        made[graph.input] += 1
        calls += 1
        while (call := _next_call(graph, plan, made)) is not None:
            index, rows = call
            name = graph.ops[index].output
            _call(graph, plan, arena, index, made[name], rows)
            made[name] += rows
            calls += 1
    unfinished = [name for name, rows in made.items() if rows < graph.tensors[name].shape[0]]
    if unfinished:
        _fail(f"tensor {unfinished[0]!r} is never completed")
    if calls != plan.events:
        _fail(f"{calls} calls are made, {plan.events} were planned")
