/* SPDX-License-Identifier: MIT */
/* etn_dense on the DSP instructions: the two channels of a pair at a time.
 *
 * Each weight is used once, so it is expanded between load and SMLAD. Included by etn_dense.h only.
 */
#ifndef ETN_DENSE_DSP_H
#define ETN_DENSE_DSP_H

/* Add inputs (k, k + 1) times the bytes of `word` to channels a and b. */
ETN_INLINE void etn_dense_bytes(int32_t sum[2], uint32_t word, uint32_t x)
{
    sum[0] = etn_smlad(etn_sxtb16(word), x, sum[0]);
    sum[1] = etn_smlad(etn_sxtb16_ror8(word), x, sum[1]);
}

/* Add inputs (k .. k + 3) times the nibbles of `word`. */
ETN_INLINE void etn_dense_nibbles(int32_t sum[2], uint32_t word, uint32_t x01, uint32_t x23)
{
    const uint32_t low = word & ETN_NIBBLE_MASK;
    const uint32_t high = (word >> 4) & ETN_NIBBLE_MASK;
    sum[0] = etn_smlad(etn_sxtab16(ETN_NIBBLE_BIAS, low), x01, sum[0]);
    sum[1] = etn_smlad(etn_sxtab16_ror8(ETN_NIBBLE_BIAS, low), x01, sum[1]);
    sum[0] = etn_smlad(etn_sxtab16(ETN_NIBBLE_BIAS, high), x23, sum[0]);
    sum[1] = etn_smlad(etn_sxtab16_ror8(ETN_NIBBLE_BIAS, high), x23, sum[1]);
}

/* The next two inputs where `left` are left: zero beyond them. */
ETN_INLINE uint32_t etn_dense_input(const int16_t *in, int32_t left)
{
    if (left >= 2) {
        return etn_load_aligned(in);
    }
    return left == 1 ? (uint32_t)(uint16_t)*in : 0u;
}

/* Both channels of the pair packed in `words`. */
ETN_INLINE void etn_dense_pair(
    int32_t sum[2], const uint32_t *words, const int16_t *in, int32_t count, int32_t weight_bits)
{
    int32_t left = count;
    if (weight_bits > 4) {
        for (; left >= 8; left -= 8) {
            etn_dense_bytes(sum, words[0], etn_load_aligned(in));
            etn_dense_bytes(sum, words[1], etn_load_aligned(in + 2));
            etn_dense_bytes(sum, words[2], etn_load_aligned(in + 4));
            etn_dense_bytes(sum, words[3], etn_load_aligned(in + 6));
            words += 4;
            in += 8;
        }
        for (; left > 0; left -= 2) {
            etn_dense_bytes(sum, *words++, etn_dense_input(in, left));
            in += 2;
        }
    } else {
        for (; left >= 8; left -= 8) {
            etn_dense_nibbles(sum, words[0], etn_load_aligned(in), etn_load_aligned(in + 2));
            etn_dense_nibbles(sum, words[1], etn_load_aligned(in + 4), etn_load_aligned(in + 6));
            words += 2;
            in += 8;
        }
        for (; left > 0; left -= 4) {
            etn_dense_nibbles(
                sum, *words++, etn_dense_input(in, left), etn_dense_input(in + 2, left - 2));
            in += 4;
        }
    }
}

ETN_INLINE void etn_dense(
    const int16_t *in, const etn_view *out, const etn_view *residual, int32_t in_channels,
    int32_t out_channels, int32_t weight_bits, const etn_constants *constants, etn_rule rule)
{
    const uint32_t *words = (const uint32_t *)constants->weight;
    for (int32_t c = 0; c < out_channels; c += 2) {
        const int32_t both = c + 1 < out_channels;
        const etn_channel a = etn_channel_of(constants, rule, c);
        const etn_channel b = etn_channel_of(constants, rule, c + both);
        int32_t sum[2] = {a.bias, b.bias};
        etn_dense_pair(sum, words, in, in_channels, weight_bits);
        words += etn_matrix_pair_words(in_channels, weight_bits);
        etn_finish_element(sum[0], &a, rule, out, residual, 0, 0, c);
        if (both != 0) {
            etn_finish_element(sum[1], &b, rule, out, residual, 0, 0, c + 1);
        }
    }
}

#endif
