"""When each row lives, and which rows take the place of rows they are made of: boxes of memory.

Time 2 t is when call t begins to write, 2 t + 1 when it has done: what it reads and what it writes
meet, unless it gathers its input first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import lcm

from etinynet.backend.c.layout import Layout
from etinynet.backend.c.pack import gather_bytes, is_3x3, scratch_bytes, tight_bytes
from etinynet.backend.c.place import ALIGNMENT, Box
from etinynet.backend.c.schedule import Choice, Event, Step, window
from etinynet.graph.ir import Graph

__all__ = ["STRIP_PIXELS", "Rows", "Scratch", "rows_of", "scratch_of"]

#: Pixels of a row that a depthwise and a pointwise operator make together: two blocks of the
#: pointwise kernel. Four would cost it a fifth more instructions.
STRIP_PIXELS = 8

#: Most rows of a ring that is kept as one.
_MOST_RING = 6

_Row = tuple[str, int]


@dataclass(frozen=True)
class Scratch:
    """Bytes an operator needs during a call: in all, and where its parts begin.

    `strip`: pixels handed from `before` to this operator, whose own scratch begins at `before`.
    """

    bytes: int
    strip: int = 0
    before: int = 0


def scratch_of(graph: Graph, steps: tuple[Step, ...], choice: Choice, index: int) -> Scratch:
    """Scratch memory of operator `index`."""
    op, step = graph.ops[index], steps[index]
    own = scratch_bytes(op, graph)
    width = graph.tensors[op.output].shape[1]
    if step.before >= 0:
        own = -(-own // ALIGNMENT) * ALIGNMENT
        before = own + 2 * STRIP_PIXELS * graph.tensors[op.input].shape[2]
        before = -(-before // ALIGNMENT) * ALIGNMENT
        size = before + tight_bytes(graph.ops[step.before], graph, STRIP_PIXELS)
        return Scratch(size, own, before)
    if choice.gathers(graph, index):
        return Scratch(own + gather_bytes(op, graph, step.rows))
    if choice.tight and op.kind == "depthwise" and is_3x3(op) and step.rows > 0:
        return Scratch(own + tight_bytes(op, graph, width))
    return Scratch(own)


@dataclass(frozen=True)
class Rows:
    """Boxes of all memory in the arena, and of which box each row is which part.

    `parts[name][row]` is the number of a box of `boxes` and the offset of the row in it;
    `spans[name][row]` its first and last time. Boxes of rows are called `name:row` by the first of
    them, others `scratch index` and `pad index`.
    """

    boxes: list[Box]
    parts: dict[str, list[tuple[int, int]]]
    spans: dict[str, list[tuple[int, int]]]


def _units(graph: Graph, steps: tuple[Step, ...], choice: Choice) -> dict[str, int]:
    """Rows that must lie together because one call handles them by one address."""
    units = dict.fromkeys(graph.tensors, 1)
    for step in steps:
        if step.rows > 1:
            names = [step.output, step.residual]
            if not choice.gathers(graph, step.index):
                names.append(step.input)
            for name in names:
                if name is not None:
                    units[name] = lcm(units[name], step.rows)
        if graph.ops[step.index].kind == "global_avg_pool":
            units[step.input] = step.in_height
    return units


def _reads(step: Step, event: Event, time: int, gathered: bool) -> Iterator[tuple[_Row, int]]:
    """Rows that call `time` reads, and until when: a gathered input row until the call writes,
    a row of the shortcut to the end, even one of the same tensor."""
    for row in range(*window(step, event.row, event.rows)):
        yield (step.input, row), 2 * time + (not gathered)
    if step.residual is not None:
        for row in range(event.row, event.row + event.rows):
            yield (step.residual, row), 2 * time + 1


class _Lives:
    """First and last time of every row."""

    def __init__(
        self, graph: Graph, steps: tuple[Step, ...], events: list[Event], choice: Choice
    ) -> None:
        self.first: dict[_Row, int] = {}
        self.last: dict[_Row, int] = {}
        gathers = [choice.gathers(graph, index) for index in range(len(steps))]
        for time, event in enumerate(events):
            output = graph.input if event.op < 0 else steps[event.op].output
            gathered = event.op >= 0 and gathers[event.op]
            for row in range(event.row, event.row + event.rows):
                self.first[output, row] = 2 * time + gathered
                self.last[output, row] = 2 * time + 1
            if event.op < 0:
                continue
            for read, end in _reads(steps[event.op], event, time, gathered):
                self.last[read] = max(self.last[read], end)
        end = 2 * len(events) - 1
        self.last.update(
            {(graph.output, row): end for row in range(graph.tensors[graph.output].shape[0])}
        )


def _same_place(one: Layout, other: Layout) -> bool:
    """Whether a line of a channel, or a pixel, has the same bytes of a row in both layouts."""
    if one.order == other.order == "hwc":
        return replace(one, fill=0) == replace(other, fill=0)
    return (
        one.order == other.order == "hcw"
        and one.pad == other.pad == 0
        and one.row_bytes == other.row_bytes
        and one.channel_stride * one.element_bytes == other.channel_stride * other.element_bytes
    )


def _replaceable(graph: Graph, step: Step, event: Event) -> Iterator[_Row]:
    """Rows that the one row this call makes could overwrite while it is made, if they then die.

    A depthwise kernel copies the lines of a channel before it writes that channel; but it may make
    outputs twice, so that its shortcut must stay. In strips only the row above is kept in part.
    pointwise and add read each value of their shortcut just before they write there.
    """
    op = graph.ops[step.index]
    if (op.kind == "depthwise" and is_3x3(op)) or step.before >= 0:
        top = event.row * step.stride - step.padding
        rows = range(top, top + (1 if step.before >= 0 else step.kernel))
        for row in rows:
            shortcut = step.residual == step.input and row == event.row
            if 0 <= row < step.in_height and not shortcut:
                yield step.input, row
    in_place = op.kind in ("pointwise", "add")
    if in_place and step.residual is not None and step.residual != step.input:
        yield step.residual, event.row


def _successors(
    graph: Graph,
    steps: tuple[Step, ...],
    events: list[Event],
    layouts: dict[str, Layout],
    units: dict[str, int],
    lives: _Lives,
) -> dict[_Row, _Row]:
    """Of each row that takes the place of another: that other."""
    found: dict[_Row, _Row] = {}
    taken: set[_Row] = set()
    for time, event in enumerate(events):
        if event.op < 0 or units[steps[event.op].output] > 1:
            continue
        step = steps[event.op]
        if step.before >= 0 and step.stride > 1:
            continue
        for row in _replaceable(graph, step, event):
            dies = lives.last[row] == 2 * time + 1 and units[row[0]] == 1
            if dies and row not in taken and _same_place(layouts[row[0]], layouts[step.output]):
                found[step.output, event.row] = row
                taken.add(row)
                break
    return found


def _rings(
    graph: Graph, units: dict[str, int], lives: _Lives, successors: dict[_Row, _Row]
) -> dict[str, int]:
    """Tensors that a ring of few rows holds, and of how many: their places then take less flash."""
    bound = {name for pair in successors.items() for name, _ in pair}
    rings = {}
    for name, tensor in graph.tensors.items():
        height = tensor.shape[0]
        if name in bound or units[name] > 1 or (name, 0) not in lives.first:
            continue
        for ring in range(1, min(_MOST_RING, height - 1) + 1):
            pairs = (((name, row), (name, row + ring)) for row in range(height - ring))
            if all(lives.last[one] < lives.first[other] for one, other in pairs):
                rings[name] = ring
                break
    return rings


def _row_boxes(
    graph: Graph,
    layouts: dict[str, Layout],
    units: dict[str, int],
    lives: _Lives,
    successors: dict[_Row, _Row],
) -> Rows:
    """One box for each unit of rows and all that take its place, or slot of a ring."""
    rings = _rings(graph, units, lives, successors)
    number: dict[_Row, int] = {}
    names: list[str] = []
    sizes: list[int] = []
    spans: list[list[tuple[int, int]]] = []
    made = {name for name, _ in lives.first}
    parts = {
        name: [(0, 0)] * graph.tensors[name].shape[0] for name in graph.tensors if name in made
    }
    times = {name: list(part) for name, part in parts.items()}
    for name, row in sorted(lives.first, key=lambda key: lives.first[key]):
        unit = units[name]
        life = lives.first[name, row], lives.last[name, row]
        head = successors.get((name, row), (name, row % rings.get(name, row + 1)))
        if unit > 1:
            head = name, row - row % unit
        if head not in number:
            number[head] = len(names)
            rows = min(unit, graph.tensors[name].shape[0] - head[1])
            names.append(f"{name}:{head[1]}")
            sizes.append(rows * layouts[name].row_bytes)
            spans.append([life])
        box = number[name, row] = number[head]
        begin, end = spans[box][-1]
        if life[0] <= end + 1:
            spans[box][-1] = begin, max(end, life[1])
        else:
            spans[box].append(life)
        parts[name][row] = box, row % unit * layouts[name].row_bytes
        times[name][row] = life
    boxes = [Box(*box) for box in zip(names, sizes, map(tuple, spans), strict=True)]
    return Rows(boxes, parts, times)


def _needs_pad(step: Step, event: Event) -> bool:
    top = event.row * step.stride - step.padding
    bottom = (event.row + event.rows - 1) * step.stride - step.padding + step.kernel
    return top < 0 or bottom > step.in_height


def _small_boxes(
    graph: Graph,
    steps: tuple[Step, ...],
    events: list[Event],
    layouts: dict[str, Layout],
    choice: Choice,
) -> list[Box]:
    """Scratch and pad rows, in use only while their operator runs; tight kernels have no pads."""
    calls: dict[int, list[tuple[int, int]]] = {}
    pads: dict[int, list[tuple[int, int]]] = {}
    for time, event in enumerate(events):
        if event.op < 0:
            continue
        calls.setdefault(event.op, []).append((2 * time, 2 * time + 1))
        tight = choice.tight and layouts[steps[event.op].input].order == "hcw"
        if not tight and _needs_pad(steps[event.op], event):
            pads.setdefault(event.op, []).append((2 * time, 2 * time + 1))
    boxes = []
    for index, spans in calls.items():
        size = scratch_of(graph, steps, choice, index).bytes
        if size:
            boxes.append(Box(f"scratch {index}", size, tuple(spans)))
    for index, spans in pads.items():
        boxes.append(Box(f"pad {index}", layouts[steps[index].input].row_bytes, tuple(spans)))
    return boxes


def rows_of(
    graph: Graph,
    steps: tuple[Step, ...],
    events: list[Event],
    layouts: dict[str, Layout],
    choice: Choice,
) -> Rows:
    """All boxes of the schedule `events`."""
    units = _units(graph, steps, choice)
    lives = _Lives(graph, steps, events, choice)
    successors: dict[_Row, _Row] = {}
    if choice.tight:
        successors = _successors(graph, steps, events, layouts, units, lives)
    rows = _row_boxes(graph, layouts, units, lives, successors)
    small = _small_boxes(graph, steps, events, layouts, choice)
    return Rows([*rows.boxes, *small], rows.parts, rows.spans)
