/* SPDX-License-Identifier: MIT */
/* etn_depthwise on the DSP instructions: four outputs at a time.
 *
 * One load brings four pixels of a row, two SXTB16 make lanes (x0, x2) and (x1, x3) of them:
 * SMLAD takes the outer taps of each output and SMLABB or SMLATB the middle one, 7 instructions
 * for 6 multiplications. Included by etn_depthwise.h only.
 */
#ifndef ETN_DEPTHWISE_DSP_H
#define ETN_DEPTHWISE_DSP_H

/* Weights of one channel: outer[row] has taps 0 and 2, middle01 taps 1 of rows 0 and 1. */
typedef struct {
    uint32_t outer[3];
    uint32_t middle01;
    uint32_t middle2;
} etn_taps;

/* Expand 9 bytes; one byte further is read. */
ETN_INLINE etn_taps etn_taps_bytes(const int8_t *packed)
{
    const uint32_t row0 = etn_load_word(packed);
    const uint32_t row1 = etn_load_word(packed + 3);
    const uint32_t row2 = etn_load_word(packed + 6);
    etn_taps taps;
    taps.outer[0] = etn_sxtb16(row0);
    taps.outer[1] = etn_sxtb16(row1);
    taps.outer[2] = etn_sxtb16(row2);
    taps.middle01 = etn_pkhbt(etn_sxtb16_ror8(row0), etn_sxtb16_ror8(row1));
    taps.middle2 = etn_sxtb16_ror8(row2);
    return taps;
}

/* Expand 9 nibbles in 5 bytes. */
ETN_INLINE etn_taps etn_taps_nibbles(const uint8_t *packed)
{
    const uint32_t word = etn_load_word(packed);
    const uint32_t low = word & ETN_NIBBLE_MASK;
    const uint32_t high = (word >> 4) & ETN_NIBBLE_MASK;
    etn_taps taps;
    taps.outer[0] = etn_sxtab16(ETN_NIBBLE_BIAS, low);
    taps.outer[1] = etn_sxtab16_ror8(ETN_NIBBLE_BIAS, low);
    taps.outer[2] = etn_sxtab16(ETN_NIBBLE_BIAS, high);
    taps.middle01 = etn_sxtab16_ror8(ETN_NIBBLE_BIAS, high);
    taps.middle2 = etn_sxtab16(ETN_NIBBLE_BIAS, packed[4] & ETN_NIBBLE_MASK);
    return taps;
}

ETN_INLINE etn_taps etn_taps_of(const etn_constants *constants, int32_t weight_bits, int32_t c)
{
    return weight_bits > 4 ? etn_taps_bytes((const int8_t *)constants->weight + 9 * c)
                           : etn_taps_nibbles((const uint8_t *)constants->weight + 5 * c);
}

/* Add a row of taps to one output whose pixel 0 is at `x`. */
ETN_INLINE int32_t etn_taps_add(
    int32_t sum, const int8_t *x, uint32_t outer, uint32_t middle, int32_t top)
{
    const uint32_t word = etn_load_word(x);
    const uint32_t odd = etn_sxtb16_ror8(word);
    sum = etn_smlad(etn_sxtb16(word), outer, sum);
    return top ? etn_smlabt(odd, middle, sum) : etn_smlabb(odd, middle, sum);
}

ETN_INLINE int32_t etn_taps_sum(
    int32_t bias, const int8_t *const line[3], const etn_taps *taps)
{
    int32_t sum = bias;
    sum = etn_taps_add(sum, line[0], taps->outer[0], taps->middle01, 0);
    sum = etn_taps_add(sum, line[1], taps->outer[1], taps->middle01, 1);
    return etn_taps_add(sum, line[2], taps->outer[2], taps->middle2, 0);
}

ETN_INLINE void etn_taps_advance(const int8_t *line[3], int32_t pixels)
{
    line[0] += pixels;
    line[1] += pixels;
    line[2] += pixels;
}

#if ETN_DSP_ASSEMBLY && defined(__OPTIMIZE__)
#define ETN_TAPS_ASM 1

/* Lanes (x0, x2) in %[e] and (x1, x3) in r7. */
#define ETN_TAPS_LOAD(x, step)                                               \
    "ldr %[e], [%[" x "]], #" step "\n\t"                                    \
    "sxtb16 r7, %[e], ror #8\n\t"                                            \
    "sxtb16 %[e], %[e]\n\t"

/* Stride 1: one word gives two outputs, s0 and s1, which start from f0 and f1. */
#define ETN_TAPS_PAIR1(x, w, m, half, s0, s1, f0, f1)                        \
    ETN_TAPS_LOAD(x, "2")                                                    \
    "smlad %[" s0 "], %[e], %[" w "], %[" f0 "]\n\t"                         \
    "smlab" half " %[" s0 "], r7, %[" m "], %[" s0 "]\n\t"                   \
    "smlad %[" s1 "], r7, %[" w "], %[" f1 "]\n\t"                           \
    "smlat" half " %[" s1 "], %[e], %[" m "], %[" s1 "]\n\t"

/* Stride 2: the second output takes x3 from this word and (x2, x4) from the next. */
#define ETN_TAPS_PAIR2(x, w, m, half, s0, s1, f0, f1)                        \
    ETN_TAPS_LOAD(x, "2")                                                    \
    "smlad %[" s0 "], %[e], %[" w "], %[" f0 "]\n\t"                         \
    "ldr %[e], [%[" x "]], #2\n\t"                                           \
    "smlab" half " %[" s0 "], r7, %[" m "], %[" s0 "]\n\t"                   \
    "smlat" half " %[" s1 "], r7, %[" m "], %[" f1 "]\n\t"                   \
    "sxtb16 %[e], %[e]\n\t"                                                  \
    "smlad %[" s1 "], %[e], %[" w "], %[" s1 "]\n\t"

/* Four outputs from three rows; all start from the bias, which is in a3. */
#define ETN_TAPS_BLOCK(pair)                                                 \
    pair("x0", "w0", "m01", "b", "a0", "a1", "a3", "a3")                     \
    pair("x0", "w0", "m01", "b", "a2", "a3", "a3", "a3")                     \
    pair("x1", "w1", "m01", "t", "a0", "a1", "a0", "a1")                     \
    pair("x1", "w1", "m01", "t", "a2", "a3", "a2", "a3")                     \
    pair("x2", "w2", "m2", "b", "a0", "a1", "a0", "a1")                      \
    pair("x2", "w2", "m2", "b", "a2", "a3", "a2", "a3")

/* As in etn_matrix_dsp.h, r7 is put on the stack and no operand may be in it. */
#define ETN_TAPS_RUN(pair)                                                                 \
    __asm__ volatile(                                                                      \
        "str r7, [sp, #-8]!\n\t" ETN_TAPS_BLOCK(pair) "ldr r7, [sp], #8\n\t"               \
        : [x0] "+r"(x0), [x1] "+r"(x1), [x2] "+r"(x2), [a0] "=&r"(a0), [a1] "=&r"(a1),     \
          [a2] "=&r"(a2), [a3] "+r"(a3), [e] "=&r"(e)                                      \
        : [w0] "r"(w0), [w1] "r"(w1), [w2] "r"(w2), [m01] "r"(m01), [m2] "r"(m2)           \
        : "memory")

/* Four outputs next to each other; `line` is advanced past them. */
ETN_INLINE void etn_taps_four(
    int32_t sum[4], int32_t bias, const int8_t *line[3], int32_t stride, const etn_taps *taps)
{
    register const int8_t *x0 __asm__("r0") = line[0];
    register const int8_t *x1 __asm__("r1") = line[1];
    register const int8_t *x2 __asm__("r2") = line[2];
    register uint32_t w0 __asm__("r8") = taps->outer[0], w1 __asm__("r9") = taps->outer[1];
    register uint32_t w2 __asm__("r10") = taps->outer[2], m01 __asm__("r11") = taps->middle01;
    register uint32_t m2 __asm__("r12") = taps->middle2, e __asm__("lr");
    register int32_t a0 __asm__("r3"), a1 __asm__("r4"), a2 __asm__("r5");
    register int32_t a3 __asm__("r6") = bias;
    if (stride == 1) {
        ETN_TAPS_RUN(ETN_TAPS_PAIR1);
    } else {
        ETN_TAPS_RUN(ETN_TAPS_PAIR2);
    }
    line[0] = x0, line[1] = x1, line[2] = x2;
    sum[0] = a0, sum[1] = a1, sum[2] = a2, sum[3] = a3;
}

#else

ETN_INLINE void etn_taps_four(
    int32_t sum[4], int32_t bias, const int8_t *line[3], int32_t stride, const etn_taps *taps)
{
    for (int32_t i = 0; i < 4; i++) {
        sum[i] = etn_taps_sum(bias, line, taps);
        etn_taps_advance(line, stride);
    }
}

#endif

/* One output row of one channel; line[r] is the left pad of input row r. */
ETN_INLINE void etn_depthwise_line(
    const int8_t *line[3], const etn_taps *taps, const etn_channel *channel, etn_rule rule,
    const etn_view *out, const etn_view *residual, int32_t width, int32_t stride, int32_t c)
{
    const int32_t block = width >= 4 ? 4 : 1;
    int32_t left = width;
    etn_view target = *out;
    etn_view source = residual != NULL ? *residual : *out;
    const etn_view *shortcut = residual != NULL ? &source : NULL;
    target.data = etn_address(&target, 0, 0, c);
    source.data = etn_address(&source, 0, 0, c);
    do {
        int32_t sum[4];
        int32_t step = block;
        if (block == 4) {
            etn_taps_four(sum, channel->bias, line, stride, taps);
            etn_finish_element(sum[0], channel, rule, &target, shortcut, 0, 0, 0);
            etn_finish_element(sum[1], channel, rule, &target, shortcut, 0, 1, 0);
            etn_finish_element(sum[2], channel, rule, &target, shortcut, 0, 2, 0);
            etn_finish_element(sum[3], channel, rule, &target, shortcut, 0, 3, 0);
        } else {
            sum[0] = etn_taps_sum(channel->bias, line, taps);
            etn_taps_advance(line, stride);
            etn_finish_element(sum[0], channel, rule, &target, shortcut, 0, 0, 0);
        }
        left -= block;
        if (width % block != 0 && left > 0 && left < block) {
            /* The last four outputs overlap the four before them. */
            step = left;
            left = block;
            etn_taps_advance(line, (step - block) * stride);
        }
        target = etn_view_from(&target, step);
        source = etn_view_from(&source, step);
    } while (left > 0);
}

/* Copy `bytes` bytes by words; the last word overlaps the one before it. */
ETN_INLINE void etn_copy_bytes(int8_t *to, const int8_t *from, int32_t bytes)
{
    int32_t done = 0;
    for (; done + 4 <= bytes; done += 4) {
        etn_store_word(to + done, etn_load_word(from + done));
    }
    if (bytes >= 4) {
        if (done < bytes) {
            etn_store_word(to + bytes - 4, etn_load_word(from + bytes - 4));
        }
        return;
    }
    for (; done < bytes; done++) {
        to[done] = from[done];
    }
}

#endif
