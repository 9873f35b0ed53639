/* SPDX-License-Identifier: MIT */
/* What the firmware needs of a board; board_semihosting.c and board_uart.c are two forms of it. */
#ifndef ETN_BOARD_H
#define ETN_BOARD_H

#include <stdint.h>

/* Prints `text`, which ends with a zero byte, for people. */
void board_print(const char *text);

/* Fills `rgb` with the next `bytes` bytes of the picture; 0, or non-zero if there are too few. */
int board_read(uint8_t *rgb, int32_t bytes);

/* Hands over the result, `bytes` bytes; 0, or non-zero if that failed. */
int board_write(const void *data, int32_t bytes);

/* Stops for good; `status` 0 is success. */
__attribute__((noreturn)) void board_exit(int status);

#endif
