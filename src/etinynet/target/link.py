"""From C sources to a firmware image for one part: the firmware's own files, compile, link, fit."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from etinynet.errors import ConfigError, FitError, ToolError, UnsupportedError
from etinynet.extras import not_installed
from etinynet.target.elf import Image, read_elf
from etinynet.target.parts import Part
from etinynet.target.toolchain import (
    Compiler,
    compile_sources,
    device_compiler,
    first_error,
    try_tool,
)

__all__ = [
    "BOARDS",
    "STACK_BYTES",
    "Firmware",
    "build_firmware",
    "firmware_files",
    "main_source",
    "project_files",
    "render",
]

#: Kept free for the stack unless the caller says otherwise; a run measures what it needs.
STACK_BYTES = 4096

_STATIC_FILES = ("board.h", "include/string.h", "runtime.c", "startup.c")
#: Forms of the board, and the files of each beside those of all.
BOARDS = {"semihosting": ("board_semihosting.c",), "uart": ("board_camera.h", "board_uart.c")}
#: In the words of zig's linker and of GNU ld.
_OVERFLOW = re.compile(r"region [`'](\w+)'.* overflowed by (\d+) bytes")


@dataclass(frozen=True, eq=False)
class Firmware:
    """A linked program: `elf` is the file for a debugger, `image` the same in parts."""

    part: Part
    elf: bytes
    image: Image
    tools: str


def render(template: str, **values: object) -> bytes:
    """A template of the firmware folder with its `values`; raises ToolError without jinja2."""
    try:
        import jinja2
    except ImportError:
        raise not_installed("jinja2") from None
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    return environment.from_string(_read(template).decode()).render(**values).encode()


def firmware_files(
    part: Part, stack_bytes: int = STACK_BYTES, board: str = "semihosting"
) -> dict[str, bytes]:
    """Start-up code, files of the `board` (of BOARDS) and linker script of `part`: all but main.

    `stack_bytes` is a multiple of 8, at least 256; ConfigError otherwise.
    """
    if stack_bytes % 8 or stack_bytes < 256:
        raise ConfigError(f"stack_bytes: {stack_bytes!r}, allowed are multiples of 8 from 256")
    files = {name: _read(name) for name in (*BOARDS[board], *_STATIC_FILES)}
    files["board_registers.h"] = _read(f"registers_{part.name}.h")
    files["part.ld"] = render("part.ld.jinja", part=part, stack_bytes=stack_bytes)
    return files


def project_files(part: Part, name: str) -> dict[str, bytes]:
    """All of the firmware's own files for library `name` on `part`, to be built by CMake."""
    files = {"firmware_main.c": main_source(name), "camera_uart.c": _read("camera_uart.c")}
    for board in BOARDS:
        files |= firmware_files(part, board=board)
    files["CMakeLists.txt"] = render("CMakeLists.txt.jinja", name=name)
    files["arm-none-eabi.cmake"] = render("arm-none-eabi.cmake.jinja", part=part)
    return files


def main_source(name: str) -> bytes:
    """Source of the firmware's main for the generated library called `name`."""
    return render("main.c.jinja", name=name, prefix=name.upper())


def build_firmware(
    files: Mapping[str, bytes],
    part: Part,
    *,
    stack_bytes: int = STACK_BYTES,
    optimization: str = "-O2",
    trace: bool = False,
    board: str = "semihosting",
) -> Firmware:
    """Compiles and links `files`, a library and `main_source`, with the firmware for `part`.

    `board` is one of BOARDS. `trace` defines ETN_TRACE and adds the function that a trace build
    calls. Raises FitError if flash or RAM is too small, with both sizes, and ToolError if the
    compiler is missing or fails.
    """
    compiler = device_compiler(part.cpu, optimization)
    defines = ["-DETN_TRACE"] if trace else []
    own = firmware_files(part, stack_bytes, board)
    if trace:
        own["trace.c"] = _read("trace.c")
    taken = sorted(set(own) & set(files))
    if taken:
        raise UnsupportedError(
            f"library file {taken[0]!r} has the name of a file of the firmware; "
            "give the graph another name"
        )
    everything = {**own, **files}
    with tempfile.TemporaryDirectory(prefix="etinynet-") as folder:
        directory = Path(folder)
        for name, data in everything.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_bytes(data)
        extra = ["-I.", "-Iinclude", *defines]
        objects = compile_sources(compiler, _sources(files), directory, extra)
        # the firmware itself is not what takes the time: small
        extra += ["-Os", "-fno-builtin"]
        objects += compile_sources(compiler, _sources(own), directory, extra)
        elf = _link(compiler, objects, directory, part, stack_bytes)
    return Firmware(part, elf, read_elf(elf), compiler.describe(defines))


def _sources(files: Mapping[str, bytes]) -> list[str]:
    return [name for name in files if name.endswith(".c")]


def _link(
    compiler: Compiler, objects: Sequence[str], directory: Path, part: Part, stack_bytes: int
) -> bytes:
    # -O2 whatever the objects were compiled with: at -Os zig's linker drops the symbols.
    options = ["-O2", "-nostdlib", "-Wl,-T,part.ld", "-Wl,-e,etn_reset", "-Wl,--gc-sections"]
    command = (*compiler.command, *options, *objects, "-o", "firmware.elf")
    complaint = try_tool(command, directory)
    if complaint is not None:
        _raise_overflow(complaint, part, stack_bytes)
        raise ToolError(f"linker: {first_error(complaint)}")
    return (directory / "firmware.elf").read_bytes()


def _raise_overflow(complaint: str, part: Part, stack_bytes: int) -> None:
    """FitError if the linker's `complaint` is about a region that is too small."""
    over: dict[str, int] = {}
    for region, count in _OVERFLOW.findall(complaint):
        over[region] = max(over.get(region, 0), int(count))
    parts = []
    if "FLASH" in over:
        size = part.flash.length
        parts.append(f"flash holds {size} bytes, the program needs {size + over['FLASH']}")
    if "RAM" in over:
        size = part.ram.length
        parts.append(
            f"RAM holds {size} bytes, the program needs {size + over['RAM']} "
            f"({stack_bytes} of them for the stack)"
        )
    if parts:
        raise FitError(f"part {part.name!r}: " + "; ".join(parts))


def _read(name: str) -> bytes:
    return resources.files("etinynet.target").joinpath("firmware", name).read_bytes()
