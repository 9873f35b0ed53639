/* SPDX-License-Identifier: MIT */
/* Matrix times pixels, the heart of pointwise and conv2d: int16 columns of `depth` values in.
 *
 * Column of pixel (row, x): in + row * in_row_stride + x * in_stride. Each output is
 * requantize(sum over k of weight[channel][k] * column[k] + bias[channel]).
 * `constants->weight`: matrix of etn_weights.h.
 * `scratch`: 4-byte aligned, 4 * (depth rounded up to 4) bytes.
 */
#ifndef ETN_MATRIX_H
#define ETN_MATRIX_H

#include "etn_arithmetic.h"
#include "etn_types.h"
#include "etn_weights.h"

#if ETN_DSP
#include "etn_matrix_dsp.h"
#else

ETN_INLINE void etn_matrix(
    const int16_t *in, int32_t in_row_stride, int32_t in_stride, const etn_view *out,
    const etn_view *residual, int32_t n_rows, int32_t width, int32_t depth, int32_t out_channels,
    int32_t weight_bits, const etn_constants *constants, etn_rule rule, void *scratch)
{
    int16_t *weight = (int16_t *)scratch;
    for (int32_t c = 0; c < out_channels; c++) {
        const etn_channel channel = etn_channel_of(constants, rule, c);
        for (int32_t k = 0; k < depth; k++) {
            weight[k] = (int16_t)etn_matrix_weight(
                (const uint32_t *)constants->weight, depth, weight_bits, c, k);
        }
        for (int32_t row = 0; row < n_rows; row++) {
            for (int32_t x = 0; x < width; x++) {
                const int16_t *column = in + row * in_row_stride + x * in_stride;
                int32_t accumulator = channel.bias;
                for (int32_t k = 0; k < depth; k++) {
                    accumulator += (int32_t)weight[k] * column[k];
                }
                etn_finish_element(accumulator, &channel, rule, out, residual, row, x, c);
            }
        }
    }
}

#endif
#endif
