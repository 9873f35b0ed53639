/* SPDX-License-Identifier: MIT */
/* memcpy and memset for compilers that come without a C library;
 * runtime.c defines them. Toolchains with their own string.h do not need this file. */
#ifndef ETN_FIRMWARE_STRING_H
#define ETN_FIRMWARE_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

#endif
