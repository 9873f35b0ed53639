/* SPDX-License-Identifier: MIT */
/* In trace builds the library calls this after each operator's rows; a debugger or the emulator
 * stops here and reads the arguments. */
#include <stdint.h>

void etn_trace(int32_t op, int32_t row, int32_t rows, const void *data);

__attribute__((noinline)) void etn_trace(int32_t op, int32_t row, int32_t rows, const void *data)
{
    __asm__ volatile("" : : "r"(op), "r"(row), "r"(rows), "r"(data) : "memory");
}
