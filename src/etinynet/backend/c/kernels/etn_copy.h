/* SPDX-License-Identifier: MIT */
/* copy: one row of a tensor in another layout.
 *
 * `in` and `out` are views of rows of `width` pixels and `channels` channels; they do not overlap.
 */
#ifndef ETN_COPY_H
#define ETN_COPY_H

#include "etn_types.h"

ETN_INLINE void etn_copy(
    const etn_view *in, const etn_view *out, int32_t width, int32_t channels)
{
    for (int32_t x = 0; x < width; x++) {
        for (int32_t c = 0; c < channels; c++) {
            const int32_t value = etn_load(etn_address(in, 0, x, c), in->wide);
            etn_store(etn_address(out, 0, x, c), out->wide, value);
        }
    }
}

#endif
