"""Each class of instructions that a part lacks is a fault; the stack is followed exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from etinynet.errors import DeviceFault
from etinynet.target.emulator import Machine
from etinynet.target.instructions import Block, Inspector

Load = Callable[..., Machine]
PARTS = {"stm32f412": "Cortex-M4", "stm32f746": "Cortex-M7"}

#: Class: its instruction as halfwords, and what the fault says. R0 to R3 point into the RAM.
LACKING = {
    "load-acquire (Armv8-M)": (
        "0xe8d1, 0x0faf",
        r"instruction 'lda r0, \[r1\]', which a {core} lacks",
    ),
    "store-release (Armv8-M)": ("0xe8c1, 0x0faf", r"instruction 'stl r0, \[r1\]', which a"),
    "exclusive load-acquire (Armv8-M)": ("0xe8d1, 0x0fef", r"instruction 'ldaex r0, \[r1\]'"),
    "secure gateway (Armv8-M)": ("0xe97f, 0xe97f", r"instruction 'sg', which a"),
    "test target (Armv8-M)": ("0xe841, 0xf000", r"instruction 'tt r0, r1', which a"),
    "non-secure branch (Armv8-M)": ("0x4704", r"instruction 'bxns r0', which a"),
    "lazy floating-point state (Armv8-M)": ("0xec31, 0x0a00", r"instruction 'vlldm r1'"),
    "stack limit (Armv8-M)": ("0xf3ef, 0x800a", r"instruction 'mrs r0, msplim'"),
    "non-secure stack pointer (Armv8-M)": ("0xf3ef, 0x8088", r"instruction 'mrs r0, msp_ns'"),
    "loop (Armv8.1-M)": ("0xf041, 0xe001", r"undefined instruction"),
    "conditional select (Armv8.1-M)": ("0xea51, 0x8002", r"undefined instruction"),
    "checksum (Armv8-A)": ("0xfac1, 0xf082", r"undefined instruction"),
    "single precision": (
        "0xee30, 0x0a20",
        r"floating-point instruction 'vadd.f32 .*' while the unit",
    ),
    "double precision": (
        "0xee30, 0x0b01",
        r"floating-point instruction 'vadd.f64 .*' while the unit",
    ),
    "floating-point load": (
        "0xed91, 0x0a00",
        r"floating-point instruction 'vldr .*' while the unit",
    ),
    "floating-point move": (
        "0xee00, 0x0a10",
        r"floating-point instruction 'vmov .*' while the unit",
    ),
    "floating-point status": ("0xeef1, 0x0a10", r"floating-point instruction 'vmrs .*' while the"),
    "floating-point push": ("0xed2d, 0x8a01", r"floating-point instruction 'vpush .*' while the"),
    "floating-point select": ("0xfe00, 0x0a00", r"floating-point instruction 'vsel.*' while the"),
    "vector addition (NEON)": ("0xef00, 0x0840", r"instruction 'vadd.i8 q0.*', which a"),
    "vector load (NEON)": ("0xf921, 0x070f", r"instruction 'vld1.8 .*', which a"),
    "coprocessor write": ("0xee00, 0x0f10", r"instruction 'mcr p15.*', which a"),
    "coprocessor read": ("0xee10, 0x0e10", r"instruction 'mrc p14.*', which a"),
    "coprocessor operation": ("0xee00, 0x0000", r"instruction 'cdp p0.*', which a"),
    "coprocessor load": ("0xed91, 0x0500", r"instruction 'ldc p5.*', which a"),
    "coprocessor pair": ("0xec40, 0x0000", r"instruction 'mcrr p0.*', which a"),
    "call of Arm code": ("0xf000, 0xe800", r"undefined instruction"),
    "byte order (Armv7-A)": ("0xb658", r"undefined instruction"),
    "exclusive pair (Armv7-A)": ("0xe8d1, 0x237f", r"undefined instruction"),
    "exception return (Armv7-A)": ("0xf3de, 0x8f00", r"undefined instruction"),
    "secure monitor (Armv7-A)": ("0xf7f0, 0x8000", r"instruction 'smc #0', which a"),
    "hypervisor (Armv7-A)": ("0xf7e0, 0x8000", r"instruction 'hvc.*', which a"),
    "undefined": ("0xde01", r"undefined instruction"),
}
#: One function for each class; the picture says which one runs.
RUN = """
__attribute__((noinline)) static void case_%d(void)
{
    __asm__ volatile("movw r0, #0x1000\\n\\tmovt r0, #0x2000\\n\\tmov r1, r0\\n\\tmov r2, r0\\n\\t"
                     "mov r3, r0\\n\\tb 1f\\n1:\\t.short %s\\n"
                     ::: "r0", "r1", "r2", "r3", "memory");
}"""
MAIN = """
static void (*const cases[])(void) = {%s};
int main(void) { uint8_t at[1]; board_read(at, 1); cases[at[0]](); return 0; }"""


@pytest.fixture(scope="module", params=PARTS)
def loaded(request: pytest.FixtureRequest, machine: Load) -> tuple[str, Machine]:
    """A part with all of LACKING in its flash."""
    functions = "".join(RUN % (n, code) for n, (code, _) in enumerate(LACKING.values()))
    names = ", ".join(f"case_{n}" for n in range(len(LACKING)))
    return request.param, machine(functions + MAIN % names, request.param)


@pytest.mark.parametrize("case", LACKING)
def test_a_part_refuses_what_its_core_lacks(loaded: tuple[str, Machine], case: str) -> None:
    part, emulated = loaded
    number = list(LACKING).index(case)
    words = LACKING[case][1].format(core=PARTS[part])
    with pytest.raises(DeviceFault, match=rf"{part}: {words}.* in case_{number}\+0x"):
        emulated.run({"picture.rgb": bytes([number])})


@pytest.mark.parametrize("part", PARTS)
def test_what_never_runs_is_no_fault(machine: Load, part: str) -> None:
    source = """
    static volatile int never;
    int main(void) { if (never) { __asm__ volatile(".short 0xee30, 0x0a20"); } return 0; }"""
    machine(source, part).run()


def test_a_refused_block_has_done_nothing_and_is_refused_again(machine: Load) -> None:
    source = """
    int main(void)
    {
        __asm__ volatile("str %0, [%1]\\n\\tvadd.f32 s0, s0, s0" : : "r"(7), "r"(0x20003000));
        return 0;
    }"""
    loaded = machine(source.replace("vadd.f32 s0, s0, s0", ".short 0xee30, 0x0a20"))
    for _ in range(2):
        with pytest.raises(DeviceFault, match="floating-point"):
            loaded.run()
        assert loaded.read(0x20003000, 4) != b"\7\0\0\0"


AT = 0x08000000
#: Assembly (as halfwords) and what it does to the stack.
DEPTHS = {
    "nothing": ((0xBF00,), Block()),
    "push r4, lr": ((0xB510,), Block(below=8)),
    "push.w r4-r11, lr": ((0xE92D, 0x4FF0), Block(below=36)),
    "push, pop": ((0xB510, 0xBD10), Block(below=8)),
    "sub sp 128, add sp 128, push": ((0xB0A0, 0xB020, 0xB510), Block(below=128)),
    "subw sp 1025": ((0xF2AD, 0x4D01), Block(below=1025)),
    "str r8, [sp, -16]!": ((0xF84D, 0x8D10), Block(below=16)),
    "strd r4, r5, [sp, -24]!": ((0xE96D, 0x4506), Block(below=24)),
    "pop, push twice": ((0xBC10, 0xB510, 0xB510), Block(below=12)),
    "ldr lr, [sp], 20; push": ((0xF85D, 0xEB14, 0xB510), Block()),
    "str r0, [sp, 4]": ((0x9001,), Block()),
    "add r7, sp, 4": ((0xAF01,), Block()),
    "mov sp, r7": ((0x46BD,), Block(ends_unknown=True)),
    "push; sub sp, r3; push; pop": (
        (0xB510, 0xEBAD, 0x0D03, 0xB510, 0xBC10),
        Block(below=8, samples=((AT + 6, 8),)),
    ),
    "mov sp, r7; mov sp, r7; pop": (
        (0x46BD, 0x46BD, 0xBC10),
        Block(samples=((AT + 2, 0), (AT + 4, 0))),
    ),
    "it ne; popne r4, pc": ((0xBF18, 0xBD10), Block(ends_unknown=True)),
}


@pytest.mark.parametrize("case", DEPTHS)
def test_depth_of_a_block(case: str) -> None:
    halves, expected = DEPTHS[case]
    code = b"".join(half.to_bytes(2, "little") for half in halves)
    assert Inspector("cortex_m4").block(code, AT) == expected
