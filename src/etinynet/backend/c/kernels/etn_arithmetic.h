/* SPDX-License-Identifier: MIT */
/* The integer arithmetic of every kernel: requantization, from sums to the next tensor's integers.
 *
 *     a = relu ? max(accumulator, 0) : accumulator         the accumulator includes the bias
 *     a = a * 2^left                                       LSL on Arm, where left is not 0
 *     t = offset + floor((a * multiplier + 2^31) / 2^32)   SMMLAR on Arm
 *     t = t + floor(shortcut * residual_multiplier / 2^16) SMLAWB on Arm, if there is a shortcut
 *     y = saturate(floor(t / 2^shift), bits)               SSAT on Arm
 *
 * The generator has proved that accumulators and t fit 32 bits. Right shifts of negative numbers
 * are arithmetic on every compiler this library is built with.
 */
#ifndef ETN_ARITHMETIC_H
#define ETN_ARITHMETIC_H

#include "etn_dsp.h"
#include "etn_types.h"

/* max(value, 0) without a branch: one BIC with shifted operand on Arm. */
ETN_INLINE int32_t etn_relu(int32_t value)
{
    return value & ~(value >> 31);
}

ETN_INLINE int32_t etn_multiply_add_high(int32_t accumulator, int32_t multiplier, int32_t addend)
{
#if ETN_DSP
    return etn_smmlar(accumulator, multiplier, addend);
#else
    const int64_t product = (int64_t)accumulator * multiplier + ((int64_t)1 << 31);
    return addend + (int32_t)(product >> 32);
#endif
}

/* `value` in int16 range. */
ETN_INLINE int32_t etn_multiply_add_wide(int32_t value, int32_t multiplier, int32_t addend)
{
#if ETN_DSP
    return etn_smlawb(multiplier, value, addend);
#else
    return addend + (int32_t)(((int64_t)value * multiplier) >> 16);
#endif
}

/* floor(value / 2^shift) clamped to a signed integer of `bits` bits. */
ETN_INLINE int32_t etn_saturate(int32_t value, int32_t shift, int32_t bits)
{
#if ETN_DSP
    return etn_ssat_asr(value, shift, bits);
#else
    const int32_t high = ((int32_t)1 << (bits - 1)) - 1;
    const int32_t low = -high - 1;
    const int32_t shifted = value >> shift;
    return shifted < low ? low : shifted > high ? high : shifted;
#endif
}

/* ReLU, and the factor of a shift below 0. */
ETN_INLINE int32_t etn_prepare(int32_t accumulator, etn_rule rule)
{
    return (rule.relu ? etn_relu(accumulator) : accumulator) * ((int32_t)1 << rule.left);
}

ETN_INLINE int32_t etn_requantize(
    int32_t accumulator, int32_t multiplier, int32_t offset, etn_rule rule)
{
    const int32_t a = etn_prepare(accumulator, rule);
    return etn_saturate(etn_multiply_add_high(a, multiplier, offset), rule.shift, rule.bits);
}

/* The same with a value of the shortcut. */
ETN_INLINE int32_t etn_requantize_residual(
    int32_t accumulator, const etn_channel *channel, etn_rule rule, int32_t shortcut)
{
    const int32_t a = etn_prepare(accumulator, rule);
    const int32_t t = etn_multiply_add_high(a, channel->multiplier, channel->offset);
    return etn_saturate(
        etn_multiply_add_wide(shortcut, channel->residual_multiplier, t), rule.shift, rule.bits);
}

/* Requantize `accumulator`, with the value at `shortcut` unless `residual` is NULL, and store the
 * result at `address`, int16_t if `wide`. */
ETN_INLINE void etn_finish(
    int32_t accumulator, const etn_channel *channel, etn_rule rule, void *address, int32_t wide,
    const etn_view *residual, const void *shortcut)
{
    const int32_t value = residual != NULL
        ? etn_requantize_residual(accumulator, channel, rule, etn_load(shortcut, residual->wide))
        : etn_requantize(accumulator, channel->multiplier, channel->offset, rule);
    etn_store(address, wide, value);
}

/* The same at element (row, pixel, c) of `out` and of `residual` (NULL: none). */
ETN_INLINE void etn_finish_element(
    int32_t accumulator, const etn_channel *channel, etn_rule rule, const etn_view *out,
    const etn_view *residual, int32_t row, int32_t pixel, int32_t c)
{
    const void *shortcut = residual != NULL ? etn_address(residual, row, pixel, c) : NULL;
    etn_finish(accumulator, channel, rule, etn_address(out, row, pixel, c), out->wide, residual,
               shortcut);
}

#endif
