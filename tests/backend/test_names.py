"""Names of libraries: what is taken, what any text becomes, and that they compile side by side."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import etinynet
from etinynet.backend.c import compile_graph, package_files
from etinynet.backend.c.names import check_library_name, library_name, name_fault, usable_name
from etinynet.errors import ConfigError, UnsupportedError
from etinynet.graph import Graph, execute
from graph_cases import GraphBuilder, random_image

ROOT = Path(etinynet.__file__).parent
Tool = Callable[[str], str]
#: A text of each kind, and the name it becomes.
KINDS = {
    "photos": "photos",
    "Sign_Digits": "Sign_Digits",
    "my model": "my_model",
    "my-model.v2": "my_model_v2",
    "__a__b__": "a_b",
    "string_": "net_string",
    "3 cats": "net_3_cats",
    "etn": "net_etn",
    "ETN": "net_ETN",
    "etn_types": "net_etn_types",
    "etn_weights": "net_etn_weights_net",
    "photos_weights": "photos_weights_net",
    "photos_classes": "photos_classes_net",
    "firmware_main": "net_firmware_main",
    "host_main": "net_host_main",
    "startup": "net_startup",
    "trace": "net_trace",
    "runtime": "net_runtime",
    "board": "net_board",
    "main": "net_main",
    "stdio": "net_stdio",
    "STDIO": "net_STDIO",
    "time": "net_time",
    "math": "net_math",
    "limits": "net_limits",
    "features": "net_features",
    "pthread": "net_pthread",
    "memory": "net_memory",
    "arm_neon": "net_arm_neon",
    "Arduino": "net_Arduino",
    "all": "net_all",
    "clean": "net_clean",
    "help": "net_help",
    "install": "net_install",
    "test": "net_test",
    "package": "net_package",
    "m": "net_m",
    "c": "net_c",
    "gcc": "net_gcc",
    "dl": "net_dl",
    "int": "net_int",
    "class": "net_class",
    "new": "net_new",
    "Con": "net_Con",
    "lpt1": "net_lpt1",
    "café": "cafe",
    "Größe": "Grosse",
    "Łódź 2": "Lodz_2",
    "ﬁsh①": "fish1",
    "🐱cat": "cat",
    "*/ int x; //": "int_x",
    "\u202egnp\x1b[31m": "gnp_31m",
    "a" * 32: "a" * 32,
}  # fmt: skip


def small(name: str, seed: int = 0, classes: int = 3) -> Graph:
    builder = GraphBuilder(np.random.default_rng(seed), name, (8, 8, 3))
    last = builder.add("conv2d", "stem", "input", channels=4, kernel=3, padding=1, relu=True)
    return builder.finish(last, classes)


@pytest.mark.parametrize("text", KINDS)
def test_a_text_becomes_a_name(text: str) -> None:
    name = library_name(text)
    assert name == KINDS[text]
    assert name_fault(name) is None
    assert (name == text) == (name_fault(text) is None)


@given(st.text())
def test_every_name_made_is_usable(text: str) -> None:
    try:
        name = library_name(text)
    except ConfigError:
        return
    assert name_fault(name) is None
    assert library_name(name) == name


@pytest.mark.parametrize("text", ["модель", "cat_模型", "نموذج", "हिन्दी", "½", "🐱", "-", ""])
def test_other_alphabets_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"name '.*' has .*letters .* with --name"):
        library_name(text)


def test_long_names_stay_two() -> None:
    texts = [f"{'leaves_of_many_trees_' * 3}{year}" for year in (2023, 2024)]
    first, second = (library_name(text) for text in texts)
    assert first != second
    assert len(first) == len(second) == 32
    assert first.startswith("leaves_of_many_trees_")
    assert library_name(texts[0]) == first
    assert len(library_name("a" * 24 + "_weights")) == 32


def test_files_beside_the_library_are_taken() -> None:
    own = [path for path in (ROOT / "target" / "firmware").rglob("*") if path.is_file()]
    names = {path.name.split(".")[0] for path in own if path.name.split(".")[1] in ("c", "h")}
    names |= {path.stem for path in (ROOT / "backend" / "c" / "kernels").glob("*.h")}
    assert {"board", "startup", "host_main", "etn_types"} <= names
    boards = {name for name in names if name.startswith("registers_")}
    assert [name for name in sorted(names - boards - {"main"}) if name_fault(name) is None] == []


@pytest.mark.parametrize(
    "folder", ["include", "libc/include/generic-musl", "libc/include/generic-glibc"]
)
def test_headers_of_compilers_and_systems_are_taken(folder: str) -> None:
    spec = importlib.util.find_spec("ziglang")
    assert spec is not None
    (zig,) = spec.submodule_search_locations or ()
    names = {path.stem for path in (Path(zig) / "lib" / folder).glob("*.h")}
    assert len(names) > 20
    assert sorted(name for name in names if name_fault(name) is None) == []


def test_names_given_are_checked() -> None:
    check_library_name("photos", "--name")
    with pytest.raises(ConfigError, match=r"--name is 'time', which is a header of the system; an"):
        check_library_name("time", "--name")
    with pytest.raises(ConfigError, match=r"--name is 'a-b', which is not letters"):
        check_library_name("a-b", "--name")
    with pytest.raises(ConfigError, match=r"--name is 'x+', which has 33 characters, more than 32"):
        check_library_name("x" * 33, "--name")
    assert usable_name(small("photos")) == "photos"
    assert name_fault(usable_name(small("etn"))) is None


def test_libraries_of_all_names_in_one_folder_compile(tmp_path: Path, tool: Tool) -> None:
    """One folder on the include path for all: no file, macro or guard is another's."""
    graph = small("photos")
    names = {name.lower(): name for name in map(library_name, KINDS)}.values()
    sources = []
    for name in names:
        files = compile_graph(graph, name=name)
        for file, data in files.items():
            path = tmp_path / file
            if not file.startswith("etn_") and file not in ("report.json", "memory.svg"):
                assert not path.exists(), file
            path.write_bytes(data)
        sources += [file for file in files if file.endswith(".c")]
    system = ("stdio", "string", "time", "math", "limits", "errno", "pthread", "features")
    lines = [f"#include <{header}.h>" for header in system]
    lines += [f'#include "{name}.h"' for name in names]
    lines += [f"int use_{name}(void) {{ return {name}_run(0, 0, 0, 0); }}" for name in names]
    (tmp_path / "all.c").write_text("\n".join(lines) + "\n")
    flags = ("-std=c99", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I.")
    found = subprocess.run(
        [tool("gcc"), *flags, *sources, "all.c"], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr


def test_cmake_takes_the_names(tmp_path: Path, tool: Tool) -> None:
    lines = ["cmake_minimum_required(VERSION 3.16)", "project(app C)"]
    names = [library_name(text) for text in ("all", "clean", "help", "install", "m", "test", "dl")]
    for name in names:
        graph = small("photos")
        files = compile_graph(graph, name=name)
        files |= package_files(graph, files, name)
        for file, data in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(data)
        lines.append(f"add_subdirectory({name})")
    (tmp_path / "app.c").write_text("#include <math.h>\nint main(void) { return 0; }\n")
    lines += ["add_executable(app app.c)", f"target_link_libraries(app m {' '.join(names)})"]
    (tmp_path / "CMakeLists.txt").write_text("\n".join(lines) + "\n")
    found = subprocess.run(
        [tool("cmake"), "-S", ".", "-B", "build"], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert "Warning" not in found.stderr


MAIN = """
#include <stdio.h>
#include "first.h"
#include "second.h"
#include "third.h"
static uint64_t arena[8192];
static uint8_t picture[8 * 8 * 3];
static int16_t a[FIRST_SCORES], b[SECOND_SCORES], c[THIRD_SCORES];
int main(void)
{
    if (fread(picture, sizeof picture, 1, stdin) != 1) { return 1; }
    if (first_run_frame(arena, picture, a) != FIRST_OK) { return 2; }
    if (second_run_frame(arena, picture, b) != SECOND_OK) { return 3; }
    if (third_run_frame(arena, picture, c) != THIRD_OK) { return 4; }
    fwrite(a, sizeof a, 1, stdout);
    fwrite(b, sizeof b, 1, stdout);
    fwrite(c, sizeof c, 1, stdout);
    return 0;
}
"""


def test_three_models_in_one_program(tmp_path: Path, tool: Tool) -> None:
    """All are called model; each has the scores of its own reference."""
    graphs = [small("model", seed, classes=3 + seed) for seed in range(3)]
    names, command = ("first", "second", "third"), [tool("gcc"), "-std=c99", "-O1", "-Werror"]
    for graph, name in zip(graphs, names, strict=True):
        (tmp_path / name).mkdir()
        for file, data in compile_graph(graph, name=name).items():
            (tmp_path / name / file).write_bytes(data)
        command += [f"-I{name}", f"{name}/{name}.c", f"{name}/{name}_weights.c"]
    (tmp_path / "main.c").write_text(MAIN)
    subprocess.run([*command, "main.c", "-o", "program"], cwd=tmp_path, check=True)
    image = random_image(np.random.default_rng(9), graphs[0])
    pixels = (image.view(np.uint8) ^ 0x80).tobytes()
    done = subprocess.run([tmp_path / "program"], input=pixels, capture_output=True, check=True)
    expected = [execute(graph, image).astype("<i2").reshape(-1) for graph in graphs]
    np.testing.assert_array_equal(np.frombuffer(done.stdout, "<i2"), np.concatenate(expected))


def test_a_graph_whose_name_is_taken_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"name is 'etn', which belongs to .*\(--name\)"):
        compile_graph(replace(small("photos"), name="etn"))
