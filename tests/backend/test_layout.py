"""Memory layouts by reader, and the graphs that the C backend refuses in words."""

from __future__ import annotations

import numpy as np
import pytest

from etinynet.backend.c.layout import layouts
from etinynet.backend.c.schedule import Choice
from etinynet.errors import UnsupportedError
from etinynet.graph import Graph
from graph_cases import GraphBuilder

PADDED = Choice(tight=False, rows={})


def _builder(width: int = 10) -> GraphBuilder:
    return GraphBuilder(np.random.default_rng(0), "net", (10, width, 3))


@pytest.mark.parametrize(("width", "line"), [(10, 12), (11, 12), (12, 16), (13, 16)])
def test_layouts_follow_the_readers(width, line):
    builder = _builder(width)
    builder.add("conv2d", "stem", "input", channels=5, kernel=3, padding=1)
    builder.block(0, "stem", (5, 6, 6))
    found = layouts(builder.finish("b0.dw2", 4), PADDED)
    picture, stem, wide = found["input"], found["stem"], found["b0.dw1"]
    assert (picture.order, picture.element_bytes, picture.pixel_stride) == ("hwc", 1, 3)
    assert picture.row_bytes == -(-3 * width // 16) * 16
    assert (stem.order, stem.pad, stem.channel_stride, stem.row_bytes) == (
        "hcw",
        1,
        line,
        -(-(5 * line + 4) // 16) * 16,
    )
    assert (wide.order, wide.element_bytes, wide.row_bytes) == (
        "hwc",
        2,
        -(-10 * width // 16) * 16,
    )
    pooled = found["b0.dw2"]
    assert (pooled.pad, pooled.channel_stride) == (0, -(-width // 4) * 4)
    assert found["fc"].element_bytes == 2


def test_tight_lines_have_no_pads_and_gathered_rows_are_lines():
    builder = _builder(11)
    builder.add("conv2d", "stem", "input", channels=5, kernel=3, padding=1)
    builder.block(0, "stem", (5, 6, 6))
    graph = builder.finish("b0.dw2", 4)
    found = layouts(graph, Choice(tight=True, rows={}, barriers=frozenset({2})))
    stem, wide = found["stem"], found["b0.dw1"]
    assert (stem.order, stem.pad, stem.channel_stride, stem.row_bytes) == ("hcw", 0, 11, 64)
    assert (wide.order, wide.element_bytes, wide.channel_stride) == ("hcw", 2, 11)
    assert wide.row_bytes == 112


def test_summands_lie_as_their_sum_or_as_int16():
    builder = _builder(11)
    builder.add("conv2d", "stem", "input", channels=5, kernel=3, padding=1)
    builder.add("conv2d", "narrow", "input", channels=5, kernel=3, padding=1)
    builder.add("conv2d", "wide", "input", channels=5, kernel=3, padding=1, bits=12)
    builder.add("add", "first", "stem", residual="narrow")
    builder.add("add", "second", "first", residual="wide")
    builder.add("depthwise", "dw", "second", kernel=5, padding=2)
    found = layouts(builder.finish("dw", 4), PADDED)
    forms = {
        name: (layout.order, layout.element_bytes, layout.pad) for name, layout in found.items()
    }
    assert forms["second"] == forms["first"] == forms["stem"] == forms["narrow"] == ("hcw", 1, 0)
    assert forms["wide"] == ("hwc", 2, 0)


def _two_readers() -> Graph:
    builder = _builder()
    builder.add("conv2d", "stem", "input", channels=4, kernel=3, padding=1)
    builder.add("pointwise", "pw", "stem", channels=4)
    builder.add("depthwise", "dw", "stem", kernel=3, padding=1, residual="pw")
    return builder.finish("dw", 3)


def _twelve_bits() -> Graph:
    builder = _builder()
    builder.add("conv2d", "stem", "input", channels=4, kernel=3, padding=1, bits=12)
    builder.add("depthwise", "dw", "stem", kernel=3, padding=1)
    return builder.finish("dw", 3)


def _picture_of_lines() -> Graph:
    builder = _builder()
    builder.add("depthwise", "dw", "input", kernel=3, padding=1)
    return builder.finish("dw", 3)


REFUSED = {
    _two_readers: r"tensor 'stem': its readers \(pointwise 'pw', depthwise 'dw'\) want different",
    _twelve_bits: "operator 'dw': depthwise reads 'stem' of 12 bits, .* at most 8",
    _picture_of_lines: "tensor 'input': its readers .* of the graph's input",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_refusals(make):
    with pytest.raises(UnsupportedError, match=REFUSED[make]):
        layouts(make(), PADDED)
