"""Memory layouts by reader, and the copies of tensors that are wanted in several."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from etinynet.backend.c.layout import layouts
from etinynet.backend.c.program import program_of
from etinynet.backend.c.schedule import Choice
from etinynet.errors import UnsupportedError
from etinynet.graph import Graph
from etinynet.graph.ops import COPY
from graph_cases import WIDE, GraphBuilder

PADDED, TIGHT = Choice(tight=False, rows={}), Choice(tight=True, rows={})


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


def _three_readers() -> Graph:
    builder = _builder()
    builder.add("conv2d", "stem", "input", channels=4, kernel=3, padding=1)
    builder.add("pointwise", "pw", "stem", channels=4)
    builder.add("depthwise", "dw", "stem", kernel=3, padding=1, residual="pw")
    builder.add("conv2d", "conv", "stem", channels=4, kernel=3, padding=1, residual="dw")
    return builder.finish("conv", 3)


def _made_of_lines() -> Graph:
    builder = _builder()
    builder.add("depthwise", "dw", "input", kernel=3, padding=1)
    return builder.finish("dw", 3)


def _forms(program: Graph, choice: Choice) -> dict[str, tuple[str, int, int]]:
    found = layouts(program, choice)
    return {name: (one.order, one.element_bytes, one.pad) for name, one in found.items()}


def test_a_tensor_of_several_readers_is_copied_in_front_of_the_first_of_each_kind():
    program = program_of(_three_readers(), tight=False)
    calls = [(op.kind, op.name, op.input) for op in program.ops]
    assert calls[:6] == [
        ("conv2d", "stem", "input"),
        ("pointwise", "pw", "stem"),
        ("copy", "stem@0", "stem"),
        ("depthwise", "dw", "stem@0"),
        ("copy", "stem@1", "stem"),
        ("conv2d", "conv", "stem@1"),
    ]
    forms = _forms(program, PADDED)
    assert forms["stem"] == ("hwc", 2, 0)
    assert forms["stem@0"] == ("hcw", 1, 1)
    assert forms["stem@1"] == ("hwc", 1, 0)
    assert program.tensors["stem@1"] == replace(program.tensors["stem"], name="stem@1")


def test_lines_of_8_bits_serve_pointwise_too_where_rows_are_unpadded():
    program = program_of(_three_readers(), tight=True)
    assert [op.name for op in program.ops if op.kind == COPY] == ["stem@0"]
    forms = _forms(program, TIGHT)
    assert forms["stem"] == ("hcw", 1, 0)
    assert forms["stem@0"] == ("hwc", 1, 0)


@pytest.mark.parametrize("choice", [PADDED, TIGHT])
def test_the_picture_is_copied_for_a_first_layer_that_reads_lines(choice):
    program = program_of(_made_of_lines(), tight=choice.tight)
    assert [op.kind for op in program.ops[:2]] == [COPY, "depthwise"]
    assert _forms(program, choice)["input"] == ("hwc", 1, 0)


def test_a_graph_without_copies_is_its_own_program():
    builder = _builder()
    builder.add("conv2d", "stem", "input", channels=4, kernel=3, padding=1)
    graph = builder.finish("stem", 3)
    assert program_of(graph, tight=True) is graph


def test_too_many_bits_for_the_kernels_are_refused():
    builder = _builder()
    builder.add("conv2d", "stem", "input", channels=4, kernel=3, padding=1, bits=12)
    builder.add("depthwise", "dw", "stem", kernel=3, padding=1)
    graph = builder.finish("dw", 3, precision=WIDE)
    with pytest.raises(
        UnsupportedError, match=r"'dw': depthwise reads 'stem' of 12 bits, .* most 8"
    ):
        program_of(graph, tight=False)
