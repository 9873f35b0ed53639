/* SPDX-License-Identifier: MIT */
/* avg_pool: sum over each window, requantized, one output row.
 *
 * `rows` are kernel_height input rows of int8 lines, channel c at rows[r] + c * line_stride, column
 * 0 first; a row above or below the picture is NULL or one full of zero_point, which is also read
 * left and right of the picture. No scratch.
 */
#ifndef ETN_AVG_POOL_H
#define ETN_AVG_POOL_H

#include "etn_arithmetic.h"
#include "etn_types.h"

/* Sum of `kernel` values from column `first` of a line of `width`, or of zero points. */
ETN_INLINE int32_t etn_window_sum(
    const int8_t *line, int32_t width, int32_t first, int32_t kernel, int32_t zero_point)
{
    int32_t sum = 0;
    if (line != NULL && first >= 0 && first + kernel <= width) {
        for (int32_t i = 0; i < kernel; i++) {
            sum += line[first + i];
        }
    } else {
        for (int32_t i = first; i < first + kernel; i++) {
            sum += line != NULL && i >= 0 && i < width ? line[i] : zero_point;
        }
    }
    return sum;
}

ETN_INLINE void etn_avg_pool(
    const int8_t *const rows[], int32_t line_stride, const etn_view *out, int32_t width_in,
    int32_t width_out, int32_t channels, int32_t kernel_height, int32_t kernel_width,
    int32_t stride, int32_t padding, int32_t zero_point, const etn_constants *constants,
    etn_rule rule)
{
    for (int32_t c = 0; c < channels; c++) {
        const etn_channel channel = etn_channel_of(constants, rule, c);
        for (int32_t x = 0; x < width_out; x++) {
            int32_t accumulator = channel.bias;
            for (int32_t row = 0; row < kernel_height; row++) {
                const int8_t *line = rows[row] != NULL ? rows[row] + c * line_stride : NULL;
                accumulator += etn_window_sum(
                    line, width_in, x * stride - padding, kernel_width, zero_point);
            }
            etn_finish_element(accumulator, &channel, rule, out, NULL, 0, x, c);
        }
    }
}

#endif
