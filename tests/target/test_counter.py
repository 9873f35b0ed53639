"""The block counter counts exactly what unicorn executes, and for the right operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import unicorn

from etinynet.target.decode import Decoder
from etinynet.target.emulator import Machine

Load = Callable[..., Machine]

SOURCE = """
#include <string.h>
static volatile uint32_t seed = 7;
static uint8_t room[64];
__attribute__((noinline)) static uint32_t kernel_0_dense(uint32_t n)
{
    uint32_t s = seed;
    for (uint32_t i = 0; i < n; i++) {
        s = (s & 1) ? s * 3 + (uint32_t)((uint64_t)s * i >> 7) : (s ^ i) / 3;
    }
    return s;
}
__attribute__((noinline)) static uint32_t op_0_conv2d(uint32_t n) { return kernel_0_dense(n) + 1; }
__attribute__((noinline)) static uint32_t op_01_dense(uint32_t n)
{
    memset(room, (int)n, sizeof room - (seed & 1));
    return kernel_0_dense(2 * n) ^ room[3];
}
__attribute__((noinline)) static uint32_t push(uint32_t n)
{
    uint32_t s = seed & 3 ? op_0_conv2d(n) : 0;
    for (uint32_t i = 0; i < n; i++) { if (s & 1) { s += seed; } s ^= i; }
    return s + op_01_dense(n);
}
int main(void)
{
    seed = push(50) + push(0) + push(1);
    board_print("done\\n");
    return 0;
}
"""


class SlowCount:
    """Instructions one by one. unicorn does not show those of an IT block whose condition fails;
    the core issues them all the same, so each IT instruction brings in its whole block."""

    def __init__(self, machine: Machine) -> None:
        self.total = self.skipped = 0
        self._inside: set[int] = set()
        self._machine = machine
        machine._engine.hook_add(unicorn.UC_HOOK_CODE, self._see)

    def _see(self, engine: object, address: int, size: int, user: object) -> None:
        self.total += address not in self._inside
        self.skipped -= address in self._inside
        low, high = self._machine.read(address, 2)
        if high == 0xBF and low & 0xF:
            length = 4 - ((low & -low).bit_length() - 1)
            self._inside = set()
            at = address + 2
            for _ in range(length):
                self._inside.add(at)
                at += 4 if self._machine.read(at + 1, 1)[0] >> 3 >= 0x1D else 2
            self.total += length
            self.skipped += length


@pytest.mark.parametrize("optimization", ["-O2", "-Os"])
@pytest.mark.parametrize("part", ["stm32f412", "stm32f746"])
def test_equals_a_count_of_single_instructions(machine: Load, part: str, optimization: str) -> None:
    quick = machine(SOURCE, part, optimization=optimization).run().counts
    loaded = machine(SOURCE, part, optimization=optimization)
    slow = SlowCount(loaded)
    assert loaded.run().counts == quick
    assert quick.total == slow.total
    assert slow.skipped > 0


def test_operators_own_their_kernels(machine: Load) -> None:
    counts = machine(SOURCE).run().counts
    assert counts.total == counts.outside + sum(counts.operators.values())
    assert set(counts.operators) == {0, 1}
    assert counts.operators[1] > counts.operators[0] > 51 * 5
    assert counts.outside > 50


@pytest.mark.parametrize("part", ["stm32f412", "stm32f746"])
def test_blocks_are_what_ran(machine: Load, part: str) -> None:
    loaded = machine(SOURCE, part, profile=True)
    run = loaded.run()
    decoder = Decoder()
    totals: Counter[int | None] = Counter()
    executed: Counter[int] = Counter()
    for block in run.blocks:
        code = decoder.block(loaded.read(block.address, block.length), block.address)
        totals[block.operator] += len(code) * block.times
        assert 0 <= block.jumps <= block.times
        at = block.address
        for instruction in code:
            executed[at] += block.times
            at += instruction.bytes
    assert totals == {None: run.counts.outside, **run.counts.operators}
    slow: Counter[int] = Counter()
    other = machine(SOURCE, part)
    other._engine.hook_add(unicorn.UC_HOOK_CODE, lambda uc, at, size, user: slow.update((at,)))
    other.run()
    starts = {block.address for block in run.blocks}
    assert {at: executed[at] for at in starts} == {at: slow[at] for at in starts}


def test_jumps_are_counted_apart_from_falling_through(machine: Load) -> None:
    source = """
    __attribute__((noinline)) static void op_7_dense(uint32_t n)
    {
        __asm__ volatile("1: subs %0, #1\\n\\tbne 1b" : "+l"(n) : : "cc");
    }
    int main(void) { op_7_dense(50); return 0; }
    """
    blocks = machine(source, profile=True).run().blocks
    # the first of fifty turns belongs to the block from the function's start on
    again = next(block for block in blocks if block.times == 49)
    assert (again.operator, again.length, again.jumps) == (7, 4, 48)
    assert machine(source).run().blocks == ()


@pytest.mark.parametrize(
    "name", ["op_1_x", "op_1_dense", "kernel_0_dense", "memory", "mem", "memcpy"]
)
def test_a_name_like_an_operators_takes_nothing_from_it(machine: Load, name: str) -> None:
    """A graph's functions are called name_run and name_run_frame, whatever its name."""
    plain = SOURCE.replace("push(", "net_run(")
    named = SOURCE.replace("push(", f"{name}_run(")
    assert machine(named).run().counts == machine(plain).run().counts


def test_copies_that_a_compiler_makes_are_counted_with_their_operator(machine: Load) -> None:
    source = """
    __attribute__((noinline)) static uint32_t op(uint32_t n) __asm__("op_1_dense.constprop.0");
    static uint32_t op(uint32_t n) { return n * n; }
    int main(void) { volatile uint32_t n = 3; n = op(n); return 0; }"""
    assert machine(source).run().counts.operators[1] > 1


def test_counts_start_anew_with_each_run(machine: Load) -> None:
    loaded = machine(SOURCE)
    assert loaded.run().counts == loaded.run().counts
