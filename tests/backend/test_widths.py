"""Numbers of the generated tables: as wide as the plan needs, asserted, or refused with sizes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from etinynet.backend.c import MODES, compile_graph, fit, plan, tables
from etinynet.backend.c.place import MOST_BYTES
from etinynet.backend.c.widths import is_wide
from etinynet.errors import FitError, ToolError, UnsupportedError
from etinynet.graph import Graph, execute
from etinynet.target import host
from etinynet.target.base import get_target
from etinynet.target.verify import verify
from graph_cases import GraphBuilder, random_graph, random_image

KERNELS = Path(plan.__file__).parent / "kernels"
TEMPLATES = KERNELS.parent / "templates"


def _large(side: int = 256, channels: int = 32) -> Graph:
    """A graph whose arena holds a tensor of side * side * channels bytes at one time."""
    builder = GraphBuilder(np.random.default_rng(0), "large", (side, side, 3))
    last = builder.add("conv2d", "stem", "input", channels=channels, kernel=3, padding=1)
    return builder.finish(last, 10)


@pytest.mark.parametrize("mode", MODES)
def test_an_arena_above_one_mib_equals_the_reference(mode: str) -> None:
    graph = _large()
    assert plan.make_plan(graph, mode).arena_bytes > 2 << 20
    image = random_image(np.random.default_rng(1), graph)
    with get_target("host", mode=mode).load(graph) as program:
        assert verify(graph, program, [image], tensors=True).passed
        np.testing.assert_array_equal(program.run(image).scores, execute(graph, image))


def _define(graph: Graph, name: str) -> str:
    source = compile_graph(graph)[f"{graph.name}.c"].decode()
    found = re.search(rf"#define {name} (\d)", source)
    assert found is not None
    return found.group(1)


def test_places_are_wide_where_they_have_to_be() -> None:
    assert _define(_large(), "ETN_WIDE_PLACES") == "1"
    small = random_graph(np.random.default_rng(0))
    assert _define(small, "ETN_WIDE_PLACES") == _define(small, "ETN_WIDE_ROWS") == "0"
    assert not is_wide([0, 0xFFFE])
    assert is_wide([0, 0xFFFF])  # that is ETN_NOWHERE of the narrow ones


def test_wide_tables_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "is_wide", lambda values: True)
    rng = np.random.default_rng(0)
    graph = random_graph(rng)
    for name in ("host", "stm32f746"):
        with get_target(name, mode="stream").load(graph) as program:
            assert verify(graph, program, [random_image(rng, graph)], tensors=True).passed


Change = Callable[[dict[str, bytes]], dict[str, bytes]]


def _narrowed(files: dict[str, bytes]) -> dict[str, bytes]:
    source = files["large.c"].replace(b"#define ETN_WIDE_PLACES 1", b"#define ETN_WIDE_PLACES 0")
    return {**files, "large.c": source}


def _unasserted(files: dict[str, bytes]) -> dict[str, bytes]:
    header = files["etn_schedule.h"].replace(b"[(condition) ? 1 : -1]", b"[1]")
    assert header != files["etn_schedule.h"]
    return {**_narrowed(files), "etn_schedule.h": header}


@pytest.mark.parametrize(
    ("change", "words"), [(_narrowed, "negative|assert"), (_unasserted, "conver|changes value")]
)
def test_a_number_cut_short_never_compiles(
    monkeypatch: pytest.MonkeyPatch, change: Change, words: str
) -> None:
    right = host.compile_graph
    monkeypatch.setattr(host, "compile_graph", lambda *a, **k: change(right(*a, **k)))
    with pytest.raises(ToolError, match=words):
        get_target("host").load(_large())


def _holds(tmp_path: Path, compiler: str, conditions: list[str]) -> list[bool]:
    lines = "\n".join(f'    printf("%d\\n", (int)({condition}));' for condition in conditions)
    (tmp_path / "widths.c").write_text(
        "#include <stdio.h>\n#include <string.h>\n"
        "#define ETN_TENSORS 1\n#define ETN_WINDOW 1\n#define ETN_REGIONS 1\n"
        "#define ETN_STRIPS 0\n#define ETN_WIDE_PLACES 0\n#define ETN_WIDE_ROWS 0\n"
        f'#include "etn_schedule.h"\nint main(void)\n{{\n{lines}\n    return 0;\n}}\n'
    )
    command = [compiler, "-w", f"-I{KERNELS}", f"-I{TEMPLATES}", "widths.c", "-o", "widths"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "widths"], capture_output=True, check=True)
    return [line == b"1" for line in done.stdout.split()]


def test_every_number_of_the_tables_has_an_assertion(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """Each holds the most that its field can, and not one more: read off the generated C."""
    source = compile_graph(random_graph(np.random.default_rng(0)))["net.c"].decode()
    schedule = (TEMPLATES / "etn_schedule.h").read_text()
    checks = []
    for struct in ("etn_tensor", "etn_operator"):
        body = re.search(rf"typedef struct {{\n([^}}]*)}} {struct};", schedule)
        assert body is not None
        fields = re.findall(r"^ +(\w+) (\w+);$", body.group(1), re.MULTILINE)
        assert len(fields) > 5
        for kind, field in fields:
            assert re.search(rf"ETN_ASSERT\({struct}_{field}, ETN_HOLDS", source), field
            bits = {"etn_place": 16, "etn_index": 16}.get(kind) or int(re.sub(r"\D", "", kind))
            if kind.startswith("int"):
                most, macro = (1 << (bits - 1)) - 1, f"ETN_HOLDS_SIGNED({struct}, {field}, "
                checks += [f"{macro}{-most - 1}, {most})", f"{macro}0, {most + 1})"]
                checks += [f"{macro}{-most - 1}, 0)", f"{macro}{-most - 2}, 0)"]
            else:
                macro = f"ETN_HOLDS({struct}, {field}, "
                checks += [f"{macro}{(1 << bits) - 1}u)", f"{macro}{1 << bits}u)"]
    assert _holds(tmp_path, tool("gcc"), checks) == [True, False] * (len(checks) // 2)


@pytest.mark.parametrize("mode", [None, *MODES])
def test_an_arena_beyond_int32_is_refused_with_sizes(
    monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    graph = _large(side=96, channels=8)
    needed = plan.make_plan(graph, mode).arena_bytes
    monkeypatch.setattr(plan, "MOST_BYTES", needed)
    assert plan.make_plan(graph, mode).arena_bytes == needed
    monkeypatch.setattr(plan, "MOST_BYTES", needed - 16)
    words = rf"large: the arena takes {needed} bytes by plan '\w+', .* holds at most {needed - 16}"
    with pytest.raises(FitError, match=words):
        compile_graph(graph, mode=mode)
    assert MOST_BYTES == 2**31 - 16


def test_too_many_operators_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(np.random.default_rng(0))
    count = len(graph.ops)
    monkeypatch.setattr(fit, "_MOST_OPERATORS", count)
    compile_graph(graph)
    monkeypatch.setattr(fit, "_MOST_OPERATORS", count - 1)
    words = f"graph: number of operators is {count}, the C backend numbers at most {count - 1}"
    with pytest.raises(UnsupportedError, match=words):
        compile_graph(graph)
