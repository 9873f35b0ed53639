"""One table of graphs, every target: each tensor and each score equals the reference's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from etinynet.backend.c import MODES
from etinynet.backend.c.plan import make_plan
from etinynet.errors import ConfigError, DataError, FitError, MismatchError
from etinynet.graph import Graph, execute
from etinynet.target import host, mcu, verify
from etinynet.target.base import TARGETS, Program, get_target
from etinynet.target.mcu import McuTarget
from etinynet.target.parts import Region, get_part
from every_strip import PLANS, in_plan
from graph_cases import (
    GraphBuilder,
    inverted_graph,
    random_graph,
    random_image,
    siblings_graph,
)

SEEDS = (0, 1, 2, 3, 100, 101, 102)


#: Seeds from here on give networks of the MobileNetV2 kind, those below of the EtinyNet kind.
INVERTED = 100


def case(seed: int) -> tuple[Graph, list[NDArray[np.int8]]]:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng) if seed < INVERTED else inverted_graph(rng)
    return graph, [random_image(rng, graph) for _ in range(2)]


@pytest.fixture(params=SEEDS, scope="module")
def graph_and_images(request: pytest.FixtureRequest) -> tuple[Graph, list[NDArray[np.int8]]]:
    return case(request.param)


@pytest.mark.parametrize("name", TARGETS)
def test_every_tensor_equals_the_reference(
    graph_and_images: tuple[Graph, list[NDArray[np.int8]]], name: str
) -> None:
    graph, images = graph_and_images
    with get_target(name).load(graph) as program:
        outcome = verify.verify(graph, program, images, tensors=True)
        assert outcome == verify.Verification(2, 2, None)
        result = program.run(images[0])
        np.testing.assert_array_equal(result.scores, execute(graph, images[0]))
        assert result.scores.dtype == np.int16
        assert result.tensors is None


@pytest.mark.parametrize("name", ["host", "stm32f746"])
@pytest.mark.parametrize("mode", PLANS)
@pytest.mark.parametrize("seed", [0, 4, 103])
def test_every_memory_plan_equals_the_reference(seed: int, mode: str, name: str) -> None:
    graph, images = case(seed)
    with in_plan(mode) as plan, get_target(name, mode=plan).load(graph) as program:
        assert verify.verify(graph, program, images[:1], tensors=True).passed
        np.testing.assert_array_equal(program.run(images[1]).scores, execute(graph, images[1]))


@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2 * INVERTED - 1), mode=st.sampled_from(MODES))
def test_random_graphs_in_every_memory_plan(seed: int, mode: str) -> None:
    graph, images = case(seed)
    for name in ("host", "stm32f412"):
        with get_target(name, mode=mode).load(graph) as program:
            for image in images:
                np.testing.assert_array_equal(program.run(image).scores, execute(graph, image))


def test_an_arena_in_two_rams() -> None:
    graph, images = case(0)
    board = get_part("stm32h743")
    arena = make_plan(graph, "fast").arena_bytes
    first = Region("axi", 0x24000000, 4096 + arena // 2 // 4096 * 4096)
    part = replace(board, rams=(first, Region("dtcm", 0x20000000, 16384)))
    with McuTarget(part, mode="fast").load(graph) as program:
        assert b"#define NET_ARENAS 2" in program.files["net.h"]
        assert verify.verify(graph, program, images[:1], tensors=True).passed
        assert program.run(images[0]).memory.variables >= arena
    with pytest.raises(FitError, match=r"the arena takes \d+ bytes, .* RAM has \d+ \+ 4096 for it"):
        McuTarget(replace(part, rams=(first, Region("dtcm", 0x20000000, 4096))), mode="fast").load(
            graph
        )


def test_the_reference_has_no_memory_plan() -> None:
    with pytest.raises(ConfigError, match=r"'reference' has no memory plan, --plan is 'fast'"):
        get_target("reference", mode="fast")


@pytest.mark.parametrize("name", TARGETS)
def test_kernels_shared_by_operators_of_other_shifts(name: str) -> None:
    rng = np.random.default_rng(0)
    graph = siblings_graph(rng)
    with get_target(name).load(graph) as program:
        assert verify.verify(graph, program, [random_image(rng, graph)], tensors=True).passed


@pytest.fixture(scope="module", params=["stm32f412", "stm32f746", "stm32h743"])
def measured(request: pytest.FixtureRequest) -> Iterator[tuple[Graph, Program, NDArray[np.int8]]]:
    graph, images = case(0)
    with get_target(request.param).load(graph) as program:
        yield graph, program, images[0]


def test_parts_count_and_measure(measured: tuple[Graph, Program, NDArray[np.int8]]) -> None:
    graph, program, image = measured
    result = program.run(image)
    again = program.run(image, tensors=True)
    assert result.instructions == again.instructions == sum(result.instructions_per_op.values())
    assert set(result.instructions_per_op) == {"", *(op.name for op in graph.ops)}
    assert all(count > 0 for count in result.instructions_per_op.values())
    memory = result.memory
    assert memory.weights >= sum(op.weight.size // 2 for op in graph.ops if op.weight is not None)
    assert memory.constants > 0
    assert 2000 < memory.code < 40_000
    assert 100 < memory.stack < memory.stack_reserved == 4096
    assert result.flash_bytes == program.firmware.image.flash_bytes
    assert result.ram_bytes == memory.variables + memory.stack
    assert "zig cc" in result.tools
    assert "-O2" in result.tools


def damage(graph: Graph, files: dict[str, bytes]) -> dict[str, bytes]:
    """The library with one more in the last weight of operator 1's successor, in the C text."""
    name = f"{graph.name}_weights.c"
    head, text = files[name].decode().split("_dw1_weight[", 1)
    body = text.index("{") + 1
    number = text[body:].split(",", 1)[0]
    changed = (
        hex(int(number.strip().rstrip("u"), 0) ^ 1)
        if "x" in number
        else str(int(number) + (1 if int(number) < 100 else -1))
    )
    suffix = "u" if "u" in number else ""
    fixed = text[:body] + " " + changed + suffix + text[body + len(number) :]
    return {**files, name: (head + "_dw1_weight[" + fixed).encode()}


@pytest.mark.parametrize("name", ["host", "stm32f746"])
def test_one_wrong_weight_is_found_by_layer_and_index(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    graph, images = case(0)
    module = host if name == "host" else mcu
    right = module.compile_graph
    monkeypatch.setattr(module, "compile_graph", lambda *a, **k: damage(graph, right(*a, **k)))
    with get_target(name).load(graph) as program:
        outcome = verify.verify(graph, program, images, tensors=True)
        scores_only = verify.verify(graph, program, images)
    assert not outcome.passed
    first = outcome.first
    wrong = next(op for op in graph.ops if op.name.endswith("dw1"))
    assert (first.picture, first.operator, first.tensor) == (0, wrong.name, wrong.output)
    expected = verify.execute_all(graph, images[0])[wrong.output]
    assert first.expected == expected[first.index] != first.got
    assert abs(first.expected - first.got) < 200
    assert str(first) == (
        f"picture 0, operator {wrong.name!r}, tensor {wrong.output!r} at {first.index}: "
        f"expected {first.expected}, got {first.got}"
    )
    assert scores_only.first is None or scores_only.first.operator == graph.ops[-1].name


def test_rows_are_reported_exactly_once() -> None:
    graph, images = case(0)
    from etinynet.backend.c import compile_graph
    from etinynet.target.trace import Trace, row_bytes

    files = compile_graph(graph)
    trace = Trace(graph, files, images[0])
    trace.add(0, 0, 1, bytes(row_bytes(files)[0]))
    with pytest.raises(MismatchError, match=r"tensor 'stem': .* row 1 0 times, it has to be once"):
        trace.tensors()


@pytest.mark.parametrize("name", TARGETS)
def test_wrong_picture(name: str) -> None:
    graph, _ = case(1)
    with (
        get_target(name).load(graph) as program,
        pytest.raises(DataError, match=r"picture for graph 'net': got int8 \(3, 3, 3\), allowed"),
    ):
        program.run(np.zeros((3, 3, 3), np.int8))


def test_unknown_target() -> None:
    with pytest.raises(ConfigError, match=r"'stm32' is unknown, allowed are reference, host, stm"):
        get_target("stm32")


def test_a_graph_that_is_too_large() -> None:
    builder = GraphBuilder(np.random.default_rng(0), "large", (16, 16, 3))
    last = builder.add("conv2d", "stem", "input", channels=8, kernel=3, stride=2, padding=1)
    wide = builder.add("depthwise", "dw", last, kernel=3, padding=1, bits=12)
    last = builder.add("pointwise", "pw", wide, channels=1000)
    graph = builder.finish(last, 1050)
    with pytest.raises(FitError, match=r"flash"):
        get_target("stm32f412").load(graph)


@pytest.mark.parametrize("called", ["main", "board", "etn", "host_main"])
@pytest.mark.parametrize("name", ["host", "stm32f412"])
def test_a_graph_called_as_a_file_of_the_program(name: str, called: str) -> None:
    """Nobody sees what its library is called then."""
    rng = np.random.default_rng(0)
    graph = random_graph(rng, name=called)
    with get_target(name).load(graph) as program:
        assert verify.verify(graph, program, [random_image(rng, graph)]).passed
