"""Codings of constants: exact for every int32, the narrowest that is, extremes included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etinynet.graph.coding import (
    LARGEST_BASE,
    SIGNIFICANT_BITS,
    decode,
    encode,
    nearest_short,
    pack_nibbles,
    unpack_nibbles,
)

INT32 = st.integers(-(2**31), 2**31 - 1) | st.sampled_from(
    [0, 1, -1, 2**15, -(2**15) - 1, 2**31 - 1, -(2**31), 2**31 - 2**19, 2**26, 2**26 - 1]
)


@st.composite
def shorts(draw: st.DrawFn) -> list[int]:
    """Values that one array of short floats holds, by its definition in docs/graph.md."""
    base = draw(st.integers(0, 5))
    pairs = st.tuples(st.booleans(), st.integers(0, 15), st.integers(0, 2**11 - 1))
    values = [2**25 << base]  # makes the base the smallest that reaches
    for negative, exponent, fraction in draw(st.lists(pairs, min_size=1)):
        size = fraction << base
        if exponent:
            size = (2**11 + fraction) << (base + exponent - 1)
        values.append(-size if negative else size)
    return values


def exact(values: list[int]) -> str:
    array = np.array(values, np.int32)
    coding, stored, base = encode(array)
    again = decode(coding, stored, base)
    assert again.dtype == np.int32
    assert np.array_equal(again, array)
    assert stored.dtype == {"int16": np.int16, "short": np.uint16, "int32": np.int32}[coding]
    assert base == 0 or coding == "short"
    return coding


@settings(deadline=None)
@given(st.lists(INT32, min_size=1))
def test_any_values_come_back(values: list[int]) -> None:
    exact(values)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1))
def test_int16_comes_first(values: list[int]) -> None:
    assert exact(values) == "int16"


@settings(deadline=None)
@given(shorts())
def test_short_floats_take_two_bytes(values: list[int]) -> None:
    assert exact(values) == "short"


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ([-(2**31)], "short"),
        ([2**31 - 2**19], "short"),
        ([2**31 - 2**18], "int32"),
        ([2**31 - 1], "int32"),
        ([4095 << 14, 2047, -1, 0], "short"),
        ([4095 << 14, 4095], "short"),
        ([4095 << 14, 4097], "int32"),
        ([2**26, 1], "int32"),
        ([2**26, 2], "short"),
        ([-(2**31), 64], "short"),
        ([-(2**31), 32], "int32"),
    ],
)
def test_where_short_floats_end(values: list[int], coding: str) -> None:
    assert exact(values) == coding


def test_the_bits_of_a_short_float() -> None:
    """Sign, four of exponent, eleven of fraction."""
    values = np.array([4095 << 16, -(4 << 2), 2048 << 2, (2048 << 3) + 8, 0], np.int32)
    coding, stored, base = encode(values)
    assert (coding, base) == ("short", 2)
    assert [f"{code:016b}" for code in stored] == [
        "0111111111111111",
        "1000000000000100",
        "0000100000000000",
        "0001000000000001",
        "0000000000000000",
    ]


@settings(deadline=None)
@given(st.lists(INT32, min_size=1), st.integers(-3, 3))
def test_nearest_short(values: list[int], power: int) -> None:
    """What lowering rounds to is exact in two bytes, and as near as the codes allow."""
    real = np.array(values, np.float64) * 2.0**power
    rounded = nearest_short(real)
    assert exact([int(value) for value in rounded]) != "int32"
    largest = 2.0**31 - 2.0**19
    inside = np.clip(real, -largest, largest)
    error = np.abs(rounded - inside)
    finest = max(0.5, np.abs(rounded).max() * 2.0**-26)
    assert np.all(error <= np.maximum(np.abs(inside) * 2.0**-SIGNIFICANT_BITS, finest))
    assert np.array_equal(nearest_short(rounded), rounded)


def test_rounding_up_may_raise_the_base() -> None:
    rounded = nearest_short(np.array([2.0**26 - 1, 7.0]))
    assert rounded.tolist() == [2.0**26, 8.0]


@pytest.mark.parametrize("base", [LARGEST_BASE + 1, -1, 10**30, 1.0, "0", None, True])
def test_a_base_out_of_range_is_refused(base: object) -> None:
    with pytest.raises(ValueError, match=r"base of short is .*, allowed is 0 to 6"):
        decode("short", np.zeros(1, np.uint16), base)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [0x7800, 0x7FFF, 0xF801])
def test_a_value_beyond_int32_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match=r"short float -?\d+ is beyond int32"):
        decode("short", np.array([0, code], np.uint16), LARGEST_BASE)


@settings(deadline=None)
@given(st.lists(st.integers(-8, 7)))
def test_nibbles(values: list[int]) -> None:
    packed = pack_nibbles(np.array(values, np.int8))
    assert packed.dtype == np.uint8
    assert len(packed) == (len(values) + 1) // 2
    for index, value in enumerate(values):
        assert packed[index // 2] >> 4 * (index % 2) & 15 == value & 15
    if len(values) % 2:
        assert packed[-1] >> 4 == 0
    assert unpack_nibbles(packed, len(values)).tolist() == values
