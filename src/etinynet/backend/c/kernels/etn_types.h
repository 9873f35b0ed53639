/* SPDX-License-Identifier: MIT */
/* What all kernels share: views of tensors, constants of an operator, the rule of requantization.
 *
 * Internal header of the generated library: C99, freestanding, no floating point. Kernels are always
 * inlined; their shape arguments are meant to be compile-time constants, but run-time values work.
 */
#ifndef ETN_TYPES_H
#define ETN_TYPES_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
/* Not instrumented: calls of -finstrument-functions need registers that inline assembly has. */
#define ETN_INLINE static inline __attribute__((always_inline, no_instrument_function))
#define ETN_SHARED static __attribute__((noinline, unused))
#else
#define ETN_INLINE static inline
#define ETN_SHARED static
#endif

/* All that the library calls of others, and what compilers call by themselves for copies. Declared
 * here, since a compiler without a C library has no <string.h>. */
void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

/* The DSP form takes bytes out of words, the first of them lowest. */
#if defined(__ARM_BIG_ENDIAN) ||                                             \
    (defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
#define ETN_LITTLE_ENDIAN 0
#else
#define ETN_LITTLE_ENDIAN 1
#endif

/* Whether the compiler makes Thumb code for a core with the DSP instructions of Cortex-M, whose
 * single loads and stores may be unaligned (not so with -mno-unaligned-access). In Arm state LDRD
 * takes other registers. */
#if defined(__GNUC__) && defined(__thumb2__) && defined(__ARM_FEATURE_DSP) &&  \
    defined(__ARM_FEATURE_UNALIGNED) && ETN_LITTLE_ENDIAN
#define ETN_DSP_ASSEMBLY 1
#else
#define ETN_DSP_ASSEMBLY 0
#endif

/* One of the two forms of each kernel: 0 is portable C, 1 uses the Cortex-M DSP instructions.
 * ETN_EMULATE_DSP compiles the DSP form anywhere, with C definitions of the instructions; big-endian
 * cores always get portable C. */
#if ETN_DSP_ASSEMBLY || (defined(ETN_EMULATE_DSP) && ETN_LITTLE_ENDIAN)
#define ETN_DSP 1
#else
#define ETN_DSP 0
#endif

/* Constants of an operator, in flash. `weight` is packed as etn_weights.h says;
 * `bias` has one value per output channel or is NULL; `multiplier` and `offset` have one value
 * per output channel, or a single one if etn_rule.per_tensor; so does `residual_multiplier`, which
 * is NULL without a shortcut. `offset` is of int16_t if etn_rule.narrow_offset, else of int32_t;
 * `bias` likewise by etn_rule.narrow_bias.
 * `shift` is for callers that share a kernel: what counts is etn_rule.shift. */
typedef struct {
    const void *weight;
    const void *bias;
    const int32_t *multiplier;
    const void *offset;
    const int32_t *residual_multiplier;
    int32_t shift;
} etn_constants;

/* From accumulator to output value; see etn_arithmetic.h. shift 0..24, bits 2..16; `left` 0..16 is
 * what a shift below 0 shifts the accumulator to the left, `shift` is then 0. */
typedef struct {
    int32_t shift;
    int32_t bits;
    int32_t relu;
    int32_t per_tensor;
    int32_t narrow_offset;
    int32_t narrow_bias;
    int32_t left;
} etn_rule;

/* Rows of a tensor: element (row, pixel, channel) is
 * data[row * row_stride + pixel * pixel_stride + channel * channel_stride],
 * strides in elements of int16_t if `wide`, else of int8_t. `data` is element (0, 0, 0) of the
 * call: past the pad of a padded line. A residual is a view of the output's shape, or NULL.
 * What a kernel writes must not overlap what it reads, the residual included, but where its header
 * allows it; pointwise, conv2d and add may write each value over that of the residual. */
typedef struct {
    void *data;
    int32_t row_stride;
    int32_t pixel_stride;
    int32_t channel_stride;
    int32_t wide;
} etn_view;

/* Address of element (row, pixel, channel) of `view`. */
ETN_INLINE void *etn_address(const etn_view *view, int32_t row, int32_t pixel, int32_t channel)
{
    const int32_t element =
        row * view->row_stride + pixel * view->pixel_stride + channel * view->channel_stride;
    return (int8_t *)view->data + element * (view->wide ? 2 : 1);
}

/* `view` without its first `pixels` pixels. */
ETN_INLINE etn_view etn_view_from(const etn_view *view, int32_t pixels)
{
    etn_view result = *view;
    result.data = etn_address(view, 0, pixels, 0);
    return result;
}

/* Store `value`, in range of the element type: int16_t if `wide`, else int8_t. */
ETN_INLINE void etn_store(void *address, int32_t wide, int32_t value)
{
    if (wide != 0) {
        *(int16_t *)address = (int16_t)value;
    } else {
        *(int8_t *)address = (int8_t)value;
    }
}

/* The value at `address`: int16_t if `wide`, else int8_t. */
ETN_INLINE int32_t etn_load(const void *address, int32_t wide)
{
    return wide ? *(const int16_t *)address : *(const int8_t *)address;
}

/* The constants of one output channel. */
typedef struct {
    int32_t multiplier;
    int32_t offset;
    int32_t bias;
    int32_t residual_multiplier;
} etn_channel;

ETN_INLINE etn_channel etn_channel_of(
    const etn_constants *constants, etn_rule rule, int32_t channel)
{
    const int32_t index = rule.per_tensor ? 0 : channel;
    etn_channel result;
    result.multiplier = constants->multiplier[index];
    result.offset = rule.narrow_offset ? ((const int16_t *)constants->offset)[index]
                                       : ((const int32_t *)constants->offset)[index];
    result.bias = 0;
    if (constants->bias != NULL) {
        result.bias = rule.narrow_bias ? ((const int16_t *)constants->bias)[channel]
                                       : ((const int32_t *)constants->bias)[channel];
    }
    result.residual_multiplier =
        constants->residual_multiplier != NULL ? constants->residual_multiplier[index] : 0;
    return result;
}

#endif
