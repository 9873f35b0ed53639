"""Random constants of legal operators: ordinary ones, and those at the ends of what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.graph.arithmetic import INT32_MAX, INT32_MIN, signed_range
from etinynet.graph.check import accumulator_range
from etinynet.graph.ir import Op, Requantization, Tensor

__all__ = ["random_bias", "random_rule", "random_weight", "random_zero_point"]

_MOST_LEFT, _MOST_RIGHT = 16, 24
#: Constants are halved this often until the sum stays in int32.
_HALVINGS = 40

_Int64 = NDArray[np.int64]


def random_zero_point(rng: np.random.Generator, bits: int) -> int:
    """0, the least, the largest or any value of `bits` bits."""
    low, high = signed_range(bits)
    return int(rng.choice([0, low, high, int(rng.integers(low, high + 1))]))


def random_weight(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> NDArray[np.int8]:
    """Weights of `bits` bits: all alike, at both ends, mostly zeros, or any."""
    low, high = signed_range(bits)
    kind = rng.random()
    if kind < 0.2:
        values = np.full(shape, rng.choice([low, high, 0]))
    elif kind < 0.3:
        values = rng.choice([low, high], shape)
    else:
        values = rng.integers(low, high + 1, shape)
        if kind < 0.4:
            values *= rng.random(shape) < 0.2
    return values.astype(np.int8)


def random_bias(rng: np.random.Generator, op: Op, source: Tensor) -> NDArray[np.int32]:
    """A bias per channel: small, of 16 bits, or all that the accumulator can still take."""
    low, high = accumulator_range(op, source)
    least, most = np.minimum(INT32_MIN - low, 0), np.maximum(INT32_MAX - high, 0)
    kind = rng.random()
    if kind < 0.15:
        return np.where(rng.random(low.shape) < 0.5, least, most).astype(np.int32)
    reach = 1 << 15 if kind < 0.3 else 1000
    return np.clip(rng.integers(-reach, reach, low.shape), least, most).astype(np.int32)


def _random_shift(rng: np.random.Generator, reach: int) -> int:
    """Any shift that a rule may have where accumulators go up to `reach`; below 0 now and then."""
    left = min(_MOST_LEFT, 31 - reach.bit_length())
    if left > 0 and rng.random() < 0.25:
        return -int(rng.integers(1, left + 1))
    return int(rng.choice([0, 1, 4, 6, _MOST_RIGHT, int(rng.integers(0, _MOST_RIGHT + 1))]))


def _multiplier(
    rng: np.random.Generator, op: Op, reach: _Int64, out_bits: int, shift: int
) -> _Int64:
    """Factors that fill `out_bits` bits about evenly; one for all channels now and then."""
    typical = reach.astype(np.float64)
    if op.weight is not None:
        typical /= np.sqrt(op.weight[0].size)
    factor = 2.0 ** (out_bits - 1 + shift) / np.maximum(typical, 1)
    factor *= rng.uniform(0.3, 2, factor.shape) * rng.choice([1, 1, -1], factor.shape)
    values = np.clip(np.rint(factor * 2.0**32), INT32_MIN, INT32_MAX).astype(np.int64)
    return values[:1] if rng.random() < 0.25 else values


def _wild(rng: np.random.Generator, count: int) -> _Int64:
    """Any int32, or those at the ends."""
    if rng.random() < 0.25:
        return rng.choice([INT32_MIN, INT32_MIN + 1, -1, 0, 1, INT32_MAX], count)
    return rng.integers(INT32_MIN, INT32_MAX + 1, count)


def _shortcut_factor(
    rng: np.random.Generator, count: int, bits: tuple[int, int], shift: int
) -> _Int64:
    """Factors of a shortcut of bits[0] bits that go with an output of bits[1] bits."""
    unit = 2.0 ** (16 + shift + bits[1] - bits[0])
    values = np.rint(rng.uniform(-1.5, 1.5, count) * unit)
    return np.clip(values, INT32_MIN, INT32_MAX).astype(np.int64)


def _offsets_allowed(
    ends: _Int64, multiplier: _Int64, factor: _Int64 | None, shortcut_bits: int
) -> tuple[int, int]:
    """Least and largest offset with which no sum leaves int32; the first exceeds the second where
    there is none. `ends`: least and largest accumulator of each channel."""
    scaled = (ends * multiplier + 2**31) >> 32
    spread = 0 if factor is None else (int(np.abs(factor).max()) >> (17 - shortcut_bits)) + 1
    least, most = INT32_MIN - int(scaled.min()) + spread, INT32_MAX - int(scaled.max()) - spread
    return max(least, INT32_MIN), min(most, INT32_MAX)


def _offset(
    rng: np.random.Generator, count: int, allowed: tuple[int, int], out: Tensor, shift: int
) -> _Int64:
    """Offsets about the zero point or anywhere in the output's range, or at the ends `allowed`."""
    least, most = allowed
    kind = rng.random()
    if kind < 0.15:
        return rng.choice([least, most], count)
    if kind < 0.25:
        return rng.integers(least, most + 1, count)
    low, high = signed_range(out.bits)
    middle = rng.integers(low, high + 1, count) if kind < 0.6 else np.full(count, out.zero_point)
    return np.clip((middle << shift) + ((1 << shift) >> 1), least, most)


def random_rule(
    rng: np.random.Generator, op: Op, source: Tensor, out: Tensor, shortcut: Tensor | None
) -> Requantization | None:
    """A rule with which `op` is legal; None where none was found."""
    low, high = accumulator_range(op, source)
    shift = _random_shift(rng, max(int(high.max()), -int(low.min()), 1))
    relu, right = bool(rng.random() < 0.5), max(shift, 0)
    ends: Any = np.stack([low, high]).astype(np.int64) << max(-shift, 0)
    ends = np.maximum(ends, 0) if relu else ends
    channels = out.shape[2]

    def count() -> int:
        return channels if rng.random() < 0.75 else 1

    multiplier = _multiplier(rng, op, np.maximum(-ends[0], ends[1]), out.bits, right)
    if rng.random() < 0.5:
        multiplier = _wild(rng, count())
    factor = None
    if shortcut is not None:
        factor = _shortcut_factor(rng, count(), (shortcut.bits, out.bits), right)
        if rng.random() < 0.3:
            factor = _wild(rng, len(factor))
    bits = 0 if shortcut is None else shortcut.bits
    for _ in range(_HALVINGS):
        least, most = _offsets_allowed(ends, multiplier, factor, bits)
        if least <= most:
            break
        multiplier = multiplier // 2
        factor = None if factor is None else factor // 2
    else:
        return None
    return Requantization(
        multiplier.astype(np.int32),
        _offset(rng, count(), (least, most), out, right).astype(np.int32),
        shift,
        relu,
        None if factor is None else factor.astype(np.int32),
    )
