"""What a core executes of a block of code, and how far the block moves the stack pointer."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from etinynet.errors import ToolError

__all__ = ["Block", "Inspector", "inspector_of"]

#: Blocks that an inspector remembers: those of several programs.
_REMEMBERED = 4096

#: Armv7E-M without the floating-point extension, as capstone names its instructions: all that the
#: Cortex-M4 and M7 execute after reset, where the floating-point unit of both is off.
_INTEGER = (
    "adc add addw adr and asr b bfc bfi bic bkpt bl blx bx cbnz cbz clrex clz cmn cmp cps dbg "
    "dmb dsb eor hint isb it ldm ldmdb ldr ldrb ldrbt ldrd ldrex ldrexb ldrexh ldrh ldrht "
    "ldrsb ldrsbt ldrsh ldrsht ldrt lsl lsr mla mls mov movs movt movw mrs msr mul mvn neg "
    "nop orn orr pkhbt pkhtb pld pli pop push qadd qadd16 qadd8 qasx qdadd qdsub qsax qsub "
    "qsub16 qsub8 rbit rev rev16 revsh ror rrx rsb sadd16 sadd8 sasx sbc sbfx sdiv sel sev "
    "shadd16 shadd8 shasx shsax shsub16 shsub8 smlabb smlabt smlad smladx smlal smlalbb "
    "smlalbt smlald smlaldx smlaltb smlaltt smlatb smlatt smlawb smlawt smlsd smlsdx smlsld "
    "smlsldx smmla smmlar smmls smmlsr smmul smmulr smuad smuadx smulbb smulbt smull smultb "
    "smultt smulwb smulwt smusd smusdx ssat ssat16 ssax ssub16 ssub8 stm stmdb str strb strbt "
    "strd strex strexb strexh strh strht strt sub subs subw svc sxtab sxtab16 sxtah sxtb "
    "sxtb16 sxth tbb tbh teq trap tst uadd16 uadd8 uasx ubfx udf udiv uhadd16 uhadd8 uhasx "
    "uhsax uhsub16 uhsub8 umaal umlal umull uqadd16 uqadd8 uqasx uqsax uqsub16 uqsub8 usad8 "
    "usada8 usat usat16 usax usub16 usub8 uxtab uxtab16 uxtah uxtb uxtb16 uxth wfe wfi yield "
)
#: What MRS and MSR reach; Armv8-M has more.
_SPECIAL = re.compile(
    r"(a|x|i|e|ia|ea|ie)psr(_\w+)?|msp|psp|control|primask|basepri(_max)?|faultmask"
)
#: Operands of what may write the stack pointer: it comes first, or is a base that is written back.
_MOVES_STACK = re.compile(r"^sp\b|\[sp[^]]*\][!,]")
#: Groups of capstone that are in the floating-point extension of one core or the other.
_FLOATING = {"vfp2", "vfp3", "vfp4", "dpvfp", "fparmv8", "fullfp16"}


@dataclass(frozen=True)
class Block:
    """Straight code as one core sees it.

    `fault`: address of the first instruction that the core refuses, and why; None for none.
    `below`: bytes that the stack pointer goes below where it was when the block began. Where an
    instruction has set it to what only a run can tell, the count begins anew: `samples` are the
    addresses of what follows such instructions, with the bytes that it goes below from there; after
    one at the end of the block, it `ends_unknown`.
    """

    fault: tuple[int, str] | None = None
    below: int = 0
    samples: tuple[tuple[int, int], ...] = ()
    ends_unknown: bool = False


class Inspector:
    """Decodes blocks of Thumb code for `cpu` (of parts.py). Raises ToolError without capstone.

    `block(code, address)` is what the core makes of `code`, which runs from end to end.
    """

    def __init__(self, cpu: str) -> None:
        try:
            self._capstone: Any = importlib.import_module("capstone")
            self._arm: Any = importlib.import_module("capstone.arm")
        except ImportError:
            raise ToolError(
                "package 'capstone' is not installed; pip install etinynet[mcu]"
            ) from None
        self._core = cpu.replace("cortex_m", "Cortex-M")
        self._quick, self._detailed = self._engine(), self._engine()
        self._detailed.detail = True
        integer = set(_INTEGER.split())
        numbers = range(1, self._arm.ARM_INS_ENDING)
        names = {number: self._quick.insn_name(number) for number in numbers}
        self._integer = {number for number, name in names.items() if name in integer}
        self._status = {number for number, name in names.items() if name in ("mrs", "msr")}
        self._stack = {number for number, name in names.items() if name in ("push", "pop", "msr")}
        self.block = functools.lru_cache(_REMEMBERED)(self._block)

    def _engine(self) -> Any:
        mode = self._capstone.CS_MODE_THUMB | self._capstone.CS_MODE_MCLASS
        return self._capstone.Cs(self._capstone.CS_ARCH_ARM, mode)

    def _block(self, code: bytes, address: int) -> Block:
        at, named = address, set()
        for entry in self._quick.disasm(code, address):
            if entry.id not in self._integer or not self._reaches(entry):
                return Block((entry.address, self._refusal(code, address, entry)))
            if entry.id in self._stack or _MOVES_STACK.search(entry.op_str):
                named.add(entry.address)
            at += entry.size
        if at != address + len(code):
            return Block((at, "undefined instruction"))
        return self._depth(code, address, named) if named else Block()

    def _reaches(self, entry: Any) -> bool:
        if entry.id not in self._status:
            return True
        registers = entry.op_str.replace(" ", "").split(",")
        return any(_SPECIAL.fullmatch(register) for register in registers)

    def _refusal(self, code: bytes, address: int, refused: Any) -> str:
        what = f"{refused.mnemonic} {refused.op_str}".strip()
        at = refused.address - address
        detailed = next(self._detailed.disasm(code[at : at + refused.size], refused.address))
        groups = {self._detailed.group_name(group) for group in detailed.groups}
        if groups & _FLOATING:
            return f"floating-point instruction {what!r} while the unit is off"
        return f"instruction {what!r}, which a {self._core} lacks,"

    def _depth(self, code: bytes, address: int, named: set[int]) -> Block:
        """How deep a block goes whose instructions at `named` have to do with the stack pointer."""
        moved = 0
        depths = [(address, 0)]
        for entry in self._detailed.disasm(code, address):
            change = self._change(entry) if entry.address in named else 0
            if change is None:
                depths.append((entry.address + entry.size, 0))
                moved = 0
                continue
            moved += change
            begin, below = depths[-1]
            depths[-1] = begin, max(below, -moved)
        end = address + len(code)
        samples = tuple(sample for sample in depths[1:] if sample[0] != end)
        return Block(None, depths[0][1], samples, depths[-1][0] == end)

    def _change(self, entry: Any) -> int | None:
        """Bytes that an instruction adds to the stack pointer; None if only a run can tell."""
        arm, name = self._arm, self._detailed.insn_name(entry.id)
        if name == "msr":
            return None
        if arm.ARM_REG_SP not in entry.regs_access()[1]:
            return 0
        if entry.cc != arm.ARM_CC_AL:
            return None
        operands = entry.operands
        if name in ("push", "pop"):
            return 4 * len(operands) * (1 if name == "pop" else -1)
        constants = [operand.imm for operand in operands if operand.type == arm.ARM_OP_IMM]
        others = _registers(operands, arm) - {arm.ARM_REG_SP}
        if name in ("add", "addw", "sub", "subw") and constants and not others:
            return int(constants[0] if name.startswith("add") else -constants[0])
        memory = [operand.mem for operand in operands if operand.type == arm.ARM_OP_MEM]
        if entry.writeback and memory and memory[0].base == arm.ARM_REG_SP:
            return int(constants[0] if entry.post_index else memory[0].disp)
        return None


@functools.cache
def inspector_of(cpu: str) -> Inspector:
    """The inspector that all machines with this core share."""
    return Inspector(cpu)


def _registers(operands: Iterable[Any], arm: Any) -> set[int]:
    return {operand.reg for operand in operands if operand.type == arm.ARM_OP_REG}
