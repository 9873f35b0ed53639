"""Cores and compilers the library meets: freestanding ones, and which form each of them takes."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from etinynet.backend.c import compile_graph
from etinynet.graph import execute, read_graph
from etinynet.target.base import get_target
from graph_cases import random_graph, random_image

Tool = Callable[[str], str]
ASSETS = Path(__file__).parents[2] / "src" / "etinynet" / "assets"
DSP = re.compile(r"\t(smlad|smmlar|sxtb16)\b")  # others are what compilers choose by themselves too
#: gcc's flags of a core, and whether the library takes the form of the DSP instructions.
CORES = {
    "-mcpu=cortex-m4 -mthumb": True,
    "-mcpu=cortex-m7 -mthumb": True,
    "-mcpu=cortex-a7 -mthumb": True,
    "-march=armv8-m.main+dsp -mthumb": True,
    "-mcpu=cortex-m4 -mthumb -finstrument-functions": True,
    "-mcpu=cortex-m4 -mthumb -mno-unaligned-access": False,
    "-mcpu=cortex-m33+nodsp -mthumb": False,
    "-mcpu=cortex-m0plus -mthumb": False,
    "-mcpu=cortex-a7 -marm": False,
    "-mcpu=cortex-a7 -marm -finstrument-functions": False,
    "-mcpu=arm1176jzf-s -marm": False,
    "-mcpu=arm926ej-s -marm": False,
    "-mcpu=cortex-r5 -mthumb -mbig-endian": False,
}
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of the embedded model, which has every kernel but two."""
    path = tmp_path_factory.mktemp("library")
    for name, data in compile_graph(read_graph(ASSETS / "sign-digits.etn")).items():
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("flags", CORES)
def test_each_core_compiles_and_takes_its_form(tool: Tool, folder: Path, flags: str) -> None:
    gcc = (tool("arm-none-eabi-gcc"), *flags.split(), "-mfloat-abi=soft", "-O2", *STRICT)
    subprocess.run([*gcc, "-S", "sign_digits.c", "-o", "form.s"], cwd=folder, check=True)
    # by the assembler too: it is what refuses registers and instructions
    subprocess.run([*gcc, "-c", "form.s", "-o", "form.o"], cwd=folder, check=True)
    assert bool(DSP.search((folder / "form.s").read_text())) == CORES[flags]


@pytest.mark.parametrize("level", ["-O0", "-Os"])
def test_instrumented_functions_at_other_levels(tool: Tool, folder: Path, level: str) -> None:
    gcc = (tool("arm-none-eabi-gcc"), "-mcpu=cortex-m4", "-mthumb", "-finstrument-functions")
    command = (*gcc, level, *STRICT, "-c", "sign_digits.c", "-o", "form.o")
    subprocess.run(command, cwd=folder, check=True)


@pytest.mark.parametrize(
    "target",
    [
        *("riscv32-freestanding", "riscv64-freestanding", "wasm32-freestanding"),
        *("powerpc-freestanding", "mips-freestanding", "thumb-freestanding-eabi"),
    ],
)
def test_no_header_of_a_c_library_is_needed(folder: Path, target: str) -> None:
    """With the compiler's own headers alone, of which a freestanding C has few."""
    spec = importlib.util.find_spec("ziglang")
    assert spec is not None
    (zig,) = spec.submodule_search_locations or ()
    own = Path(zig) / "lib" / "include"
    options = ("-ffreestanding", "-nostdinc", "-isystem", str(own), "-O1", *STRICT)
    command = (str(Path(zig) / "zig"), "cc", "-target", target, *options)
    for source in ("sign_digits.c", "sign_digits_weights.c", "sign_digits_classes.c"):
        subprocess.run([*command, "-c", source, "-o", "free.o"], cwd=folder, check=True)


def test_only_headers_of_freestanding_c_are_included(folder: Path) -> None:
    found = set()
    for path in folder.glob("*.[ch]"):
        found |= set(re.findall(r"#include <([^>]+)>", path.read_text()))
    assert found == {"stddef.h", "stdint.h"}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_portable_form_equals_the_reference_on_a_core(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What a core gets whose accesses have to be aligned."""
    command = f"{tool('arm-none-eabi-gcc')} -mno-unaligned-access"
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    image = random_image(rng, graph)
    monkeypatch.setenv("ETINYNET_ARM_CC", command)
    with get_target("stm32f412").load(graph) as program:
        portable = program.run(image)
    monkeypatch.setenv("ETINYNET_ARM_CC", "arm-none-eabi-gcc")
    with get_target("stm32f412").load(graph) as program:
        quick = program.run(image)
    for result in (portable, quick):
        np.testing.assert_array_equal(result.scores, execute(graph, image))
    assert portable.instructions is not None
    assert quick.instructions is not None
    assert portable.instructions > quick.instructions
