/* SPDX-License-Identifier: MIT */
/* Where the rows of the picture come from in the UART form of the firmware. */
#ifndef BOARD_CAMERA_H
#define BOARD_CAMERA_H

#include <stdint.h>

/* Fills `rgb` with row `row` of the picture, `bytes` bytes: R, G, B of the leftmost pixel first.
 * Rows are asked for in order. 0, or non-zero if there is none.
 *
 * Yours to write: board_uart.c defines it weakly, and any other definition takes its place.
 * camera_uart.c is one. */
int board_camera_row(int32_t row, uint8_t *rgb, int32_t bytes);

/* Waits for `bytes` bytes from the UART. */
void board_receive(uint8_t *data, int32_t bytes);

#endif
