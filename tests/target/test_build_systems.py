"""The folder that compile writes, unchanged, in four build systems, as far as their tools go here.

CMake: built and run, on the host and as firmware. PlatformIO: its own packer, manifest parser and
source filter; its compilers are downloads that no test makes. Arduino and Zephyr: their rules,
written here from their specifications, and the sources compiled as these would be.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import kconfiglib
import numpy as np
import pytest
import yaml
from platformio import fs
from test_uart import board_with

from etinynet.commands.building import compile_to, demo_picture, expected_line
from etinynet.graph import Graph, execute
from etinynet.graph.io import graph_to_bytes
from graph_cases import GraphBuilder

HERE = Path(__file__).parent / "build_systems"
PART = "stm32f746"
Tool = Callable[[str], str]


@pytest.fixture(scope="module")
def graph() -> Graph:
    builder = GraphBuilder(np.random.default_rng(1), "photos", (24, 24, 3))
    last = builder.add("conv2d", "stem", "input", channels=6, kernel=3, padding=1, relu=True)
    return builder.finish(builder.block(0, last, (6, 9, 9), dense=True), 5)


@pytest.fixture(scope="module")
def folder(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `etinynet compile` writes."""
    path = tmp_path_factory.mktemp("compiled")
    (path / "photos.etn").write_bytes(graph_to_bytes(graph))
    compile_to(str(path / "photos.etn"), PART, path / "photos_c", None)
    return path / "photos_c"


def sh(*command: object, cwd: Path | None = None, **options: object) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answer(graph: Graph) -> str:
    scores = execute(graph, demo_picture(graph)).reshape(-1)
    return f"class {scores.argmax()}, score {scores.max()}\n"


APP = """
#include <stdio.h>
#include "photos.h"
static uint64_t arena[(PHOTOS_ARENA_BYTES + 7) / 8];
static int16_t scores[PHOTOS_SCORES];
static int read_row(void *context, int32_t row, uint8_t *rgb)
{
    (void)context;
    for (int32_t i = 0; i < PHOTOS_INPUT_WIDTH * PHOTOS_INPUT_CHANNELS; i++) {
        rgb[i] = (uint8_t)(((uint32_t)(row * i) >> 4) + 3u * (uint32_t)row);
    }
    return 0;
}
int main(void)
{
    int best = 0;
    if (photos_run(arena, read_row, NULL, scores) != 0) { return 1; }
    for (int i = 1; i < PHOTOS_SCORES; i++) { best = scores[i] > scores[best] ? i : best; }
    printf("class %d, score %d\\n", best, scores[best]);
    return 0;
}
"""


@pytest.mark.parametrize("language", ["c", "cpp"])
def test_cmake_target_on_the_host(
    tool: Tool, tmp_path: Path, folder: Path, graph: Graph, language: str
) -> None:
    (tmp_path / f"app.{language}").write_text(APP)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app C CXX)\n"
        f"add_subdirectory({folder} photos)\nadd_executable(app app.{language})\n"
        "target_link_libraries(app PRIVATE photos)\n"
    )
    sh(tool("cmake"), "-S", tmp_path, "-B", tmp_path / "build")
    sh("cmake", "--build", tmp_path / "build")
    assert sh(tmp_path / "build" / "app") == answer(graph)


@pytest.mark.parametrize("camera", ["OFF", "ON"])
def test_cmake_builds_the_firmware(
    tool: Tool, tmp_path: Path, folder: Path, graph: Graph, camera: str
) -> None:
    tool("arm-none-eabi-gcc")
    options = ("-DCMAKE_TOOLCHAIN_FILE=arm-none-eabi.cmake", f"-DCAMERA_UART={camera}")
    source = folder / "firmware"
    sh(tool("cmake"), "-S", source, "-B", tmp_path, *options, cwd=source)
    sh("cmake", "--build", tmp_path)
    assert (tmp_path / "photos_semihosting.elf").exists()
    picture = demo_picture(graph).view(np.uint8).reshape(len(demo_picture(graph)), -1) ^ 0x80
    answers = {f"row {number}": row.tobytes() for number, row in enumerate(picture)}
    board = board_with(PART, (tmp_path / "photos_uart.elf").read_bytes(), answers=answers)
    board.run()
    assert board.text.endswith(f"\r\n{expected_line(graph, PART)}\r\n")
    assert ("row 0\r\n" in board.text) == (camera == "ON")


def properties(folder: Path) -> dict[str, str]:
    lines = (folder / "library.properties").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    assert len({key for key, _ in pairs}) == len(pairs)
    return {key: value for key, value in pairs}


def arduino_sources(folder: Path) -> list[Path]:
    """The library specification: `src` with all below it, else the root and `utility` alone."""
    assert not (folder / "src").exists()
    found = [*folder.iterdir(), *(folder / "utility").glob("*")]
    return sorted(path for path in found if path.suffix in (".c", ".cpp", ".S"))


def test_arduino_library_is_specified(folder: Path) -> None:
    found = properties(folder)
    required = "name version author maintainer sentence paragraph category url architectures"
    assert set(required.split()) <= set(found)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", found["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"])
    assert not found["sentence"].lower().startswith(("arduino", "a library"))
    assert found["category"] in (
        "Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing",
        "Data Storage", "Data Processing", "Other",
    )  # fmt: skip
    assert (folder / found["includes"]).is_file()
    sketches = list((folder / "examples").glob("*/*.ino"))
    assert [path.stem for path in sketches] == [path.parent.name for path in sketches] == ["photos"]


def test_arduino_sketch_compiles_and_runs(
    tool: Tool, tmp_path: Path, folder: Path, graph: Graph
) -> None:
    sources = arduino_sources(folder)
    assert [path.name for path in sources] == ["photos.c", "photos_weights.c"]
    sketch = tmp_path / "photos.ino.cpp"
    text = (folder / "examples" / "photos" / "photos.ino").read_text()
    sketch.write_text(f"#include <Arduino.h>\n{text}\nint main() {{ setup(); for (;;) loop(); }}\n")
    for c, cpp, core in (
        ("gcc", "g++", ()),
        ("arm-none-eabi-gcc", "arm-none-eabi-g++", ("-mcpu=cortex-m7", "-mthumb")),
    ):
        for source in sources:
            flags = ("-Os", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-ffunction-sections")
            sh(tool(c), *core, *flags, f"-I{folder}", "-c", source, cwd=tmp_path)
        flags = ("-Os", "-std=gnu++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions")
        include = (f"-I{HERE}", f"-I{folder}")
        sh(tool(cpp), *core, *flags, *include, "-c", sketch, "-o", "sketch.o", cwd=tmp_path)
        if not core:
            sh(cpp, "sketch.o", "photos.o", "photos_weights.o", "-o", "app", cwd=tmp_path)
            assert sh(tmp_path / "app") == answer(graph)


def test_platformio_accepts_the_library(tmp_path: Path, folder: Path) -> None:
    """`pio pkg pack` validates library.json by PlatformIO's own schema before it packs."""
    core = {"PLATFORMIO_CORE_DIR": str(tmp_path), "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "No"}
    archive = tmp_path / "photos.tar.gz"
    pio = (sys.executable, "-m", "platformio")
    sh(*pio, "pkg", "pack", folder, "-o", archive, env={**os.environ, **core})
    with tarfile.open(archive) as packed:
        names = set(packed.getnames())
    manifest = json.loads((folder / "library.json").read_text())
    build = manifest["build"]
    chosen = fs.match_src_files(
        str(folder / build["srcDir"]), build["srcFilter"], ["c", "cpp", "S"]
    )
    assert sorted(chosen) == ["photos.c", "photos_weights.c"]
    example = manifest["examples"][0]
    wanted = {*chosen, manifest["headers"], f"{example['base']}/{example['files'][0]}"}
    assert wanted | {"library.json", "etn_types.h"} <= names


def test_zephyr_module(tool: Tool, tmp_path: Path, folder: Path) -> None:
    """Names and files, Kconfig by kconfiglib, the CMake file with functions like Zephyr's."""
    module = yaml.safe_load((folder / "zephyr" / "module.yml").read_text())
    assert module == {
        "name": "etinynet_photos",
        "build": {"cmake": "zephyr", "kconfig": "zephyr/Kconfig"},
    }
    assert (folder / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    config = kconfiglib.Kconfig(str(folder / module["build"]["kconfig"]), warn_to_stderr=False)
    assert not config.warnings
    assert config.syms["ETINYNET_PHOTOS"].str_value == "n"
    config.syms["ETINYNET_PHOTOS"].set_value("y")
    assert config.syms["ETINYNET_PHOTOS"].config_string == "CONFIG_ETINYNET_PHOTOS=y\n"
    (tmp_path / "app.c").write_text(APP)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(app C)\n"
        f"include({HERE / 'zephyr.cmake'})\nadd_subdirectory({folder / 'zephyr'} module)\n"
        "if(CONFIG_ETINYNET_PHOTOS)\nadd_executable(app app.c)\n"
        f"target_include_directories(app PRIVATE {folder})\n"
        "target_link_libraries(app PRIVATE etinynet_photos)\nendif()\n"
    )
    for switch in ("n", "y"):
        value = "ON" if switch == "y" else "OFF"
        build = tmp_path / switch
        sh(tool("cmake"), "-S", tmp_path, "-B", build, f"-DCONFIG_ETINYNET_PHOTOS={value}")
        sh("cmake", "--build", build)
        assert (build / "app").exists() == (switch == "y")


def test_the_folder_is_left_as_it_was(folder: Path) -> None:
    assert not [path for path in folder.rglob("*") if path.suffix in (".o", ".a", ".d")]
    assert not (folder / "CMakeCache.txt").exists()
