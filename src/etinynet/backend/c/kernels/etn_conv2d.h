/* SPDX-License-Identifier: MIT */
/* conv2d: dense convolution, one output row; int8 HWC rows in.
 *
 * `rows` are kernel_height pointers to input rows of width_in * in_channels values (a row above or
 * below the picture is one full of zero_point); `padding` columns left of the picture are read. `residual` is a view of `out`'s shape, or NULL.
 * `constants->weight`: matrix of etn_weights.h, depth kernel_height * kernel_width * in_channels in
 * the order (row, column, channel). `scratch`: 4-byte aligned, ETN_CONV2D_SCRATCH bytes.
 */
#ifndef ETN_CONV2D_H
#define ETN_CONV2D_H

#include "etn_matrix.h"
#include "etn_types.h"

/* Pixels whose columns are in scratch at one time. */
#define ETN_CONV2D_PIXELS 32
/* `depth`: the weights of an output channel. */
#define ETN_CONV2D_SCRATCH(depth)     \
    (4 * (((depth) + 3) / 4 * 4) +    \
     2 * ETN_CONV2D_PIXELS * (((depth) + 1) / 2 * 2))

/* Write the inputs of output pixel `x` to `column` as int16, in the order (row, column, channel);
 * positions left and right of the picture read zero_point. */
ETN_INLINE void etn_conv2d_gather(
    const int8_t *const rows[], int16_t *column, int32_t x, int32_t width_in,
    int32_t in_channels, int32_t kernel_height, int32_t kernel_width, int32_t stride,
    int32_t padding, int32_t zero_point)
{
    const int32_t first = (x * stride - padding) * in_channels;
    const int32_t inside = width_in * in_channels;
    for (int32_t row = 0; row < kernel_height; row++) {
        const int8_t *line = rows[row];
        if (first >= 0 && first + kernel_width * in_channels <= inside) {
            for (int32_t i = 0; i < kernel_width * in_channels; i++) {
                *column++ = line[first + i];
            }
        } else {
            for (int32_t i = first; i < first + kernel_width * in_channels; i++) {
                *column++ = (int16_t)(i >= 0 && i < inside ? line[i] : zero_point);
            }
        }
    }
}

ETN_INLINE void etn_conv2d(
    const int8_t *const rows[], const etn_view *out, const etn_view *residual,
    int32_t width_in, int32_t in_channels, int32_t width_out, int32_t out_channels,
    int32_t kernel_height, int32_t kernel_width, int32_t stride, int32_t padding,
    int32_t zero_point, int32_t weight_bits, const etn_constants *constants, etn_rule rule,
    void *scratch)
{
    const int32_t depth = kernel_height * kernel_width * in_channels;
    const int32_t column_stride = (depth + 1) / 2 * 2;
    int16_t *columns = (int16_t *)scratch + 2 * ((depth + 3) / 4 * 4);
    for (int32_t start = 0; start < width_out; start += ETN_CONV2D_PIXELS) {
        const int32_t left = width_out - start;
        const int32_t count = left < ETN_CONV2D_PIXELS ? left : ETN_CONV2D_PIXELS;
        const etn_view part = etn_view_from(out, start);
        for (int32_t i = 0; i < count; i++) {
            etn_conv2d_gather(rows, columns + i * column_stride, start + i, width_in,
                              in_channels, kernel_height, kernel_width, stride, padding,
                              zero_point);
        }
        if (residual != NULL) {
            const etn_view shortcut = etn_view_from(residual, start);
            etn_matrix(columns, 0, column_stride, &part, &shortcut, 1, count, depth,
                       out_channels, weight_bits, constants, rule, scratch);
        } else {
            etn_matrix(columns, 0, column_stride, &part, NULL, 1, count, depth,
                       out_channels, weight_bits, constants, rule, scratch);
        }
    }
}

#endif
