/* SPDX-License-Identifier: MIT */
/* etn_matrix on the DSP instructions: two channels times four pixels at a time.
 *
 * The weights of a channel pair are first expanded into scratch as int16 lanes, a(k, k+1) and
 * b(k, k+1) side by side; then all pixels run over them, whatever the bits of the weights were:
 * 13 instructions for 16 multiplications. Included by etn_matrix.h only.
 */
#ifndef ETN_MATRIX_DSP_H
#define ETN_MATRIX_DSP_H

/* Accumulators of channels a and b at four pixels. */
typedef struct {
    int32_t a[4];
    int32_t b[4];
} etn_block;

/* Where the outputs of the current pixel go; x counts the pixels left in the row. */
typedef struct {
    int8_t *out;
    const int8_t *shortcut;
    int32_t left;
} etn_cursor;

/* Expand a packed word of bytes into 2 words of lanes. */
ETN_INLINE void etn_expand_bytes(uint32_t word, uint32_t *lanes)
{
    lanes[0] = etn_sxtb16(word);
    lanes[1] = etn_sxtb16_ror8(word);
}

/* Expand a packed word of nibbles into 4 words of lanes. */
ETN_INLINE void etn_expand_nibbles(uint32_t word, uint32_t *lanes)
{
    const uint32_t low = word & ETN_NIBBLE_MASK;
    const uint32_t high = (word >> 4) & ETN_NIBBLE_MASK;
    lanes[0] = etn_sxtab16(ETN_NIBBLE_BIAS, low);
    lanes[1] = etn_sxtab16_ror8(ETN_NIBBLE_BIAS, low);
    lanes[2] = etn_sxtab16(ETN_NIBBLE_BIAS, high);
    lanes[3] = etn_sxtab16_ror8(ETN_NIBBLE_BIAS, high);
}

/* Expand `words` packed words of nibbles. One function for all kernels: inlined it takes about a
 * hundred bytes in each. */
ETN_SHARED void etn_expand_words(const uint32_t *packed, uint32_t *lanes, int32_t words)
{
    for (; words >= 2; words -= 2) {
        const uint32_t first = packed[0], second = packed[1];
        etn_expand_nibbles(first, lanes);
        etn_expand_nibbles(second, lanes + 4);
        packed += 2;
        lanes += 8;
    }
    if (words > 0) {
        etn_expand_nibbles(*packed, lanes);
    }
}

/* Expand one pair of channels, `words` packed words. */
ETN_INLINE void etn_expand(
    const uint32_t *packed, uint32_t *lanes, int32_t words, int32_t weight_bits)
{
    int32_t left = words;
    if (weight_bits <= 4) {
        etn_expand_words(packed, lanes, words);
    } else {
        for (; left >= 4; left -= 4) {
            const uint32_t first = packed[0], second = packed[1];
            const uint32_t third = packed[2], fourth = packed[3];
            etn_expand_bytes(first, lanes);
            etn_expand_bytes(second, lanes + 2);
            etn_expand_bytes(third, lanes + 4);
            etn_expand_bytes(fourth, lanes + 6);
            packed += 4;
            lanes += 8;
        }
        for (; left > 0; left--) {
            etn_expand_bytes(*packed++, lanes);
            lanes += 2;
        }
    }
}

#if ETN_DSP_ASSEMBLY && defined(__OPTIMIZE__)
#define ETN_BLOCK_ASM 1

/* Two of depth: 16 multiplications in 13 instructions. */
#define ETN_BLOCK_STEP                                                       \
    "ldrd %[w0], %[w1], [%[w]], #8\n\t"                                      \
    "ldr %[x0], [%[x], %[third]]\n\t"                                        \
    "ldr r7, [%[x], %[second]]\n\t"                                          \
    "smlad %[a3], %[w0], %[x0], %[a3]\n\t"                                   \
    "smlad %[b3], %[w1], %[x0], %[b3]\n\t"                                   \
    "ldr %[x0], [%[x], %[first]]\n\t"                                        \
    "smlad %[a2], %[w0], r7, %[a2]\n\t"                                      \
    "smlad %[b2], %[w1], r7, %[b2]\n\t"                                      \
    "ldr r7, [%[x]], #4\n\t"                                                 \
    "smlad %[a1], %[w0], %[x0], %[a1]\n\t"                                   \
    "smlad %[b1], %[w1], %[x0], %[b1]\n\t"                                   \
    "smlad %[a0], %[w0], r7, %[a0]\n\t"                                      \
    "smlad %[b0], %[w1], r7, %[b0]\n\t"
#define ETN_BLOCK_STEP2 ETN_BLOCK_STEP ETN_BLOCK_STEP
#define ETN_BLOCK_STEP4 ETN_BLOCK_STEP2 ETN_BLOCK_STEP2
#define ETN_BLOCK_STEP8 ETN_BLOCK_STEP4 ETN_BLOCK_STEP4
#define ETN_BLOCK_LOOP8                                                      \
    "1:\n\t" ETN_BLOCK_STEP8                                                 \
    "ldr %[x0], [sp]\n\t"                                                    \
    "cmp %[w], %[x0]\n\t"                                                    \
    "bne 1b\n\t"

/* A block takes every register there is: 8 sums, 2 weights, 2 inputs, 2 pointers. So the end of
 * the loop is compared from the stack, and r7, the frame pointer of some builds, is put there
 * during the block; no operand may be in r7, hence the fixed registers. */
#define ETN_BLOCK_RUN(code)                                                                \
    __asm__ volatile(                                                                      \
        "strd %[w0], r7, [sp, #-8]!\n\t" code "ldrd %[w0], r7, [sp], #8\n\t"               \
        : [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2), [a3] "+r"(a3), [b0] "+r"(b0),       \
          [b1] "+r"(b1), [b2] "+r"(b2), [b3] "+r"(b3), [w] "+r"(w), [x] "+r"(x),           \
          [w0] "+r"(w0), [w1] "=&r"(w1), [x0] "=&r"(x0)                                    \
        : [first] "i"(2 * in_stride), [second] "i"(4 * in_stride),                         \
          [third] "i"(6 * in_stride)                                                       \
        : "cc", "memory")

/* Add `pairs` pairs of depth; in_stride and pairs must be compile-time constants. */
ETN_INLINE void etn_block_asm(
    etn_block *sum, const uint32_t *weight, const int16_t *in, int32_t in_stride, int32_t pairs)
{
    register int32_t a0 __asm__("r2") = sum->a[0], a1 __asm__("r3") = sum->a[1];
    register int32_t a2 __asm__("r4") = sum->a[2], a3 __asm__("r5") = sum->a[3];
    register int32_t b0 __asm__("r6") = sum->b[0], b1 __asm__("r8") = sum->b[1];
    register int32_t b2 __asm__("r9") = sum->b[2], b3 __asm__("r10") = sum->b[3];
    register const uint32_t *w __asm__("r0") = weight;
    register const int16_t *x __asm__("r1") = in;
    register const uint32_t *w0 __asm__("r11") = weight + 2 * (pairs / 8 * 8);
    register uint32_t w1 __asm__("r12"), x0 __asm__("lr");
    if (pairs >= 16) {
        ETN_BLOCK_RUN(ETN_BLOCK_LOOP8);
    } else if (pairs >= 8) {
        ETN_BLOCK_RUN(ETN_BLOCK_STEP8);
    }
    if (pairs & 4) {
        ETN_BLOCK_RUN(ETN_BLOCK_STEP4);
    }
    if (pairs & 2) {
        ETN_BLOCK_RUN(ETN_BLOCK_STEP2);
    }
    if (pairs & 1) {
        ETN_BLOCK_RUN(ETN_BLOCK_STEP);
    }
    sum->a[0] = a0, sum->a[1] = a1, sum->a[2] = a2, sum->a[3] = a3;
    sum->b[0] = b0, sum->b[1] = b1, sum->b[2] = b2, sum->b[3] = b3;
}
#else
#define ETN_BLOCK_ASM 0
#endif

/* Add inputs (2 * pair, 2 * pair + 1) of `pixels` columns. */
ETN_INLINE void etn_block_pair(
    etn_block *sum, int32_t pixels, const uint32_t *weight, const int16_t *in, int32_t in_stride,
    int32_t pair)
{
    for (int32_t p = 0; p < pixels; p++) {
        const uint32_t x = etn_load_word(in + p * in_stride + 2 * pair);
        sum->a[p] = etn_smlad(weight[2 * pair], x, sum->a[p]);
        sum->b[p] = etn_smlad(weight[2 * pair + 1], x, sum->b[p]);
    }
}

/* Add to `sum` channels a and b at `pixels` (1 or 4) columns, all of the depth. */
ETN_INLINE void etn_block_add(
    etn_block *sum, int32_t pixels, const uint32_t *weight, const int16_t *in, int32_t in_stride,
    int32_t depth)
{
    const int32_t pairs = depth / 2;
    int32_t done = 0;
#if ETN_BLOCK_ASM
    if (pixels == 4 && __builtin_constant_p(in_stride) && __builtin_constant_p(pairs) &&
        6 * in_stride <= 4095) {
        etn_block_asm(sum, weight, in, in_stride, pairs);
        done = pairs;
    }
#endif
    if (pixels == 1) {
        for (; done + 4 <= pairs; done += 4) {
            etn_block_pair(sum, 1, weight, in, in_stride, done);
            etn_block_pair(sum, 1, weight, in, in_stride, done + 1);
            etn_block_pair(sum, 1, weight, in, in_stride, done + 2);
            etn_block_pair(sum, 1, weight, in, in_stride, done + 3);
        }
    }
    for (; done < pairs; done++) {
        etn_block_pair(sum, pixels, weight, in, in_stride, done);
    }
    if (depth % 2 != 0) {
        for (int32_t p = 0; p < pixels; p++) {
            const uint32_t x = (uint32_t)(int32_t)in[p * in_stride + depth - 1];
            sum->a[p] = etn_smlabb(weight[2 * pairs], x, sum->a[p]);
            sum->b[p] = etn_smlabb(weight[2 * pairs + 1], x, sum->b[p]);
        }
    }
}

/* The operator's constants of one channel pair, and how its pixels are laid out. */
typedef struct {
    etn_channel a;
    etn_channel b;
    int32_t both; /* 0: there is no channel b */
    int32_t width;
    int32_t depth;
    int32_t in_stride;
    etn_rule rule;
    const etn_view *out;
    const etn_view *residual;
} etn_pair;

/* Step `cursor` to the next pixel, over the end of a row if rows are not next to each other. */
ETN_INLINE void etn_cursor_next(etn_cursor *cursor, const etn_pair *pair, int32_t rows)
{
    const etn_view *out = pair->out;
    const etn_view *residual = pair->residual;
    const int32_t unit = out->wide ? 2 : 1;
    cursor->out += unit * out->pixel_stride;
    if (residual != NULL) {
        cursor->shortcut += (residual->wide ? 2 : 1) * residual->pixel_stride;
    }
    if (rows > 1 && --cursor->left == 0) {
        cursor->left = pair->width;
        cursor->out += unit * (out->row_stride - pair->width * out->pixel_stride);
        if (residual != NULL) {
            cursor->shortcut += (residual->wide ? 2 : 1) *
                                (residual->row_stride - pair->width * residual->pixel_stride);
        }
    }
}

/* Store channels a and b of one pixel and go to the next. */
ETN_INLINE void etn_pair_finish(
    const etn_pair *pair, int32_t a, int32_t b, etn_cursor *cursor, int32_t rows)
{
    const etn_view *out = pair->out;
    const etn_view *residual = pair->residual;
    const int32_t next = out->channel_stride * (out->wide ? 2 : 1);
    etn_finish(a, &pair->a, pair->rule, cursor->out, out->wide, residual, cursor->shortcut);
    if (pair->both != 0) {
        etn_finish(b, &pair->b, pair->rule, cursor->out + next, out->wide, residual,
                   residual != NULL
                       ? cursor->shortcut + (residual->wide ? 2 : 1) * residual->channel_stride
                       : NULL);
    }
    etn_cursor_next(cursor, pair, rows);
}

/* Four pixels of a pair of channels; loops of four are written out, compilers unroll only some. */
ETN_INLINE void etn_pair_four(
    const etn_pair *pair, const uint32_t *weight, const int16_t *in, etn_cursor *cursor,
    int32_t rows)
{
    const int32_t a = pair->a.bias, b = pair->b.bias;
    etn_block sum = {{a, a, a, a}, {b, b, b, b}};
    etn_block_add(&sum, 4, weight, in, pair->in_stride, pair->depth);
    etn_pair_finish(pair, sum.a[0], sum.b[0], cursor, rows);
    etn_pair_finish(pair, sum.a[1], sum.b[1], cursor, rows);
    etn_pair_finish(pair, sum.a[2], sum.b[2], cursor, rows);
    etn_pair_finish(pair, sum.a[3], sum.b[3], cursor, rows);
}

/* One pixel. */
ETN_INLINE void etn_pair_one(
    const etn_pair *pair, const uint32_t *weight, const int16_t *in, etn_cursor *cursor,
    int32_t rows)
{
    etn_block sum = {{pair->a.bias, 0, 0, 0}, {pair->b.bias, 0, 0, 0}};
    etn_block_add(&sum, 1, weight, in, pair->in_stride, pair->depth);
    etn_pair_finish(pair, sum.a[0], sum.b[0], cursor, rows);
}

/* All pixels of channels c and c + 1: `runs` runs of `count` pixels each, a run being `rows` rows
 * whose columns follow one another without a gap. */
ETN_INLINE void etn_pair_runs(
    const etn_pair *pair, const uint32_t *weight, const int16_t *in, int32_t in_row_stride,
    int32_t runs, int32_t rows, int32_t c)
{
    const int32_t count = rows * pair->width;
    for (int32_t run = 0; run < runs; run++) {
        const int16_t *column = in + run * in_row_stride;
        etn_cursor cursor = {(int8_t *)etn_address(pair->out, run, 0, c), NULL, pair->width};
        int32_t left = count;
        if (pair->residual != NULL) {
            cursor.shortcut = (const int8_t *)etn_address(pair->residual, run, 0, c);
        }
        for (; left >= 4; left -= 4) {
            etn_pair_four(pair, weight, column, &cursor, rows);
            column += 4 * pair->in_stride;
        }
        for (; left > 0; left--) {
            etn_pair_one(pair, weight, column, &cursor, rows);
            column += pair->in_stride;
        }
    }
}

ETN_INLINE void etn_matrix(
    const int16_t *in, int32_t in_row_stride, int32_t in_stride, const etn_view *out,
    const etn_view *residual, int32_t n_rows, int32_t width, int32_t depth, int32_t out_channels,
    int32_t weight_bits, const etn_constants *constants, etn_rule rule, void *scratch)
{
    const int32_t words = etn_matrix_pair_words(depth, weight_bits);
    const int32_t joined = n_rows == 1 || in_row_stride == width * in_stride;
    const int32_t runs = joined ? 1 : n_rows;
    const int32_t rows = joined ? n_rows : 1;
    const uint32_t *packed = (const uint32_t *)constants->weight;
    uint32_t *weight = (uint32_t *)scratch;
    for (int32_t c = 0; c < out_channels; c += 2) {
        const int32_t both = c + 1 < out_channels;
        const etn_channel a = etn_channel_of(constants, rule, c);
        const etn_channel b = etn_channel_of(constants, rule, c + both);
        const etn_pair pair = {a, b, both, width, depth, in_stride, rule, out, residual};
        etn_expand(packed, weight, words, weight_bits);
        packed += words;
        etn_pair_runs(&pair, weight, in, in_row_stride, runs, rows, c);
    }
}

#endif
