/* SPDX-License-Identifier: MIT */
/* max_pool: largest value of each window, no padding, one output row.
 *
 * `rows` are kernel_height input rows of int8 lines, channel c at rows[r] + c * line_stride, column
 * 0 first; line_stride is at least the width of the input rounded up to 4. No scratch.
 */
#ifndef ETN_MAX_POOL_H
#define ETN_MAX_POOL_H

#include "etn_arithmetic.h"
#include "etn_types.h"

#if ETN_DSP
/* One line, kernel 2, stride 2: a word of each row gives two outputs. */
ETN_INLINE void etn_max_pool_line2(
    const int8_t *row0, const int8_t *row1, const etn_view *out, int32_t width_out, int32_t c)
{
    etn_view target = *out;
    target.data = etn_address(out, 0, 0, c);
    for (int32_t x = 0; x < width_out; x += 2) {
        const uint32_t tall = etn_max8(etn_load_word(row0), etn_load_word(row1));
        const uint32_t largest = etn_max8(tall, tall >> 8);
        etn_store(target.data, target.wide, (int8_t)(uint8_t)(largest & 0xFFu));
        if (x + 1 < width_out) {
            etn_store(etn_address(&target, 0, 1, 0), target.wide,
                      (int8_t)(uint8_t)((largest >> 16) & 0xFFu));
        }
        target = etn_view_from(&target, 2);
        row0 += 4;
        row1 += 4;
    }
}
#endif

ETN_INLINE void etn_max_pool(
    const int8_t *const rows[], int32_t line_stride, const etn_view *out, int32_t width_out,
    int32_t channels, int32_t kernel_height, int32_t kernel_width, int32_t stride)
{
    for (int32_t c = 0; c < channels; c++) {
#if ETN_DSP
        if (kernel_height == 2 && kernel_width == 2 && stride == 2) {
            const int8_t *line = rows[0] + c * line_stride;
            etn_max_pool_line2(line, rows[1] + c * line_stride, out, width_out, c);
            continue;
        }
#endif
        for (int32_t x = 0; x < width_out; x++) {
            int32_t largest = INT8_MIN;
            for (int32_t row = 0; row < kernel_height; row++) {
                const int8_t *line = rows[row] + c * line_stride + x * stride;
                for (int32_t i = 0; i < kernel_width; i++) {
                    largest = line[i] > largest ? line[i] : largest;
                }
            }
            etn_store(etn_address(out, 0, x, c), out->wide, largest);
        }
    }
}

#endif
