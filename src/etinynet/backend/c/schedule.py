"""The order of work: which operator makes which rows when, simulated as the generated C runs it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from etinynet.errors import EtinynetError
from etinynet.graph.ir import Graph, Op

__all__ = ["Choice", "Event", "Step", "first_position", "make_steps", "simulate", "window"]


@dataclass(frozen=True)
class Choice:
    """What the planner may choose of the order of work.

    `rows`: rows a call where it is not 1. `barriers`: operators that wait for their complete input.
    `strips`: pointwise operators (by index; the value is the depthwise operator before them) that
    are made together with it, a few pixels of a row at a time. `tight`: rows without padding
    columns, so that a row can take the place of one it is made of.
    """

    tight: bool
    rows: dict[int, int]
    barriers: frozenset[int] = frozenset()
    strips: dict[int, int] = field(default_factory=dict)

    def gathers(self, graph: Graph, index: int) -> bool:
        """Whether operator `index` copies its input rows, which it alone takes as input, before it
        writes. A shortcut is never copied: where it is the input, that would gain nothing."""
        op = graph.ops[index]
        if not self.tight or index not in self.barriers or op.kind != "pointwise":
            return False
        if op.residual == op.input:
            return False
        return sum(other.input == op.input for other in graph.ops) == 1


@dataclass(frozen=True)
class Step:
    """When operator `index` may work: it makes `rows` rows a call from a window of its input.

    `barrier` makes it wait for its complete input. `last` is the largest index among the readers
    of its output (its own, if there is none): where the driver looks for work next. `before` is
    the depthwise operator whose rows are made in strips within the same call, -1 for none; the
    window is then that operator's, which itself makes 0 rows a call.
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
    before: int = -1


class Event(NamedTuple):
    """One call: operator `op` (-1: the picture) makes rows `row` .. `row + rows - 1`."""

    op: int
    row: int
    rows: int


def make_steps(graph: Graph, choice: Choice) -> tuple[Step, ...]:
    """Steps of all operators."""
    steps = [_make_step(graph, index, op, choice) for index, op in enumerate(graph.ops)]
    for index, before in choice.strips.items():
        first = steps[before]
        steps[index] = replace(
            steps[index],
            input=first.input,
            in_height=first.in_height,
            kernel=first.kernel,
            stride=first.stride,
            padding=first.padding,
            before=before,
        )
        steps[before] = replace(first, rows=0)
    return tuple(steps)


def _make_step(graph: Graph, index: int, op: Op, choice: Choice) -> Step:
    in_height, out_height = graph.tensors[op.input].shape[0], graph.tensors[op.output].shape[0]
    together = {before: after for after, before in choice.strips.items()}
    readers = [
        together.get(i, i)
        for i, other in enumerate(graph.ops)
        if op.output in (other.input, other.residual)
    ]
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
        rows=choice.rows.get(index, 1),
        barrier=index in choice.barriers,
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
    output, so the driver goes on at the last of these. The generated C holds the same loop. Raises
    EtinynetError if an operator waits for ever.
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
    for step in steps:
        if step.rows > 0 and made[step.output] < step.out_height:
            raise EtinynetError(
                f"memory plan: tensor {step.output!r} is never completed; "
                "this is a defect of the planner, please report it"
            )
    return events
