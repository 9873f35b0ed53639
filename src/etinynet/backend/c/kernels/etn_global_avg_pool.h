/* SPDX-License-Identifier: MIT */
/* global_avg_pool: sum over height and width of each channel, requantized; whole tensor at once.
 *
 * `in` is int8 HCW: element (row, x, c) at row * row_stride + c * line_stride + x; line_stride is
 * at least width rounded up to 4. Output `channel` goes to element channel * out->channel_stride.
 * No scratch.
 */
#ifndef ETN_GLOBAL_AVG_POOL_H
#define ETN_GLOBAL_AVG_POOL_H

#include "etn_arithmetic.h"
#include "etn_types.h"

/* accumulator + the sum of `width` values */
ETN_INLINE int32_t etn_sum_line(const int8_t *line, int32_t width, int32_t accumulator)
{
#if ETN_DSP
    const uint32_t ones = 0x00010001u;
    for (int32_t x = 0; x < width; x += 4) {
        const int32_t left = width - x;
        const uint32_t keep = left < 4 ? (1u << (8 * left)) - 1u : 0xFFFFFFFFu;
        const uint32_t word = etn_load_word(line + x) & keep;
        accumulator = etn_smlad(etn_sxtb16(word), ones, accumulator);
        accumulator = etn_smlad(etn_sxtb16_ror8(word), ones, accumulator);
    }
#else
    for (int32_t x = 0; x < width; x++) {
        accumulator += line[x];
    }
#endif
    return accumulator;
}

ETN_INLINE void etn_global_avg_pool(
    const int8_t *in, int32_t row_stride, int32_t line_stride, const etn_view *out,
    int32_t height, int32_t width, int32_t channels,
    const etn_constants *constants, etn_rule rule)
{
    for (int32_t c = 0; c < channels; c++) {
        const etn_channel channel = etn_channel_of(constants, rule, c);
        int32_t accumulator = channel.bias;
        for (int32_t row = 0; row < height; row++) {
            accumulator =
                etn_sum_line(in + row * row_stride + c * line_stride, width, accumulator);
        }
        etn_finish_element(accumulator, &channel, rule, out, NULL, 0, 0, c);
    }
}

#endif
