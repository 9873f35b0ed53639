"""The microcontrollers we build for: core, flash and RAM as their data sheets give them."""

from __future__ import annotations

from dataclasses import dataclass

from etinynet.errors import ConfigError

__all__ = ["CLOCKS", "PARTS", "Clock", "Lock", "Part", "Region", "Register", "get_part"]

_CPUS = ("cortex_m4", "cortex_m7")

#: Kept free for the firmware's own variables, of which there are few.
_VARIABLES = 64


@dataclass(frozen=True)
class Register:
    """A peripheral register of 32 bits that start-up code needs; `reset` is its value after reset.

    A write to it also sets bits of others, after a time: `raises` are their (address, bits).
    """

    name: str
    address: int
    reset: int = 0
    raises: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Lock:
    """Keeps a region shut until all of `bits` are set in the register at address `register`.

    `reason` says so in a fault; a region that `allows_reading` is shut for writing only.
    """

    register: int
    bits: int
    reason: str
    allows_reading: bool = False


@dataclass(frozen=True)
class Region:
    """A range of addresses, [origin, origin + length) in bytes, open when all `locks` are."""

    name: str
    origin: int
    length: int
    locks: tuple[Lock, ...] = ()

    def __post_init__(self) -> None:
        if self.origin % 4096 or self.length % 4096 or self.length <= 0:
            raise ConfigError(
                f"region {self.name!r}: origin {self.origin:#x} and length {self.length:#x}, "
                "allowed are multiples of 4096 and a length above 0"
            )

    @property
    def end(self) -> int:
        """First address behind the region."""
        return self.origin + self.length

    def __contains__(self, address: int) -> bool:
        return self.origin <= address < self.end


@dataclass(frozen=True)
class Part:
    """A microcontroller: `cpu` as the compiler names it; `rams` in the order programs fill them.

    `registers` are those of its peripherals that start-up code may use; no other is emulated.
    """

    name: str
    cpu: str
    flash: Region
    rams: tuple[Region, ...]
    registers: tuple[Register, ...] = ()

    def __post_init__(self) -> None:
        if self.cpu not in _CPUS:
            raise ConfigError(
                f"part {self.name!r}: cpu {self.cpu!r} is unknown, allowed are {', '.join(_CPUS)}"
            )
        if not self.rams:
            raise ConfigError(f"part {self.name!r}: rams is empty, at least one region is needed")

    @property
    def ram(self) -> Region:
        """The region that holds stack, variables and, if it can, the arena."""
        return self.rams[0]

    def arena_regions(self, stack_bytes: int) -> tuple[int, ...]:
        """Bytes of each of `rams` that an arena can have beside the stack and variables."""
        first, *others = (ram.length for ram in self.rams)
        return first - stack_bytes - _VARIABLES, *others


_KIB = 1024
_FLASH = 0x08000000

#: Of the STM32H743 (RM0433). After power-on it is in Run* mode: until the supply is configured and
#: its voltage valid, writes to RAM are not allowed.
_PWR_CSR1, _PWR_CR3, _RCC_AHB2ENR = 0x58024804, 0x5802480C, 0x580244DC
_ACTVOSRDY, _SRAM123EN = 1 << 13, 7 << 29
_SUPPLY = Lock(_PWR_CSR1, _ACTVOSRDY, "supply not ready: PWR_CSR1.ACTVOSRDY", allows_reading=True)
_D2_CLOCK = Lock(_RCC_AHB2ENR, _SRAM123EN, "clock off: RCC_AHB2ENR.SRAM1EN to SRAM3EN")

#: Address 0 (boot alias of the flash, or ITCM RAM) is left out on purpose: no program needs it,
#: and so a null pointer faults in the emulator.
PARTS = {
    part.name: part
    for part in (
        Part(
            "stm32f412",
            "cortex_m4",
            Region("flash", _FLASH, 1024 * _KIB),
            (Region("sram", 0x20000000, 256 * _KIB),),
        ),
        Part(
            "stm32f746",
            "cortex_m7",
            Region("flash", _FLASH, 1024 * _KIB),
            # 64 KiB DTCM, 240 KiB SRAM1 and 16 KiB SRAM2 without a gap
            (Region("sram", 0x20000000, 320 * _KIB),),
        ),
        Part(
            "stm32h743",
            "cortex_m7",
            Region("flash", _FLASH, 2048 * _KIB),
            (
                Region("axi", 0x24000000, 512 * _KIB, (_SUPPLY,)),
                Region("dtcm", 0x20000000, 128 * _KIB, (_SUPPLY,)),
                Region("d2", 0x30000000, 288 * _KIB, (_D2_CLOCK, _SUPPLY)),
                Region("d3", 0x38000000, 64 * _KIB, (_SUPPLY,)),
            ),
            (
                Register("PWR_CSR1", _PWR_CSR1, 1 << 14),
                Register("PWR_CR3", _PWR_CR3, 6, ((_PWR_CSR1, _ACTVOSRDY),)),
                Register("RCC_AHB2ENR", _RCC_AHB2ENR),
                Register("AXI_TARG7_FN_MOD", 0x51008108),
            ),
        ),
    )
}


@dataclass(frozen=True)
class Clock:
    """The highest frequency of a core in Hz, and the `condition` under which its data sheet gives
    it."""

    hz: int
    condition: str

    def milliseconds(self, cycles: int) -> float:
        """How long `cycles` take, to the microsecond."""
        return round(1000 * cycles / self.hz, 3)


#: Of each of PARTS. After reset they all run slower, by an oscillator of their own (BOARD_HZ).
CLOCKS = {
    "stm32f412": Clock(100_000_000, "voltage scale 1"),  # DS11139
    "stm32f746": Clock(216_000_000, "voltage scale 1, over-drive on"),  # DS10916
    "stm32h743": Clock(480_000_000, "revision V, voltage scale 0"),  # DS12110; 400 MHz before V
}


def get_part(name: str) -> Part:
    """The part called `name`; raises ConfigError listing the names that exist."""
    if name not in PARTS:
        raise ConfigError(f"part {name!r} is unknown, allowed are {', '.join(PARTS)}")
    return PARTS[name]
