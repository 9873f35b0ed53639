"""The emulator refuses what the part would refuse, and says where."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from etinynet.errors import DeviceFault
from etinynet.target.emulator import Machine

Load = Callable[..., Machine]

READ = "__attribute__((noinline)) int op_03_depthwise(volatile int *p) { return *p + 1; }\n"

FAULTS = {
    "wild read": (
        READ + "int main(void) { return op_03_depthwise((int *)0x30000004) + 1; }",
        r"stm32f412: read of 4 bytes from 0x30000004 \(outside the part's memory\) "
        r"in op_03_depthwise\+0x0, called from main\+0x",
    ),
    "null pointer": (
        READ + "int main(void) { return op_03_depthwise(0) + 1; }",
        r"read of 4 bytes from 0x00000000 \(outside",
    ),
    "read behind the RAM": (
        READ + "int main(void) { return op_03_depthwise((int *)0x20040000) + 1; }",
        r"read of 4 bytes from 0x20040000 \(outside",
    ),
    "wild write": (
        "int main(void) { *(volatile uint16_t *)0x40001000 = 1; return 0; }",
        r"write of 2 bytes to 0x40001000 \(outside the part's memory\) in main\+0x",
    ),
    "write to flash": (
        "int main(void) { *(volatile int *)0x08001000 = 1; return 0; }",
        r"write of 4 bytes to 0x08001000 \(flash\) in main\+0x",
    ),
    "stack overflow": (
        "int sink(volatile char *p);\n"
        "__attribute__((noinline)) int deep(int n)\n"
        "{ volatile char room[512]; room[0] = (char)n; return n ? deep(n - 1) + room[0] : 0; }\n"
        "int main(void) { return deep(1000); }",
        r"stack overflow: write of \d bytes to 0x1fff.* in deep\+0x",
    ),
    "fetch from RAM": (
        "int main(void) { ((void (*)(void))0x20000101)(); return 0; }",
        r"fetch from 0x20000100 \(sram\) in 0x20000100, called from main\+0x",
    ),
    "fetch outside": (
        "int main(void) { ((void (*)(void))0x10000001)(); return 0; }",
        r"fetch from 0x10000000 \(outside the part's memory\) .*called from main\+0x",
    ),
    "Arm state": (
        "int main(void) { ((void (*)(void))0x08000100)(); return 0; }",
        r"stm32f412: .* in .*main",
    ),
    "trap": (
        "int main(void) { __builtin_trap(); }",
        r"undefined instruction in main\+0x",
    ),
    "undefined instruction": (
        'int main(void) { __asm__ volatile("udf #3"); return 0; }',
        r"undefined instruction in main\+0x",
    ),
    "supervisor call": (
        'int main(void) { __asm__ volatile("svc #0"); return 0; }',
        r"SVC instruction without a handler in main\+0x",
    ),
    "breakpoint": (
        'int main(void) { __asm__ volatile("bkpt #1"); return 0; }',
        r"breakpoint in main\+0x",
    ),
    "unaligned LDRD": (
        "int main(void) {\n"
        '    __asm__ volatile("ldrd r2, r3, [%0]" : : "r"(0x20001002) : "r2", "r3"); return 0; }',
        r"several words at 0x20001002, which is not aligned to 4, in main\+0x",
    ),
    "unaligned STM": (
        "int main(void) {\n"
        '    __asm__ volatile("stm %0, {r2, r3}" : : "r"(0x20001001) : "memory"); return 0; }',
        r"several words at 0x20001001, which is not aligned to 4, in main\+0x",
    ),
    "unaligned LDM": (
        "int main(void) {\n"
        '    __asm__ volatile("ldm %0, {r8, r9}" : : "r"(0x20001003) : "r8", "r9"); return 0; }',
        r"several words at 0x20001003, which is not aligned to 4, in main\+0x",
    ),
    "endless loop": (
        'int main(void) { for (;;) { __asm__ volatile(""); } }',
        r"no end after 1000000 instructions in main\+0x",
    ),
    "failure of main": (
        'int main(void) { board_print("no picture\\n"); return 1; }',
        r"stm32f412: the program gave up: 'no picture'",
    ),
    "fault handler": (
        "void etn_fault(void);\nint main(void) { etn_fault(); return 0; }",
        r"gave up: 'fault: the program made an access",
    ),
    "pointer for the host": (
        "int main(void) { return board_read((uint8_t *)0x08000000, 4); }",
        r"handed out 4 bytes at 0x08000000, where it has no memory for them",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault(machine: Load, case: str) -> None:
    source, message = FAULTS[case]
    with pytest.raises(DeviceFault, match=message):
        machine(source, check_alignment=True).run({"picture.rgb": bytes(16)}, limit=1_000_000)


@pytest.mark.parametrize("part", ["stm32f412", "stm32f746", "stm32h743"])
def test_variables_files_and_console(machine: Load, part: str) -> None:
    source = """
    static uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    static uint8_t zero[8];
    int main(void)
    {
        uint8_t in[8];
        board_print("hello\\n");
        if (board_read(in, 4) || board_read(in + 4, 4) || !board_read(zero, 1)) {
            return 1;
        }
        for (int i = 0; i < 8; i++) {
            data[i] += (uint8_t)(in[i] + zero[i]);
        }
        return board_write(data, 8);
    }"""
    loaded = machine(source, part)
    for first in (10, 60):
        run = loaded.run({"picture.rgb": bytes(range(first, first + 8))})
        assert run.written == {"scores.bin": bytes(first + 1 + 2 * i for i in range(8))}
        assert run.console == "hello\n"


def test_a_machine_runs_again_after_a_fault(machine: Load) -> None:
    source = """
    int main(void)
    {
        uint8_t in[1];
        board_read(in, 1);
        if (in[0] != 0) {
            *(volatile int *)0x50000000 = 1;
        }
        return board_write(in, 1);
    }"""
    loaded = machine(source)
    for _ in range(2):
        with pytest.raises(DeviceFault, match=r"write of 4 bytes to 0x50000000"):
            loaded.run({"picture.rgb": b"\1"})
        with pytest.raises(DeviceFault, match=r"no end after 3 instructions"):
            loaded.run({"picture.rgb": b"\0"}, limit=3)
        assert loaded.run({"picture.rgb": b"\0"}).written == {"scores.bin": b"\0"}


def test_absent_picture_is_reported_to_the_program(machine: Load) -> None:
    source = "int main(void) { uint8_t b[4]; return board_read(b, 4) ? board_write(b, 0) : 1; }"
    assert machine(source).run().written == {"scores.bin": b""}


def test_single_words_may_be_unaligned(machine: Load) -> None:
    source = """
    static volatile uint8_t data[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    int main(void)
    {
        uint32_t word;
        __asm__ volatile("ldr %0, [%1]" : "=r"(word) : "r"(data + 3) : "memory");
        return board_write(&word, 4);
    }"""
    strict = machine(source, check_alignment=True)
    assert strict.run().written == {"scores.bin": bytes([3, 4, 5, 6])}


def test_stack_depth_is_measured(machine: Load) -> None:
    source = """
    __attribute__((noinline)) static int use(volatile uint8_t *p, int n)
    { for (int i = 0; i < n; i++) { p[i] = (uint8_t)i; } return p[n - 1]; }
    int main(void) { volatile uint8_t room[%d]; use(room, %d); return 0; }"""
    small = machine(source % (104, 104)).run().stack_bytes
    large = machine(source % (1104, 1104)).run().stack_bytes
    assert large - small == 1000
    assert 104 < small < 200


def test_long_copies_and_fills(machine: Load) -> None:
    source = """
    #include <string.h>
    static uint8_t a[100], b[100];
    int main(void)
    {
        board_read(a, 100);
        for (volatile int at = 0; at < 5; at++) {
            memcpy(b + 20 * at + at, a + at, 19);
        }
        volatile int n = 3;
        memset(b + 60, n, 18 + (unsigned)n);
        return board_write(b, 100);
    }"""
    picture = bytes(range(1, 101))
    expected = bytearray(100)
    for at in range(5):
        expected[21 * at : 21 * at + 19] = picture[at : at + 19]
    expected = expected[:100]
    expected[60:81] = bytes([3]) * 21
    run = machine(source).run({"picture.rgb": picture})
    assert run.written["scores.bin"] == bytes(expected)
