/* SPDX-License-Identifier: MIT */
/* memcpy, memset and the names the compiler calls them by, for compilers without a C library.
 *
 * Build with -fno-builtin, or the compiler turns these loops into calls of themselves. */
#include <stddef.h>
#include <stdint.h>

#include "string.h"

/* Single words may be unaligned on Cortex-M4 and M7; aligned(1) keeps LDM and LDRD away. */
typedef uint32_t __attribute__((may_alias, aligned(1))) word;

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    unsigned char *out = to;
    const unsigned char *in = from;
    for (; bytes >= 16; bytes -= 16, in += 16, out += 16) {
        const word a = ((const word *)in)[0], b = ((const word *)in)[1];
        const word c = ((const word *)in)[2], d = ((const word *)in)[3];
        ((word *)out)[0] = a;
        ((word *)out)[1] = b;
        ((word *)out)[2] = c;
        ((word *)out)[3] = d;
    }
    for (; bytes != 0; bytes--) {
        *out++ = *in++;
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    unsigned char *out = to;
    const word pattern = (unsigned char)value * 0x01010101u;
    for (; bytes >= 16; bytes -= 16, out += 16) {
        ((word *)out)[0] = pattern;
        ((word *)out)[1] = pattern;
        ((word *)out)[2] = pattern;
        ((word *)out)[3] = pattern;
    }
    for (; bytes != 0; bytes--) {
        *out++ = (unsigned char)value;
    }
    return to;
}

/* The names of the Arm run-time ABI; the suffix promises an alignment that these do not need. */
#define SAME_AS(function) __attribute__((alias(#function)))
void *__aeabi_memcpy(void *to, const void *from, size_t bytes) SAME_AS(memcpy);
void *__aeabi_memcpy4(void *to, const void *from, size_t bytes) SAME_AS(memcpy);
void *__aeabi_memcpy8(void *to, const void *from, size_t bytes) SAME_AS(memcpy);

void __aeabi_memset(void *to, size_t bytes, int value)
{
    memset(to, value, bytes);
}

void __aeabi_memclr(void *to, size_t bytes)
{
    memset(to, 0, bytes);
}

void __aeabi_memset4(void *to, size_t bytes, int value) SAME_AS(__aeabi_memset);
void __aeabi_memset8(void *to, size_t bytes, int value) SAME_AS(__aeabi_memset);
void __aeabi_memclr4(void *to, size_t bytes) SAME_AS(__aeabi_memclr);
void __aeabi_memclr8(void *to, size_t bytes) SAME_AS(__aeabi_memclr);
