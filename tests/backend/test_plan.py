"""The memory plan: never loses a row, is never larger than needed without reason, fits EtinyNet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etinynet
from etinynet.backend.c.drawing import memory_svg
from etinynet.backend.c.place import ALIGNMENT, Box, peak_bytes, place
from etinynet.backend.c.plan import MODES, make_plan
from etinynet.backend.c.replay import replay
from etinynet.backend.c.rows import STRIP_PIXELS
from etinynet.backend.c.schedule import Choice, make_steps, simulate
from etinynet.errors import ConfigError, EtinynetError
from etinynet.graph import Graph, read_graph
from every_strip import every_strip
from graph_cases import ETINYNET_0_75, ETINYNET_1_0, GraphBuilder, etinynet_graph, random_graph
from random_graphs import legal_graph

ASSETS = Path(etinynet.__file__).parent / "assets"

quick = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("mode", MODES)
@quick
@given(seed=st.integers(0, 2**32 - 1))
def test_plans_of_random_graphs_replay(mode, seed):
    graph = random_graph(np.random.default_rng(seed), max_side=64)
    plan = make_plan(graph, mode)  # replays
    assert plan.mode == mode
    apart = sum(
        plan.layouts[name].row_bytes * tensor.shape[0]
        for name, tensor in graph.tensors.items()
        if name in plan.places
    )
    small = sum(box.size for box in plan.small.values())
    assert plan.peak_bytes <= plan.arena_bytes <= apart + small
    places = [offset for rows in plan.places.values() for offset in rows]
    places += [*plan.scratch.values(), *plan.strips.values(), *plan.pads.values()]
    assert all(offset % ALIGNMENT == 0 for offset in places)


@quick
@given(seed=st.integers(0, 2**32 - 1))
def test_plans_with_all_strips_replay(seed):
    graph = random_graph(np.random.default_rng(seed), max_side=64)
    with every_strip():
        make_plan(graph, "stream")


#: Arena, and how much more than its lower bound: from least memory to most.
LIMITS = {"stream": (97_800, 1.0), "inplace": (104_000, 1.02), "fast": (160_000, 1.12)}


@pytest.mark.parametrize("mode", MODES)
def test_arena_of_etinynet_at_224(mode):
    graph = etinynet_graph(np.random.default_rng(0), ETINYNET_1_0)
    plan = make_plan(graph, mode)
    print(f"{mode}: arena {plan.arena_bytes}, worst call of this schedule {plan.peak_bytes}")
    limit, slack = LIMITS[mode]
    assert plan.arena_bytes <= limit
    assert plan.arena_bytes <= slack * plan.peak_bytes


def test_arena_of_the_narrower_etinynet():
    graph = etinynet_graph(np.random.default_rng(0), ETINYNET_0_75)
    assert make_plan(graph, "stream").arena_bytes <= 75_000


@pytest.fixture(scope="module", params=MODES)
def planned(request):
    graph = etinynet_graph(np.random.default_rng(0), side=96, classes=10)
    return graph, make_plan(graph, request.param)


@pytest.fixture(scope="module")
def streamed():
    """A graph whose plan works in strips, gathers rows and puts rows in place of others."""
    graph = etinynet_graph(np.random.default_rng(0), side=128, classes=10)
    with every_strip():
        plan = make_plan(graph, "stream")
    assert plan.strips
    assert any(plan.choice.gathers(graph, index) for index in range(len(graph.ops)))
    return graph, plan


def _moved(plan, name, row, offset):
    """`plan` with one row elsewhere."""
    rows = list(plan.places[name])
    rows[row] = offset
    return replace(plan, places={**plan.places, name: tuple(rows)})


def _refused(graph, plan, words):
    with pytest.raises(EtinynetError, match=f"memory plan: .*{words}"):
        replay(plan)


def test_replay_refuses_a_row_over_a_living_one(planned):
    graph, plan = planned
    broken = _moved(plan, "stem", 5, plan.places["stem"][4])
    _refused(graph, broken, "row 4 of 'stem' after it was overwritten")


def test_replay_refuses_tensors_on_top_of_each_other(planned):
    graph, plan = planned
    broken = _moved(plan, "stem", 3, plan.places["input"][7])
    _refused(graph, broken, "operator 'stem', having written, .* overwritten; this is a defect")


def test_replay_refuses_scratch_on_data(planned):
    graph, plan = planned
    broken = replace(plan, scratch={**plan.scratch, 0: plan.places["input"][1]})
    _refused(graph, broken, "operator 'stem', having taken scratch, reads row")


def test_replay_refuses_output_over_scratch(planned):
    graph, plan = planned
    broken = _moved(plan, "stem", 3, plan.scratch[0])
    _refused(graph, broken, "operator 'stem' writes its output over its scratch")


def test_replay_refuses_a_pad_row_on_data(planned):
    graph, plan = planned
    broken = replace(plan, pads={**plan.pads, 0: plan.places["input"][0]})
    _refused(graph, broken, "'stem', having taken scratch, reads row 0 of 'input'")


def test_replay_refuses_what_leaves_the_arena(planned):
    graph, plan = planned
    _refused(graph, replace(plan, arena_bytes=plan.arena_bytes - 64), "leaves the arena")
    _refused(graph, _moved(plan, "stem", 3, -16), "leaves the arena")


def test_replay_refuses_another_schedule(planned):
    graph, plan = planned
    steps = tuple(replace(step, barrier=False) for step in plan.steps)
    assert steps != plan.steps
    _refused(graph, replace(plan, steps=steps), r"call \d+ \(operator, row, rows\) is|reads row")


def test_replay_refuses_rows_apart_that_one_call_handles(planned):
    graph, plan = planned
    name = next(op.input for op in graph.ops if op.kind == "global_avg_pool")
    broken = _moved(plan, name, 1, plan.places[name][1] + ALIGNMENT)
    _refused(graph, broken, f"rows 0 to 2 of '{name}' do not lie together|overwritten")


def test_replay_refuses_scores_that_are_overwritten(planned):
    graph, plan = planned
    broken = _moved(plan, graph.outputs[0], 0, plan.places["pool_all"][0])
    _refused(graph, broken, "operator 'fc', having written, reads row 0 of 'pool_all'")


def test_replay_refuses_a_row_across_the_end_of_a_region(planned):
    graph, plan = planned
    border = plan.places["stem"][5] + ALIGNMENT
    regions = (border, plan.arena_bytes - border)
    _refused(graph, replace(plan, regions=regions), "lies across the end of a region")


def _in_strips(graph, plan):
    """A pointwise operator in strips whose output row 4 lies on a row it is made of, and that."""
    for index in plan.choice.strips:
        name, source = graph.ops[index].output, plan.steps[index].input
        if plan.steps[index].stride == 1 and plan.places[name][4] == plan.places[source][3]:
            return name, source
    raise AssertionError("nothing in place")


def test_strips_may_overwrite_only_the_row_above(streamed):
    graph, plan = streamed
    name, source = _in_strips(graph, plan)
    replay(plan)
    for row in (4, 5):
        broken = _moved(plan, name, 4, plan.places[source][row])
        _refused(graph, broken, f"having written, reads row {row} of '{source}'")


def test_lines_must_lie_on_lines(streamed):
    graph, plan = streamed
    name, source = _in_strips(graph, plan)
    broken = _moved(plan, name, 4, plan.places[source][3] + ALIGNMENT)
    _refused(graph, broken, "overwritten|leaves")
    layouts = {**plan.layouts, name: replace(plan.layouts[name], channel_stride=8)}
    _refused(graph, replace(plan, layouts=layouts), f"having written, reads row . of '{source}'")


def test_padded_kernels_never_work_in_place(planned):
    graph, plan = planned
    if plan.mode == "fast":
        broken = _moved(plan, "b0.dw2", 4, plan.places["b0.pw"][3])
        _refused(graph, broken, "overwritten|do not lie together")


def test_only_stream_works_in_strips_and_only_fast_pads(planned):
    _, plan = planned
    assert plan.mode == "stream" or not plan.strips
    pads = {layout.pad for layout in plan.layouts.values()}
    assert pads == ({0, 1} if plan.mode == "fast" else {0})


def test_schedule_makes_every_row_once_and_in_order(planned):
    graph, plan = planned
    made = dict.fromkeys(graph.tensors, 0)
    for op, row, rows in simulate(graph, plan.steps):
        name = graph.input if op < 0 else graph.ops[op].output
        assert made[name] == row
        made[name] += rows
    handed = {graph.ops[index].output for index in plan.choice.strips.values()}
    whole = {name: tensor.shape[0] for name, tensor in graph.tensors.items() if name not in handed}
    assert {name: rows for name, rows in made.items() if name not in handed} == whole


def test_rows_are_pushed_as_soon_as_they_can_be():
    builder = GraphBuilder(np.random.default_rng(0), "net", (6, 6, 3))
    last = builder.add("conv2d", "stem", "input", channels=2, kernel=3, padding=1)
    last = builder.add("max_pool", "pool", last, kernel=2, stride=2)
    graph = builder.finish(last, 2)
    steps = make_steps(graph, Choice(tight=False, rows={}))
    events = [tuple(event)[:2] for event in simulate(graph, steps)]
    assert events == [
        *[(-1, 0), (-1, 1), (0, 0), (-1, 2), (0, 1), (1, 0)],
        *[(-1, 3), (0, 2), (-1, 4), (0, 3), (1, 1)],
        *[(-1, 5), (0, 4), (0, 5), (1, 2), (2, 0), (3, 0)],
    ]


def test_unknown_mode():
    graph = random_graph(np.random.default_rng(0))
    with pytest.raises(ConfigError, match="plan: 'small' is unknown, allowed are stream, inplace"):
        make_plan(graph, "small")


def test_without_a_mode_it_is_the_quickest_that_fits():
    graph = etinynet_graph(np.random.default_rng(0), side=96, classes=10)
    sizes = {mode: make_plan(graph, mode).arena_bytes for mode in MODES}
    assert sizes["stream"] <= sizes["inplace"] < sizes["fast"]
    assert make_plan(graph).mode == "fast"
    assert make_plan(graph, None, (sizes["fast"],)).mode == "fast"
    assert make_plan(graph, None, (sizes["fast"] - ALIGNMENT,)).mode == "inplace"
    if sizes["stream"] < sizes["inplace"]:
        assert make_plan(graph, None, (sizes["inplace"] - ALIGNMENT,)).mode == "stream"


def _sizes(graph: Graph, regions: tuple[int, ...] = ()) -> list[int]:
    return [make_plan(graph, mode, regions).arena_bytes for mode in MODES]


#: The first three are planned smaller by the search of `fast` than by that of `inplace`.
@pytest.mark.parametrize("seed", [50, 67, 108, *range(20)])
def test_what_promises_less_never_takes_more(seed: int) -> None:
    graph = legal_graph(seed)
    sizes = _sizes(graph)
    assert sizes == sorted(sizes)
    pieces = (sizes[0] // 2, sizes[0], sizes[2])
    assert _sizes(graph, pieces) == sorted(_sizes(graph, pieces))


def test_what_promises_less_never_takes_more_of_the_packaged_network() -> None:
    sizes = _sizes(read_graph(ASSETS / "sign-digits.etn"))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


def test_of_plans_that_take_as_much_it_is_the_quickest() -> None:
    graph = legal_graph(4)
    assert make_plan(graph, "fast").arena_bytes == make_plan(graph, "stream").arena_bytes
    assert make_plan(graph, "stream") == replace(make_plan(graph, "fast"), mode="stream")


@pytest.mark.parametrize("mode", MODES)
def test_regions_are_filled_in_order_and_never_crossed(mode):
    graph = etinynet_graph(np.random.default_rng(0), side=96, classes=10)
    whole = make_plan(graph, mode).arena_bytes
    assert make_plan(graph, mode, (whole, 4096)).regions == (whole,)
    pieces = (whole // 2 + 5, whole, 1024)
    plan = make_plan(graph, mode, pieces)  # the replay checks borders
    assert sum(plan.region_bytes) == plan.arena_bytes
    assert 0 < plan.region_bytes[0] <= pieces[0]
    assert plan.region_bytes[1] > 0
    assert len(plan.region_bytes) == 3


spans = st.tuples(st.integers(0, 30), st.integers(0, 9)).map(lambda s: (s[0], s[0] + s[1]))
shapes = st.lists(
    st.tuples(st.integers(1, 99), st.lists(spans, min_size=1, max_size=3)), min_size=1, max_size=9
)


def _apart(spans):
    """`spans` in order, without those that meet an earlier one."""
    kept = []
    for span in sorted(spans):
        if not kept or span[0] > kept[-1][1]:
            kept.append(span)
    return tuple(kept)


@given(shapes, st.lists(st.integers(64, 400), max_size=3))
def test_placed_boxes_never_share_bytes_at_one_time(shapes, regions):
    boxes = [Box(str(i), size, _apart(spans)) for i, (size, spans) in enumerate(shapes)]
    offsets, total = place(boxes, 41, regions)
    borders = np.cumsum([size // ALIGNMENT * ALIGNMENT for size in regions]).tolist()
    assert total >= peak_bytes(boxes, 41)
    used: set[tuple[int, int]] = set()
    for box in boxes:
        start, end = offsets[box.name], offsets[box.name] + box.bytes
        assert start % ALIGNMENT == 0
        assert end <= total
        assert not any(start < border < end for border in borders)
        own = {
            (byte, time)
            for first, last in box.spans
            for time in range(first, last + 1)
            for byte in range(start, end)
        }
        assert not used & own
        used |= own


def test_memory_svg_names_tensors_and_sizes(streamed):
    graph, plan = streamed
    picture = memory_svg(graph, plan)
    tree = ElementTree.fromstring(picture)
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text for title in tree.iter(f"{space}title")]
    for name in plan.places:
        assert any(title.startswith(f"{name}, ") for title in titles)
    words = " ".join(text.text or "" for text in tree.iter(f"{space}text"))
    assert f"memory plan stream, {plan.arena_bytes:,} bytes of arena" in words
    assert "b0.dw2" in words
    for box in tree.iter(f"{space}rect"):
        assert float(box.get("y", 0)) >= 0
        assert float(box.get("y", 0)) + float(box.get("height", 0)) <= 900
    assert STRIP_PIXELS == 8
