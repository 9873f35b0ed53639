"""Counts the instructions of an emulated program, in all and by operator, at full speed."""

from __future__ import annotations

import ctypes
import functools
import importlib
import re
import sys
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.errors import ToolError
from etinynet.target.elf import Image
from etinynet.target.parts import Region
from etinynet.target.toolchain import host_compiler, run_tool

__all__ = ["BlockCounter", "Counts"]

_OPERATOR = re.compile(r"op_(\d+)_")
#: Functions that work for whoever called them; every other function is the schedule or firmware.
_HELPERS = ("kernel_", "mem", "__aeabi_", "OUTLINED_FUNCTION_")
_CALLER, _OUTSIDE, _FIRST_OP = 0, 1, 2


@dataclass(frozen=True)
class Counts:
    """Executed instructions: `total` = `outside` all operators + the sum of `operators`.

    Conditional instructions count whether their condition holds or not, as they cost either way.
    `operators` is by the number in the function name op_<number>_<kind>.
    """

    total: int
    outside: int
    operators: dict[int, int]


class _Fields(ctypes.Structure):
    """etn_counter of block_counter.c."""

    _fields_ = (
        ("code", ctypes.c_void_p),
        ("origin", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
        ("block_instructions", ctypes.c_void_p),
        ("block_bytes", ctypes.c_void_p),
        ("owners", ctypes.c_void_p),
        ("counters", ctypes.c_void_p),
        ("total", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("stop", ctypes.c_void_p),
        ("owner", ctypes.c_uint32),
        ("is_exhausted", ctypes.c_uint32),
    )


class BlockCounter:
    """A counter attached to `engine` (a unicorn.Uc) for the code of `image` in `flash`.

    `content` is the uint8 array that the engine runs `flash` from; it must outlive the engine.
    Raises ToolError if the counter cannot be compiled.
    """

    def __init__(
        self, engine: Any, image: Image, flash: Region, content: NDArray[np.uint8]
    ) -> None:
        halves = flash.length // 2
        owners = _owners(image, flash)
        self._counters = np.zeros(max(int(owners.max(initial=0)) + 1, _FIRST_OP), np.uint64)
        self._arrays = (np.zeros(halves, np.uint16), np.zeros(halves, np.uint16), owners, content)
        library, unicorn = _load_counter(), _unicorn_library()
        self._fields = _Fields(
            content.ctypes.data,
            flash.origin,
            flash.length,
            *(array.ctypes.data for array in self._arrays[:3]),
            self._counters.ctypes.data,
            stop=ctypes.cast(unicorn.uc_emu_stop, ctypes.c_void_p),
        )
        self.reset(0)
        _hook_blocks(unicorn, engine, library.etn_count_block, ctypes.byref(self._fields))

    def reset(self, limit: int) -> None:
        """Starts from zero; the engine is stopped once more than `limit` have been executed."""
        self._counters[:] = 0
        self._fields.total = 0
        self._fields.limit = limit
        self._fields.owner = _OUTSIDE
        self._fields.is_exhausted = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether the limit has been passed."""
        return bool(self._fields.is_exhausted)

    def counts(self) -> Counts:
        """What has been executed since the reset."""
        operators = {
            number: int(count) for number, count in enumerate(self._counters[_FIRST_OP:])
        }
        return Counts(int(self._fields.total), int(self._counters[_OUTSIDE]), operators)


def _owners(image: Image, flash: Region) -> NDArray[np.uint16]:
    """Which counter the code at each two bytes of `flash` belongs to."""
    owners = np.full(flash.length // 2, _OUTSIDE, np.uint16)
    for symbol in image.symbols:
        if not symbol.is_function or symbol.address not in flash:
            continue
        start = (symbol.address - flash.origin) // 2
        match = _OPERATOR.match(symbol.name)
        if match:
            owners[start : start + (symbol.size + 1) // 2] = _FIRST_OP + int(match[1])
        elif symbol.name.startswith(_HELPERS):
            owners[start : start + (symbol.size + 1) // 2] = _CALLER
    return owners


def _hook_blocks(unicorn: Any, engine: Any, function: Any, user: Any) -> None:
    """uc_hook_add with a C function; unicorn's Python binding takes Python functions only."""
    handle = ctypes.c_size_t()
    everywhere = (ctypes.c_uint64(1), ctypes.c_uint64(0))
    status = unicorn.uc_hook_add(
        engine._uch,
        ctypes.byref(handle),
        importlib.import_module("unicorn").UC_HOOK_BLOCK,
        ctypes.cast(function, ctypes.c_void_p),
        user,
        *everywhere,
    )
    if status:
        raise ToolError(f"unicorn: cannot add the instruction counter: error {status}")


def _unicorn_library() -> Any:
    try:
        return importlib.import_module("unicorn.unicorn_py3.unicorn").uclib
    except (ImportError, AttributeError):
        raise ToolError("this version of package 'unicorn' is unknown; allowed are 2.1.x") from None


@functools.cache
def _load_counter() -> ctypes.CDLL:
    source = resources.files("etinynet.target").joinpath("block_counter.c").read_bytes()
    library = "block_counter.dll" if sys.platform == "win32" else "block_counter.so"
    compiler = host_compiler()
    with tempfile.TemporaryDirectory(prefix="etinynet-", ignore_cleanup_errors=True) as folder:
        directory = Path(folder)
        (directory / "block_counter.c").write_bytes(source)
        options = ("-shared", "-fPIC", "-o", library)
        run_tool((*compiler.command, *compiler.flags, *options, "block_counter.c"), directory)
        return ctypes.CDLL(str(directory / library))
