"""The searched λ and step: closer to the weights than their neighbours, found again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from etinynet.errors import ConfigError
from etinynet.quantize.quantizers import asq, least_squares_scale, lsq
from etinynet.quantize.search import search_lambda, search_step


def weights(seed: int = 0) -> Tensor:
    """Channels of three spreads with a few large weights, float64."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 40, 3, 3, generator=generator, dtype=torch.float64)
    weight[:, 0, 0, 0] *= 4
    return weight * torch.tensor([0.01, 0.1, 1]).reshape(3, 1, 1, 1)


def errors(weight: Tensor, approximation: Tensor, per_channel: bool) -> Tensor:
    square = (weight - approximation) ** 2
    return square.flatten(1).sum(1) if per_channel else square.sum()


def through_asq(weight: Tensor, lam: Tensor, bits: int, per_channel: bool) -> Tensor:
    quantized = asq(weight, lam, bits, per_channel)
    scale = least_squares_scale(weight, quantized, per_channel)
    return quantized * (scale.reshape(-1, 1, 1, 1) if per_channel else scale)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_no_other_value_is_closer(bits: int, per_channel: bool) -> None:
    weight = weights()
    lam, step = (f(weight, bits, per_channel) for f in (search_lambda, search_step))
    assert lam.shape == step.shape == ((3,) if per_channel else ())
    assert lam.dtype == step.dtype == torch.float64
    by_lambda = errors(weight, through_asq(weight, lam, bits, per_channel), per_channel)
    by_step = errors(weight, lsq(weight, step, bits), per_channel)
    for factor in (0.4, 0.6, 0.8, 1.3, 1.6, 2.2):
        other = through_asq(weight, lam * factor, bits, per_channel)
        # A finer grid finds a little more where the curve is flat.
        assert bool((by_lambda <= 1.02 * errors(weight, other, per_channel)).all())
        other = lsq(weight, step * factor, bits)
        assert bool((by_step <= errors(weight, other, per_channel)).all())


@pytest.mark.parametrize("bits", range(2, 9))
def test_levels_are_found_again(bits: int) -> None:
    """Weights that lie on levels are reached, in each channel by its own step."""
    top = 2 ** (bits - 1) - 1
    codes = torch.arange(-top, top + 1, dtype=torch.float64).repeat(2, 1)
    step = torch.tensor([0.3, 0.007], dtype=torch.float64)
    weight = codes * step[:, None]
    found = search_step(weight, bits, True)
    assert torch.allclose(found, step, rtol=1e-12)
    assert torch.allclose(lsq(weight, found, bits), weight, rtol=1e-12)


@pytest.mark.parametrize("per_channel", [False, True])
def test_scale_of_the_weights_does_not_matter(per_channel: bool) -> None:
    weight = weights()
    weight = weight * 10  # the epsilon of the variance no longer counts
    lam = search_lambda(weight, 4, per_channel)
    assert torch.equal(lam, search_lambda(weight * 8, 4, per_channel))
    step = search_step(weight, 4, per_channel)
    assert torch.equal(step * 8, search_step(weight * 8, 4, per_channel))


def test_zeros() -> None:
    weight = torch.zeros(3, 4)
    weight[1] = torch.tensor([7.0, -7, 3, 0])
    step = search_step(weight, 4, True)
    assert step.tolist() == [1, 1, 1]
    assert search_step(weight * 0, 4, False).item() == 1
    assert bool(torch.isfinite(search_lambda(weight, 4, True)).all())
    assert bool((search_lambda(weight * 0, 4, True) > 0).all())


@pytest.mark.parametrize("search", [search_lambda, search_step])
def test_width_is_checked(search) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match="weight_bits is 9, allowed are 2 to 8"):
        search(weights(), 9, True)
