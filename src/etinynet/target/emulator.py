"""An emulated Cortex-M with exactly the part's memory: every wrong access is a fault."""

from __future__ import annotations

import importlib
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.errors import DeviceFault, ToolError
from etinynet.target.alignment import AlignmentCheck
from etinynet.target.counter import Block, BlockCounter, Counts
from etinynet.target.elf import Image
from etinynet.target.parts import Part, Region
from etinynet.target.semihosting import APPLICATION_EXIT, Semihosting

__all__ = ["INSTRUCTION_LIMIT", "Machine", "Run"]

#: A run that executes more than this is taken for one that never ends.
INSTRUCTION_LIMIT = 4_000_000_000

_PAINT = 0xA5
_ERASED = 0xFF
_BELOW_RAM = 64 * 1024
_BKPT, _SEMIHOSTING = 7, b"\xab\xbe"
_EXCEPTIONS = {
    1: "undefined instruction",
    2: "SVC instruction without a handler",
    _BKPT: "breakpoint",
    3: "instruction that cannot be fetched",
    17: "floating-point instruction while the unit is off",
    18: "jump to an even address (Arm state, which this core lacks)",
}
#: The four arguments of a call, R0 to R3.
TraceHook = Callable[[int, int, int, int], None]


@dataclass(frozen=True)
class Run:
    """What a program did until it exited with success; `blocks` where that was profiled."""

    written: Mapping[str, bytes]
    console: str
    counts: Counts
    stack_bytes: int
    blocks: tuple[Block, ...] = ()


class Machine:
    """`part` with `image` in its flash. Raises ToolError if unicorn is missing.

    `check_alignment` also refuses LDM, STM, LDRD and STRD from addresses that are not multiples
    of 4, as the part does; the run then takes several times longer. `profile` counts every block of
    the program as well.
    """

    def __init__(
        self, part: Part, image: Image, *, check_alignment: bool = False, profile: bool = False
    ) -> None:
        unicorn, arm_const = _import("unicorn"), _import("unicorn.arm_const")
        self._unicorn, self._arm = unicorn, arm_const
        self._part, self._image = part, image
        self._engine: Any = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        )
        models = {
            "cortex_m4": arm_const.UC_CPU_ARM_CORTEX_M4,
            "cortex_m7": arm_const.UC_CPU_ARM_CORTEX_M7,
        }
        self._engine.ctl_set_cpu_model(models[part.cpu])
        flash = self._map(part.flash, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        rams = [self._map(ram, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE) for ram in part.rams]
        self._memory = ((part.flash, flash), *zip(part.rams, rams, strict=True))
        flash[:] = _ERASED
        for address, content in image.segments:
            start = address - part.flash.origin
            flash[start : start + len(content)] = np.frombuffer(content, np.uint8)
        code = (self._engine, image, part.flash, flash)
        self._counter = BlockCounter(*code, unicorn.UC_HOOK_BLOCK, profile=profile)
        self._alignment: AlignmentCheck | None = None
        if check_alignment:
            names = [*(f"R{n}" for n in range(13)), "SP", "LR"]
            registers = [getattr(arm_const, f"UC_ARM_REG_{name}") for name in names]
            self._alignment = AlignmentCheck(*code, registers, unicorn.UC_HOOK_CODE)
        self._engine.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)
        self._engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_invalid_access)
        self._semihosting = Semihosting({})
        self._fault: str | None = None

    def run(self, files: Mapping[str, bytes] | None = None, limit: int = INSTRUCTION_LIMIT) -> Run:
        """Resets and runs until the program exits; `files` is what it can open for reading.

        Raises DeviceFault, with address and function, for an access outside the part's memory, a
        write to flash, a fetch outside flash, a stack overflow, an undefined instruction, an exit
        with failure, and for more than `limit` instructions.
        """
        for _, content in self._memory[1:]:
            content[:] = _PAINT
        self._semihosting = Semihosting(files or {})
        self._fault = None
        self._counter.reset(limit)
        if self._alignment is not None:
            self._alignment.reset()
        vectors = np.frombuffer(self.read(self._part.flash.origin, 8), "<u4")
        self._engine.reg_write(self._arm.UC_ARM_REG_SP, int(vectors[0]))
        try:
            self._engine.emu_start(int(vectors[1]), 0xFFFFFFFF)
        except self._unicorn.UcError as error:
            raise self._fault_at(self._fault or _words(error)) from None
        if self._fault is not None:
            raise self._fault_at(self._fault)
        if self._alignment is not None and self._alignment.fault is not None:
            at, address = self._alignment.fault
            what = f"load or store of several words at {address:#010x}, which is not aligned to 4,"
            raise self._fault_at(what, at)
        if self._counter.is_exhausted:
            raise self._fault_at(f"no end after {limit} instructions")
        if self._semihosting.exit_reason != APPLICATION_EXIT:
            raise DeviceFault(
                f"{self._part.name}: the program gave up: {self._semihosting.console.strip()!r}"
            )
        hosting, counter = self._semihosting, self._counter
        return Run(
            hosting.written,
            hosting.console,
            counter.counts(),
            self._stack_bytes(),
            counter.blocks(),
        )

    def on_call(self, function: str, hook: TraceHook) -> None:
        """Calls `hook` with R0 to R3 each time `function` is entered; ToolError if it is absent."""
        symbol = self._image.function(function)
        if symbol is None:
            raise ToolError(f"the program has no function {function!r}")
        registers = [getattr(self._arm, f"UC_ARM_REG_R{n}") for n in range(4)]

        def enter(engine: Any, address: int, size: int, user: object) -> None:
            hook(*(engine.reg_read(register) for register in registers))

        code = self._unicorn.UC_HOOK_CODE
        self._engine.hook_add(code, enter, begin=symbol.address, end=symbol.address)

    def read(self, address: int, count: int) -> bytes:
        """`count` bytes of the program's memory; DeviceFault outside of it."""
        return self._slice(address, count, self._memory).tobytes()

    def write(self, address: int, data: bytes) -> None:
        """Puts `data` into the RAM; DeviceFault outside of it."""
        view = self._slice(address, len(data), self._memory[1:])
        view[:] = np.frombuffer(data, np.uint8)

    def _slice(
        self, address: int, count: int, memory: tuple[tuple[Region, NDArray[np.uint8]], ...]
    ) -> NDArray[np.uint8]:
        for region, content in memory:
            if address in region and address + count <= region.end:
                return content[address - region.origin : address - region.origin + count]
        raise DeviceFault(
            f"{self._part.name}: the program handed out {count} bytes at {address:#010x}, "
            "where it has no memory for them"
        )

    def _map(self, region: Region, protection: int) -> NDArray[np.uint8]:
        content = np.frombuffer(mmap.mmap(-1, region.length), np.uint8)
        self._engine.mem_map_ptr(region.origin, region.length, protection, content.ctypes.data)
        return content

    def _stack_bytes(self) -> int:
        """From the top of the stack to the lowest byte that lost its paint."""
        bottom, top = (self._image.marks[f"etn_stack_{end}"] for end in ("bottom", "top"))
        stack = self._slice(bottom, top - bottom, self._memory)
        used = np.flatnonzero(stack != _PAINT)
        return len(stack) - int(used[0]) if len(used) else 0

    def _on_exception(self, engine: Any, number: int, user: object) -> None:
        pc = engine.reg_read(self._arm.UC_ARM_REG_PC)
        if number == _BKPT and self.read(pc, 2) == _SEMIHOSTING:
            self._call_host(engine, pc)
        else:
            self._stop(engine, _EXCEPTIONS.get(number, f"exception {number}"))

    def _call_host(self, engine: Any, pc: int) -> None:
        arm = self._arm
        operation, argument = (engine.reg_read(r) for r in (arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1))
        try:
            answer = self._semihosting.call(operation, argument, self)
        except DeviceFault as fault:
            self._stop(engine, str(fault))
            return
        engine.reg_write(arm.UC_ARM_REG_R0, answer)
        engine.reg_write(arm.UC_ARM_REG_PC, (pc + 2) | 1)
        if self._semihosting.exit_reason is not None:
            engine.emu_stop()

    def _stop(self, engine: Any, fault: str) -> None:
        self._fault = fault
        engine.emu_stop()

    def _on_invalid_access(
        self, engine: Any, access: int, address: int, size: int, value: int, user: object
    ) -> bool:
        """Notes what was tried; False ends the run."""
        uc = self._unicorn
        if access in (uc.UC_MEM_FETCH_UNMAPPED, uc.UC_MEM_FETCH_PROT):
            what = f"fetch from {address:#010x}"
        elif access in (uc.UC_MEM_WRITE_UNMAPPED, uc.UC_MEM_WRITE_PROT):
            what = f"write of {size} bytes to {address:#010x}"
        else:
            what = f"read of {size} bytes from {address:#010x}"
        bottom = self._part.ram.origin
        if bottom - _BELOW_RAM <= address < bottom:
            what = f"stack overflow: {what}"
        self._fault = f"{what} ({self._place_of(address)})"
        return False

    def _place_of(self, address: int) -> str:
        name = next((region.name for region, _ in self._memory if address in region), None)
        return name or "outside the part's memory"

    def _fault_at(self, what: str, pc: int | None = None) -> DeviceFault:
        """The fault with the function it happened in and, where the link register says it, from."""
        arm, image = self._arm, self._image
        pc = self._engine.reg_read(arm.UC_ARM_REG_PC) if pc is None else pc
        caller = self._engine.reg_read(arm.UC_ARM_REG_LR) & ~1
        message = f"{self._part.name}: {what} in {image.place(pc)}"
        here, back = image.symbol_at(pc), image.symbol_at(caller)
        if back is not None and back != here:
            message += f", called from {image.place(caller)}"
        return DeviceFault(message)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ToolError("package 'unicorn' is not installed; pip install etinynet[mcu]") from None


def _words(error: Any) -> str:
    text = str(error).lower()
    return "undefined instruction" if "insn_invalid" in text else text
