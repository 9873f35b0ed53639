"""The block counter counts exactly what unicorn executes, and for the right operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import unicorn

from etinynet.target.emulator import Machine

Load = Callable[..., Machine]

SOURCE = """
#include <string.h>
static volatile uint32_t seed = 7;
static uint8_t room[64];
__attribute__((noinline)) static uint32_t kernel_0_mix(uint32_t n)
{
    uint32_t s = seed;
    for (uint32_t i = 0; i < n; i++) {
        s = (s & 1) ? s * 3 + (uint32_t)((uint64_t)s * i >> 7) : (s ^ i) / 3;
    }
    return s;
}
__attribute__((noinline)) static uint32_t op_0_conv2d(uint32_t n) { return kernel_0_mix(n) + 1; }
__attribute__((noinline)) static uint32_t op_01_dense(uint32_t n)
{
    memset(room, (int)n, sizeof room - (seed & 1));
    return kernel_0_mix(2 * n) ^ room[3];
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


@pytest.mark.parametrize("optimization", ["-O0", "-O2", "-Oz"])
@pytest.mark.parametrize("part", ["stm32f412", "stm32f746"])
def test_equals_a_count_of_single_instructions(
    machine: Load, part: str, optimization: str
) -> None:
    quick = machine(SOURCE, part, optimization=optimization).run().counts
    slow = machine(SOURCE, part, optimization=optimization)
    seen: list[int] = []
    slow._engine.hook_add(unicorn.UC_HOOK_CODE, lambda uc, address, size, user: seen.append(size))
    assert slow.run().counts == quick
    assert quick.total == len(seen)
    assert set(seen) == {2, 4}


def test_operators_own_their_kernels(machine: Load) -> None:
    counts = machine(SOURCE).run().counts
    assert counts.total == counts.outside + sum(counts.operators.values())
    assert set(counts.operators) == {0, 1}
    assert counts.operators[1] > counts.operators[0] > 51 * 5
    assert counts.outside > 50


def test_counts_start_anew_with_each_run(machine: Load) -> None:
    loaded = machine(SOURCE)
    assert loaded.run().counts == loaded.run().counts
