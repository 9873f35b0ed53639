"""The order of work: which operator makes which rows when, simulated as the generated C runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from etinynet.graph.ir import Graph, Op

__all__ = [
    "Event",
    "Life",
    "Step",
    "first_position",
    "lives",
    "make_steps",
    "simulate",
    "smallest_ring",
    "window",
]


@dataclass(frozen=True)
class Step:
    """When operator `index` may work: it makes `rows` rows a call from a window of its input.

    `barrier` makes it wait for its complete input. `last` is the largest index among the readers
    of its output (its own, if there is none): where the driver looks for work next.
    """

    index: int
    input: str
    output: str
    residual: str | None
    in_height: int
    out_height: int
    kernel: int
    stride: int
    padding: int
    rows: int
    barrier: bool
    last: int


class Event(NamedTuple):
    """One call: operator `op` (-1: the picture) makes rows `row` .. `row + rows - 1`."""

    op: int
    row: int
    rows: int


class Life(NamedTuple):
    """Events between which one row must stay in memory, both included."""

    first: int
    last: int


def make_steps(graph: Graph, rows: dict[int, int], barriers: frozenset[int]) -> tuple[Step, ...]:
    """Steps of all operators; `rows` gives the rows a call where it is not 1."""
    return tuple(
        _make_step(graph, index, op, rows.get(index, 1), index in barriers)
        for index, op in enumerate(graph.ops)
    )


def _make_step(graph: Graph, index: int, op: Op, rows: int, barrier: bool) -> Step:
    in_height, out_height = graph.tensors[op.input].shape[0], graph.tensors[op.output].shape[0]
    readers = [i for i, other in enumerate(graph.ops) if op.output in (other.input, other.residual)]
    return Step(
        index=index,
        input=op.input,
        output=op.output,
        residual=op.residual,
        in_height=in_height,
        out_height=out_height,
        kernel=in_height if op.kind == "global_avg_pool" else op.kernel,
        stride=op.stride,
        padding=op.padding,
        rows=rows,
        barrier=barrier,
        last=max(readers, default=index),
    )


def window(step: Step, row: int, rows: int) -> tuple[int, int]:
    """Input rows (first, end) that rows `row` .. `row + rows - 1` of the output are made of."""
    first = row * step.stride - step.padding
    end = (row + rows - 1) * step.stride - step.padding + step.kernel
    return max(first, 0), min(end, step.in_height)


def _ready(step: Step, made: dict[str, int]) -> int:
    """Rows that the next call of `step` makes; 0 where something is missing or all is done."""
    row = made[step.output]
    rows = min(step.rows, step.out_height - row)
    if rows == 0:
        return 0
    needed = step.in_height if step.barrier else window(step, row, rows)[1]
    shortcut = step.residual is None or made[step.residual] >= row + rows
    return rows if made[step.input] >= needed and shortcut else 0


def first_position(graph: Graph, steps: tuple[Step, ...]) -> int:
    """Last operator that reads the picture: where the driver looks for work after each row."""
    return max(step.index for step in steps if graph.input in (step.input, step.residual))


def simulate(graph: Graph, steps: tuple[Step, ...]) -> list[Event]:
    """All calls in order: after each picture row the deepest operator that can work does.

    Above the driver's position no operator can work; a call can only enable the readers of its
    output, so the driver goes on at the last of these. The generated C holds the same loop.
    """
    made = dict.fromkeys(graph.tensors, 0)
    events: list[Event] = []
    start = first_position(graph, steps)
    for row in range(graph.tensors[graph.input].shape[0]):
        events.append(Event(-1, row, 1))
        made[graph.input] += 1
        position = start
        while position >= 0:
            step = steps[position]
            rows = _ready(step, made)
            if rows == 0:
                position -= 1
                continue
            events.append(Event(position, made[step.output], rows))
            made[step.output] += rows
            position = step.last
    return events


def lives(graph: Graph, steps: tuple[Step, ...], events: list[Event]) -> dict[str, list[Life]]:
    """Life of each row of each tensor: from the event that writes it to the last that reads it."""
    first = {name: [0] * tensor.shape[0] for name, tensor in graph.tensors.items()}
    last = {name: [0] * tensor.shape[0] for name, tensor in graph.tensors.items()}
    for time, (op, row, rows) in enumerate(events):
        output = graph.input if op < 0 else steps[op].output
        for made in range(row, row + rows):
            first[output][made] = last[output][made] = time
        if op < 0:
            continue
        step = steps[op]
        for read in range(*window(step, row, rows)):
            last[step.input][read] = time
        if step.residual is not None:
            for read in range(row, row + rows):
                last[step.residual][read] = time
    return {
        name: [Life(*pair) for pair in zip(first[name], last[name], strict=True)] for name in first
    }


def smallest_ring(life: list[Life], unit: int) -> int:
    """Fewest rows of a ring that never overwrites a row still to be read, a multiple of `unit`."""
    height = len(life)
    for ring in range(unit, height, unit):
        if all(life[row].last < life[row + ring].first for row in range(height - ring)):
            return ring
    return height
