"""The integer arithmetic: saturation, requantization and its ranges, as docs/arithmetic.md says.

Everything is NumPy int64 here, wide enough that nothing wraps; graph/check.py proves that the
int32 accumulators of the backends do not wrap either. No floating point takes part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "INT32_MAX",
    "INT32_MIN",
    "Int64Array",
    "multiply_add_high",
    "multiply_add_wide",
    "requantize",
    "saturate",
    "signed_range",
]

Int64Array = NDArray[np.int64]

INT32_MIN = -(2**31)
INT32_MAX = 2**31 - 1


def signed_range(bits: int) -> tuple[int, int]:
    """Smallest and largest value of a signed integer of `bits` bits."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def saturate(values: Int64Array, bits: int) -> Int64Array:
    """`values` clamped to the signed range of `bits` bits (SSAT on Arm)."""
    low, high = signed_range(bits)
    return np.clip(values, low, high)


def multiply_add_high(
    accumulator: Int64Array, multiplier: Int64Array, addend: Int64Array
) -> Int64Array:
    """floor((addend * 2^32 + accumulator * multiplier + 2^31) / 2^32): SMMLAR on Arm.

    All arguments are in int32 range; so is the result where graph/check.py has passed.
    """
    return addend + ((accumulator * multiplier + (1 << 31)) >> 32)


def multiply_add_wide(value: Int64Array, multiplier: Int64Array, addend: Int64Array) -> Int64Array:
    """addend + floor(value * multiplier / 2^16), `value` in int16 range: SMLAWB on Arm."""
    return addend + ((value * multiplier) >> 16)


def requantize(
    accumulator: Int64Array,
    multiplier: Int64Array,
    offset: Int64Array,
    shift: int,
    bits: int,
    *,
    relu: bool,
    residual: Int64Array | None = None,
    residual_multiplier: Int64Array | None = None,
) -> Int64Array:
    """Accumulators (..., channels) to tensor values of `bits` bits; channel constants broadcast.

        a = max(accumulator, 0) if relu else accumulator
        t = multiply_add_high(a * 2^max(-shift, 0), multiplier, offset)
        t = multiply_add_wide(residual, residual_multiplier, t)    if there is a shortcut
        y = saturate(floor(t / 2^max(shift, 0)), bits)

    The rounding half of the shift, the zero point of the output and the normalisation's additive
    constant are all inside `offset`, which counts in units of 2^-max(shift, 0) of the output.
    """
    if relu:
        accumulator = np.maximum(accumulator, 0)
    total = multiply_add_high(accumulator << max(-shift, 0), multiplier, offset)
    if residual is not None and residual_multiplier is not None:
        total = multiply_add_wide(residual, residual_multiplier, total)
    return saturate(total >> max(shift, 0), bits)
