"""The memory plan: rings, rows a call, barriers and arena offsets, found by simulation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import lcm

from etinynet.backend.c.layout import Layout, layouts
from etinynet.backend.c.pack import scratch_bytes
from etinynet.backend.c.place import Item, improve, peak_bytes
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
from etinynet.graph.ir import Graph

__all__ = ["Plan", "Ring", "make_plan"]

#: Pixels a pointwise call should have at least, so that unpacking the weights is spread thinly;
#: tried in this order, the first within `_SLACK` of the smallest arena is taken.
_PIXELS_A_CALL = (98, 49, 1)
_SLACK = 1.02
_ROUNDS = 12


@dataclass(frozen=True)
class Ring:
    """Memory of a tensor: row r at `offset + (r + phase) % rows * row_bytes` of the arena.

    The first `cleared` rows written (all, where the memory is shared) are first filled with the
    zero point if the layout is padded. `first`, `last`: events between which the tensor lives.
    """

    offset: int
    rows: int
    phase: int
    cleared: int
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


def _mask(life: Life) -> int:
    return ((1 << (life.last - life.first + 1)) - 1) << life.first


def _slots(life: list[Life], rows: int, phase: int) -> tuple[int, ...]:
    masks = [0] * rows
    for row, span in enumerate(life):
        masks[(row + phase) % rows] |= _mask(span)
    return tuple(masks)


def _needs_pad(step: Step, event: Event) -> bool:
    top = event.row * step.stride - step.padding
    bottom = (event.row + event.rows - 1) * step.stride - step.padding + step.kernel
    return top < 0 or bottom > step.in_height


def _small_items(
    graph: Graph, steps: tuple[Step, ...], events: list[Event], found: dict[str, Layout]
) -> tuple[list[Item], dict[int, int]]:
    """Scratch and pad rows, in use only while their operator runs, and the scratch sizes."""
    scratch, pads = dict.fromkeys(range(len(steps)), 0), dict.fromkeys(range(len(steps)), 0)
    for time, event in enumerate(events):
        if event.op < 0:
            continue
        scratch[event.op] |= 1 << time
        if _needs_pad(steps[event.op], event):
            pads[event.op] |= 1 << time
    sizes = {index: scratch_bytes(op, graph) for index, op in enumerate(graph.ops)}
    items = [Item(f"scratch {i}", sizes[i], (mask,)) for i, mask in scratch.items() if sizes[i]]
    items += [
        Item(f"pad {i}", found[steps[i].input].row_bytes, (mask,)) for i, mask in pads.items() if mask
    ]
    return items, sizes


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


@dataclass(frozen=True)
class _Shared:
    """Tensors that turn in one ring: as rows of one die, rows of the next take their place."""

    rows: int
    phases: dict[str, int]
    masks: tuple[int, ...]


def _fit_phases(family: list[str], life: dict[str, list[Life]], rows: int) -> _Shared | None:
    used = [0] * rows
    phases: dict[str, int] = {}
    for name in family:
        masks = _slots(life[name], rows, 0)
        for phase in range(rows):
            turned = masks[-phase:] + masks[:-phase] if phase else masks
            if not any(a & b for a, b in zip(used, turned, strict=True)):
                used = [a | b for a, b in zip(used, turned, strict=True)]
                phases[name] = phase
                break
        else:
            return None
    return _Shared(rows, phases, tuple(used))


def _share(family: list[str], life: dict[str, list[Life]], rings: dict[str, int]) -> _Shared | None:
    """One ring for all of `family`, if it is smaller than theirs together."""
    apart = sum(rings[name] for name in family)
    for rows in range(max(rings[name] for name in family), apart):
        shared = _fit_phases(family, life, rows)
        if shared is not None:
            return shared
    return None


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
    """A schedule with all buffers, before they have places."""

    steps: tuple[Step, ...]
    events: list[Event]
    life: dict[str, list[Life]]
    rings: dict[str, int]
    shared: list[_Shared]
    items: list[Item]
    scratch_bytes: dict[int, int]

    @property
    def peak(self) -> int:
        return peak_bytes(self.items, len(self.events))


def _draft(
    graph: Graph, found: dict[str, Layout], rows: dict[int, int], barriers: frozenset[int]
) -> _Draft:
    steps = make_steps(graph, rows, barriers)
    events = simulate(graph, steps)
    life = lives(graph, steps, events)
    units = _units(steps, graph)
    stored = [name for name in graph.tensors if name != graph.output]
    rings = {name: smallest_ring(life[name], units[name]) for name in stored}
    shared = [
        group
        for family in _families(graph, found, rings, units)
        if (group := _share(family, life, rings)) is not None
    ]
    turning = {name for group in shared for name in group.phases}
    items, sizes = _small_items(graph, steps, events, found)
    for index, group in enumerate(shared):
        row_bytes = found[next(iter(group.phases))].row_bytes
        items.append(Item(f"shared {index}", row_bytes, group.masks))
    items += [
        Item(name, found[name].row_bytes, _slots(life[name], rings[name], 0))
        for name in stored
        if name not in turning
    ]
    return _Draft(steps, events, life, rings, shared, items, sizes)


def _rows_a_call(graph: Graph, pixels: int) -> dict[int, int]:
    """Rows of each pointwise operator so that a call has at least `pixels` pixels, if it can."""
    rows = {}
    for index, op in enumerate(graph.ops):
        height, width, _ = graph.tensors[op.output].shape
        if op.kind == "pointwise":
            rows[index] = min(height, -(-pixels // width))
    return rows


def _best_barriers(graph: Graph, found: dict[str, Layout], rows: dict[int, int]) -> _Draft:
    """Adds barriers one by one as long as one lowers the peak."""
    chosen: frozenset[int] = frozenset()
    best = _draft(graph, found, rows, chosen)
    while True:
        trials = [
            _draft(graph, found, rows, chosen | {index})
            for index in _barrier_candidates(graph, found, best.peak)
            if index not in chosen
        ]
        winner = min(trials, key=lambda draft: draft.peak, default=best)
        if winner.peak >= best.peak:
            return best
        best = winner
        chosen = frozenset(step.index for step in best.steps if step.barrier)


def _barrier_candidates(graph: Graph, found: dict[str, Layout], limit: int) -> Iterable[int]:
    """Operators whose complete input is smaller than `limit` bytes and taller than a row."""
    for index, op in enumerate(graph.ops):
        height = graph.tensors[op.input].shape[0]
        if height > op.kernel and height * found[op.input].row_bytes < limit:
            yield index


def _finish(graph: Graph, found: dict[str, Layout], draft: _Draft) -> Plan:
    offsets, total = improve(draft.items, _ROUNDS)
    place: dict[str, tuple[int, int, int]] = {
        name: (offsets[name], rows, 0) for name, rows in draft.rings.items() if name in offsets
    }
    for index, group in enumerate(draft.shared):
        for name, phase in group.phases.items():
            place[name] = offsets[f"shared {index}"], group.rows, phase
    rings = {
        name: Ring(
            offset, rows, phase, len(draft.life[name]),
            min(span.first for span in draft.life[name]), max(span.last for span in draft.life[name]),
        )  # fmt: skip
        for name, (offset, rows, phase) in place.items()
    }
    by_op = {
        kind: {
            int(name.split()[1]): at for name, at in offsets.items() if name.startswith(f"{kind} ")
        }
        for kind in ("scratch", "pad")
    }
    return Plan(
        layouts=found, steps=draft.steps, rings=rings, scratch=by_op["scratch"], pads=by_op["pad"],
        scratch_bytes=draft.scratch_bytes, arena_bytes=total, peak_bytes=draft.peak,
        events=len(draft.events), start=first_position(graph, draft.steps),
    )  # fmt: skip


def make_plan(graph: Graph) -> Plan:
    """The plan of `graph`, a legal graph, checked by an independent replay.

    Raises UnsupportedError where the C backend lacks a kernel or layout.
    """
    found = layouts(graph)
    plans = [
        _finish(graph, found, _best_barriers(graph, found, _rows_a_call(graph, pixels)))
        for pixels in _PIXELS_A_CALL
    ]
    smallest = min(plan.arena_bytes for plan in plans)
    plan = next(plan for plan in plans if plan.arena_bytes <= smallest * _SLACK)
    replay(graph, plan)
    return plan
