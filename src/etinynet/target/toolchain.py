"""Compilers: zig of PyPI's ziglang, or those named by ETINYNET_CC and ETINYNET_ARM_CC."""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from etinynet.errors import ConfigError, ToolError
from etinynet.extras import not_installed
from etinynet.target.compiler_cache import compiler_cache

__all__ = [
    "Compiler",
    "compile_sources",
    "device_compiler",
    "first_error",
    "host_compiler",
    "run_tool",
    "try_tool",
]

_WORKERS = 2
_OPTIMIZATIONS = ("-O2", "-Os")
#: A number that its type cannot hold is an error, in every build.
_WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
_DEVICE_FLAGS = (
    "-ffreestanding",
    "-fomit-frame-pointer",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-fno-stack-protector",
    "-ffunction-sections",
    "-fdata-sections",
    "-g0",
)


@dataclass(frozen=True)
class Compiler:
    """A C compiler: `command` starts it, `flags` go with every call, `version` is what it says."""

    command: tuple[str, ...]
    flags: tuple[str, ...]
    version: str

    def describe(self, extra: Sequence[str] = ()) -> str:
        """Version and flags in one line, for results and reports."""
        return " ".join((self.version, *self.command[2:], *self.flags, *extra))


def try_tool(command: Sequence[str], directory: Path) -> str | None:
    """Runs `command` in `directory`: None if it succeeds, otherwise all that it complained.

    Raises ToolError if it cannot be started.
    """
    try:
        done = subprocess.run(
            command, cwd=directory, env=_environment(), capture_output=True, check=False
        )
    except OSError as error:
        raise ToolError(f"{command[0]}: cannot start: {error.strerror}") from None
    if done.returncode == 0:
        return None
    text = (done.stderr + done.stdout).decode(errors="replace")
    return text if text.strip() else f"exit status {done.returncode} without a message"


def run_tool(command: Sequence[str], directory: Path) -> None:
    """Runs `command` in `directory`; raises ToolError with its first line of error if it fails."""
    complaint = try_tool(command, directory)
    if complaint is not None:
        raise ToolError(f"compiler: {first_error(complaint)}")


def first_error(complaint: str) -> str:
    """The first line of a tool's output that speaks of an error, or its first line."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    words = ("error", "undefined reference")
    return next((line for line in lines if any(word in line for word in words)), lines[0])


def compile_sources(
    compiler: Compiler, sources: Sequence[str], directory: Path, extra: Sequence[str] = ()
) -> list[str]:
    """Compiles `sources` of `directory` to objects beside them, two at a time; their names.

    Raises ToolError with the compiler's first error.
    """

    def compile_one(source: str) -> str:
        name = Path(source).with_suffix(".o").name
        run_tool((*compiler.command, *compiler.flags, *extra, "-c", source, "-o", name), directory)
        return name

    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(compile_one, sources))


def device_compiler(cpu: str, optimization: str = "-O2") -> Compiler:
    """The cross compiler for `cpu` (cortex_m4 or cortex_m7); ToolError if it is missing.

    It is zig, or what ETINYNET_ARM_CC names: a gcc for bare Arm cores with optional arguments, such
    as "arm-none-eabi-gcc". `optimization` is -O2 or -Os, ConfigError otherwise: zig takes other
    levels for one of these. The program never touches the floating-point unit: zig's models of
    these cores have none, gcc is told so.
    """
    if optimization not in _OPTIMIZATIONS:
        raise ConfigError(
            f"optimization: {optimization!r}, allowed are {' and '.join(_OPTIMIZATIONS)}"
        )
    flags = ("-std=c99", optimization, *_WARNINGS, *_DEVICE_FLAGS)
    chosen = _named("ETINYNET_ARM_CC")
    if chosen:
        core = ("-mthumb", f"-mcpu={cpu.replace('_', '-')}", "-mfloat-abi=soft")
        # or it makes calls of memcpy out of the loops that are memcpy
        loops = ("-fno-tree-loop-distribute-patterns",)
        return Compiler(chosen, (*core, *flags, *loops), _version(chosen))
    zig = _zig()
    command = (zig, "cc", "-target", "thumb-freestanding-eabihf", f"-mcpu={cpu}")
    return Compiler(command, flags, _zig_version(zig))


def host_compiler(extra: Sequence[str] = ()) -> Compiler:
    """The compiler for this computer: the one named by ETINYNET_CC, otherwise zig's.

    ETINYNET_CC is a command with optional arguments, such as "gcc" or "ccache clang". `extra` are
    further flags. Raises ToolError if the compiler is missing.
    """
    flags = ("-std=c99", "-O2", *_WARNINGS, *extra)
    chosen = _named("ETINYNET_CC")
    if chosen:
        return Compiler(chosen, flags, _version(chosen))
    zig = _zig()
    return Compiler((zig, "cc"), ("-g0", *flags), _zig_version(zig))


def _named(variable: str) -> tuple[str, ...]:
    """The command in environment `variable`, () if it is unset; ToolError if it does not exist."""
    chosen = tuple(shlex.split(os.environ.get(variable, "")))
    if chosen and shutil.which(chosen[0]) is None:
        raise ToolError(f"{variable} names {chosen[0]!r}, which is not on the path")
    return chosen


def _zig() -> str:
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        raise not_installed("ziglang")
    folder = Path(spec.submodule_search_locations[0])
    return str(folder / ("zig.exe" if os.name == "nt" else "zig"))


@functools.cache
def _zig_version(zig: str) -> str:
    return f"zig cc {_output((zig, 'version'))}"


@functools.cache
def _version(command: tuple[str, ...]) -> str:
    return _output((*command, "--version")).split("\n", 1)[0]


def _output(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(command, env=_environment(), capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ToolError(f"{command[0]}: cannot ask for its version: {error}") from None
    return done.stdout.decode(errors="replace").strip()


def _environment() -> dict[str, str]:
    """Our environment, in which zig keeps its cache where nobody else can write."""
    environment = dict(os.environ)
    if "ZIG_GLOBAL_CACHE_DIR" not in environment:
        environment["ZIG_GLOBAL_CACHE_DIR"] = str(compiler_cache())
    return environment
