/* pointwise: 1x1 convolution, int16 HWC rows in.
 *
 * `in` holds n_rows rows of width pixels of in_channels int16 values, rows in_row_stride elements
 * apart (2-byte aligned is enough). `residual` is a view of int8 values of the same shape as `out`,
 * or NULL. `constants->weight`: matrix of etn_weights.h, depth in_channels.
 * `scratch`: 4-byte aligned, 4 * (in_channels rounded up to 4) bytes.
 */
#ifndef ETN_POINTWISE_H
#define ETN_POINTWISE_H

#include "etn_arithmetic.h"
#include "etn_matrix.h"
#include "etn_types.h"

ETN_INLINE void etn_pointwise(
    const int16_t *in, int32_t in_row_stride, const etn_view *out, const etn_view *residual,
    int32_t n_rows, int32_t width, int32_t in_channels, int32_t out_channels,
    int32_t weight_bits, const etn_constants *constants, etn_rule rule, void *scratch)
{
    etn_matrix(in, in_row_stride, in_channels, out, residual, n_rows, width, in_channels,
               out_channels, weight_bits, constants, rule, scratch);
}

#endif
