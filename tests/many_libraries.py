"""Many generated libraries in one program of the host, which is quicker than a program for each."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.graph.execute import execute_all
from etinynet.graph.ir import Graph
from etinynet.target.toolchain import Compiler, compile_sources, host_compiler, run_tool
from etinynet.target.trace import Trace, row_bytes
from optional_tools import inability

__all__ = ["FORMS", "Library", "differences", "quick_compiler"]

#: Flags of both forms of the kernels; the DSP form with the instructions in C.
FORMS = {"portable": (), "dsp": ("-DETN_EMULATE_DSP",)}

_MAIN = Path(__file__).with_name("many_main.c")
_HEAD = struct.Struct("=4i")
_FLAGS = ("-std=c99", "-O0", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-DETN_TRACE")


@dataclass(frozen=True)
class Library:
    """A generated library, `files` by name, of `graph`, whose name no other has, and pictures."""

    graph: Graph
    files: Mapping[str, bytes]
    images: Sequence[NDArray[np.int8]]


def differences(folder: Path, libraries: Sequence[Library], form: str) -> dict[str, str]:
    """Of each library that does not equal the reference, by name: what differs first.

    Every tensor is compared. All libraries have as many pictures; they are built in `folder`, new
    or empty. Raises ToolError if the compiler fails, AssertionError if the program does.
    """
    program = _build(folder, libraries, form)
    shown = b"".join(
        (image.view(np.uint8) ^ 0x80).tobytes() for one in libraries for image in one.images
    )
    done = subprocess.run([program], input=shown, capture_output=True, check=False)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr.decode()}"
    found: dict[str, str] = {}
    at = 0
    for library in libraries:
        for number, image in enumerate(library.images):
            difference, at = _compare(library, image, done.stdout, at)
            if difference:
                found.setdefault(library.graph.name, f"picture {number}: {difference}")
    return found


def _compare(library: Library, image: NDArray[np.int8], data: bytes, at: int) -> tuple[str, int]:
    """What the records of one picture, from byte `at`, have wrong; where the next ones begin."""
    trace = Trace(library.graph, library.files, image)
    while True:
        op, row, rows, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size + size
        content = data[at - size : at]
        if op < 0:
            break
        trace.add(op, row, rows, content)
    if row != 0:
        return ("the library wrote outside its arena" if row == 101 else f"status {row}"), at
    expected = execute_all(library.graph, image)
    scores = np.frombuffer(content, np.int16)
    return _first_difference(library.graph, expected, trace.tensors(), scores), at


def _first_difference(
    graph: Graph,
    expected: Mapping[str, NDArray[Any]],
    tensors: Mapping[str, NDArray[Any]],
    scores: NDArray[np.int16],
) -> str:
    for op in graph.ops:
        wrong = np.argwhere(tensors[op.output] != expected[op.output])
        if len(wrong):
            return f"operator {op.name!r} ({op.kind}) at {tuple(wrong[0].tolist())}"
    same = np.array_equal(scores, expected[graph.output].reshape(-1))
    return "" if same else "scores"


def quick_compiler(form: str) -> Compiler:
    """clang, which is quickest without optimization, else gcc, else the package's own."""
    flags = (*_FLAGS, *FORMS[form])
    command = next((name for name in ("clang", "gcc") if inability(name) is None), None)
    if command is None:
        found = host_compiler()
        return Compiler(found.command, flags, found.version)
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    return Compiler((command,), flags, version.stdout.split("\n", 1)[0])


def _build(folder: Path, libraries: Sequence[Library], form: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    sources = ["main.c"]
    shutil.copyfile(_MAIN, folder / "main.c")
    for library in libraries:
        name = library.graph.name
        for file, data in library.files.items():
            if file.endswith((".c", ".h")):
                (folder / file).write_bytes(data)
        text = f'#include "{name}.c"\n#include "{name}_weights.c"\n'
        (folder / f"all_{name}.c").write_text(text)
        sources.append(f"all_{name}.c")
    (folder / "libraries.h").write_text(_table(libraries))
    compiler = quick_compiler(form)
    objects = compile_sources(compiler, sources, folder)
    run_tool((*compiler.command, *objects, "-o", "program"), folder)
    return folder / "program"


def _table(libraries: Sequence[Library]) -> str:
    """libraries.h for many_main.c."""
    lines = [f"#define COUNT {len(libraries[0].images)}"]
    lines += [f'#include "{library.graph.name}.h"' for library in libraries]
    for library in libraries:
        sizes = ", ".join(str(size) for size in row_bytes(library.graph, library.files))
        lines.append(f"static const int32_t {library.graph.name}_rows[] = {{{sizes}}};")
    lines.append("static const library libraries[] = {")
    for library in libraries:
        name, upper = library.graph.name, library.graph.name.upper()
        picture = f"{upper}_INPUT_HEIGHT * {upper}_INPUT_WIDTH * {upper}_INPUT_CHANNELS"
        lines.append(
            f"    {{{name}_run_frame, {upper}_ARENA_BYTES, {picture}, "
            f"{upper}_SCORES, {name}_rows}},"
        )
    return "\n".join([*lines, "};", ""])
