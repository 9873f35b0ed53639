"""Follows an emulated program block by block, at full speed: instructions, operators, stack."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.errors import ToolError
from etinynet.graph.ops import COPY, OPS
from etinynet.target.elf import Image
from etinynet.target.instructions import Inspector
from etinynet.target.native import add_hook, engine_function, hook_function
from etinynet.target.parts import Region

__all__ = ["Block", "BlockCounter", "Counts", "EngineNumbers"]

_KINDS = "|".join((*OPS, COPY))
#: Names of functions, whole: a compiler's copy of one has a suffix behind a dot. No function that a
#: graph gives its name to, such as NAME_run, is called like these, whatever its name.
_OPERATOR = re.compile(rf"op_(\d+)_({_KINDS})(\..*)?")
#: Functions that work for whoever called them; every other function is the schedule or firmware.
_HELPER = re.compile(
    rf"(kernel_\d+_({_KINDS})|etn_expand_\w+|(__aeabi_)?mem(cpy|set|move|clr)[48]?"
    r"|OUTLINED_FUNCTION_\d+)(\..*)?"
)
_CALLER, _OUTSIDE, _FIRST_OP = 0, 1, 2
#: In the status register: set while the core is in Thumb state.
_THUMB = 1 << 5


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


_INSPECT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32, ctypes.c_uint32)


#: etn_block of block_counter.c.
_BLOCK = np.dtype([(name, "<u2") for name in ("bytes", "instructions", "owner", "stack")])
_LOWERS, _ENDS_UNKNOWN = 1, 2


@dataclass(frozen=True)
class EngineNumbers:
    """What the engine calls its hooks on blocks and instructions, and two registers."""

    block_hook: int
    code_hook: int
    stack_pointer: int
    status: int


class _Fields(ctypes.Structure):
    """etn_counter of block_counter.c."""

    _fields_ = (
        ("code", ctypes.c_void_p),
        ("origin", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
        ("blocks", ctypes.c_void_p),
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
        ("inspect", _INSPECT),
        ("below", ctypes.c_void_p),
        ("read_register", ctypes.c_void_p),
        ("stack_pointer", ctypes.c_int32),
        ("lowest", ctypes.c_uint32),
        ("is_open", ctypes.c_uint32),
    )


class BlockCounter:
    """A counter attached to `engine` (a unicorn.Uc) for the code of `image` in `flash`.

    `content` is the uint8 array that the engine runs `flash` from; it must outlive the engine.
    `numbers` are the engine's. With `profile`, `blocks` says what ran how often. A block that
    `inspector` refuses stops the engine before it runs: see `refused`. So does one that has to be
    watched more closely: then `is_interrupted`, and the engine is to go on where it stopped. Raises
    ToolError if the counter cannot be compiled.
    """

    def __init__(
        self,
        engine: Any,
        image: Image,
        flash: Region,
        content: NDArray[np.uint8],
        numbers: EngineNumbers,
        inspector: Inspector,
        *,
        profile: bool = False,
    ) -> None:
        self._engine, self._numbers, self._inspector = engine, numbers, inspector
        owners = _owners(image, flash)
        self._counters = np.zeros(max(int(owners.max(initial=0)) + 1, _FIRST_OP), np.uint64)
        self._blocks, self._below = np.zeros(len(owners), _BLOCK), np.zeros(len(owners), np.uint32)
        self._blocks["owner"] = owners
        self._content = content
        self._sampled: set[int] = set()
        self._fields = _Fields(
            content.ctypes.data,
            flash.origin,
            flash.length,
            self._blocks.ctypes.data,
            self._counters.ctypes.data,
            stop=engine_function("uc_emu_stop"),
            inspect=_INSPECT(self._inspect),
            below=self._below.ctypes.data,
            read_register=engine_function("uc_reg_read"),
            stack_pointer=numbers.stack_pointer,
        )
        self._origin = flash.origin
        self._profile: NDArray[np.uint64] | None = None
        if profile:
            profiled = _code_bytes(image, flash)
            self._profile = np.zeros((2, len(self._counters), profiled // 2), np.uint64)
            self._fields.times, self._fields.jumps = (half.ctypes.data for half in self._profile)
            self._fields.profiled = profiled
        self.reset(0)
        add_hook(engine, numbers.block_hook, hook_function("etn_count_block"), self._fields)

    def reset(self, limit: int) -> None:
        """Starts from zero; the engine is stopped once more than `limit` have been executed."""
        self._counters[:] = 0
        self._fields.total = 0
        self._fields.limit = limit
        self._fields.owner = _OUTSIDE
        self._fields.is_exhausted = 0
        self._fields.end = 0
        self._fields.lowest = 0xFFFFFFFF
        self._fields.is_open = 0
        self._refused: tuple[int, str] | None = None
        self.is_interrupted = False
        if self._profile is not None:
            self._profile[:] = 0

    def _inspect(self, address: int, size: int) -> int:
        """Called once for each block, before it runs; anything but 0 stops the engine."""
        if not self._engine.reg_read(self._numbers.status) & _THUMB:
            return 0  # the engine has a fault of its own for this
        at = address - self._origin
        block = self._inspector.block(self._content[at : at + size].tobytes(), address)
        self._refused = block.fault
        lowers = _LOWERS if block.below else 0
        self._blocks["stack"][at // 2] = lowers | (_ENDS_UNKNOWN if block.ends_unknown else 0)
        self._below[at // 2] = block.below
        self.is_interrupted = self._sample(block.samples)
        if self.is_interrupted:
            self._engine.ctl_remove_cache(address, address + size)
        return block.fault is not None or self.is_interrupted

    def _sample(self, samples: Iterable[tuple[int, int]]) -> bool:
        """Looks at the stack pointer at `samples` from now on; whether some of them are new."""
        new = [(address, below) for address, below in samples if address not in self._sampled]
        for address, below in new:
            self._sampled.add(address)
            self._below[(address - self._origin) // 2] = below
            function = hook_function("etn_sample_stack")
            add_hook(
                self._engine, self._numbers.code_hook, function, self._fields, address, address
            )
        return bool(new)

    @property
    def refused(self) -> tuple[int, str] | None:
        """Address of the instruction that stopped the run since the core lacks it, and why."""
        return self._refused

    def lowest_stack_pointer(self) -> int:
        """The lowest since the reset, exact at each instruction."""
        now = int(self._engine.reg_read(self._numbers.stack_pointer))
        return min(now, int(self._fields.lowest))

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
        return tuple(
            Block(
                int(owner) - _FIRST_OP if owner >= _FIRST_OP else None,
                self._origin + 2 * int(half),
                int(self._blocks["bytes"][half]),
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
        match = _OPERATOR.fullmatch(symbol.name)
        if match:
            owners[start : start + (symbol.size + 1) // 2] = _FIRST_OP + int(match[1])
        elif _HELPER.fullmatch(symbol.name):
            owners[start : start + (symbol.size + 1) // 2] = _CALLER
    return owners
