/* SPDX-License-Identifier: MIT */
/* The board through the debugger (Arm semihosting); board_uart.c is the form without one.
 *
 * On hardware, start the debugger with semihosting on (OpenOCD: `arm semihosting enable`). The
 * picture is then read from the file picture.rgb in the debugger's folder (height * width * 3
 * bytes, R G B, row by row) and the scores are written to scores.bin (int16, little endian).
 * Without a debugger, BKPT ends in the hard fault handler. */
#include "board.h"

enum { SYS_OPEN = 0x01, SYS_CLOSE = 0x02, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_READ = 0x06 };
enum { SYS_EXIT = 0x18, APPLICATION_EXIT = 0x20026, RUN_TIME_ERROR = 0x20023 };
enum { OPEN_READ_BINARY = 1, OPEN_WRITE_BINARY = 5 };

static int32_t picture = -1;

static int32_t call(int32_t operation, const void *argument)
{
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static int32_t open_file(const char *name, uint32_t length, uint32_t mode)
{
    const uint32_t block[3] = {(uint32_t)(uintptr_t)name, mode, length};
    return call(SYS_OPEN, block);
}

/* SYS_READ and SYS_WRITE: the number of bytes NOT transferred. */
static int32_t transfer(int32_t operation, int32_t file, const void *data, int32_t bytes)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)(uintptr_t)data, (uint32_t)bytes};
    return call(operation, block);
}

void board_print(const char *text)
{
    call(SYS_WRITE0, text);
}

int board_read(uint8_t *rgb, int32_t bytes)
{
    if (picture < 0) {
        picture = open_file("picture.rgb", 11, OPEN_READ_BINARY);
    }
    return picture < 0 || transfer(SYS_READ, picture, rgb, bytes) != 0;
}

int board_write(const void *data, int32_t bytes)
{
    const int32_t file = open_file("scores.bin", 10, OPEN_WRITE_BINARY);
    if (file < 0) {
        return 1;
    }
    const int32_t missing = transfer(SYS_WRITE, file, data, bytes);
    return call(SYS_CLOSE, &file) != 0 || missing != 0;
}

__attribute__((noreturn)) void board_exit(int status)
{
    const uint32_t reason = status == 0 ? APPLICATION_EXIT : RUN_TIME_ERROR;
    call(SYS_EXIT, (const void *)(uintptr_t)reason);
    for (;;) {
    }
}
