/* avg_pool: sum over each kernel x kernel window, requantized, one output row.
 *
 * `rows` are kernel input rows of int8 lines, channel c at rows[r] + c * line_stride, column 0
 * first; a row above or below the picture is NULL or one full of zero_point, which is also read
 * left and right of the picture. No scratch.
 */
#ifndef ETN_AVG_POOL_H
#define ETN_AVG_POOL_H

#include "etn_arithmetic.h"
#include "etn_types.h"

ETN_INLINE void etn_avg_pool(
    const int8_t *const rows[], int32_t line_stride, const etn_view *out, int32_t width_in,
    int32_t width_out, int32_t channels, int32_t kernel, int32_t stride, int32_t padding,
    int32_t zero_point, const etn_constants *constants, etn_rule rule)
{
    for (int32_t c = 0; c < channels; c++) {
        const etn_channel channel = etn_channel_of(constants, rule, c);
        for (int32_t x = 0; x < width_out; x++) {
            const int32_t first = x * stride - padding;
            int32_t accumulator = channel.bias;
            for (int32_t row = 0; row < kernel; row++) {
                for (int32_t i = first; i < first + kernel; i++) {
                    const int32_t inside = rows[row] != NULL && i >= 0 && i < width_in;
                    accumulator += inside ? rows[row][c * line_stride + i] : zero_point;
                }
            }
            etn_finish_element(accumulator, &channel, rule, out, NULL, 0, x, c);
        }
    }
}

#endif
