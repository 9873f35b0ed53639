"""The λ of ASQ and the step of uniform levels that come closest to the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from etinynet.quantize.quantizers import asq, least_squares_scale, levels, lsq

__all__ = ["search_lambda", "search_step"]

# A tenth apart. Weights of real networks take 1 to 10 at 4 bits, and far more at 8, where straight
# levels are best.
_LAMBDAS = [0.25 * 1.1**i for i in range(60)]
# Parts of the step that reaches the largest weight, that one first.
_PARTS = [i / 50 for i in range(50, 4, -1)]


def _channels(values: Tensor, weight: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (weight.dim() - 1)) if values.dim() else values


def _closest(
    weight: Tensor,
    candidates: Iterable[Tensor],
    approximate: Callable[[Tensor], Tensor],
    per_channel: bool,
) -> Tensor:
    """Of candidates (), or (channels,), the one with the least squared error, the first if tied."""
    best: tuple[Tensor, Tensor] | None = None
    for candidate in candidates:
        square = (approximate(candidate) - weight) ** 2
        error = square.flatten(1).sum(1) if per_channel else square.sum()
        if best is None:
            best = error, candidate.clone()
            continue
        closer = error < best[0]
        best = torch.where(closer, error, best[0]), torch.where(closer, candidate, best[1])
    assert best is not None
    return best[1]


@torch.no_grad()
def search_lambda(weight: Tensor, bits: int, per_channel: bool) -> Tensor:
    """λ, 0.25 to 69, of least |W - scale·asq(W, λ)|² with the least-squares scale; it divides.

    Shape (), or (output channels,); `weight`'s dtype. Raises ConfigError for `bits` outside 2..8.
    """

    def approximate(lam: Tensor) -> Tensor:
        quantized = asq(weight, lam, bits, per_channel)
        scale = least_squares_scale(weight, quantized, per_channel)
        return quantized * _channels(scale, weight)

    shape = weight.shape[:1] if per_channel else ()
    candidates = (weight.new_full(shape, lam) for lam in _LAMBDAS)
    return _closest(weight, candidates, approximate, per_channel)


@torch.no_grad()
def search_step(weight: Tensor, bits: int, per_channel: bool) -> Tensor:
    """Step of least |W - lsq(W, step)|², a tenth to all of largest magnitude / levels(bits).

    Shape (), or (output channels,); `weight`'s dtype. Where all weights are 0 it is the largest
    of the other channels', or 1. Raises ConfigError for `bits` outside 2..8.
    """
    magnitude = weight.abs().flatten(1).amax(1) if per_channel else weight.abs().amax()
    whole = magnitude / levels(bits)
    spare = torch.where(whole.amax() > 0, whole.amax(), 1)
    whole = torch.where(whole > 0, whole, spare)
    candidates = (whole * part for part in _PARTS)
    return _closest(weight, candidates, lambda step: lsq(weight, step, bits), per_channel)
