/* global_avg_pool: sum over height and width of each channel, requantized; whole tensor at once.
 *
 * `in` is int8 HCW: element (row, x, c) at row * row_stride + c * line_stride + x. Output
 * `channel` goes to element channel * out->channel_stride. No scratch.
 */
#ifndef ETN_GLOBAL_AVG_POOL_H
#define ETN_GLOBAL_AVG_POOL_H

#include "etn_arithmetic.h"
#include "etn_types.h"

ETN_INLINE void etn_global_avg_pool(
    const int8_t *in, int32_t row_stride, int32_t line_stride, const etn_view *out,
    int32_t height, int32_t width, int32_t channels,
    const etn_constants *constants, etn_rule rule)
{
    for (int32_t c = 0; c < channels; c++) {
        const etn_channel channel = etn_channel_of(constants, rule, c);
        int32_t accumulator = channel.bias;
        for (int32_t row = 0; row < height; row++) {
            const int8_t *line = in + row * row_stride + c * line_stride;
            for (int32_t x = 0; x < width; x++) {
                accumulator += line[x];
            }
        }
        etn_finish(accumulator, &channel, rule, out, 0, 0, c, NULL);
    }
}

#endif
