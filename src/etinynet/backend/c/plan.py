"""The memory plan: the order of work of one of three modes, and a place for every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etinynet.backend.c.layout import Layout
from etinynet.backend.c.place import ALIGNMENT, MOST_BYTES, Box, place
from etinynet.backend.c.replay import replay
from etinynet.backend.c.rows import STRIP_PIXELS, scratch_of
from etinynet.backend.c.schedule import Choice, Event, Step, first_position
from etinynet.backend.c.search import Draft, quickest, smallest
from etinynet.errors import ConfigError, FitError
from etinynet.graph.ir import Graph

__all__ = ["MODES", "Plan", "make_plan"]

#: From the least memory to the fewest instructions.
MODES = ("stream", "inplace", "fast")

#: What `fast` may take of the memory that one row a call needs.
_SLACK = 1.3


@dataclass(frozen=True)
class Plan:
    """Everything that is decided about memory and order, by tensor name or operator index.

    `places[name][row]` is the row's offset in the arena; `scratch`, `strips` (pixels handed from a
    depthwise to a pointwise operator) and `pads` (a row of zero points above and below the
    picture) are offsets of the operators that have them. `regions` are the sizes of the pieces of
    memory the arena is made of, `region_bytes` what is used of each. `spans` gives first and last
    time of each row, `small` those of scratch and pads by name ("scratch 3"), as in rows.py.
    `events` are all calls in order.
    `start` is the operator the driver tries first after each picture row. `peak_bytes` bounds every
    placement of this schedule from below.
    """

    mode: str
    choice: Choice
    layouts: dict[str, Layout]
    steps: tuple[Step, ...]
    places: dict[str, tuple[int, ...]]
    scratch: dict[int, int]
    strips: dict[int, int]
    pads: dict[int, int]
    scratch_bytes: dict[int, int]
    arena_bytes: int
    regions: tuple[int, ...]
    peak_bytes: int
    events: tuple[Event, ...]
    start: int
    spans: dict[str, tuple[tuple[int, int], ...]]
    small: dict[str, Box]

    @property
    def region_bytes(self) -> tuple[int, ...]:
        """Bytes used of each region; of one region all."""
        used, begin = [], 0
        for size in self.regions or (self.arena_bytes,):
            used.append(max(0, min(self.arena_bytes - begin, size)))
            begin += size
        return tuple(used)

    def strip_pixels(self, graph: Graph, name: str) -> int:
        """Pixels of a row of tensor `name` that are in memory at one time; 0 for whole rows."""
        handed = {graph.ops[index].output for index in self.choice.strips.values()}
        return STRIP_PIXELS if name in handed else 0


def _plan(graph: Graph, mode: str, found: Draft, regions: Sequence[int]) -> Plan:
    boxes = found.rows.boxes
    offsets, total = place(boxes, 2 * len(found.events), regions)
    starts = [offsets[box.name] for box in boxes]
    by_op = {
        kind: {
            int(name.split()[1]): at for name, at in offsets.items() if name.startswith(f"{kind} ")
        }
        for kind in ("scratch", "pad")
    }
    scratch, strips = by_op["scratch"], {}
    sizes = {}
    for step in found.steps:
        needed = scratch_of(graph, found.steps, found.choice, step.index)
        sizes[step.index] = needed.bytes
        if step.before >= 0:
            at = scratch[step.index]
            strips[step.index] = at + needed.strip
            scratch[step.before] = at + needed.before
    for index, before in found.choice.strips.items():
        sizes[before] = sizes[index] - (scratch[before] - scratch[index])
    return Plan(
        mode=mode,
        choice=found.choice,
        layouts=found.layouts,
        steps=found.steps,
        places={
            name: tuple(starts[box] + part for box, part in parts)
            for name, parts in found.rows.parts.items()
        },
        scratch=scratch,
        strips=strips,
        pads=by_op["pad"],
        scratch_bytes=sizes,
        arena_bytes=total,
        regions=tuple(size // ALIGNMENT * ALIGNMENT for size in regions),
        peak_bytes=found.peak,
        events=tuple(found.events),
        start=first_position(graph, found.steps),
        spans={name: tuple(spans) for name, spans in found.rows.spans.items()},
        small={box.name: box for box in boxes if ":" not in box.name},
    )


def _draft(graph: Graph, mode: str) -> Draft:
    if mode == "fast":
        return quickest(graph, _SLACK)
    return smallest(graph, strips=mode == "stream")


def _quickest_first(mode: str) -> tuple[str, ...]:
    """The modes whose order of work serves `mode`: itself and all that promise more memory."""
    return MODES[MODES.index(mode) :][::-1]


def _least(graph: Graph, mode: str, regions: Sequence[int], drafts: dict[str, Draft]) -> Plan:
    """The smallest plan that serves `mode`; of equal ones the quickest.

    The search of a mode takes the best step each time, which does not always end at the least.
    """
    names = _quickest_first(mode)
    for name in names:
        drafts[name] = drafts.get(name) or _draft(graph, name)
    plans = [_plan(graph, mode, drafts[name], regions) for name in names]
    return min(plans, key=lambda plan: plan.arena_bytes)


def make_plan(graph: Graph, mode: str | None = None, regions: Sequence[int] = ()) -> Plan:
    """The plan of `graph`, a legal graph, in one of `MODES`, checked by an independent replay.

    `regions` are the bytes of the pieces of memory that may hold the arena, the one to fill first
    at the head; no row lies across an end. The first alone is used if the plan fits it. What fits
    in none ends behind the last: `arena_bytes` then exceeds their sum. Without them the arena is
    one piece of any size. Without a mode it is the quickest that fits, or else the smallest. A mode
    never takes more than one behind it in `MODES`. Raises ConfigError for an unknown mode,
    UnsupportedError where the backend lacks a kernel or layout, FitError where the arena exceeds
    what the generated C can address.
    """
    if mode is not None and mode not in MODES:
        raise ConfigError(f"plan: {mode!r} is unknown, allowed are {', '.join(MODES)}")
    modes = MODES[::-1] if mode is None else (mode,)
    drafts: dict[str, Draft] = {}
    plan = None
    for pieces in dict.fromkeys((tuple(regions[:1]), tuple(regions))):
        for name in modes:
            plan = _least(graph, name, pieces, drafts)
            if plan.arena_bytes <= (sum(plan.regions) if pieces else MOST_BYTES):
                replay(graph, plan)
                return plan
    assert plan is not None
    if plan.arena_bytes > MOST_BYTES:
        raise FitError(
            f"{graph.name}: the arena takes {plan.arena_bytes} bytes by plan {plan.mode!r}, "
            f"the generated C holds at most {MOST_BYTES}"
        )
    replay(graph, plan)
    return plan
