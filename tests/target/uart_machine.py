"""An emulated part with a model of its UART: ready at once, bytes out and in, writes recorded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from unicorn import UC_ARCH_ARM, UC_MODE_THUMB, Uc
from unicorn.arm_const import UC_ARM_REG_SP, UC_CPU_ARM_CORTEX_M4, UC_CPU_ARM_CORTEX_M7

from etinynet.target.elf import Image, read_elf
from etinynet.target.parts import Part

__all__ = ["UartMachine"]

#: Peripherals of each part, in ranges that Unicorn can map.
_PERIPHERALS = ((0x40000000, 0x30000), (0x51008000, 0x1000), (0x58020000, 0x10000))
_TXE, _RXNE = 1 << 7, 1 << 5
#: Of the STM32H743: valid (ACTVOSRDY) once the supply is configured.
_PWR_CSR1, _PWR_CR3, _ACTVOSRDY = 0x58024804, 0x5802480C, 1 << 13
_CPUS = {"cortex_m4": UC_CPU_ARM_CORTEX_M4, "cortex_m7": UC_CPU_ARM_CORTEX_M7}


@dataclass
class UartMachine:
    """`part` with the program `elf`; register addresses are the test's own, from the manual.

    `answers`: bytes that arrive after each line beginning with "row". Afterwards `text` is what
    was sent, `registers` every other register's last value, `led` what BSRR was given.
    """

    part: Part
    elf: bytes
    status: int
    send: int
    receive: int
    led_register: int
    answers: dict[str, bytes] = field(default_factory=dict)
    text: str = ""
    registers: dict[int, int] = field(default_factory=dict)
    led: list[int] = field(default_factory=list)
    _incoming: deque[int] = field(default_factory=deque)

    def run(self) -> None:
        """From reset to the third change of the LED; UcError for any access to nothing."""
        image: Image = read_elf(self.elf)
        self._engine = engine = Uc(UC_ARCH_ARM, UC_MODE_THUMB)
        engine.ctl_set_cpu_model(_CPUS[self.part.cpu])
        engine.mem_map(self.part.flash.origin, self.part.flash.length)
        for ram in self.part.rams:
            engine.mem_map(ram.origin, ram.length)
        for origin, length in _PERIPHERALS:
            engine.mmio_map(origin, length, self._read, origin, self._write, origin)
        for address, content in image.segments:
            engine.mem_write(address, content)
        stack, reset = (
            int.from_bytes(engine.mem_read(self.part.flash.origin + at, 4), "little")
            for at in (0, 4)
        )
        engine.reg_write(UC_ARM_REG_SP, stack)
        engine.emu_start(reset, 0xFFFFFFFF)

    def _read(self, engine: Uc, offset: int, size: int, origin: int) -> int:
        address = origin + offset
        if address == self.status:
            return _TXE | (_RXNE if self._incoming else 0)
        if address == self.receive:
            return self._incoming.popleft()
        if address == _PWR_CSR1:
            return _ACTVOSRDY if _PWR_CR3 in self.registers else 0
        return self.registers.get(address, 0)

    def _write(self, engine: Uc, offset: int, size: int, value: int, origin: int) -> None:
        address = origin + offset
        if address == self.send:
            self.text += chr(value)
            line = self.text.split("\r\n")[-2] if self.text.endswith("\r\n") else ""
            self._incoming.extend(self.answers.get(line, b""))
        elif address == self.led_register:
            self.led.append(value)
            if len(self.led) == 3:
                engine.emu_stop()
        else:
            self.registers[address] = value
