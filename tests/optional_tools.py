"""What each optional tool of the tests has to be able to do, tried once on a small program.

As a command, `python tests/optional_tools.py`, it names the tools that cannot, and exits with 1.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["PROBES", "inability", "require"]

_TIMEOUT_SECONDS = 60
_C = '#include <stdio.h>\nint main(void) { return printf("fine\\n") != 5; }\n'
_CPP = '#include <cstdio>\nint main() { return std::printf("fine\\n") != 5; }\n'
_BARE = """#include <stdint.h>
#include <string.h>
int main(void) { int32_t a[9]; memset(a, 0, sizeof a); return a[8]; }
"""
_PROJECT = "cmake_minimum_required(VERSION 3.16)\nproject(probe C CXX)\nadd_executable(probe a.c)\n"

_SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_BARE_FLAGS = ("-mcpu=cortex-m4", "-mthumb", "--specs=nosys.specs")


def _run(folder: Path, *command: str) -> None:
    subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        check=True,
        timeout=_TIMEOUT_SECONDS,
        stdin=subprocess.DEVNULL,
    )


def _native(name: str, source: str, text: str, *flags: str) -> Callable[[Path], None]:
    """Compiles, links and runs a program."""

    def probe(folder: Path) -> None:
        (folder / source).write_text(text)
        _run(folder, name, *flags, source, "-o", "probe")
        _run(folder, "./probe")

    return probe


def _cross(name: str, source: str) -> Callable[[Path], None]:
    """Compiles and links a program for a bare Cortex-M4."""

    def probe(folder: Path) -> None:
        (folder / source).write_text(_BARE)
        _run(folder, name, *_BARE_FLAGS, source, "-o", "probe.elf")

    return probe


def _cmake(folder: Path) -> None:
    (folder / "a.c").write_text(_C)
    (folder / "CMakeLists.txt").write_text(_PROJECT)
    _run(folder, "cmake", "-S", ".", "-B", "build")
    _run(folder, "cmake", "--build", "build")


def _starts(name: str) -> Callable[[Path], None]:
    """What it has to run is made by the package's own compiler, which may not be there yet."""
    return lambda folder: _run(folder, name, "--version")


def _cppcheck(folder: Path) -> None:
    """The addon is a file of its own, which needs a Python."""
    (folder / "a.c").write_text("int f(int x)\n{\n    return x;\n}\n")
    _run(folder, "cppcheck", "--addon=misra", "--error-exitcode=0", "a.c")


#: By command: what raises unless the tool can do what the tests ask of it.
PROBES: dict[str, Callable[[Path], None]] = {
    "gcc": _native("gcc", "a.c", _C, *_SANITIZED),
    "g++": _native("g++", "a.cpp", _CPP),
    "clang": _native("clang", "a.c", _C, *_SANITIZED),
    "cmake": _cmake,
    "cppcheck": _cppcheck,
    "arm-none-eabi-gcc": _cross("arm-none-eabi-gcc", "a.c"),
    "arm-none-eabi-g++": _cross("arm-none-eabi-g++", "a.cpp"),
    "qemu-armeb-static": _starts("qemu-armeb-static"),
    "qemu-s390x-static": _starts("qemu-s390x-static"),
}


@functools.cache
def inability(name: str) -> str | None:
    """Why the tests cannot use command `name`, in one line; None where they can."""
    if shutil.which(name) is None:
        return f"{name} is absent"
    with tempfile.TemporaryDirectory() as folder:
        try:
            PROBES[name](Path(folder))
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout).decode(errors="replace").split("\n")
            said = [line for line in said if line.strip()] or [f"exit status {error.returncode}"]
            step = " ".join(error.cmd)
            return f"{name} is here but cannot do what the tests need: {step}: {said[0].strip()}"
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{name} is here but cannot do what the tests need: {error}"
    return None


def require(name: str) -> str:
    """`name` where the tests can use it; else skips the test by name, or fails it where
    ETINYNET_REQUIRE_TOOLS is set."""
    import pytest  # not needed as a command

    why = inability(name)
    if why is not None and os.environ.get("ETINYNET_REQUIRE_TOOLS"):
        pytest.fail(f"required here: {why}")
    if why is not None:
        pytest.skip(why)
    return name


if __name__ == "__main__":
    found = [words for words in map(inability, PROBES) if words is not None]
    print("\n".join(found), end="\n" if found else "")
    sys.exit(bool(found))
