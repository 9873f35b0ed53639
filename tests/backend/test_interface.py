"""What the header knows: the best class with a margin, class names, scores, picture, statuses."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etinynet.backend.c import compile_graph
from etinynet.backend.c.interface import c_string, interface_values
from etinynet.graph import Classification, Graph
from graph_cases import GraphBuilder, random_graph

Tool = Callable[[str], str]
NAMES = [
    'tabby "cat"', "café", "猫\U0001f431", "a\\b", "what??/", "*/ int x; /*", "tab\tline\n7",
    "%s%n", "half \ud83d", "zero\0end", "", "\u202e\x1b[31m", "ends with \\",
]  # fmt: skip


def graph_with(classes: int, scale: float = 1 / 512, **metadata: object) -> Graph:
    graph = random_graph(np.random.default_rng(0))
    result = graph.tensors[graph.outputs[0]]
    changed = replace(result, shape=(1, 1, classes), scale=scale)
    return replace(graph, tensors={**graph.tensors, graph.outputs[0]: changed}, metadata=metadata)


@pytest.fixture(scope="module")
def graph() -> Graph:
    builder = GraphBuilder(np.random.default_rng(0), "net", (12, 12, 3))
    last = builder.add("conv2d", "stem", "input", channels=4, kernel=3, padding=1, relu=True)
    graph = builder.finish(last, len(NAMES))
    names = [f"{name}{index}" for index, name in enumerate(NAMES)]
    stored = {"size": 12, "resize_short": 15, "crop": "center"}
    return replace(graph, head=Classification(tuple(names)), metadata={"preprocess": stored})


def header(graph: Graph) -> str:
    return compile_graph(graph)[f"{graph.name}.h"].decode()


BEST = """
#include <stdio.h>
#include "net.h"
int main(void)
{
    static int16_t scores[NET_SCORES];
    int32_t margin;
    while (fread(&margin, 4, 1, stdin) == 1 && fread(scores, sizeof scores, 1, stdin) == 1) {
        const int32_t best = net_best(scores, margin);
        fwrite(&best, 4, 1, stdout);
    }
    return 0;
}
"""


def expected_best(scores: np.ndarray, margin: int) -> int:
    wide = scores.astype(np.int64)
    best = int(np.argmax(wide))  # the first of equals
    others = np.delete(wide, best)
    return best if others.size == 0 or wide[best] - others.max() >= margin else -1


@pytest.mark.parametrize("compiler", ["gcc", "g++", "arm-none-eabi-gcc"])
def test_best_is_the_first_largest_with_a_margin(
    tmp_path: Path, tool: Tool, graph: Graph, compiler: str
) -> None:
    (tmp_path / "net.h").write_text(header(graph))
    (tmp_path / "app.c").write_text(BEST)
    strict = ("-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")
    command = [tool(compiler), "-O1", *strict, "app.c", "-o", "app"]
    if compiler == "arm-none-eabi-gcc":
        subprocess.run([*command, "-c"], cwd=tmp_path, check=True)
        return
    subprocess.run(command, cwd=tmp_path, check=True)
    count = graph.tensors[graph.outputs[0]].shape[2]
    rng = np.random.default_rng(1)
    rows = [rng.integers(low, high, count, endpoint=True)
            for low, high in [(-32768, 32767)] * 200 + [(-2, 2)] * 200 + [(5, 5)] * 3]  # fmt: skip
    rows += [np.where(np.arange(count) == at, 32767, -32768) for at in range(count)]
    cases = [(row.astype("<i2"), m) for row in rows for m in (0, 1, 3, 500, 65535, 65536)]
    data = b"".join(np.int32(margin).tobytes() + row.tobytes() for row, margin in cases)
    done = subprocess.run([tmp_path / "app"], input=data, capture_output=True, check=True)
    found = np.frombuffer(done.stdout, "<i4")
    np.testing.assert_array_equal(found, [expected_best(row, margin) for row, margin in cases])


def test_class_names_are_those_of_the_graph(tmp_path: Path, tool: Tool, graph: Graph) -> None:
    files = compile_graph(graph)
    assert files["net_classes.c"].isascii()
    for name in ("net.h", "net_classes.c"):
        (tmp_path / name).write_bytes(files[name])
    (tmp_path / "app.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nint main(void)\n{\n'
        "    for (int i = 0; i < NET_SCORES; i++) {\n"
        "        fputs(net_class_names[i], stdout);\n        putchar(0);\n    }\n    return 0;\n}\n"
    )
    strict = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wtrigraphs", "-Werror")
    sources = ("app.c", "net_classes.c")
    subprocess.run([tool("gcc"), *strict, *sources, "-o", "app"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "app"], capture_output=True, check=True)
    found = done.stdout.decode().split("\0")[:-1]
    stored = graph.head.class_names
    assert found == [name.replace("\0", "␀").replace("\ud83d", "�") for name in stored]


@pytest.mark.parametrize("name", NAMES)
def test_strings_are_plain(name: str) -> None:
    text = c_string(name)
    assert re.fullmatch(r'"([ !#->@-\[\]-~]|\\[0-7]{3})*"', text)


def test_names_take_flash_only_where_they_are_used(
    tmp_path: Path, tool: Tool, graph: Graph
) -> None:
    """By the linker: an archive without any option, and a program that uses them."""
    archive = ["net.o", "net_weights.o", "net_classes.o"]
    for name, data in compile_graph(graph).items():
        (tmp_path / name).write_bytes(data)
    core = ("-mcpu=cortex-m4", "-mthumb", "-Os")
    sources = [name.replace(".o", ".c") for name in archive]
    gcc = tool("arm-none-eabi-gcc")
    subprocess.run([gcc, *core, "-c", *sources], cwd=tmp_path, check=True)
    subprocess.run(["arm-none-eabi-ar", "rc", "libnet.a", *archive], cwd=tmp_path, check=True)
    sizes = {}
    for used in ("0", "net_class_names[1]"):
        (tmp_path / "app.c").write_text(
            '#include "net.h"\nconst char *volatile text;\nint _start(void)\n'
            f"{{\n    text = {used};\n    return net_run(0, 0, 0, 0);\n}}\n"
        )
        options = ("-nostartfiles", "-Wl,--no-gc-sections", "--specs=nosys.specs")
        command = [gcc, *core, *options, "app.c", "-L.", "-lnet", "-o", "app"]
        subprocess.run(command, cwd=tmp_path, check=True)
        nm = subprocess.run(["arm-none-eabi-nm", "app"], cwd=tmp_path, capture_output=True)
        sizes[used] = b"net_class_names" in nm.stdout
    assert sizes == {"0": False, "net_class_names[1]": True}


def test_a_graph_without_names_has_none() -> None:
    graph = random_graph(np.random.default_rng(0))
    files = compile_graph(graph)
    assert "net_classes.c" not in files
    assert b"class_names" not in files["net.h"]
    assert b"RESIZE_SHORT" not in files["net.h"]


def test_the_header_says_what_a_photograph_needs(graph: Graph) -> None:
    assert "#define NET_RESIZE_SHORT 15\n" in header(graph)
    for stored in ({"size": 13, "resize_short": 15}, {"size": 12}, [12], "x"):
        other = replace(graph, metadata={"preprocess": stored})
        assert interface_values(other)["resize_short"] is None


@pytest.mark.parametrize("scale", [1e-30, 1 / 3000, 0.5, 1e20])
def test_margins_make_classes_as_probable_as_they_say(scale: float) -> None:
    values = interface_values(graph_with(3, scale))
    assert float(values["score_scale"]) == scale
    for times, margin in values["margins"].items():
        assert isinstance(margin, int)
        if margin < 65536:
            assert scale * margin >= np.log(times) * (1 - 1e-12)
            assert scale * (margin - 1) < np.log(times)
        else:
            assert scale * 65535 < np.log(times)


def test_scores_in_the_header_are_the_graphs(graph: Graph) -> None:
    result = graph.tensors[graph.outputs[0]]
    text = header(graph)
    assert f"#define NET_SCORE_ZERO_POINT {result.zero_point}\n" in text
    scale = re.search(r"#define NET_SCORE_SCALE (\S+)\n", text)
    assert scale is not None
    assert json.loads(scale[1]) == result.scale


def test_macros_of_two_libraries_are_never_the_same(graph: Graph) -> None:
    """None ends with "_" and another: then no name makes NAME_A of one the other's NAME_A_B."""
    text = header(graph)
    macros = set(re.findall(r"#define NET_(\w+)", text))
    functions = set(re.findall(r"\bnet_(\w+)[(\[)]", text))
    assert {"BAD_POINTER", "MARGIN_2", "H", "SCORES"} <= macros
    assert {"best", "run", "run_frame", "read_row", "class_names"} <= functions
    for words in (macros, functions):
        assert not [(a, b) for a in words for b in words if a.endswith(f"_{b}")]
