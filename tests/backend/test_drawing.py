"""memory.svg: everything lies inside the picture, however many tensors and long names there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import etinynet
from etinynet.backend.c.drawing import memory_svg
from etinynet.backend.c.plan import make_plan
from etinynet.graph.io import read_graph
from etinynet.graph.ir import Graph
from graph_cases import etinynet_graph

SIGNS = Path(etinynet.__file__).parent / "assets" / "sign-digits.etn"
SPACE = "{http://www.w3.org/2000/svg}"
#: Width of DejaVu Sans' letters beside the size of its type; few sans-serif types are wider.
LETTER = 0.6


def renamed(graph: Graph, name: str, pattern: str) -> Graph:
    new = {old: pattern.format(old) for old in graph.tensors}
    return replace(
        graph,
        name=name,
        input=new[graph.input],
        outputs=tuple(new[name] for name in graph.outputs),
        tensors={new[old]: replace(one, name=new[old]) for old, one in graph.tensors.items()},
        ops=tuple(
            replace(
                op,
                name=new[op.output],
                inputs=tuple(new[source] for source in op.inputs),
                output=new[op.output],
            )
            for op in graph.ops
        ),
    )


def many() -> Graph:
    """77 tensors with names of 40 letters."""
    blocks = ((16, 16, 16, 1, True),) * 24
    graph = etinynet_graph(np.random.default_rng(0), blocks, side=32, classes=10)
    return renamed(graph, "n" * 200, "backbone.stage_four.inverted_residual.{}")


def extent(text: ElementTree.Element, default: float) -> tuple[float, float]:
    """Left and right end of a line of text, as wide as a type may make it."""
    size = float(text.get("font-size", default))
    width = LETTER * size * len(text.text or "")
    x = float(text.get("x", 0))
    left = x - {"middle": width / 2, "end": width}.get(text.get("text-anchor", ""), 0)
    return left, left + width


@pytest.mark.parametrize("make", [lambda: read_graph(SIGNS), many], ids=["signs", "many"])
def test_nothing_is_cut(make: Any) -> None:
    graph = make()
    plan = make_plan(graph, "stream")
    root = ElementTree.fromstring(memory_svg(graph, plan))
    # a size of its own would be cut by a smaller window
    assert (root.get("width"), root.get("height")) == (None, None)
    left, top, width, height = map(float, root.get("viewBox", "").split())
    assert (left, top) == (0, 0)
    lines = list(root.iter(f"{SPACE}text"))
    for text in lines:
        first, last = extent(text, float(root.get("font-size", 0)))
        assert 0 <= first <= last <= width, text.text
        assert 11 <= float(text.get("y", 0)) <= height
    for box in root.iter(f"{SPACE}rect"):
        x, y = float(box.get("x", 0)), float(box.get("y", 0))
        assert 0 <= x <= x + float(box.get("width", 0)) <= width
        assert 0 <= y <= y + float(box.get("height", 0)) <= height
        assert float(box.get("width", 0)) > 0
        assert float(box.get("height", 0)) > 0
    # one line of the legend for each tensor, no two in one place
    legend = [text for text in lines if text.get("text-anchor") is None][2:]
    legend = legend[: len(plan.places)]
    assert len({(text.get("x"), text.get("y")) for text in legend}) == len(plan.places)
