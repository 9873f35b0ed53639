/* SPDX-License-Identifier: MIT */
/* dense: fully connected layer on in_channels int16 values.
 *
 * `in` is 4-byte aligned. Output `channel` goes to element channel * out->channel_stride.
 * `constants->weight`: matrix of etn_weights.h, depth in_channels, read straight from flash.
 * No scratch.
 */
#ifndef ETN_DENSE_H
#define ETN_DENSE_H

#include "etn_arithmetic.h"
#include "etn_types.h"
#include "etn_weights.h"

#if ETN_DSP
#include "etn_dense_dsp.h"
#else

ETN_INLINE void etn_dense(
    const int16_t *in, const etn_view *out, const etn_view *residual, int32_t in_channels,
    int32_t out_channels, int32_t weight_bits, const etn_constants *constants, etn_rule rule)
{
    for (int32_t c = 0; c < out_channels; c++) {
        const etn_channel channel = etn_channel_of(constants, rule, c);
        int32_t accumulator = channel.bias;
        for (int32_t k = 0; k < in_channels; k++) {
            const int32_t weight = etn_matrix_weight(
                (const uint32_t *)constants->weight, in_channels, weight_bits, c, k);
            accumulator += weight * in[k];
        }
        etn_finish_element(accumulator, &channel, rule, out, residual, 0, 0, c);
    }
}

#endif
#endif
