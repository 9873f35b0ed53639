/* SPDX-License-Identifier: MIT */
/* add: two tensors, each with its own factor a channel, one row.
 *
 * `in` and `residual` are views of the shape of `out`; the accumulator is the value of `in` times
 * 2^16. Each value may be written over either of the two it is made of. No scratch.
 */
#ifndef ETN_ADD_H
#define ETN_ADD_H

#include "etn_arithmetic.h"
#include "etn_types.h"

ETN_INLINE void etn_add(
    const etn_view *in, const etn_view *out, const etn_view *residual, int32_t width,
    int32_t channels, const etn_constants *constants, etn_rule rule)
{
    for (int32_t c = 0; c < channels; c++) {
        const etn_channel channel = etn_channel_of(constants, rule, c);
        for (int32_t x = 0; x < width; x++) {
            const int32_t value = etn_load(etn_address(in, 0, x, c), in->wide);
            etn_finish_element(value * 65536, &channel, rule, out, residual, 0, x, c);
        }
    }
}

#endif
