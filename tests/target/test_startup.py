"""What a part needs after reset: nothing works in the emulator before start-up has done it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from etinynet.errors import DeviceFault
from etinynet.target.emulator import Machine
from etinynet.target.link import build_firmware
from etinynet.target.parts import Part, get_part

Load = Callable[..., Machine]
H743 = get_part("stm32h743")


def without_startup(**changes: object) -> Part:
    """A part with RAM and registers of the STM32H743 whose start-up code owes nothing."""
    part = dataclasses.replace(get_part("stm32f746"), rams=H743.rams, registers=H743.registers)
    return dataclasses.replace(part, **changes)  # type: ignore[arg-type]


def run_on(part: Part, source: str, limit: int = 100_000) -> None:
    text = "#include <stdint.h>\nint main(void);\n" + source
    Machine(part, build_firmware({"main.c": text.encode()}, part).image).run(limit=limit)


def test_ram_cannot_be_written_before_the_supply_is_ready() -> None:
    words = (
        r"write of 4 bytes to 0x24001000 \(axi, supply not ready: PWR_CSR1.ACTVOSRDY\) in etn_res"
    )
    with pytest.raises(DeviceFault, match=words):
        run_on(
            without_startup(), "static volatile int used = 1; int main(void) { return used - 1; }"
        )


@pytest.mark.parametrize("access", ["*at = 1", "(void)*at"])
def test_ram_d2_faults_until_its_clock_is_on(access: str) -> None:
    axi, _, d2, _ = H743.rams
    rams = (dataclasses.replace(axi, locks=()), dataclasses.replace(d2, locks=d2.locks[:1]))
    source = """int main(void) {
        volatile int *at = (volatile int *)0x30000000;
        for (int bit = 28; bit < 32; bit++) {
            *(volatile uint32_t *)0x580244DC |= 1u << bit;
            if (bit >= %d) { %s; }
        }
        return 0; }"""
    run_on(without_startup(rams=rams), source % (31, access))
    with pytest.raises(DeviceFault, match=r"0x30000000 \(d2, clock off: RCC_AHB2ENR.SRAM1EN to"):
        run_on(without_startup(rams=rams), source % (30, access))


def test_a_clock_switched_off_again_shuts_the_ram(machine: Load) -> None:
    source = """int main(void) {
        *(volatile int *)0x30047ffc = 1;
        *(volatile uint32_t *)0x580244DC = 0;
        return *(volatile int *)0x30047ffc; }"""
    loaded = machine(source, "stm32h743")
    for _ in range(2):
        with pytest.raises(DeviceFault, match=r"read of 4 bytes from 0x30047ffc \(d2, clock off"):
            loaded.run()


def test_startup_waits_for_the_supply() -> None:
    first, second, *others = H743.registers
    never = (first, dataclasses.replace(second, raises=()), *others)
    part = dataclasses.replace(H743, registers=never)
    with pytest.raises(DeviceFault, match=r"no end after 100000 instructions in etn_reset\+0x"):
        run_on(part, "int main(void) { return 0; }")


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ("(void)*(volatile int *)0x580244D8", "read of 4 bytes from 0x580244d8"),
        ("*(volatile int *)0x58024400 = 1", "write of 4 bytes to 0x58024400"),
        ("*(volatile char *)0x580244DC = 1", "write of 1 bytes to 0x580244dc"),
        ("(void)*(volatile short *)0x580244DE", "read of 2 bytes from 0x580244de"),
        ("*(volatile int *)0x58025000 = 1", "write of 4 bytes to 0x58025000"),
        ("*(volatile int *)0xE000ED88 = 0xF << 20", "write of 4 bytes to 0xe000ed88"),
    ],
)
def test_every_other_register_is_a_fault(machine: Load, access: str, words: str) -> None:
    with pytest.raises(DeviceFault, match=rf"{words} \(outside the part's memory\) in main\+0x"):
        machine(f"int main(void) {{ {access}; return 0; }}", "stm32h743").run()


@pytest.mark.parametrize("compiler", ["", "arm-none-eabi-gcc"])
@pytest.mark.parametrize("address", [0x30000000, 0x20000000, 0x38000000, 0x24070000])
def test_startup_opens_all_ram(
    machine: Load,
    tool: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    compiler: str,
    address: int,
) -> None:
    monkeypatch.setenv("ETINYNET_ARM_CC", compiler and tool(compiler))
    source = f"int main(void) {{ *(volatile int *){address:#x} = 1; return 0; }}"
    machine(source, "stm32h743").run()
