"""The memory plan: rings, rows a call, barriers and arena offsets, found by simulation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import lcm

import numpy as np

from etinynet.backend.c.layout import Layout, layouts
from etinynet.backend.c.pack import scratch_bytes
from etinynet.backend.c.place import Item, bits_of, improve
from etinynet.backend.c.replay import replay
from etinynet.backend.c.schedule import (
    Event,
    Life,
    Step,
    first_position,
    lives,
    make_steps,
    simulate,
    smallest_ring,
)
from etinynet.backend.c.share import Shared, share, slots, turned
from etinynet.graph.ir import Graph

__all__ = ["Plan", "Ring", "make_plan"]

#: Pixels a pointwise call should have at least, so that unpacking the weights is spread thinly;
#: tried in this order, the first within `_SLACK` of the smallest arena is taken.
_PIXELS_A_CALL = (28, 1)
_SLACK = 1.1
_ROUNDS = 12
#: Schedules placed for each further barrier.
_PLACED = 4


@dataclass(frozen=True)
class Ring:
    """Memory of a tensor: row r at `offset + (r + phase) % rows * row_bytes` of the arena.

    `first`, `last`: events between which the tensor lives.
    """

    offset: int
    rows: int
    phase: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Everything that is decided about memory and order, by tensor name or operator index.

    `scratch` and `pads` (a row of zero points above and below the picture) give arena offsets of
    the operators that have them. `start` is the operator the driver tries first after each picture
    row. `peak_bytes` bounds every placement of this schedule from below.
    """

    layouts: dict[str, Layout]
    steps: tuple[Step, ...]
    rings: dict[str, Ring]
    scratch: dict[int, int]
    pads: dict[int, int]
    scratch_bytes: dict[int, int]
    arena_bytes: int
    peak_bytes: int
    events: int
    start: int


def _last(life: list[Life]) -> int:
    return max(span.last for span in life)


def _needs_pad(step: Step, event: Event) -> bool:
    top = event.row * step.stride - step.padding
    bottom = (event.row + event.rows - 1) * step.stride - step.padding + step.kernel
    return top < 0 or bottom > step.in_height


def _small_items(
    graph: Graph, steps: tuple[Step, ...], events: list[Event], found: dict[str, Layout]
) -> list[Item]:
    """Scratch and pad rows, in use only while their operator runs."""
    scratch, pads = dict.fromkeys(range(len(steps)), 0), dict.fromkeys(range(len(steps)), 0)
    for time, event in enumerate(events):
        if event.op < 0:
            continue
        scratch[event.op] |= 1 << time
        if _needs_pad(steps[event.op], event):
            pads[event.op] |= 1 << time
    sizes = {index: scratch_bytes(op, graph) for index, op in enumerate(graph.ops)}
    items = [Item(f"scratch {i}", sizes[i], (mask,)) for i, mask in scratch.items() if sizes[i]]
    rows = {i: found[steps[i].input].row_bytes for i in pads}
    return items + [Item(f"pad {i}", rows[i], (mask,)) for i, mask in pads.items() if mask]


def _stored(graph: Graph) -> list[str]:
    """Tensors that lie in the arena: all but the scores."""
    return [name for name in graph.tensors if name != graph.output]


def _units(steps: tuple[Step, ...], graph: Graph) -> dict[str, int]:
    """Rows that must lie together in each tensor's ring, because one call handles them."""
    units = dict.fromkeys(graph.tensors, 1)
    for step in steps:
        for name in (step.input, step.output, step.residual):
            if name is not None and step.rows > 1:
                units[name] = lcm(units[name], step.rows)
        if graph.ops[step.index].kind == "global_avg_pool":
            units[step.input] = step.in_height
    return units


def _families(
    graph: Graph, found: dict[str, Layout], rings: dict[str, int], units: dict[str, int]
) -> list[list[str]]:
    """Tensors of equal rows, of which a part is kept at a time, in order of production."""
    families: dict[tuple[int, int], list[str]] = {}
    for op in graph.ops:
        name = op.output
        height = graph.tensors[name].shape[0]
        if name in rings and units[name] == 1 and 1 < rings[name] < height:
            families.setdefault((height, found[name].row_bytes), []).append(name)
    return [family for family in families.values() if len(family) > 1]


@dataclass(frozen=True)
class _Draft:
    """A schedule: its calls, the life of every row and the bytes in use at its worst call."""

    steps: tuple[Step, ...]
    events: list[Event]
    life: dict[str, list[Life]]
    small: list[Item]
    peak: int


def _draft(
    graph: Graph, found: dict[str, Layout], rows: dict[int, int], barriers: frozenset[int]
) -> _Draft:
    steps = make_steps(graph, rows, barriers)
    events = simulate(graph, steps)
    life = lives(graph, steps, events)
    small = _small_items(graph, steps, events, found)
    change = np.zeros(len(events) + 1, np.int64)
    for name in _stored(graph):
        spans = np.array(life[name])
        np.add.at(change, spans[:, 0], found[name].row_bytes)
        np.add.at(change, spans[:, 1] + 1, -found[name].row_bytes)
    used = np.cumsum(change)[:-1]
    for item in small:
        used[bits_of(item.masks[0], len(events))] += item.slot_bytes
    return _Draft(steps, events, life, small, int(used.max()))


@dataclass(frozen=True)
class _Buffers:
    """All that needs a place: rings by tensor, rings shared by several, scratch and pad rows."""

    rings: dict[str, int]
    shared: list[Shared]
    items: list[Item]


def _buffers(graph: Graph, found: dict[str, Layout], draft: _Draft) -> _Buffers:
    units = _units(draft.steps, graph)
    life = draft.life
    rings = {name: smallest_ring(life[name], units[name]) for name in _stored(graph)}
    families = _families(graph, found, rings, units)
    groups = (share(family, life, rings) for family in families)
    shared = [group for group in groups if group is not None]
    turning = {name for group in shared for name in group.phases}
    items = list(draft.small)
    for index, group in enumerate(shared):
        row_bytes = found[next(iter(group.phases))].row_bytes
        items.append(Item(f"shared {index}", row_bytes, group.masks))
    items += [
        Item(name, found[name].row_bytes, slots(life[name], ring))
        for name, ring in rings.items()
        if name not in turning
    ]
    return _Buffers(rings, shared, items)


def _rows_a_call(graph: Graph, pixels: int) -> dict[int, int]:
    """Rows of each pointwise operator so that a call has at least `pixels` pixels, if it can."""
    rows = {}
    for index, op in enumerate(graph.ops):
        height, width, _ = graph.tensors[op.output].shape
        if op.kind == "pointwise":
            rows[index] = min(height, -(-pixels // width))
    return rows


def _smallest(graph: Graph, found: dict[str, Layout], rows: dict[int, int]) -> Plan:
    """Adds barriers one by one, as long as one makes the arena smaller.

    Of all schedules with one more barrier, those with the lowest peaks are placed.
    """
    best = _draft(graph, found, rows, frozenset())
    buffers = _buffers(graph, found, best)
    size = improve(buffers.items, _ROUNDS)[1]
    while True:
        chosen = frozenset(step.index for step in best.steps if step.barrier)
        trials = [
            _draft(graph, found, rows, chosen | {index})
            for index in _barrier_candidates(graph, found, size)
            if index not in chosen
        ]
        smaller = False
        for draft in sorted(trials, key=lambda draft: draft.peak)[:_PLACED]:
            trial = _buffers(graph, found, draft)
            trial_size = improve(trial.items, _ROUNDS)[1]
            if trial_size < size:
                best, buffers, size, smaller = draft, trial, trial_size, True
        if not smaller:
            return _finish(graph, found, best, buffers)


def _barrier_candidates(graph: Graph, found: dict[str, Layout], limit: int) -> Iterable[int]:
    """Operators whose complete input is smaller than `limit` bytes and taller than a row."""
    for index, op in enumerate(graph.ops):
        height = graph.tensors[op.input].shape[0]
        if height > op.kernel and height * found[op.input].row_bytes < limit:
            yield index


def _turn(buffers: _Buffers) -> tuple[_Buffers, dict[str, int], int]:
    """Turns each shared ring so that first fit does best; buffers, offsets, bytes in all."""
    offsets, total = improve(buffers.items, _ROUNDS)
    best = buffers, offsets, total
    for index, group in enumerate(buffers.shared):
        for turn in range(1, group.rows):
            trial = _turned(best[0], index, turn)
            offsets, total = improve(trial.items, _ROUNDS)
            if total < best[2]:
                best = trial, offsets, total
    return best


def _turned(buffers: _Buffers, index: int, turn: int) -> _Buffers:
    group = buffers.shared[index]
    masks = turned(group.masks, turn)
    phases = {name: (phase + turn) % group.rows for name, phase in group.phases.items()}
    shared = list(buffers.shared)
    shared[index] = Shared(group.rows, phases, masks)
    items = [
        replace(item, masks=masks) if item.name == f"shared {index}" else item
        for item in buffers.items
    ]
    return replace(buffers, shared=shared, items=items)


def _finish(graph: Graph, found: dict[str, Layout], draft: _Draft, buffers: _Buffers) -> Plan:
    buffers, offsets, total = _turn(buffers)
    place: dict[str, tuple[int, int, int]] = {
        name: (offsets[name], rows, 0) for name, rows in buffers.rings.items() if name in offsets
    }
    for index, group in enumerate(buffers.shared):
        for name, phase in group.phases.items():
            place[name] = offsets[f"shared {index}"], group.rows, phase
    rings = {
        name: Ring(offset, rows, phase, draft.life[name][0].first, _last(draft.life[name]))
        for name, (offset, rows, phase) in place.items()
    }
    by_op = {
        kind: {
            int(name.split()[1]): at for name, at in offsets.items() if name.startswith(f"{kind} ")
        }
        for kind in ("scratch", "pad")
    }
    return Plan(
        layouts=found,
        steps=draft.steps,
        rings=rings,
        scratch=by_op["scratch"],
        pads=by_op["pad"],
        scratch_bytes={index: scratch_bytes(op, graph) for index, op in enumerate(graph.ops)},
        arena_bytes=total,
        peak_bytes=draft.peak,
        events=len(draft.events),
        start=first_position(graph, draft.steps),
    )


def make_plan(graph: Graph) -> Plan:
    """The plan of `graph`, a legal graph, checked by an independent replay.

    Raises UnsupportedError where the C backend lacks a kernel or layout.
    """
    found = layouts(graph)
    plans = [_smallest(graph, found, _rows_a_call(graph, pixels)) for pixels in _PIXELS_A_CALL]
    smallest = min(plan.arena_bytes for plan in plans)
    plan = next(plan for plan in plans if plan.arena_bytes <= smallest * _SLACK)
    replay(graph, plan)
    return plan
