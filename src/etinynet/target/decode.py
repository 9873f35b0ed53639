"""Instructions of a firmware image, as far as their cost depends on them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from etinynet.errors import ToolError
from etinynet.extras import not_installed

__all__ = ["KINDS", "Decoder", "Instruction"]

#: What an instruction occupies in the core; docs/cycle-model.md lists the members of each.
KINDS = (
    *("add", "shift", "logic", "shifted", "extract", "dsp", "multiply", "divide"),
    *("load", "store", "multiple", "branch", "it", "other"),
)

_ADDS = {"add", "addw", "sub", "subw", "mov", "movw", "movt", "adr"}
_SHIFTS = {"lsl", "lsr", "asr", "ror"}
_LOGIC = {
    *("adc", "sbc", "rsb", "and", "orr", "orn", "eor", "bic", "mvn"),
    *("cmp", "cmn", "tst", "teq", "rrx"),
}
_BRANCHES = {"b", "bl", "bx", "blx", "cbz", "cbnz", "tbb", "tbh"}
_OTHER = {
    *("nop", "bkpt", "cpsie", "cpsid", "mrs", "msr", "dsb", "dmb", "isb", "udf", "svc"),
    *("wfi", "wfe", "sev", "pld", "clrex", "hint", "yield"),
}
_MULTIPLY = (
    *("mul", "mla", "mls", "smla", "smls", "smul", "smmul", "smmla", "smmls", "smua", "smus"),
    *("umull", "umlal", "umaal"),
)
#: Multiplications into two registers: operands 0 and 1 are the accumulator of those that add.
_LONG = ("smlal", "smlsld", "umlal", "umaal", "smull", "umull")
_EXTRACT = ("ubfx", "sbfx", "sxta", "uxta", "rev", "rbit", "bfi", "bfc", "pkh")
_NARROW = ("ldrb", "ldrsb", "ldrh", "ldrsh")


@dataclass(frozen=True)
class Instruction:
    """One Thumb instruction; registers by name, the program counter among them.

    `name` is without condition, `bytes` 2 or 4. `early` are the registers of `reads` that form an
    address, a shifted operand or a field to extract; `accumulates` those that a multiplication
    adds to; `updates` is the base register that a load or store writes back. `registers` counts
    those that it loads or stores, `offset` is a constant that a load adds to `base`.
    """

    name: str
    kind: str
    bytes: int
    reads: frozenset[str]
    writes: frozenset[str]
    early: frozenset[str] = frozenset()
    accumulates: frozenset[str] = frozenset()
    updates: str | None = None
    registers: int = 0
    base: str | None = None
    offset: int | None = None

    @property
    def is_narrow_load(self) -> bool:
        """Whether it loads a byte or two."""
        return self.name.startswith(_NARROW)

    @property
    def loads(self) -> bool:
        """Whether it reads memory."""
        return self.kind == "load" or (self.kind == "multiple" and self.name[0] in "lp")


class Decoder:
    """Decodes Thumb code. Raises ToolError if capstone is missing."""

    def __init__(self) -> None:
        try:
            self._capstone: Any = importlib.import_module("capstone")
            self._arm: Any = importlib.import_module("capstone.arm")
        except ImportError:
            raise not_installed("capstone") from None
        mode = self._capstone.CS_MODE_THUMB | self._capstone.CS_MODE_MCLASS
        self._engine: Any = self._capstone.Cs(self._capstone.CS_ARCH_ARM, mode)
        self._engine.detail = True

    def block(self, code: bytes, address: int) -> list[Instruction]:
        """All instructions of `code`, which lies at `address`; ToolError if some are unknown."""
        found = list(self._engine.disasm(code, address))
        if sum(entry.size for entry in found) != len(code):
            at = address + sum(entry.size for entry in found)
            raise ToolError(f"capstone does not know the instruction at {at:#010x}")
        return [self._instruction(entry) for entry in found]

    def _instruction(self, entry: Any) -> Instruction:
        name = str(self._engine.insn_name(entry.id))
        reads, writes = (frozenset(self._names(half)) for half in entry.regs_access())
        kind = _kind(name, entry.operands, self._arm)
        registers = _listed(name, entry.operands, self._arm) if kind == "multiple" else 0
        memory = [op.mem for op in entry.operands if op.type == self._arm.ARM_OP_MEM]
        early: set[str] = set()
        base = offset = None
        if memory:
            early.update(self._names([memory[0].base, memory[0].index]))
            base = self._name(memory[0].base)
            offset = None if memory[0].index else int(memory[0].disp)
        elif kind == "multiple":
            base = "sp" if name in ("push", "pop") else self._name(entry.operands[0].reg)
            early.add(base)
        named = [self._name(op.reg) for op in entry.operands if op.type == self._arm.ARM_OP_REG]
        if kind in ("shifted", "extract"):
            early.update(named[-1:])
        return Instruction(
            name,
            kind,
            entry.size,
            reads,
            writes,
            frozenset(early) & reads,
            _accumulates(name, named) if kind == "multiply" else frozenset(),
            base if kind in ("load", "store", "multiple") and base in writes else None,
            registers,
            base,
            offset,
        )

    def _names(self, registers: Any) -> Iterator[str]:
        return (self._name(register) for register in registers if register)

    def _name(self, register: int) -> str:
        return str(self._engine.reg_name(register))


def _kind(name: str, operands: Any, arm: Any) -> str:
    if name.startswith(_MULTIPLY):
        return "multiply"
    if name in ("sdiv", "udiv"):
        return "divide"
    if name in ("ldrd", "strd", "push", "pop") or name.startswith(("ldm", "stm")):
        return "multiple"
    if name.startswith("ldr"):
        return "load"
    if name.startswith("str"):
        return "store"
    if name in _BRANCHES:
        return "branch"
    if name.startswith("it"):
        return "it"
    if name in _OTHER:
        return "other"
    if name in _SHIFTS:
        return "shift"
    if name in _ADDS or name in _LOGIC:
        # saturations and packings have a shift of their own and are not meant here
        if any(op.type == arm.ARM_OP_REG and op.shift.type for op in operands):
            return "shifted"
        return "add" if name in _ADDS else "logic"
    return "extract" if name.startswith(_EXTRACT) else "dsp"


def _listed(name: str, operands: Any, arm: Any) -> int:
    """How many registers an instruction of kind multiple loads or stores."""
    if name in ("ldrd", "strd"):
        return 2
    count = len([op for op in operands if op.type == arm.ARM_OP_REG])
    return count if name in ("push", "pop") else count - 1


def _accumulates(name: str, named: list[str]) -> frozenset[str]:
    if name.startswith(_LONG):
        return frozenset() if name.endswith("mull") else frozenset(named[:2])
    return frozenset(named[3:])
