"""The integer arithmetic against plain Python integers and fractions, on extremes above all."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etinynet.graph.arithmetic import (
    INT32_MAX,
    INT32_MIN,
    multiply_add_high,
    multiply_add_wide,
    requantize,
    saturate,
    signed_range,
)

EDGES = [INT32_MIN, INT32_MIN + 1, -(2**30), -1, 0, 1, 2**15, 2**30, INT32_MAX - 1, INT32_MAX]
WORDS = st.sampled_from(EDGES) | st.integers(INT32_MIN, INT32_MAX)
HALVES = st.sampled_from([-(2**15), -128, -1, 0, 1, 127, 2**15 - 1]) | st.integers(-(2**15), 2**15)


def array(value: int) -> np.ndarray:
    return np.array([value], np.int64)


def high_by_fractions(accumulator: int, multiplier: int, addend: int) -> int:
    """The nearest integer to addend + accumulator * multiplier / 2^32, halves upwards."""
    return floor(addend + Fraction(accumulator * multiplier, 2**32) + Fraction(1, 2))


@given(WORDS, WORDS, WORDS)
def test_multiply_add_high_is_the_formula(accumulator: int, multiplier: int, addend: int) -> None:
    result = multiply_add_high(array(accumulator), array(multiplier), array(addend))
    formula = (addend * 2**32 + accumulator * multiplier + 2**31) // 2**32
    assert result.tolist() == [formula] == [high_by_fractions(accumulator, multiplier, addend)]


@pytest.mark.parametrize("accumulator", EDGES)
@pytest.mark.parametrize("multiplier", EDGES)
def test_multiply_add_high_does_not_wrap(accumulator: int, multiplier: int) -> None:
    for addend in (INT32_MIN, 0, INT32_MAX):
        result = int(multiply_add_high(array(accumulator), array(multiplier), array(addend))[0])
        assert result == high_by_fractions(accumulator, multiplier, addend)


@given(HALVES, WORDS, WORDS)
def test_multiply_add_wide_floors(value: int, multiplier: int, addend: int) -> None:
    result = multiply_add_wide(array(value), array(multiplier), array(addend))
    assert result.tolist() == [addend + floor(Fraction(value * multiplier, 2**16))]


@given(WORDS, st.integers(2, 16))
def test_saturate_clamps(value: int, bits: int) -> None:
    low, high = signed_range(bits)
    assert (low, high) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert saturate(array(value), bits).tolist() == [max(low, min(high, value))]


def requantize_by_fractions(
    accumulator: int,
    constants: tuple[int, int, int],
    shift: int,
    bits: int,
    relu: bool,
    residual: int | None,
) -> int:
    """The definition in rational numbers, rounding and flooring where the document says."""
    multiplier, offset, factor = constants
    a = Fraction(max(accumulator, 0) if relu else accumulator)
    total = Fraction(floor(offset + a * multiplier / 2**32 + Fraction(1, 2)))
    if residual is not None:
        total += floor(Fraction(residual * factor, 2**16))
    low, high = signed_range(bits)
    return max(low, min(high, floor(total / 2**shift)))


@given(
    WORDS,
    st.tuples(WORDS, WORDS, WORDS),
    st.integers(0, 24),
    st.integers(2, 16),
    st.booleans(),
    st.none() | st.integers(-128, 127),
)
def test_requantize_is_the_definition(
    accumulator: int,
    constants: tuple[int, int, int],
    shift: int,
    bits: int,
    relu: bool,
    residual: int | None,
) -> None:
    multiplier, offset, factor = constants
    result = requantize(
        array(accumulator),
        array(multiplier),
        array(offset),
        shift,
        bits,
        relu=relu,
        residual=None if residual is None else array(residual),
        residual_multiplier=None if residual is None else array(factor),
    )
    expected = requantize_by_fractions(accumulator, constants, shift, bits, relu, residual)
    assert result.tolist() == [expected]


def test_constants_broadcast_over_channels() -> None:
    accumulator = np.arange(-12, 12, dtype=np.int64).reshape(2, 4, 3) * 10**6
    multiplier = np.array([2**20, -(2**24), 2**30])
    offset = np.array([0, 5, -7])
    whole = requantize(accumulator, multiplier, offset, 3, 8, relu=False)
    for channel in range(3):
        one = requantize(
            accumulator[..., channel], multiplier[[channel]], offset[[channel]], 3, 8, relu=False
        )
        np.testing.assert_array_equal(whole[..., channel], one)
