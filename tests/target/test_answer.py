"""What the firmware answers is checked before anything is made of it."""

from __future__ import annotations

import numpy as np
import pytest

from etinynet.errors import DeviceFault
from etinynet.graph import Graph
from etinynet.target import mcu
from etinynet.target.base import get_target
from etinynet.target.mcu import McuProgram
from etinynet.target.profile import profile
from graph_cases import random_graph, random_image

PART = "stm32f412"
WRITE = "board_write(SCORES, NET_SCORES * (int32_t)sizeof(int16_t))"


@pytest.fixture
def graph() -> Graph:
    return random_graph(np.random.default_rng(3))


def altered(monkeypatch: pytest.MonkeyPatch, graph: Graph, old: str, new: str) -> McuProgram:
    """A program of `graph` whose main has `new` in place of `old`."""
    text = mcu.main_source(graph.name).decode()
    assert old in text
    monkeypatch.setattr(mcu, "main_source", lambda name: text.replace(old, new).encode())
    return get_target(PART).load(graph)  # type: ignore[return-value]


def image_of(graph: Graph) -> np.ndarray:
    return random_image(np.random.default_rng(0), graph)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        ("0", r"has ended and written nothing; "),
        ("board_write(SCORES, 0)", r"has written 0 bytes to 'scores.bin'; "),
        (f"{WRITE[:-1]} - 1)", r"has written {less} bytes to 'scores.bin'; "),
        ("board_write(SCORES, 2)", r"has written 2 bytes to 'scores.bin'; "),
        ("board_write(SCORES, 2 * NET_SCORES + 4)", r"has written {more} bytes to 'scores.bin'; "),
    ],
)
def test_scores_of_another_length_are_a_fault(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, write: str, words: str
) -> None:
    count = graph.tensors[graph.outputs[0]].shape[2]
    words = words.format(less=2 * count - 1, more=2 * count + 4)
    expected = rf"'scores.bin' of {2 * count} bytes, {count} scores of int16, is expected"
    program = altered(monkeypatch, graph, WRITE, write)
    with program, pytest.raises(DeviceFault, match=f"{PART}: the program {words}{expected}"):
        program.run(image_of(graph))
    with pytest.raises(DeviceFault, match=words):
        profile(graph, program, image_of(graph))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("99, 0, 1, arena", r"rows of operator 99, expected are 0 to \d+"),
        ("-1, 0, 1, arena", r"rows of operator -1, expected are 0 to"),
        ("0, 4000, 1, arena", r"operator '\w+': the program reported 1 rows from row 4000 on, it"),
        ("0, 0, 0, arena", r"operator '\w+': the program reported 0 rows from row 0 on, it has"),
        ("0, 0, 1, (void *)0x40000000", r"handed out \d+ bytes at 0x40000000, where it has no mem"),
    ],
)
def test_rows_that_do_not_exist_are_a_fault(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, call: str, words: str
) -> None:
    old = "int main(void)\n{"
    new = f"""void etn_trace(int32_t op, int32_t row, int32_t rows, const void *data);
int main(void)
{{
#ifdef ETN_TRACE
    etn_trace({call});
#endif"""
    with altered(monkeypatch, graph, old, new) as program:
        program.run(image_of(graph))
        with pytest.raises(DeviceFault, match=words):
            program.run(image_of(graph), tensors=True)


def test_scores_of_the_traced_build_are_checked_too(
    monkeypatch: pytest.MonkeyPatch, graph: Graph
) -> None:
    new = f"{WRITE}\n#ifdef ETN_TRACE\n    + board_write(SCORES, 2)\n#endif\n"
    with (
        altered(monkeypatch, graph, WRITE, new) as program,
        pytest.raises(DeviceFault, match=r"has written 2 bytes to 'scores.bin'"),
    ):
        program.run(image_of(graph), tensors=True)


def test_the_shipped_program_is_checked_for_alignment_once(
    monkeypatch: pytest.MonkeyPatch, graph: Graph
) -> None:
    new = """int main(void)
{
#ifndef ETN_TRACE
    __asm__ volatile("ldrd r2, r3, [%0]" : : "r"(arena + 2) : "r2", "r3");
#endif"""
    program = altered(monkeypatch, graph, "int main(void)\n{", new)
    with program:
        for _ in range(2):  # a run that fails has checked nothing
            with pytest.raises(DeviceFault, match=r"several words at 0x\w+[26ae], which is not"):
                program.run(image_of(graph))


def test_the_check_for_alignment_changes_no_number(graph: Graph) -> None:
    with get_target(PART).load(graph) as program:
        first, second = (program.run(image_of(graph)) for _ in range(2))
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.instructions_per_op == second.instructions_per_op
    assert first.memory == second.memory
