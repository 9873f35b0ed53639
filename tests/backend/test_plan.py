"""The memory plan: never loses a row, is never larger than needed without reason, fits EtinyNet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etinynet.backend.c.place import ALIGNMENT, Item, improve
from etinynet.backend.c.plan import make_plan
from etinynet.backend.c.replay import replay
from etinynet.backend.c.schedule import Life, make_steps, simulate, smallest_ring
from etinynet.backend.c.share import share, slots, turned
from etinynet.errors import EtinynetError
from graph_cases import ETINYNET_0_75, ETINYNET_1_0, GraphBuilder, etinynet_graph, random_graph

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(seed=st.integers(0, 2**32 - 1))
def test_plans_of_random_graphs_replay(seed):
    graph = random_graph(np.random.default_rng(seed), max_side=64)
    plan = make_plan(graph)  # replays
    apart = sum(plan.layouts[name].row_bytes * t.shape[0] for name, t in graph.tensors.items())
    small = sum(plan.scratch_bytes.values()) + sum(
        plan.layouts[graph.ops[index].input].row_bytes for index in plan.pads
    )
    assert plan.peak_bytes <= plan.arena_bytes <= apart + small + ALIGNMENT * 3 * len(graph.ops)
    places = [ring.offset for ring in plan.rings.values()]
    places += [*plan.scratch.values(), *plan.pads.values()]
    assert all(offset % ALIGNMENT == 0 for offset in places)


@pytest.mark.parametrize(
    ("blocks", "limit"), [(ETINYNET_1_0, 131072), (ETINYNET_0_75, 102400)], ids=["1.0", "0.75"]
)
def test_arena_of_etinynet_at_224(blocks, limit):
    graph = etinynet_graph(np.random.default_rng(0), blocks)
    plan = make_plan(graph)
    print(f"arena {plan.arena_bytes} bytes, lower bound of this schedule {plan.peak_bytes}")
    assert plan.arena_bytes <= limit


@pytest.fixture(scope="module")
def planned():
    graph = etinynet_graph(np.random.default_rng(0), side=96, classes=10)
    return graph, make_plan(graph)


def _with_ring(plan, name, **changes):
    return replace(plan, rings={**plan.rings, name: replace(plan.rings[name], **changes)})


def test_replay_refuses_a_ring_too_small(planned):
    graph, plan = planned
    broken = _with_ring(plan, "stem", rows=plan.rings["stem"].rows - 1)
    with pytest.raises(EtinynetError, match="'stem' after it was overwritten"):
        replay(graph, broken)


def test_replay_refuses_tensors_on_top_of_each_other(planned):
    graph, plan = planned
    broken = _with_ring(plan, "stem", offset=plan.rings["input"].offset)
    with pytest.raises(EtinynetError, match="after it was overwritten; this is a defect"):
        replay(graph, broken)


def test_replay_refuses_scratch_on_data(planned):
    graph, plan = planned
    stem_at = plan.rings["input"].offset
    broken = replace(plan, scratch={**plan.scratch, 0: stem_at})
    with pytest.raises(EtinynetError, match="operator 'stem', having written, reads row"):
        replay(graph, broken)


def test_replay_refuses_what_leaves_the_arena(planned):
    graph, plan = planned
    broken = replace(plan, arena_bytes=plan.arena_bytes - 64)
    with pytest.raises(EtinynetError, match="leaves the arena"):
        replay(graph, broken)


def test_replay_refuses_another_schedule(planned):
    graph, plan = planned
    steps = tuple(replace(step, barrier=False) for step in plan.steps)
    assert steps != plan.steps
    with pytest.raises(EtinynetError, match="memory plan: "):
        replay(graph, replace(plan, steps=steps))


def test_schedule_makes_every_row_once_and_in_order(planned):
    graph, plan = planned
    made = dict.fromkeys(graph.tensors, 0)
    for op, row, rows in simulate(graph, plan.steps):
        name = graph.input if op < 0 else graph.ops[op].output
        assert made[name] == row
        made[name] += rows
    assert made == {name: tensor.shape[0] for name, tensor in graph.tensors.items()}


def test_rows_are_pushed_as_soon_as_they_can_be():
    builder = GraphBuilder(np.random.default_rng(0), "net", (6, 6, 3))
    last = builder.add("conv2d", "stem", "input", channels=2, kernel=3, padding=1)
    last = builder.add("max_pool", "pool", last, kernel=2, stride=2)
    graph = builder.finish(last, 2)
    events = [tuple(event)[:2] for event in simulate(graph, make_steps(graph, {}, frozenset()))]
    assert events == [
        *[(-1, 0), (-1, 1), (0, 0), (-1, 2), (0, 1), (1, 0)],
        *[(-1, 3), (0, 2), (-1, 4), (0, 3), (1, 1)],
        *[(-1, 5), (0, 4), (0, 5), (1, 2), (2, 0), (3, 0)],
    ]


def test_smallest_ring():
    life = [Life(0, 2), Life(1, 3), Life(4, 5), Life(4, 6)]
    assert smallest_ring(life, 1) == 2
    assert smallest_ring(life, 3) == 3
    assert smallest_ring([Life(t, 9) for t in range(4)], 1) == 4


masks = st.integers(1, 2**12 - 1)
items = st.lists(
    st.tuples(st.integers(1, 40), st.lists(masks, min_size=1, max_size=5)), min_size=1, max_size=8
)


@given(items)
def test_placed_slots_never_share_bytes_at_one_time(shapes):
    placed = [Item(str(i), size, tuple(slots)) for i, (size, slots) in enumerate(shapes)]
    offsets, total = improve(placed, 4)
    used: dict[int, int] = {}
    for item in placed:
        assert offsets[item.name] % ALIGNMENT == 0
        assert offsets[item.name] + item.bytes <= total
        for slot, mask in enumerate(item.masks):
            start = offsets[item.name] + slot * item.slot_bytes
            for byte in range(start, start + item.slot_bytes):
                assert used.get(byte, 0) & mask == 0
                used[byte] = used.get(byte, 0) | mask


def test_tensors_share_a_ring_only_where_it_is_smaller():
    pipeline = {
        name: [Life(4 * row + lag, 4 * row + 8 + lag) for row in range(12)]
        for lag, name in enumerate("abc")
    }
    rings = {name: smallest_ring(life, 1) for name, life in pipeline.items()}
    assert rings == {"a": 3, "b": 3, "c": 3}
    shared = share(["a", "b", "c"], pipeline, rings)
    assert shared is None or shared.rows < 9
    apart = {name: [Life(0, 99)] * 1 for name in "ab"}
    assert share(["a", "b"], apart, {"a": 1, "b": 1}) is None


def test_shared_ring_holds_all_rows():
    graph = etinynet_graph(np.random.default_rng(0), side=64, classes=4)
    plan = make_plan(graph)
    assert any(ring.phase for ring in plan.rings.values())


def test_turned():
    assert turned((1, 2, 3), 0) == (1, 2, 3)
    assert turned((1, 2, 3), 1) == (3, 1, 2)
    assert slots([Life(0, 1), Life(1, 2), Life(2, 2)], 2) == (0b111, 0b110)
