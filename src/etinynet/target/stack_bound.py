"""How much stack a linked program can need: an upper bound by reading its machine code.

Every path through every function is followed with the depth of the stack, and every call to what
it can reach; assembly inside C counts as well, which compilers' own reports leave out. Interrupts
are not in it.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from etinynet.errors import ToolError, UnsupportedError
from etinynet.target.elf import Image, Symbol

__all__ = ["StackAnalysis"]

_WORD = 4
#: Visits of one instruction with a deeper stack each time, before it is taken for a loop.
_MOST_VISITS = 64
_THUMB = 1


@dataclass
class _Frame:
    """A function: its deepest own stack, and its calls as (depth, target address or None)."""

    depth: int = 0
    calls: list[tuple[int, int | None]] = field(default_factory=list)


class StackAnalysis:
    """The stack of a program for a Cortex-M, function by function.

    Raises ToolError without capstone, UnsupportedError where the code does what has no bound:
    recursion, a stack pointer that grows in a loop or is computed, a jump by a table.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._functions = {s.address: s for s in image.symbols if s.is_function}
        self._reader = _Reader(image)
        self._frames = {a: self._reader.frame(s) for a, s in self._functions.items()}
        self._taken = self._address_taken()

    def bound(self, name: str, called: Callable[[str], bool] | None = None) -> int:
        """Bytes of stack that function `name` and all that it calls need at most.

        `called` says by its name whether a function may be what a pointer leads to; all are whose
        address is in the program outside the vectors.
        """
        symbol = self._image.function(name)
        if symbol is None:
            raise UnsupportedError(f"stack: the program has no function {name!r}")
        by_pointer = [
            address
            for address in self._taken
            if called is None or called(self._functions[address].name)
        ]
        return self._total(symbol.address, by_pointer, {}, ())

    def own(self, name: str) -> int:
        """Bytes that function `name` itself puts on the stack at most."""
        symbol = self._image.function(name)
        if symbol is None:
            raise UnsupportedError(f"stack: the program has no function {name!r}")
        return self._frame(symbol.address).depth

    def _frame(self, address: int) -> _Frame:
        frame = self._frames.get(address)
        if frame is None:
            raise UnsupportedError(f"stack: {address:#010x} is called and no function is there")
        if isinstance(frame, UnsupportedError):
            raise frame
        return frame

    def _total(
        self, address: int, by_pointer: list[int], known: dict[int, int], path: tuple[int, ...]
    ) -> int:
        if address in path:
            name = self._functions[address].name
            raise UnsupportedError(f"stack: {name!r} can come to call itself, which has no bound")
        if address not in known:
            frame = self._frame(address)
            total = frame.depth
            for depth, target in frame.calls:
                for callee in by_pointer if target is None else (target,):
                    below = self._total(callee, by_pointer, known, (*path, address))
                    total = max(total, depth + below)
            known[address] = total
        return known[address]

    def _address_taken(self) -> list[int]:
        """Functions whose address is in the program's data or put together in its code."""
        vectors = {
            address
            for symbol in self._image.symbols
            if symbol.name == "vectors" and not symbol.is_function
            for address in range(symbol.address, symbol.address + symbol.size, _WORD)
        }
        found = {value & ~_THUMB for value in self._reader.constants if value & _THUMB}
        for start, content in self._image.segments:
            words = struct.unpack(f"<{len(content) // _WORD}I", content[: len(content) & ~3])
            for index, word in enumerate(words):
                if word & _THUMB and start + _WORD * index not in vectors:
                    found.add(word & ~_THUMB)
        return sorted(found & set(self._functions))


class _Reader:
    """Follows the paths through functions; collects constants put together by MOV and MOVT."""

    def __init__(self, image: Image) -> None:
        try:
            capstone: Any = importlib.import_module("capstone")
            self._arm: Any = importlib.import_module("capstone.arm")
        except ImportError:
            raise ToolError(
                "package 'capstone' is not installed; pip install etinynet[mcu]"
            ) from None
        self._image = image
        self._engine: Any = capstone.Cs(
            capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS
        )
        self._engine.detail = True
        self.constants: set[int] = set()

    def frame(self, symbol: Symbol) -> _Frame | UnsupportedError:
        """The frame of `symbol`, or why it has none."""
        try:
            return self._walk(symbol)
        except UnsupportedError as error:
            return error

    def _walk(self, symbol: Symbol) -> _Frame:
        end = symbol.address + symbol.size
        frame = _Frame()
        depths: dict[int, int] = {}
        visits: dict[int, int] = {}
        literals: set[int] = set()
        halves: dict[int, int] = {}
        waiting = [(symbol.address, 0)]
        while waiting:
            address, depth = waiting.pop()
            if not symbol.address <= address < end or address in literals:
                continue
            if depths.get(address, -1) >= depth:
                continue
            depths[address] = depth
            visits[address] = visits.get(address, 0) + 1
            if visits[address] > _MOST_VISITS:
                self._refuse(address, "the stack grows in a loop")
            entry = self._decode(address)
            if entry is None:
                continue
            self._note_constants(entry, literals, halves)
            after = depth + self._growth(entry)
            frame.depth = max(frame.depth, after)
            waiting += [(target, after) for target in self._next(entry, after, symbol, frame)]
        return frame

    def _decode(self, address: int) -> Any:
        for start, content in self._image.segments:
            if start <= address < start + len(content):
                code = content[address - start : address - start + 4]
                return next(self._engine.disasm(code, address, 1), None)
        return None

    def _note_constants(self, entry: Any, literals: set[int], halves: dict[int, int]) -> None:
        """Where constants lie in the code, and which ones MOV and MOVT make."""
        name, operands = self._name(entry), entry.operands
        if name in ("mov", "movw") and operands[1].type == self._arm.ARM_OP_IMM:
            halves[operands[0].reg] = operands[1].imm
        elif name == "movt" and operands[0].reg in halves:
            self.constants.add(operands[1].imm << 16 | halves[operands[0].reg])
        elif name.startswith("ldr") and operands[-1].type == self._arm.ARM_OP_MEM:
            memory = operands[-1].mem
            if memory.base == self._arm.ARM_REG_PC and not memory.index:
                literals.add((entry.address + 4 & ~3) + memory.disp)

    def _growth(self, entry: Any) -> int:
        """Bytes by which `entry` makes the stack deeper."""
        _, written = entry.regs_access()
        if self._arm.ARM_REG_SP not in written:
            return 0
        name, operands = self._name(entry), entry.operands
        always = entry.cc in (self._arm.ARM_CC_AL, self._arm.ARM_CC_INVALID)
        if not always and not self._returns(entry):
            self._refuse(entry.address, "the stack pointer changes under a condition")
        if name in ("push", "pop"):
            return _WORD * len(operands) * (1 if name == "push" else -1)
        if name in ("stmdb", "ldm", "ldmia") and operands[0].reg == self._arm.ARM_REG_SP:
            return _WORD * (len(operands) - 1) * (1 if name == "stmdb" else -1)
        if name in ("sub", "subw", "add", "addw"):
            if operands[-1].type == self._arm.ARM_OP_IMM and all(
                one.reg == self._arm.ARM_REG_SP for one in operands[:-1]
            ):
                return int(operands[-1].imm) * (1 if name.startswith("sub") else -1)
        elif name in ("str", "strd", "ldr", "ldrd"):
            step = self._written_back(entry)
            if step is not None:
                return -step
        self._refuse(entry.address, "the stack pointer is computed")

    def _written_back(self, entry: Any) -> int | None:
        """By how much a load or store moves the stack pointer, before or after."""
        *_, last = entry.operands
        if last.type == self._arm.ARM_OP_IMM:
            return int(last.imm) * (-1 if last.subtracted else 1)
        if last.type == self._arm.ARM_OP_MEM and last.mem.base == self._arm.ARM_REG_SP:
            return int(last.mem.disp)
        return None

    def _next(self, entry: Any, depth: int, symbol: Symbol, frame: _Frame) -> Iterable[int]:
        """Where the path goes on; calls on the way are put into `frame`."""
        name, after = self._name(entry), entry.address + entry.size
        operands = entry.operands
        if name in ("tbb", "tbh"):
            self._refuse(entry.address, "a table says where to jump")
        if name in ("bl", "blx"):
            is_direct = operands[0].type == self._arm.ARM_OP_IMM
            frame.calls.append((depth, int(operands[0].imm) & ~_THUMB if is_direct else None))
            return (after,)
        always = entry.cc in (self._arm.ARM_CC_AL, self._arm.ARM_CC_INVALID)
        if self._returns(entry):
            return () if always else (after,)
        if name == "bx":
            frame.calls.append((depth, None))
            return () if always else (after,)
        if name in ("b", "cbz", "cbnz"):
            target = int(operands[-1].imm) & ~_THUMB
            if not symbol.address <= target < symbol.address + symbol.size:
                frame.calls.append((depth, target))
                return () if always and name == "b" else (after,)
            return (target,) if always and name == "b" else (target, after)
        if name == "udf":
            return ()
        return (after,)

    def _returns(self, entry: Any) -> bool:
        _, written = entry.regs_access()
        name = self._name(entry)
        if name == "bx":
            return bool(entry.operands[0].reg == self._arm.ARM_REG_LR)
        loads = name in ("pop", "ldr", "ldm", "ldmia")
        return loads and self._arm.ARM_REG_PC in written

    def _name(self, entry: Any) -> str:
        return str(self._engine.insn_name(entry.id))

    def _refuse(self, address: int, why: str) -> NoReturn:
        raise UnsupportedError(f"stack: {why} at {self._image.place(address)}, which has no bound")
