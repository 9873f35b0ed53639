"""Constants in as few bytes as hold them exactly: int16, short float or int32; nibbles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.graph.arithmetic import INT32_MAX, INT32_MIN, Int64Array

__all__ = [
    "LARGEST_BASE",
    "SIGNIFICANT_BITS",
    "decode",
    "encode",
    "nearest_short",
    "pack_nibbles",
    "unpack_nibbles",
]

#: Bits of a short float's magnitude, the leading one included where it is not stored.
SIGNIFICANT_BITS = 12
#: The base at which short floats reach the whole of int32.
LARGEST_BASE = 6
_FRACTION = SIGNIFICANT_BITS - 1
# Bit length of the largest magnitude at base 0: 15 exponents, the first of all 12 bits.
_REACH = SIGNIFICANT_BITS + 14


def pack_nibbles(weight: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Values of at most 4 bits, flattened, two to a byte, the first in the low half."""
    flat = weight.reshape(-1).astype(np.uint8) & 15
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    return (flat[0::2] | (flat[1::2] << 4)).astype(np.uint8)


def unpack_nibbles(packed: NDArray[np.uint8], count: int) -> NDArray[np.int8]:
    """The first `count` values that `pack_nibbles` put into `packed`, int8, flat."""
    halves = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count]
    return (halves.astype(np.int8) ^ 8) - 8


def nearest_short(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values` rounded to whole numbers that one array of short floats holds, float64.

    An error is at most 2^-12 of its value or, where that is more, one half or 2^-26 of the
    largest magnitude returned. Magnitudes beyond 2^31 - 2^19 become that one.
    """
    largest = (2.0**SIGNIFICANT_BITS - 1) * 2.0 ** (31 - SIGNIFICANT_BITS)
    inside = np.clip(values, -largest, largest)
    lengths = np.frexp(inside)[1]
    rounded = _to_multiples(inside, lengths - SIGNIFICANT_BITS)
    base = max(0, int(np.frexp(np.abs(rounded).max())[1]) - _REACH)
    return _to_multiples(inside, np.maximum(lengths - SIGNIFICANT_BITS, base))


def _to_multiples(values: NDArray[np.float64], exponents: NDArray[Any]) -> NDArray[np.float64]:
    multiples: NDArray[np.float64] = np.rint(np.ldexp(values, -exponents))
    return np.asarray(np.ldexp(multiples, exponents), np.float64)


def _to_short(values: Int64Array) -> tuple[NDArray[np.uint16], int]:
    """Codes and base of `values`, the low bits that do not fit cut off."""
    magnitudes = np.abs(values)
    lengths = np.frexp(magnitudes.astype(np.float64))[1].astype(np.int64)
    base = max(0, int(lengths.max()) - _REACH)
    exponents = np.maximum(lengths - _FRACTION - base, 0)
    fractions = magnitudes >> (base + np.maximum(exponents - 1, 0))
    signs = np.where(values < 0, 1 << 15, 0)
    codes = signs | exponents << _FRACTION | fractions & ((1 << _FRACTION) - 1)
    return codes.astype(np.uint16), base


def _from_short(codes: NDArray[np.uint16], base: int) -> Int64Array:
    wide = codes.astype(np.int64)
    exponents = wide >> _FRACTION & 15
    fractions = wide & ((1 << _FRACTION) - 1) | (exponents > 0) << _FRACTION
    magnitudes = fractions << (base + np.maximum(exponents - 1, 0))
    signs = 1 - (wide >> 15) * 2
    return np.asarray(signs * magnitudes, np.int64)


def encode(values: NDArray[np.int32]) -> tuple[str, NDArray[Any], int]:
    """Name of the first coding that is exact (int16, short, int32), stored values, and base.

    `values` is flat and not empty; the base is 0 but for short floats.
    """
    narrow = values.astype(np.int16)
    if np.array_equal(narrow, values):
        return "int16", narrow, 0
    wide = values.astype(np.int64)
    codes, base = _to_short(wide)
    if np.array_equal(_from_short(codes, base), wide):
        return "short", codes, base
    return "int32", values, 0


def decode(coding: str, stored: NDArray[Any], base: int) -> NDArray[np.int32]:
    """The values that `encode` stored; raises ValueError for a base or a value out of range."""
    highest = LARGEST_BASE if coding == "short" else 0
    if type(base) is not int or not 0 <= base <= highest:
        raise ValueError(f"base of {coding} is {base!r}, allowed is 0 to {highest}")
    values = _from_short(stored, base) if coding == "short" else stored.astype(np.int64)
    for extreme in (int(values.min()), int(values.max())):
        if not INT32_MIN <= extreme <= INT32_MAX:
            raise ValueError(f"short float {extreme} is beyond int32")
    return values.astype(np.int32)
