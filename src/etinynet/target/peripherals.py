"""The few peripheral registers that start-up code needs, and the RAMs that they open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from etinynet.target.parts import Part, Region

__all__ = ["Peripherals"]

_PAGE = 0x1000
_OUTSIDE = "outside the part's memory"


class Peripherals:
    """The registers of `part` in `engine` (a unicorn.Uc); its RAMs are mapped already.

    `refuse` is called with the engine and the words of a fault when the program uses anything else
    that lies near them. `protections` are the engine's numbers: none, reading, reading and writing.
    """

    def __init__(
        self,
        engine: Any,
        part: Part,
        protections: tuple[int, int, int],
        refuse: Callable[[Any, str], None],
    ) -> None:
        self._engine, self._part, self._refuse = engine, part, refuse
        self._protections = protections
        self._registers = {register.address: register for register in part.registers}
        self._values: dict[int, int] = {}
        for page in sorted({address // _PAGE * _PAGE for address in self._registers}):
            engine.mmio_map(page, _PAGE, self._read, page, self._write, page)

    def reset(self) -> None:
        """Every register as it is after reset, and with it every RAM open or shut."""
        self._values = {address: entry.reset for address, entry in self._registers.items()}
        for ram in self._part.rams:
            self._protect(ram)

    def state_of(self, region: Region) -> str:
        """The name of `region`, and what keeps it shut, if anything does."""
        shut = [lock.reason for lock in region.locks if not self._is_open(lock.register, lock.bits)]
        return ", ".join([region.name, *shut[:1]])

    def _is_open(self, register: int, bits: int) -> bool:
        return self._values[register] & bits == bits

    def _protect(self, ram: Region) -> None:
        shut = [lock for lock in ram.locks if not self._is_open(lock.register, lock.bits)]
        none, reading, writing = self._protections
        protection = writing if not shut else reading
        if any(not lock.allows_reading for lock in shut):
            protection = none
        if ram.locks:
            self._engine.mem_protect(ram.origin, ram.length, protection)

    def _read(self, engine: Any, offset: int, size: int, page: int) -> int:
        address = page + offset
        if size != 4 or address not in self._values:
            self._refuse(
                engine, f"read of {size} bytes from {address:#010x} (outside the part's memory)"
            )
            return 0
        return self._values[address]

    def _write(self, engine: Any, offset: int, size: int, value: int, page: int) -> None:
        address = page + offset
        if size != 4 or address not in self._values:
            self._refuse(
                engine, f"write of {size} bytes to {address:#010x} (outside the part's memory)"
            )
            return
        self._values[address] = value
        for other, bits in self._registers[address].raises:
            self._values[other] |= bits
        for ram in self._part.rams:
            self._protect(ram)
