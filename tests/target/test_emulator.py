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
    "even address": (
        "int main(void) { ((void (*)(void))0x08000100)(); return 0; }",
        r"stm32f412: jump to an even address \(Arm state, which this core lacks\) in .*main\+0x",
    ),
    "even address of code that has run": (
        '__attribute__((noinline)) int run(void) { __asm__ volatile("nop"); return 3; }\n'
        "int main(void) { return run() + ((int (*)(void))((uintptr_t)run & ~1u))(); }",
        r"jump to an even address \(Arm state.* in run\+0x0, called from main\+0x",
    ),
    "return to an even address": (
        "int main(void) { __asm__ volatile("
        '"movw r0, #0x100\\n\\tmovt r0, #0x800\\n\\tpush {r0}\\n\\tpop {pc}"); return 0; }',
        r"jump to an even address \(Arm state",
    ),
    "even address outside": (
        "int main(void) { ((void (*)(void))0x10000000)(); return 0; }",
        r"jump to an even address \(Arm state.* called from main\+0x",
    ),
    "last address": (
        "int main(void) { ((void (*)(void))0xffffffff)(); return 0; }",
        r"instruction that cannot be fetched in 0xfffffffe, called from main\+0x",
    ),
    "stack pointer below the stack": (
        'int main(void) { char room[6000]; __asm__ volatile("" : : "r"(room)); return 0; }',
        r"stm32f412: stack overflow: the stack pointer went 6\d\d\d bytes down, 4096 are kept free",
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


@pytest.mark.parametrize("part", ["stm32f412", "stm32f746"])
@pytest.mark.parametrize("size", [8, 104, 1104, 3000])
def test_stack_is_the_lowest_stack_pointer(machine: Load, part: str, size: int) -> None:
    """Nothing of the frame is written, and what is deepest is a leaf without a jump."""
    source = """
    __attribute__((naked)) void leaf(void)
    {
        __asm__ volatile("push {r4, lr}\\n\\tsub sp, sp, #%d\\n\\tadd sp, sp, #%d\\n\\t"
                         "pop {r4, pc}");
    }
    int main(void) { leaf(); return 0; }"""
    bare = machine("int main(void) { return 0; }", part).run().stack_bytes
    with_call = machine(source % (0, 0), part).run().stack_bytes
    found = machine(source % (size, size), part).run().stack_bytes
    assert found == with_call + size
    assert bare < with_call <= bare + 16


@pytest.mark.parametrize("part", ["stm32f412", "stm32f746"])
def test_stack_of_arrays_whose_length_a_run_decides(machine: Load, part: str) -> None:
    source = """
    static volatile unsigned wanted = %d;
    __attribute__((noinline)) static int use(void)
    {
        char room[wanted];
        __asm__ volatile("" : : "r"(room) : "memory");
        return 0;
    }
    int main(void) { return use(); }"""
    depths = [machine(source % size, part).run().stack_bytes for size in (8, 1008)]
    assert depths[1] - depths[0] == 1000


def test_every_run_begins_with_the_same_core(machine: Load) -> None:
    """Flags and registers of one picture are not there for the next, not even after a fault."""
    source = """
    static uint32_t seen[6];
    int main(void)
    {
        uint8_t in[1];
        __asm__ volatile("mrs r2, apsr\\n\\tstr r2, [%0]\\n\\tstrd r8, r9, [%0, #4]\\n\\t"
                         "strd r10, r11, [%0, #12]" : : "r"(seen) : "r2", "memory");
        seen[0] &= 1u << 27 | 15u << 16;
        __asm__ volatile("mvn r8, #0\\n\\tmov r9, r8\\n\\tmov r10, r8\\n\\tmov r11, r8\\n\\t"
                         "ssat r2, #4, r8, lsl #8\\n\\tsadd8 r2, r2, r2\\n\\tmovw r2, #0x7fff\\n\\t"
                         "ssat r2, #4, r2" : : : "r2", "r8", "r9", "r10", "r11");
        board_read(in, 1);
        if (in[0] != 0) {
            __asm__ volatile("movs r2, #0\\n\\titt eq\\n\\tldreq r2, [r2]\\n\\tmoveq r2, #1");
        }
        return board_write(seen, 24);
    }"""
    loaded = machine(source)
    first = loaded.run({"picture.rgb": b"\0"}).written["scores.bin"]
    assert first == bytes(24)
    assert loaded.run({"picture.rgb": b"\0"}).written["scores.bin"] == first
    with pytest.raises(DeviceFault, match="read of 4 bytes from 0x00000000"):
        loaded.run({"picture.rgb": b"\1"})
    assert loaded.run({"picture.rgb": b"\0"}).written["scores.bin"] == first


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
