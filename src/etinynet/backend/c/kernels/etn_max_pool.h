/* max_pool: largest value of each kernel x kernel window, no padding, one output row.
 *
 * `rows` are kernel input rows of int8 lines, channel c at rows[r] + c * line_stride, column 0
 * first. No scratch.
 */
#ifndef ETN_MAX_POOL_H
#define ETN_MAX_POOL_H

#include "etn_arithmetic.h"
#include "etn_types.h"

ETN_INLINE void etn_max_pool(
    const int8_t *const rows[], int32_t line_stride, const etn_view *out, int32_t width_out,
    int32_t channels, int32_t kernel, int32_t stride)
{
    for (int32_t c = 0; c < channels; c++) {
        for (int32_t x = 0; x < width_out; x++) {
            int32_t largest = INT8_MIN;
            for (int32_t row = 0; row < kernel; row++) {
                const int8_t *window = rows[row] + c * line_stride + x * stride;
                for (int32_t i = 0; i < kernel; i++) {
                    largest = window[i] > largest ? window[i] : largest;
                }
            }
            etn_store(out, etn_index(out, 0, x, c), largest);
        }
    }
}

#endif
