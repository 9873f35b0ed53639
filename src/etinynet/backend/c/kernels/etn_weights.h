/* SPDX-License-Identifier: MIT */
/* The packed weights, in words of plain C: how they lie in flash and how to read them back.
 *
 * Matrix (conv2d, pointwise, dense): `depth` weights for each output channel, channels in pairs,
 * uint32_t words. The bytes of one word, low first:
 *
 *     5 to 8 bits:  a[k]          b[k]          a[k+1]          b[k+1]          k = 0, 2, 4...
 *     2 to 4 bits:  a[k], a[k+2]  b[k], b[k+2]  a[k+1], a[k+3]  b[k+1], b[k+3]  k = 0, 4, 8...
 *
 * a and b are the two channels of the pair; low nibble before high nibble, weight + 8 in each.
 * What is missing at the end (odd depth, odd channel count) is weight 0. SXTB16 gives the lanes
 * (a[k], a[k+1]) and, rotated by 8 bits, (b[k], b[k+1]).
 *
 * Depthwise 3x3: 8 bits, 9 bytes for each channel in order of rows, and 1 to 4 bytes at the end
 * of the array that may be read; 4 bits, 5 bytes for each channel, nibbles low first with
 * weight + 8, tap numbers 0 6 3 1 2 8 5 4 7 and one nibble unused. Depthwise of other windows: the
 * same in order of rows, a byte or a nibble for each tap, each channel in bytes of its own.
 */
#ifndef ETN_WEIGHTS_H
#define ETN_WEIGHTS_H

#include "etn_types.h"

/* Words that one pair of channels takes. */
ETN_INLINE int32_t etn_matrix_pair_words(int32_t depth, int32_t weight_bits)
{
    return weight_bits > 4 ? (depth + 1) / 2 : (depth + 3) / 4;
}

/* Two lanes of -8, which undoes the + 8 of the nibbles, and the low nibbles of a word. */
#define ETN_NIBBLE_BIAS 0xFFF8FFF8u
#define ETN_NIBBLE_MASK 0x0F0F0F0Fu

/* Weight `k` of `channel`. */
ETN_INLINE int32_t etn_matrix_weight(
    const uint32_t *packed, int32_t depth, int32_t weight_bits, int32_t channel, int32_t k)
{
    const uint32_t *pair = packed + (channel / 2) * etn_matrix_pair_words(depth, weight_bits);
    if (weight_bits > 4) {
        const int32_t shift = 8 * (channel % 2) + 16 * (k % 2);
        return (int8_t)(uint8_t)((pair[k / 2] >> shift) & 0xFFu);
    } else {
        const int32_t shift = 8 * (channel % 2) + 16 * (k % 2) + 4 * (k / 2 % 2);
        return (int32_t)((pair[k / 4] >> shift) & 0xFu) - 8;
    }
}

/* Weight of `tap` (3 * row + column) of `channel`. */
ETN_INLINE int32_t etn_depthwise_weight(
    const void *packed, int32_t weight_bits, int32_t channel, int32_t tap)
{
    if (weight_bits > 4) {
        return ((const int8_t *)packed)[9 * channel + tap];
    } else {
        static const uint8_t place[9] = {0, 3, 4, 2, 7, 6, 1, 8, 5};
        const uint8_t byte = ((const uint8_t *)packed)[5 * channel + place[tap] / 2];
        return ((byte >> (4 * (place[tap] % 2))) & 0xF) - 8;
    }
}

/* The same of a window of `taps` taps that is not 3x3 with padding 1 and stride 1 or 2. */
ETN_INLINE int32_t etn_depthwise_any_weight(
    const void *packed, int32_t weight_bits, int32_t taps, int32_t channel, int32_t tap)
{
    if (weight_bits > 4) {
        return ((const int8_t *)packed)[taps * channel + tap];
    } else {
        const uint8_t byte = ((const uint8_t *)packed)[(taps + 1) / 2 * channel + tap / 2];
        return ((byte >> (4 * (tap % 2))) & 0xF) - 8;
    }
}

#endif
