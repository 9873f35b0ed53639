"""Counts the instructions of an emulated program, in all and by operator, at full speed."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.errors import ToolError
from etinynet.target.elf import Image
from etinynet.target.native import add_hook, engine_function, hook_function
from etinynet.target.parts import Region

__all__ = ["Block", "BlockCounter", "Counts"]

_OPERATOR = re.compile(r"op_(\d+)_")
#: Functions that work for whoever called them; every other function is the schedule or firmware.
_HELPERS = ("kernel_", "etn_expand_", "mem", "__aeabi_", "OUTLINED_FUNCTION_")
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


@dataclass(frozen=True)
class Block:
    """`length` bytes of code from `address` on that run from the first instruction to the last.

    They ran `times` times for operator number `operator` (None: for none), and `jumps` times what
    ran next was not what lies behind them.
    """

    operator: int | None
    address: int
    length: int
    times: int
    jumps: int


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
        ("times", ctypes.c_void_p),
        ("jumps", ctypes.c_void_p),
        ("left", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("profiled", ctypes.c_uint32),
        ("recut", ctypes.c_uint32),
    )


class BlockCounter:
    """A counter attached to `engine` (a unicorn.Uc) for the code of `image` in `flash`.

    `content` is the uint8 array that the engine runs `flash` from; it must outlive the engine.
    `hook_kind` is the engine's number of a hook on blocks. With `profile`, `blocks` says what ran
    how often. Raises ToolError if the counter cannot be compiled.
    """

    def __init__(
        self,
        engine: Any,
        image: Image,
        flash: Region,
        content: NDArray[np.uint8],
        hook_kind: int,
        *,
        profile: bool = False,
    ) -> None:
        halves = flash.length // 2
        owners = _owners(image, flash)
        self._counters = np.zeros(max(int(owners.max(initial=0)) + 1, _FIRST_OP), np.uint64)
        self._arrays = (np.zeros(halves, np.uint16), np.zeros(halves, np.uint16), owners, content)
        self._fields = _Fields(
            content.ctypes.data,
            flash.origin,
            flash.length,
            *(array.ctypes.data for array in self._arrays[:3]),
            self._counters.ctypes.data,
            stop=engine_function("uc_emu_stop"),
        )
        self._origin = flash.origin
        self._profile: NDArray[np.uint64] | None = None
        if profile:
            profiled = _code_bytes(image, flash)
            self._profile = np.zeros((2, len(self._counters), profiled // 2), np.uint64)
            self._fields.times, self._fields.jumps = (half.ctypes.data for half in self._profile)
            self._fields.profiled = profiled
        self.reset(0)
        add_hook(engine, hook_kind, hook_function("etn_count_block"), self._fields)

    def reset(self, limit: int) -> None:
        """Starts from zero; the engine is stopped once more than `limit` have been executed."""
        self._counters[:] = 0
        self._fields.total = 0
        self._fields.limit = limit
        self._fields.owner = _OUTSIDE
        self._fields.is_exhausted = 0
        self._fields.end = 0
        if self._profile is not None:
            self._profile[:] = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether the limit has been passed."""
        return bool(self._fields.is_exhausted)

    def counts(self) -> Counts:
        """What has been executed since the reset."""
        operators = {number: int(count) for number, count in enumerate(self._counters[_FIRST_OP:])}
        return Counts(int(self._fields.total), int(self._counters[_OUTSIDE]), operators)

    def blocks(self) -> tuple[Block, ...]:
        """What ran since the reset, by operator and address; empty unless it was to be profiled.

        Raises ToolError if the emulator has cut the same code in two ways: then times of a block
        do not say how often each of its instructions ran.
        """
        if self._profile is None:
            return ()
        if self._fields.recut:
            raise ToolError("unicorn has cut a block of the program in two ways; allowed is one")
        times, jumps = self._profile
        lengths = self._arrays[1]
        return tuple(
            Block(
                int(owner) - _FIRST_OP if owner >= _FIRST_OP else None,
                self._origin + 2 * int(half),
                int(lengths[half]),
                int(times[owner, half]),
                int(jumps[owner, half]),
            )
            for owner, half in np.argwhere(times)
        )


def _code_bytes(image: Image, flash: Region) -> int:
    """How far the functions reach from the start of `flash`, rounded up to an even number."""
    ends = [s.address + s.size for s in image.symbols if s.is_function and s.address in flash]
    return (max(ends, default=flash.origin) - flash.origin + 1) // 2 * 2


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
