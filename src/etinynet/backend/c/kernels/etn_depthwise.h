/* depthwise: 3x3 convolution of each channel, padding 1, stride 1 or 2, one output row.
 *
 * `rows` are three input rows of int8 lines, channel c at rows[r] + c * line_stride, position 0
 * the left pad (the value of column x is at x + 1). Read are positions 0 .. stride * width_out + 2
 * at most, which reaches into the 4 spare bytes that the layout has after the last line.
 * `residual` is a view of int8 values of the same shape as `out`, or NULL.
 * `constants->weight`: depthwise bytes of etn_weights.h. No scratch.
 */
#ifndef ETN_DEPTHWISE_H
#define ETN_DEPTHWISE_H

#include "etn_arithmetic.h"
#include "etn_types.h"
#include "etn_weights.h"

#if ETN_DSP
#include "etn_depthwise_dsp.h"
#else

ETN_INLINE void etn_depthwise(
    const int8_t *const rows[3], int32_t line_stride, const etn_view *out,
    const etn_view *residual, int32_t width_out, int32_t channels, int32_t stride,
    int32_t weight_bits, const etn_constants *constants, etn_rule rule)
{
    for (int32_t c = 0; c < channels; c++) {
        const etn_channel channel = etn_channel_of(constants, rule, c);
        int32_t weight[9];
        for (int32_t tap = 0; tap < 9; tap++) {
            weight[tap] = etn_depthwise_weight(constants->weight, weight_bits, c, tap);
        }
        for (int32_t x = 0; x < width_out; x++) {
            int32_t accumulator = channel.bias;
            for (int32_t tap = 0; tap < 9; tap++) {
                const int8_t *line = rows[tap / 3] + c * line_stride;
                accumulator += weight[tap] * line[x * stride + tap % 3];
            }
            etn_finish_element(accumulator, &channel, rule, out, residual, 0, x, c);
        }
    }
}

#endif
#endif
