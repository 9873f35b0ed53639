/* SPDX-License-Identifier: MIT */
/* The Cortex-M DSP instructions the kernels use: inline assembly on Arm, C for the host.
 *
 * Defined only in the DSP form (ETN_DSP). `lanes` are two int16 in a uint32_t, low half first.
 */
#ifndef ETN_DSP_H
#define ETN_DSP_H

#include "etn_types.h"

#if ETN_DSP

/* One word from any address; a single LDR. */
typedef struct __attribute__((packed, may_alias)) {
    uint32_t word;
} etn_unaligned;

ETN_INLINE uint32_t etn_load_word(const void *address)
{
    return ((const etn_unaligned *)address)->word;
}

/* One word to any address; a single STR. */
ETN_INLINE void etn_store_word(void *address, uint32_t word)
{
    ((etn_unaligned *)address)->word = word;
}

/* One word from an address that is a multiple of 4: loads of neighbours can become one LDRD. */
typedef uint32_t __attribute__((may_alias)) etn_aligned;

ETN_INLINE uint32_t etn_load_aligned(const void *address)
{
    return *(const etn_aligned *)address;
}

#if ETN_DSP_ASSEMBLY

/* addend + a.low * b.low + a.high * b.high */
ETN_INLINE int32_t etn_smlad(uint32_t a, uint32_t b, int32_t addend)
{
    int32_t result;
    __asm__("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(addend));
    return result;
}

/* a.low * b.low + a.high * b.high; the products of int8-valued lanes cannot overflow */
ETN_INLINE int32_t etn_smuad(uint32_t a, uint32_t b)
{
    int32_t result;
    __asm__("smuad %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

/* addend + a.x * b.y, x and y bottom or top */
ETN_INLINE int32_t etn_smlabb(uint32_t a, uint32_t b, int32_t addend)
{
    int32_t result;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(addend));
    return result;
}

ETN_INLINE int32_t etn_smlabt(uint32_t a, uint32_t b, int32_t addend)
{
    int32_t result;
    __asm__("smlabt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(addend));
    return result;
}

ETN_INLINE int32_t etn_smlatb(uint32_t a, uint32_t b, int32_t addend)
{
    int32_t result;
    __asm__("smlatb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(addend));
    return result;
}

ETN_INLINE int32_t etn_smlatt(uint32_t a, uint32_t b, int32_t addend)
{
    int32_t result;
    __asm__("smlatt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(addend));
    return result;
}

/* addend + floor((a * b + 2^31) / 2^32) */
ETN_INLINE int32_t etn_smmlar(int32_t a, int32_t b, int32_t addend)
{
    int32_t result;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(addend));
    return result;
}

/* addend + floor(a * b.low / 2^16) */
ETN_INLINE int32_t etn_smlawb(int32_t a, int32_t b, int32_t addend)
{
    int32_t result;
    __asm__("smlawb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(addend));
    return result;
}

/* bytes 0 and 2 sign-extended into lanes */
ETN_INLINE uint32_t etn_sxtb16(uint32_t word)
{
    uint32_t result;
    __asm__("sxtb16 %0, %1" : "=r"(result) : "r"(word));
    return result;
}

/* bytes 1 and 3 sign-extended into lanes */
ETN_INLINE uint32_t etn_sxtb16_ror8(uint32_t word)
{
    uint32_t result;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(word));
    return result;
}

/* lanes + bytes 0 and 2 of word */
ETN_INLINE uint32_t etn_sxtab16(uint32_t lanes, uint32_t word)
{
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2" : "=r"(result) : "r"(lanes), "r"(word));
    return result;
}

/* lanes + bytes 1 and 3 of word */
ETN_INLINE uint32_t etn_sxtab16_ror8(uint32_t lanes, uint32_t word)
{
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(result) : "r"(lanes), "r"(word));
    return result;
}

/* low lane of a, and low lane of b as high lane */
ETN_INLINE uint32_t etn_pkhbt(uint32_t a, uint32_t b)
{
    uint32_t result;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

/* the larger of each of the four signed bytes; SSUB8 sets the GE flags that SEL reads */
ETN_INLINE uint32_t etn_max8(uint32_t a, uint32_t b)
{
    uint32_t result;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(result) : "r"(a), "r"(b) : "cc");
    return result;
}

#else /* the same instructions in C */

ETN_INLINE int32_t etn_low(uint32_t lanes)
{
    return (int16_t)(uint16_t)(lanes & 0xFFFFu);
}

ETN_INLINE int32_t etn_high(uint32_t lanes)
{
    return (int16_t)(uint16_t)(lanes >> 16);
}

ETN_INLINE uint32_t etn_lanes(int32_t low, int32_t high)
{
    return ((uint32_t)low & 0xFFFFu) | ((uint32_t)high << 16);
}

ETN_INLINE int32_t etn_byte(uint32_t word, int32_t index)
{
    return (int8_t)(uint8_t)((word >> (8 * index)) & 0xFFu);
}

/* In two steps, so that the sanitizer of the host also sees partial sums that would wrap. */
ETN_INLINE int32_t etn_smlad(uint32_t a, uint32_t b, int32_t addend)
{
    return (addend + etn_low(a) * etn_low(b)) + etn_high(a) * etn_high(b);
}

ETN_INLINE int32_t etn_smuad(uint32_t a, uint32_t b)
{
    return etn_smlad(a, b, 0);
}

ETN_INLINE int32_t etn_smlabb(uint32_t a, uint32_t b, int32_t addend)
{
    return addend + etn_low(a) * etn_low(b);
}

ETN_INLINE int32_t etn_smlabt(uint32_t a, uint32_t b, int32_t addend)
{
    return addend + etn_low(a) * etn_high(b);
}

ETN_INLINE int32_t etn_smlatb(uint32_t a, uint32_t b, int32_t addend)
{
    return addend + etn_high(a) * etn_low(b);
}

ETN_INLINE int32_t etn_smlatt(uint32_t a, uint32_t b, int32_t addend)
{
    return addend + etn_high(a) * etn_high(b);
}

ETN_INLINE int32_t etn_smmlar(int32_t a, int32_t b, int32_t addend)
{
    return addend + (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
}

ETN_INLINE int32_t etn_smlawb(int32_t a, int32_t b, int32_t addend)
{
    return addend + (int32_t)(((int64_t)a * (int16_t)b) >> 16);
}

ETN_INLINE uint32_t etn_sxtb16(uint32_t word)
{
    return etn_lanes(etn_byte(word, 0), etn_byte(word, 2));
}

ETN_INLINE uint32_t etn_sxtb16_ror8(uint32_t word)
{
    return etn_lanes(etn_byte(word, 1), etn_byte(word, 3));
}

ETN_INLINE uint32_t etn_sxtab16(uint32_t lanes, uint32_t word)
{
    return etn_lanes(etn_low(lanes) + etn_byte(word, 0), etn_high(lanes) + etn_byte(word, 2));
}

ETN_INLINE uint32_t etn_sxtab16_ror8(uint32_t lanes, uint32_t word)
{
    return etn_lanes(etn_low(lanes) + etn_byte(word, 1), etn_high(lanes) + etn_byte(word, 3));
}

ETN_INLINE uint32_t etn_pkhbt(uint32_t a, uint32_t b)
{
    return etn_lanes(etn_low(a), etn_low(b));
}

ETN_INLINE uint32_t etn_max8(uint32_t a, uint32_t b)
{
    uint32_t result = 0;
    for (int32_t i = 0; i < 4; i++) {
        const uint32_t larger = etn_byte(a, i) >= etn_byte(b, i) ? a : b;
        result |= larger & (0xFFu << (8 * i));
    }
    return result;
}

#endif

/* floor(value / 2^shift) clamped to `bits` bits: one SSAT, whose encoding holds both numbers, or
 * a shift and an SSAT where `shift` is not known to the compiler. */
ETN_INLINE int32_t etn_ssat_asr(int32_t value, int32_t shift, int32_t bits)
{
#if ETN_DSP_ASSEMBLY && defined(__OPTIMIZE__)
    if (__builtin_constant_p(bits)) {
        int32_t result;
        if (!__builtin_constant_p(shift)) {
            __asm__("ssat %0, %1, %2" : "=r"(result) : "i"(bits), "r"(value >> shift));
        } else if (shift == 0) {
            __asm__("ssat %0, %1, %2" : "=r"(result) : "i"(bits), "r"(value));
        } else {
            __asm__("ssat %0, %1, %2, asr %3"
                    : "=r"(result) : "i"(bits), "r"(value), "i"(shift));
        }
        return result;
    }
#endif
    {
        const int32_t high = ((int32_t)1 << (bits - 1)) - 1;
        const int32_t low = -high - 1;
        const int32_t shifted = value >> shift;
        return shifted < low ? low : shifted > high ? high : shifted;
    }
}

#endif
#endif
