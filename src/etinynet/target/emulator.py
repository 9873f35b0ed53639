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
from etinynet.extras import not_installed
from etinynet.target.alignment import AlignmentCheck
from etinynet.target.counter import Block, BlockCounter, Counts, EngineNumbers
from etinynet.target.elf import Image
from etinynet.target.instructions import inspector_of
from etinynet.target.parts import Part, Region
from etinynet.target.peripherals import Peripherals
from etinynet.target.semihosting import APPLICATION_EXIT, Semihosting

__all__ = ["INSTRUCTION_LIMIT", "Machine", "Run"]

#: A run that executes more than this is taken for one that never ends.
INSTRUCTION_LIMIT = 4_000_000_000

#: What RAM holds after reset: nothing that a program could take for its own.
_NOISE = 0xA5
_ERASED = 0xFF
_BELOW_RAM = 64 * 1024
#: Where no program gets to: its runs end by what they do.
_NOWHERE = 0xFFFFFFFF
#: In the status register: set while the core is in Thumb state, the only one that it has.
_THUMB = 1 << 5
_BKPT, _SEMIHOSTING = 7, b"\xab\xbe"
_EXCEPTIONS = {
    1: "undefined instruction",
    2: "SVC instruction without a handler",
    _BKPT: "breakpoint",
    3: "instruction that cannot be fetched",
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
    of 4, as the part does; the run then takes twice as long. `profile` counts every block of
    the program as well.
    """

    def __init__(
        self, part: Part, image: Image, *, check_alignment: bool = False, profile: bool = False
    ) -> None:
        unicorn, arm_const = _import("unicorn"), _import("unicorn.arm_const")
        self._unicorn, self._arm = unicorn, arm_const
        self._part, self._image = part, image
        self._engine: Any = _engine(unicorn, arm_const, part.cpu)
        flash = self._map(part.flash, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        rams = [self._map(ram, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE) for ram in part.rams]
        self._memory = ((part.flash, flash), *zip(part.rams, rams, strict=True))
        flash[:] = _ERASED
        for address, content in image.segments:
            start = address - part.flash.origin
            flash[start : start + len(content)] = np.frombuffer(content, np.uint8)
        protections = (
            unicorn.UC_PROT_NONE,
            unicorn.UC_PROT_READ,
            unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE,
        )
        self._peripherals = Peripherals(self._engine, part, protections, self._stop)
        numbers = EngineNumbers(
            unicorn.UC_HOOK_BLOCK,
            unicorn.UC_HOOK_CODE,
            arm_const.UC_ARM_REG_SP,
            arm_const.UC_ARM_REG_CPSR,
        )
        self._counter = BlockCounter(
            self._engine, image, part.flash, flash, numbers, inspector_of(part.cpu), profile=profile
        )
        self._alignment: AlignmentCheck | None = None
        if check_alignment:
            names = [*(f"R{n}" for n in range(13)), "SP", "LR"]
            registers = [getattr(arm_const, f"UC_ARM_REG_{name}") for name in names]
            self._alignment = AlignmentCheck(
                self._engine, part.flash, flash, registers, unicorn.UC_HOOK_CODE
            )
        self._engine.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)
        self._engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_invalid_access)
        self._after_reset = self._engine.context_save()
        self._semihosting = Semihosting({})
        self._fault: str | None = None

    def run(self, files: Mapping[str, bytes] | None = None, limit: int = INSTRUCTION_LIMIT) -> Run:
        """Resets and runs until the program exits; `files` is what it can open for reading.

        Raises DeviceFault, with address and function, for an access outside the part's memory, a
        write to flash, a fetch outside flash, a stack overflow, an undefined instruction, an exit
        with failure, and for more than `limit` instructions.
        """
        self._reset(files or {}, limit)
        start = int(np.frombuffer(self.read(self._part.flash.origin + 4, 4), "<u4")[0])
        try:
            self._engine.emu_start(start, _NOWHERE)
            while self._counter.is_interrupted:
                at = self._engine.reg_read(self._arm.UC_ARM_REG_PC)
                self._engine.emu_start(at | 1, _NOWHERE)
        except self._unicorn.UcError as error:
            self._fault = self._fault or _words(error)
        self._raise_fault(limit)
        hosting, counter = self._semihosting, self._counter
        return Run(
            hosting.written,
            hosting.console,
            counter.counts(),
            self._stack_bytes(),
            counter.blocks(),
        )

    def _reset(self, files: Mapping[str, bytes], limit: int) -> None:
        """Core, RAM, peripherals and debugger as they are when the part comes out of reset."""
        self._engine.context_restore(self._after_reset)
        for _, content in self._memory[1:]:
            content[:] = _NOISE
        self._peripherals.reset()
        self._semihosting = Semihosting(files)
        self._fault = None
        self._counter.reset(limit)
        if self._alignment is not None:
            self._alignment.reset()
        stack = int(np.frombuffer(self.read(self._part.flash.origin, 4), "<u4")[0])
        self._engine.reg_write(self._arm.UC_ARM_REG_SP, stack)

    def _raise_fault(self, limit: int) -> None:
        """DeviceFault unless the run has ended with success."""
        refused = self._counter.refused
        if refused is not None:
            at, what = refused
            raise self._fault_at(what, at)
        if not self._engine.reg_read(self._arm.UC_ARM_REG_CPSR) & _THUMB:
            raise self._fault_at("jump to an even address (Arm state, which this core lacks)")
        if self._fault is not None:
            raise self._fault_at(self._fault)
        if self._alignment is not None and self._alignment.fault is not None:
            at, address = self._alignment.fault
            what = f"load or store of several words at {address:#010x}, which is not aligned to 4,"
            raise self._fault_at(what, at)
        if self._counter.is_exhausted:
            raise self._fault_at(f"no end after {limit} instructions")
        if self._semihosting.exit_reason is None:
            raise self._fault_at("the program stopped without an exit")
        if self._semihosting.exit_reason != APPLICATION_EXIT:
            raise DeviceFault(
                f"{self._part.name}: the program gave up: {self._semihosting.console.strip()!r}"
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
        """From the top of the stack to the lowest stack pointer; DeviceFault below the bottom."""
        bottom, top = (self._image.marks[f"etn_stack_{end}"] for end in ("bottom", "top"))
        used = top - self._counter.lowest_stack_pointer()
        if used > top - bottom:
            raise DeviceFault(
                f"{self._part.name}: stack overflow: the stack pointer went {used} bytes down, "
                f"{top - bottom} are kept free for the stack"
            )
        return used

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
        for region, _ in self._memory:
            if address in region:
                return self._peripherals.state_of(region)
        return "outside the part's memory"

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
        raise not_installed("unicorn") from None


def _engine(unicorn: Any, arm_const: Any, cpu: str) -> Any:
    """A unicorn.Uc of `cpu`. UC_MODE_MCLASS is left out: with it unicorn takes another core."""
    models = {
        "cortex_m4": arm_const.UC_CPU_ARM_CORTEX_M4,
        "cortex_m7": arm_const.UC_CPU_ARM_CORTEX_M7,
    }
    engine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
    engine.ctl_set_cpu_model(models[cpu])
    found = engine.ctl_get_cpu_model()
    if found != models[cpu]:
        raise ToolError(
            f"unicorn {unicorn.__version__} emulates its core number {found}, "
            f"not {models[cpu]}, the {cpu} of the part"
        )
    return engine


def _words(error: Any) -> str:
    text = str(error).lower()
    return "undefined instruction" if "insn_invalid" in text else text
