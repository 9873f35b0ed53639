/* One kernel call described by numbers and blobs, the same on the host and on Arm. */
#ifndef KERNEL_HARNESS_CALLS_H
#define KERNEL_HARNESS_CALLS_H

#include "etn_add.h"
#include "etn_avg_pool.h"
#include "etn_conv2d.h"
#include "etn_copy.h"
#include "etn_dense.h"
#include "etn_depthwise.h"
#include "etn_global_avg_pool.h"
#include "etn_max_pool.h"
#include "etn_pointwise.h"

/* In the order of graph/ops.py. */
enum { CONV2D, DEPTHWISE, POINTWISE, DENSE, MAX_POOL, AVG_POOL, GLOBAL_AVG_POOL, ADD, COPY };
enum { WEIGHT, BIAS, MULTIPLIER, OFFSET, FACTOR, RESIDUAL, OUT, SCRATCH, INPUT, BLOBS = INPUT + 8 };

/* In the order of kernel_case.NUMBERS; offsets and strides in elements. */
typedef struct {
    int32_t kind, height, width_in, in_channels, width_out, out_channels;
    int32_t kernel_height, kernel_width, stride, padding, zero_point, weight_bits;
    int32_t row_stride, line_stride;
    int32_t out_start, out_row, out_pixel, out_channel, wide;
    int32_t residual_start, residual_row, residual_pixel, residual_channel, residual_wide;
    int32_t shift, bits, relu, per_tensor, narrow_offset, narrow_bias, left;
    int32_t most, over, gather;
    int32_t in_start, in_pixel, in_channel, in_wide, three;
} harness_call;

/* etn_depthwise_tight in parts of `most` outputs; `over` says which row `out` lies in, or -1. */
ETN_INLINE void harness_tight(const harness_call n, void *const *blob, const etn_view *view,
                              const etn_view *residual, const etn_constants *constants,
                              etn_rule rule)
{
    const int8_t *const *rows = (const int8_t *const *)&blob[INPUT];
    etn_view out = *view;
    if (n.over >= 0) {
        out.data = blob[INPUT + n.over];
    }
    for (int32_t first = 0; first < n.width_out; first += n.most) {
        const int32_t left = n.width_out - first;
        const etn_view part = etn_view_from(&out, first);
        const etn_view shortcut = etn_view_from(residual != NULL ? residual : &out, first);
        etn_depthwise_tight(rows, &part, residual != NULL ? &shortcut : NULL, first,
                            left < n.most ? left : n.most, n.most, n.width_in, n.width_out,
                            n.out_channels, n.stride, n.zero_point, n.weight_bits, constants, rule,
                            blob[SCRATCH]);
    }
    for (int32_t i = 0; n.over >= 0 && i < n.out_row; i++) {
        ((int8_t *)blob[OUT])[i] = ((const int8_t *)blob[INPUT + n.over])[i];
    }
}

/* blob[INPUT + r] is row r for the kernels that take rows, blob[INPUT] all of it for the others. */
ETN_INLINE void harness_run(const harness_call n, void *const *blob)
{
    const etn_constants constants = {
        blob[WEIGHT], blob[BIAS], (const int32_t *)blob[MULTIPLIER],
        blob[OFFSET], (const int32_t *)blob[FACTOR], n.shift};
    const etn_rule rule = {n.shift,         n.bits,        n.relu, n.per_tensor,
                           n.narrow_offset, n.narrow_bias, n.left};
    const int8_t *const *rows = (const int8_t *const *)&blob[INPUT];
    const int16_t *wide_in = (const int16_t *)blob[INPUT];
    const etn_view out = {(int8_t *)blob[OUT] + n.out_start * (n.wide ? 2 : 1), n.out_row,
                          n.out_pixel, n.out_channel, n.wide};
    int8_t *const added = n.residual_pixel
                              ? (int8_t *)blob[RESIDUAL] + n.residual_start * (n.residual_wide ? 2 : 1)
                              : NULL;
    const etn_view shortcut = {added, n.residual_row, n.residual_pixel, n.residual_channel,
                               n.residual_wide};
    int8_t *const first = blob[INPUT] != NULL
                              ? (int8_t *)blob[INPUT] + n.in_start * (n.in_wide ? 2 : 1)
                              : NULL;
    const etn_view in = {first, n.row_stride, n.in_pixel, n.in_channel, n.in_wide};
    const etn_view *residual = n.residual_pixel ? &shortcut : NULL;
    switch (n.kind) {
    case CONV2D:
        etn_conv2d(rows, &out, residual, n.width_in, n.in_channels, n.width_out, n.out_channels,
                   n.kernel_height, n.kernel_width, n.stride, n.padding, n.zero_point,
                   n.weight_bits, &constants, rule, blob[SCRATCH]);
        break;
    case DEPTHWISE:
        if (n.most > 0) {
            harness_tight(n, blob, &out, residual, &constants, rule);
        } else if (n.three) {
            etn_depthwise(rows, n.line_stride, &out, residual, n.width_out, n.out_channels,
                          n.stride, n.weight_bits, &constants, rule);
        } else {
            etn_depthwise_any(rows, n.line_stride, &out, residual, n.width_in, n.width_out,
                              n.out_channels, n.kernel_height, n.kernel_width, n.stride, n.padding,
                              n.zero_point, n.weight_bits, &constants, rule);
        }
        break;
    case POINTWISE:
        if (n.gather) {
            int16_t *columns =
                (int16_t *)blob[SCRATCH] + ETN_POINTWISE_SCRATCH(n.in_channels) / 2;
            etn_pointwise_gather(rows, n.in_wide, columns, n.height, n.width_in, n.in_channels);
            wide_in = columns;
        }
        etn_pointwise(wide_in, n.row_stride, &out, residual, n.height, n.width_out, n.in_channels,
                      n.out_channels, n.weight_bits, &constants, rule, blob[SCRATCH]);
        break;
    case DENSE:
        etn_dense(wide_in, &out, residual, n.in_channels, n.out_channels, n.weight_bits,
                  &constants, rule);
        break;
    case MAX_POOL:
        etn_max_pool(rows, n.line_stride, &out, n.width_out, n.out_channels, n.kernel_height,
                     n.kernel_width, n.stride);
        break;
    case AVG_POOL:
        etn_avg_pool(rows, n.line_stride, &out, n.width_in, n.width_out, n.out_channels,
                     n.kernel_height, n.kernel_width, n.stride, n.padding, n.zero_point, &constants,
                     rule);
        break;
    case ADD:
        etn_add(&in, &out, residual, n.width_out, n.out_channels, &constants, rule);
        break;
    case COPY:
        etn_copy(&in, &out, n.width_out, n.out_channels);
        break;
    case GLOBAL_AVG_POOL:
        etn_global_avg_pool((const int8_t *)blob[INPUT], n.row_stride, n.line_stride, &out,
                            n.height, n.width_in, n.out_channels, &constants, rule);
        break;
    default:
        break;
    }
}

#endif
