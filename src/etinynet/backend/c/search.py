"""What order of work needs least memory: barriers, strips and rows a call, tried one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from etinynet.backend.c.layout import Layout, layouts
from etinynet.backend.c.pack import is_3x3, tight_span
from etinynet.backend.c.place import peak_bytes, place
from etinynet.backend.c.rows import STRIP_PIXELS, Rows, rows_of
from etinynet.backend.c.schedule import Choice, Event, Step, make_steps, simulate
from etinynet.graph.ir import Graph

__all__ = ["Draft", "draft", "quickest", "smallest"]

#: Pixels a pointwise call can have, so that unpacking the weights is spread thinly: tried in this
#: order where memory allows. A row that has the last of them alone is made alone: stepping from
#: row to row would cost more than the unpacking.
_PIXELS_A_CALL = (196, 112, 56, 28)
#: Of the barriers tried, those that are tried again beside the best of them.
_TRIED_AGAIN = 8


@dataclass(frozen=True)
class Draft:
    """A choice and what follows from it: steps, calls, layouts, boxes, bytes at the worst call."""

    choice: Choice
    steps: tuple[Step, ...]
    events: list[Event]
    layouts: dict[str, Layout]
    rows: Rows
    peak: int


def draft(graph: Graph, choice: Choice) -> Draft:
    """`choice` worked out."""
    found = layouts(graph, choice)
    steps = make_steps(graph, choice)
    events = simulate(graph, steps)
    rows = rows_of(graph, steps, events, found, choice)
    peak = peak_bytes(rows.boxes, 2 * len(events))
    return Draft(choice, steps, events, found, rows, peak)


def _strips(graph: Graph) -> dict[int, int]:
    """Pointwise operators that alone read their input, once, and the depthwise ones that make it.

    The input is never whole, so that it cannot be a shortcut, not even of the operator itself.
    """
    found = {}
    maker = {op.output: index for index, op in enumerate(graph.ops)}
    for index, op in enumerate(graph.ops):
        before = maker.get(op.input, -1)
        first = graph.ops[before]
        if op.kind != "pointwise" or before < 0 or first.kind != "depthwise" or not is_3x3(first):
            continue
        readers = [name for other in graph.ops for name in (other.input, other.residual)]
        narrow = graph.tensors[op.output].shape[1] <= STRIP_PIXELS
        narrow |= graph.tensors[first.input].shape[1] < tight_span(first, graph, STRIP_PIXELS)
        if not narrow and readers.count(op.input) == 1 and first.residual is None:
            found[index] = before
    return found


def _candidates(graph: Graph, found: Draft) -> list[int]:
    """Operators whose complete input is smaller than the arena and taller than their window."""
    return [
        index
        for index, op in enumerate(graph.ops)
        if op.kernel < graph.tensors[op.input].shape[0]
        and found.layouts[op.input].row_bytes * graph.tensors[op.input].shape[0] < found.peak
    ]


def _with_barrier(choice: Choice, index: int) -> Choice:
    """`choice` with a barrier at `index`, whose input then is whole, and so not made in strips."""
    strips = {
        after: before for after, before in choice.strips.items() if index not in (after, before)
    }
    return replace(choice, barriers=choice.barriers | {index}, strips=strips)


def _with_barriers(graph: Graph, choice: Choice) -> Draft:
    """Adds barriers one by one, as long as one makes the worst call need less."""
    best = draft(graph, choice)
    candidates = _candidates(graph, best)
    while candidates:
        trials = [(draft(graph, _with_barrier(best.choice, index)), index) for index in candidates]
        trials.sort(key=lambda trial: trial[0].peak)
        found = trials[0][0]
        if found.peak >= best.peak:
            break
        best = found
        candidates = [other for _, other in trials[1 : _TRIED_AGAIN + 1]]
    return best


def _without_strips(graph: Graph, best: Draft) -> Draft:
    """Makes whole rows wherever that needs no more memory, most work first."""
    limit = best.peak
    for index in sorted(best.choice.strips, key=lambda i: -_work(graph, i)):
        strips = {after: b for after, b in best.choice.strips.items() if after != index}
        trial = draft(graph, replace(best.choice, strips=strips))
        best = trial if trial.peak <= limit else best
    return best


def _work(graph: Graph, index: int) -> int:
    height, width, channels = graph.tensors[graph.ops[index].output].shape
    return height * width * channels * graph.tensors[graph.ops[index].input].shape[2]


def _rows(graph: Graph, pixels: int, indices: Iterable[int]) -> dict[int, int]:
    """Rows for at least `pixels` pixels a call, where `indices` have so many."""
    rows = {}
    for index in indices:
        height, width, _ = graph.tensors[graph.ops[index].output].shape
        rows[index] = min(height, -(-pixels // width)) if width < _PIXELS_A_CALL[-1] else 1
    return rows


def _pointwise(graph: Graph) -> list[int]:
    return [index for index, op in enumerate(graph.ops) if op.kind == "pointwise"]


def _more_rows(graph: Graph, best: Draft, allowed: Callable[[Draft], bool]) -> Draft:
    """Makes more rows a call wherever `allowed`, for all operators of one height at a time."""
    groups: dict[int, list[int]] = {}
    for index in _pointwise(graph):
        if index not in best.choice.strips:
            groups.setdefault(graph.tensors[graph.ops[index].output].shape[0], []).append(index)
    for group in groups.values():
        for count in _PIXELS_A_CALL:
            rows = _rows(graph, count, group)
            if max(rows.values()) == 1:
                break
            trial = draft(graph, replace(best.choice, rows={**best.choice.rows, **rows}))
            if allowed(trial):
                best = trial
                break
    return best


def _placed(found: Draft) -> int:
    return place(found.rows.boxes, 2 * len(found.events))[1]


def smallest(graph: Graph, *, strips: bool) -> Draft:
    """Rows without padding, in the places of those they are made of; what costs nothing, faster."""
    choice = Choice(tight=True, rows={}, strips=_strips(graph) if strips else {})
    best = _without_strips(graph, _with_barriers(graph, choice))
    limit = _placed(best)
    return _more_rows(graph, best, lambda trial: trial.peak <= limit and _placed(trial) <= limit)


def quickest(graph: Graph, slack: float) -> Draft:
    """Padded rows, as many a call as `slack` times the memory of one row a call allows."""
    best = _with_barriers(graph, Choice(tight=False, rows={}))
    limit = best.peak * slack
    return _more_rows(graph, best, lambda trial: trial.peak <= limit)
