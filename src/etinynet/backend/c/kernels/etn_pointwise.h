/* SPDX-License-Identifier: MIT */
/* pointwise: 1x1 convolution, int16 HWC rows in.
 *
 * `in` holds n_rows rows of width pixels of in_channels int16 values, rows in_row_stride elements
 * apart (2-byte aligned is enough). `residual` is a view of the same shape as `out`, or NULL.
 * `constants->weight`: matrix of etn_weights.h, depth in_channels.
 * `scratch`: 4-byte aligned, ETN_POINTWISE_SCRATCH bytes.
 *
 * etn_pointwise_gather brings rows of lines (HCW, width values a channel, no pads), int16 if `wide`,
 * else int8, into that form, at `columns`; the rows may then be overwritten.
 */
#ifndef ETN_POINTWISE_H
#define ETN_POINTWISE_H

#include "etn_arithmetic.h"
#include "etn_matrix.h"
#include "etn_types.h"

#define ETN_POINTWISE_SCRATCH(in_channels) (4 * (((in_channels) + 3) / 4 * 4))

ETN_INLINE void etn_pointwise_gather(
    const int8_t *const rows[], int32_t wide, int16_t *columns, int32_t n_rows, int32_t width,
    int32_t channels)
{
    for (int32_t row = 0; row < n_rows; row++) {
        const int8_t *value = rows[row];
        for (int32_t c = 0; c < channels; c++) {
            int16_t *to = columns + row * width * channels + c;
            for (int32_t x = 0; x < width; x++) {
                *to = (int16_t)etn_load(value, wide);
                value += wide ? 2 : 1;
                to += channels;
            }
        }
    }
}

ETN_INLINE void etn_pointwise(
    const int16_t *in, int32_t in_row_stride, const etn_view *out, const etn_view *residual,
    int32_t n_rows, int32_t width, int32_t in_channels, int32_t out_channels,
    int32_t weight_bits, const etn_constants *constants, etn_rule rule, void *scratch)
{
    etn_matrix(in, in_row_stride, in_channels, out, residual, n_rows, width, in_channels,
               out_channels, weight_bits, constants, rule, scratch);
}

#endif
