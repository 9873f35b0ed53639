"""What quantizers do to a layer's weights: figures 3 and 4 of the paper, and noise, in numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from etinynet.quantize.quantizers import (
    asq,
    clamped,
    least_squares_scale,
    levels,
    lsq,
    rescaled,
)
from etinynet.quantize.search import search_lambda, search_step

__all__ = [
    "LAMBDAS",
    "Occupancy",
    "Rescaling",
    "nearest",
    "occupancies",
    "rescalings",
    "signal_to_noise",
]

#: The λ of figure 4; the second is where the paper's training starts.
LAMBDAS = (1.0, 2.0, 3.0, 4.0, 5.0)
_START = LAMBDAS[1]
# A level that fewer weights than this share take cannot be seen in a histogram.
_VISIBLE = 1e-3


@dataclass(frozen=True, eq=False)
class Occupancy:
    """One quantizer on a whole layer, as figure 3 shows it; statistics are the layer's.

    `normal` are the weights before rounding in [-1, 1], flat; `shares` the share of weights at
    each level, lowest first. `occupied` levels hold a weight, `visible` ones 0.1 % of them.
    """

    quantizer: str
    normal: Tensor
    shares: tuple[float, ...]
    zeros: float
    occupied: int
    visible: int
    entropy: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON of all but the weights."""
        found = {key: value for key, value in vars(self).items() if key != "normal"}
        return {**found, "shares": list(self.shares)}


@dataclass(frozen=True)
class Rescaling:
    """A point of figure 4: J and E (equations 7 and 8) of ASQ with one λ for the whole layer.

    `error` J = sum (W̃ - Q)², `entropy` E in nats, `deviation` that of the re-scaled W̃; `multiply`
    tells how λ is read.
    """

    multiply: bool
    lam: float
    error: float
    entropy: float
    deviation: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def _shares(quantized: Tensor, top: int) -> Tensor:
    """Share of values at each of the levels -top/top to top/top, float64."""
    codes = (quantized * top).round().long().flatten() + top
    return torch.bincount(codes, minlength=2 * top + 1).double() / codes.numel()


def _entropy(shares: Tensor) -> float:
    present = shares[shares > 0]
    return float(-(present * present.log()).sum())


@torch.no_grad()
def occupancies(weight: Tensor, bits: int) -> list[Occupancy]:
    """DoReFa with symmetric levels against ASQ, at λ = 2 and at the λ of least squared error."""
    weight, top = weight.double(), levels(bits)
    searched = search_lambda(weight, bits, False)
    normals = {
        "DoReFa": clamped(weight),
        f"ASQ, λ = {_START:g}": rescaled(weight, weight.new_tensor(_START)),
        f"ASQ, λ = {searched.item():.2f} (search)": rescaled(weight, searched),
    }
    result = []
    for name, normal in normals.items():
        shares = _shares((normal * top).round() / top, top)
        result.append(
            Occupancy(
                quantizer=name,
                normal=normal.flatten(),
                shares=tuple(shares.tolist()),
                zeros=shares[top].item(),
                occupied=int((shares > 0).sum()),
                visible=int((shares > _VISIBLE).sum()),
                entropy=_entropy(shares),
            )
        )
    return result


@torch.no_grad()
def rescalings(weight: Tensor, bits: int) -> list[Rescaling]:
    """Figure 4's points, λ dividing first, then multiplying."""
    weight, top = weight.double(), levels(bits)
    result = []
    for multiply in (False, True):
        for lam in LAMBDAS:
            normal = rescaled(weight, weight.new_tensor(lam), multiply=multiply)
            quantized = (normal * top).round() / top
            error = ((normal - quantized) ** 2).sum().item()
            entropy = _entropy(_shares(quantized, top))
            deviation = normal.std(correction=0).item()
            result.append(Rescaling(multiply, lam, error, entropy, deviation))
    return result


@torch.no_grad()
def nearest(weight: Tensor, bits: int) -> dict[str, Tensor]:
    """What each quantizer makes of `weight`, per output channel, nearest rounding; float64.

    DoReFa and ASQ are given back the least-squares scale that the normal range lost.
    """
    weight = weight.double()

    def restored(quantized: Tensor) -> Tensor:
        scale = least_squares_scale(weight, quantized, True)
        return quantized * scale.reshape(-1, *[1] * (weight.dim() - 1))

    top = levels(bits)
    return {
        "dorefa_symmetric": restored((clamped(weight, True) * top).round() / top),
        "asq_2": restored(asq(weight, weight.new_tensor(_START), bits, True)),
        "asq_search": restored(asq(weight, search_lambda(weight, bits, True), bits, True)),
        "uniform": lsq(weight, search_step(weight, bits, True), bits),
    }


def signal_to_noise(weight: Tensor, approximation: Tensor) -> float | None:
    """10 log10(sum W² / sum (W - approximation)²) in decibels; None where nothing is lost."""
    weight = weight.double()
    noise = ((weight - approximation) ** 2).sum().item()
    return 10 * math.log10((weight**2).sum().item() / noise) if noise > 0 else None
