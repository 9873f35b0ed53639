"""Quantized weights: levels, rounding and scales."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etinynet.errors import ConfigError
from etinynet.quantize.weights import quantize_weight


@given(st.integers(2, 8), st.integers(0, 2**31), st.floats(-12, 3))
def test_levels_and_rounding(bits: int, seed: int, exponent: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 3, 2, 2, generator=generator) * 10**exponent
    result = quantize_weight(weight, bits)
    top = 2 ** (bits - 1) - 1
    assert result.bits == bits
    assert result.integers.dtype == torch.int8
    assert result.integers.shape == weight.shape
    assert result.scale.shape == (5,)
    assert result.integers.flatten(1).abs().amax(1).tolist() == [top] * 5
    error = (result.dequantized() - weight).abs().flatten(1).amax(1)
    assert bool((error <= 0.5001 * result.scale).all())
    assert torch.equal(quantize_weight(weight, bits).integers, result.integers)


def test_integers_are_kept() -> None:
    weight = torch.tensor([[-7.0, 3, 0, 7], [1, -1, 0, 0]]) * torch.tensor([[0.5], [2]])
    result = quantize_weight(weight, 4)
    assert result.integers.tolist() == [[-7, 3, 0, 7], [7, -7, 0, 0]]
    assert torch.equal(result.dequantized(), weight)


def test_a_channel_of_zeros_takes_the_largest_scale() -> None:
    weight = torch.tensor([[0.0, 0], [127, 0], [254, 1]])
    result = quantize_weight(weight, 8)
    assert result.scale.tolist() == [2, 1, 2]
    assert result.integers[0].tolist() == [0, 0]
    assert quantize_weight(torch.zeros(2, 3), 8).scale.tolist() == [1, 1]


@pytest.mark.parametrize("bits", [1, 9])
def test_bits(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"weight_bits is {bits}, allowed are 2 to 8"):
        quantize_weight(torch.ones(1, 1), bits)
