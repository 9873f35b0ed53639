"""Quantized weights of each method: levels, rounding, scales, and which layer gets which bits."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import layers_of, small_network
from torch import Tensor

from etinynet.errors import ConfigError
from etinynet.frontend.float_graph import Layer
from etinynet.graph import Window
from etinynet.quantize.methods import METHODS, PAPER_LAMBDA, Widths, rounder_of, start_value
from etinynet.quantize.quantizers import asq, dorefa_symmetric, least_squares_scale, levels, lsq
from etinynet.quantize.rounding import InputMoments, round_compensated
from etinynet.quantize.search import search_lambda, search_step
from etinynet.quantize.weights import QuantizedWeight, lowest_code

#: Methods that need no pictures.
NEAREST = [method for method in METHODS if method not in ("best", "asq")]


def moments() -> InputMoments:
    raise AssertionError("nearest rounding needs no moments")


def rounded(method: str, weight: Tensor, bits: int, per_channel: bool = True) -> QuantizedWeight:
    layer = Layer("conv2d", "a", ("input",), Window.square(weight.shape[-1]), weight)
    return rounder_of(method, {"a": bits}, per_channel)(layer, moments)


def random_weight(seed: int) -> Tensor:
    return torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(
    st.sampled_from(NEAREST),
    st.integers(2, 8),
    st.integers(0, 2**31),
    st.floats(-6, 3),
    st.booleans(),
)
def test_levels_and_shapes(
    method: str, bits: int, seed: int, exponent: float, per_channel: bool
) -> None:
    weight = random_weight(seed) * 10**exponent
    result = rounded(method, weight, bits, per_channel)
    top = levels(bits)
    assert result.bits == bits
    assert result.integers.dtype == torch.int8
    assert result.integers.shape == weight.shape
    assert result.scale.dtype == torch.float64
    assert result.scale.shape == (5,)
    assert bool((result.scale > 0).all())
    assert (len(set(result.scale.tolist())) == 1) or per_channel
    # Some weight takes the last level: no bit is wasted.
    assert int(result.integers.abs().max()) == top
    torch.testing.assert_close(result.rounded(), weight, rtol=1e-6, atol=0)
    assert bool(((result.integers * weight) >= 0).all())


@pytest.mark.parametrize("per_channel", [True, False], ids=["channel", "layer"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_integers_are_the_quantizers(bits: int, per_channel: bool) -> None:
    """scale * integers is the quantizer's own result, given the least-squares scale."""
    weight = random_weight(bits).double()
    step = search_step(weight, bits, per_channel)
    found = rounded("lsq", weight, bits, per_channel)
    assert torch.equal(found.dequantized(), lsq(weight, step, bits).float())
    two = torch.tensor(PAPER_LAMBDA, dtype=torch.float64)
    for method, normal in {
        "asq-paper": asq(weight, two, bits, per_channel),
        "dorefa": dorefa_symmetric(weight, bits, per_channel),
    }.items():
        scale = least_squares_scale(weight, normal, per_channel).reshape(-1, 1, 1, 1)
        found = rounded(method, weight, bits, per_channel)
        torch.testing.assert_close(found.dequantized(), (normal * scale).float())
        assert torch.equal(found.integers, (normal * levels(bits)).round().to(torch.int8))


def seen(layer: Layer) -> InputMoments:
    gathered = InputMoments()
    x = torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    gathered.add(layer, x, x)
    return gathered


@pytest.mark.parametrize("per_channel", [True, False], ids=["channel", "layer"])
def test_asq_rounds_the_compensated_weight(per_channel: bool) -> None:
    layer = Layer("conv2d", "a", ("input",), Window.square(2), random_weight(0))
    gathered = seen(layer)
    found = rounder_of("asq", {"a": 4}, per_channel)(layer, lambda: gathered)
    weight = round_compensated(layer.weight, 4, gathered).rounded().double()
    normal = asq(weight, search_lambda(weight, 4, per_channel), 4, per_channel)
    scale = least_squares_scale(weight, normal, per_channel).reshape(-1, 1, 1, 1)
    assert torch.equal(found.integers, (normal * levels(4)).round().to(torch.int8))
    torch.testing.assert_close(found.dequantized(), (normal * scale).float())
    torch.testing.assert_close(found.rounded(), weight.float())
    assert len(set(found.scale.tolist())) == (5 if per_channel else 1)


def test_best_is_compensated_rounding() -> None:
    layer = Layer("conv2d", "a", ("input",), Window.square(2), random_weight(0))
    gathered = seen(layer)
    for per_channel in (True, False):
        found = rounder_of("best", {"a": 3}, per_channel)(layer, lambda: gathered)
        wanted = round_compensated(layer.weight, 3, gathered, -4)
        assert torch.equal(found.integers, wanted.integers)
        assert torch.equal(found.scale, wanted.scale)


def test_only_few_bits_have_the_lowest_code_of_all() -> None:
    """Depthwise weights never: a turned input channel turns them, and 8 has no place in 4 bits."""
    assert [lowest_code("pointwise", bits) for bits in (2, 4, 6, 7, 8)] == [-2, -8, -32, -63, -127]
    assert [lowest_code("depthwise", bits) for bits in (2, 4, 8)] == [-1, -7, -127]


def test_where_training_starts() -> None:
    weight = random_weight(3)
    assert start_value("asq-paper", weight, 4, True).tolist() == PAPER_LAMBDA
    assert start_value("dorefa", weight, 4, True).tolist() == 1
    assert torch.equal(start_value("asq", weight, 4, True), search_lambda(weight.double(), 4, True))
    for method in ("lsq", "best"):
        wanted = search_step(weight.double(), 4, False)
        assert torch.equal(start_value(method, weight, 4, False), wanted)


def test_integers_are_kept() -> None:
    weight = torch.tensor([[-7.0, 3, 0, 7], [1, -1, 0, 0]]) * torch.tensor([[0.5], [2]])
    result = rounded("lsq", weight, 4)
    assert result.integers.tolist() == [[-7, 3, 0, 7], [7, -7, 0, 0]]
    assert torch.equal(result.dequantized(), weight)


@pytest.mark.parametrize("method", NEAREST)
def test_a_channel_of_zeros_makes_nothing_coarser(method: str) -> None:
    weight = torch.tensor([[0.0, 0], [127, 0], [254, 1]])
    result = rounded(method, weight, 8)
    assert result.integers[0].tolist() == [0, 0]
    assert result.scale[0] == result.scale.max()
    silent = rounded(method, torch.zeros(2, 3), 8)
    assert silent.integers.tolist() == [[0, 0, 0]] * 2
    assert bool((silent.scale > 0).all())


@pytest.mark.parametrize("bits", [1, 9])
def test_bits(bits: int) -> None:
    for method in NEAREST:
        with pytest.raises(ConfigError, match=f"weight_bits is {bits}, allowed are 2 to 8"):
            rounded(method, torch.ones(1, 1), bits)


def test_widths_of_layers() -> None:
    layers = layers_of(small_network("conv_relu_bn"))
    names = [layer.name for layer in layers if layer.weight is not None]
    assert Widths(5).of(layers) == dict.fromkeys(names, 5)
    found = Widths(4, (("*.dw?", 8), ("b1.*", 3), ("stem", 6), ("b[23].pw", 2))).of(layers)
    assert list(found) == names
    assert found["stem"] == 6
    assert found["b0.dw1"] == found["b3.dw2"] == 8
    # The last pattern that fits decides.
    assert found["b1.dw1"] == found["b1.pw"] == 3
    assert found["b2.pw"] == found["b3.pw"] == 2
    assert found["b0.pw"] == found["scores"] == 4


def test_widths_that_cannot_be() -> None:
    layers = layers_of(small_network("conv_relu_bn"))
    for pattern in ("b9.*", "B0.pw", "pool", "features", ""):
        with pytest.raises(ConfigError) as caught:
            Widths(4, ((pattern, 8),)).of(layers)
        assert f"layer_bits: no layer fits {pattern!r}; allowed are patterns of stem, b0.dw1" in (
            str(caught.value)
        )
    with pytest.raises(ConfigError, match="weight_bits is 1, allowed are 2 to 8"):
        Widths(1)
    for bits in (9, 1, True, 4.0):
        with pytest.raises(ConfigError) as caught:
            Widths(4, (("stem", bits),))
        assert str(caught.value) == f"layer_bits: 'stem' has {bits!r}, allowed are 2 to 8"


def test_a_quantized_weight_is_frozen() -> None:
    result = rounded("lsq", random_weight(0), 4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.bits = 3
