"""Operators whose shortcut is their own input, in every plan, form and place of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etinynet.backend.c import compile_graph, rows, search
from etinynet.backend.c.plan import Plan, make_plan
from etinynet.backend.c.replay import replay
from etinynet.backend.c.schedule import Choice
from etinynet.errors import EtinynetError
from etinynet.graph import Graph
from every_strip import PLANS, in_plan
from graph_cases import GraphBuilder, random_image
from many_libraries import FORMS, Library, differences


def _gathered(side: tuple[int, int], *, bits: int) -> Graph:
    """Its pointwise operator waits for all of its input, which would be gathered were it no
    shortcut; rows of the output come to lie where rows of the input were."""
    builder = GraphBuilder(np.random.default_rng(0), f"gathered_{bits}", (*side, 3))
    last = builder.add("conv2d", "stem", "input", channels=7, kernel=3, stride=2, padding=1)
    last = builder.add("depthwise", "dw1", last, kernel=3, stride=2, padding=1, bits=12)
    last = builder.add("pointwise", "pw", last, channels=7, residual=last, bits=bits)
    if bits > 8:
        last = builder.add("pointwise", "pw2", last, channels=7)
    else:
        last = builder.add("depthwise", "dw2", last, kernel=3, padding=1)
    return builder.finish(last, 5)


def _in_strips() -> Graph:
    """Its depthwise and pointwise operators could work in strips, were there no shortcut."""
    builder = GraphBuilder(np.random.default_rng(0), "in_strips", (24, 24, 3))
    last = builder.add("conv2d", "stem", "input", channels=3, kernel=3, padding=1)
    last = builder.add("depthwise", "dw", last, kernel=3, padding=1, bits=12)
    last = builder.add("pointwise", "pw", last, channels=3, residual=last)
    last = builder.add("depthwise", "dw2", last, kernel=3, padding=1)
    return builder.finish(last, 5)


def _others() -> Graph:
    """conv2d, depthwise, add and pointwise in a row, each with its own input as shortcut."""
    builder = GraphBuilder(np.random.default_rng(0), "others", (13, 17, 3))
    last = "input"
    for number in range(2):
        last = builder.add(
            "conv2d", f"conv{number}", last, channels=3, kernel=3, padding=1, residual=last
        )
    for number in range(3):
        last = builder.add(
            "depthwise", f"dw{number}", last, kernel=3, padding=1, residual=last,
            bits=12 if number == 2 else 8,
        )  # fmt: skip
    last = builder.add("add", "sum", last, residual=last, bits=12)
    last = builder.add("pointwise", "pw", last, channels=3, residual=last, bits=12)
    last = builder.add("pointwise", "wide", last, channels=3, residual=last, bits=16)
    last = builder.add("pointwise", "short", last, channels=3, residual=last)
    return builder.finish(last, 5)


BUILT: dict[str, Callable[[], Graph]] = {
    "gathered to pixels": lambda: _gathered((6, 24), bits=12),
    "gathered to lines": lambda: _gathered((9, 13), bits=8),
    "in strips": _in_strips,
    "others": _others,
}


def _libraries(graph: Graph) -> list[Library]:
    rng = np.random.default_rng(1)
    images = [random_image(rng, graph) for _ in range(2)]
    found = []
    for plan in PLANS:
        named = replace(graph, name=f"{plan}_{graph.name}")
        with in_plan(plan) as mode:
            files = compile_graph(named, mode=mode)
        found.append(Library(named, files, images))
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", BUILT)
def test_every_tensor_equals_the_reference(tmp_path: Path, name: str, form: str) -> None:
    assert differences(tmp_path, _libraries(BUILT[name]()), form) == {}


@contextmanager
def _gathering_the_shortcut() -> Iterator[None]:
    """The planner believes that a kernel gathers its shortcut with its input."""
    reads = rows._reads

    def gathers(self: Choice, graph: Graph, index: int) -> bool:
        op = graph.ops[index]
        alone = sum(other.input == op.input for other in graph.ops) == 1
        return self.tight and index in self.barriers and op.kind == "pointwise" and alone

    def forgetful(step, event, time, gathered):
        for (name, row), end in reads(step, event, time, gathered):
            yield (name, row), 2 * time if gathered and name == step.input else end

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Choice, "gathers", gathers)
        patch.setattr(rows, "_reads", forgetful)
        yield


@pytest.mark.parametrize(("side", "bits"), [((6, 24), 12), ((9, 13), 8)])
def test_replay_refuses_a_shortcut_that_is_gathered(side: tuple[int, int], bits: int) -> None:
    with (
        _gathering_the_shortcut(),
        pytest.raises(EtinynetError, match="memory plan: operator 'pw', having written, reads"),
    ):
        make_plan(_gathered(side, bits=bits), "inplace")


def _chain(kind: str) -> Graph:
    """Three operators of `kind` in a row, each with its own input as shortcut."""
    builder = GraphBuilder(np.random.default_rng(0), "chain", (13, 17, 3))
    last = builder.add("conv2d", "stem", "input", channels=4, kernel=3, padding=1, bits=12)
    window = {"kernel": 3, "padding": 1} if kind == "depthwise" else {}
    if kind == "depthwise":
        builder.tensors[last] = replace(builder.tensors[last], bits=8)
    for number in range(3):
        last = builder.add(
            kind, f"{kind}{number}", last, channels=4, residual=last,
            bits=8 if kind == "depthwise" else 12, **window,
        )  # fmt: skip
    last = builder.add("pointwise", "last", last, channels=4)
    return builder.finish(last, 5)


@pytest.mark.parametrize("kind", ["depthwise", "pointwise", "add"])
def test_replay_refuses_outputs_over_their_own_shortcut(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    graph = _chain(kind)
    make_plan(graph, "inplace")
    monkeypatch.setattr(rows, "_replaceable", lambda graph, step, event: [(step.input, event.row)])
    words = rf"memory plan: operator '{kind}\d', having written, reads row"
    with pytest.raises(EtinynetError, match=words):
        make_plan(graph, "inplace")


def _with_strips(plan: Plan, graph: Graph) -> Plan:
    """`plan` with the pointwise operator `pw` and the one before it in strips."""
    index = next(index for index, op in enumerate(graph.ops) if op.name == "pw")
    choice = replace(plan.choice, strips={index: index - 1})
    return replace(plan, choice=choice)


def test_strips_of_a_shortcut_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = _in_strips()
    plan = _with_strips(make_plan(graph, "stream"), graph)
    with pytest.raises(EtinynetError, match="memory plan: tensor 'dw' is made in strips, but not"):
        replay(plan)
    monkeypatch.setattr(search, "_strips", lambda graph: {2: 1})
    with pytest.raises(EtinynetError, match="memory plan: tensor 'pw' is never completed"):
        make_plan(graph, "stream")
