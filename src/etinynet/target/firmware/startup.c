/* SPDX-License-Identifier: MIT */
/* From reset to main for any Cortex-M4 or M7: what the part owes its RAM (STARTUP of
 * board_registers.h), vectors, variables, faults. Integer code only: the floating-point unit stays
 * off, and so do caches and clocks, which are the product's choice. */
#include <stdint.h>

#include "board.h"
#include "board_registers.h"

/* Set by the linker script; only their addresses mean something. */
extern uint32_t etn_stack_top[], etn_data_load[], etn_data_start[], etn_data_end[];
extern uint32_t etn_bss_start[], etn_bss_end[];

int main(void);
void etn_reset(void);
void etn_fault(void);
__attribute__((noreturn)) void etn_report_fault(void);

#ifdef STARTUP
/* Writes `bits` to the register at `address`, then waits for `ready` in the one at `status`. */
#define SWITCH_ON(address, bits, status, ready)                                                  \
    __asm__ volatile("ldr r0, =%c0\n\tldr r1, =%c1\n\tstr r1, [r0]\n\t"                          \
                     "ldr r0, =%c2\n\tldr r1, =%c3\n"                                           \
                     "1:\tldr r2, [r0]\n\tbics r2, r1, r2\n\tbne 1b"                            \
                     :                                                                           \
                     : "i"(address), "i"(bits), "i"(status), "i"(ready));

/* In assembly, since a compiler may begin with a push, and RAM cannot be written yet. */
__attribute__((naked)) void etn_reset(void)
{
    STARTUP(SWITCH_ON)
    __asm__ volatile("b etn_start");
}
#else
#define etn_start etn_reset
#endif

__attribute__((noreturn)) void etn_start(void)
{
    const uint32_t *from = etn_data_load;
    for (uint32_t *to = etn_data_start; to != etn_data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = etn_bss_start; to != etn_bss_end; to++) {
        *to = 0;
    }
    board_exit(main());
}

__attribute__((noreturn)) void etn_report_fault(void)
{
    board_print("fault: the program made an access or met an instruction that the core refuses\n");
    board_exit(255);
}

/* After a stack overflow there is no stack to report with: begin a new one. */
__attribute__((naked)) void etn_fault(void)
{
    __asm__ volatile("ldr r0, =etn_stack_top\n\t"
                     "mov sp, r0\n\t"
                     "b etn_report_fault");
}

typedef union {
    uint32_t *stack_top;
    void (*handler)(void);
} vector;

/* Every other exception stays disabled, so that the 16 vectors of the core are enough. */
__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    {.stack_top = etn_stack_top},
    {.handler = etn_reset},
    {.handler = etn_fault}, /* NMI */
    {.handler = etn_fault}, /* hard fault; the three below escalate to it until enabled */
    {.handler = etn_fault}, /* memory management */
    {.handler = etn_fault}, /* bus */
    {.handler = etn_fault}, /* usage */
    {.handler = etn_fault}, {.handler = etn_fault}, {.handler = etn_fault},
    {.handler = etn_fault}, {.handler = etn_fault}, {.handler = etn_fault},
    {.handler = etn_fault}, {.handler = etn_fault}, {.handler = etn_fault},
};
