/* SPDX-License-Identifier: MIT */
/* Rows from the computer at the other end of the UART: "row 17" goes out, its bytes come back. */
#include "board.h"
#include "board_camera.h"

int board_camera_row(int32_t row, uint8_t *rgb, int32_t bytes)
{
    char digits[12];
    int32_t at = (int32_t)sizeof digits - 1;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + row % 10);
        row /= 10;
    } while (row > 0);
    board_print("row ");
    board_print(digits + at);
    board_print("\n");
    board_receive(rgb, bytes);
    return 0;
}
