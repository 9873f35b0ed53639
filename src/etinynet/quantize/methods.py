"""Methods of quantization by name: how float weights become integers before any training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from etinynet.errors import ConfigError
from etinynet.frontend.float_graph import Layer
from etinynet.quantize.correct import Rounder
from etinynet.quantize.quantizers import asq, dorefa_symmetric, least_squares_scale, levels
from etinynet.quantize.rounding import InputMoments, round_compensated
from etinynet.quantize.search import search_lambda, search_step
from etinynet.quantize.weights import QuantizedWeight, lowest_code

__all__ = [
    "METHODS",
    "PAPER_LAMBDA",
    "Widths",
    "is_gradual",
    "rounder_of",
    "start_rounder",
    "start_value",
]

#: best: error-compensated integers, learned steps · lsq: learned steps · asq: error-compensated
#: weights through ASQ, λ by search, learned · asq-paper: ASQ as the paper has it, per layer from
#: λ = 2 · dorefa: the paper's baseline.
METHODS = ("best", "lsq", "asq", "asq-paper", "dorefa")
PAPER_LAMBDA = 2.0


@dataclass(frozen=True)
class Widths:
    """Bits of every layer's weights: `default`, or those of the last pattern that fits its name.

    Patterns are those of file names over layer names (`stem`, `b0.dw1`, `b0.pw`, `scores`), so
    `*.dw?` stands for the depthwise layers. Raises ConfigError: bits outside 2 to 8, no pattern.
    """

    default: int
    patterns: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        levels(self.default)
        for pattern, bits in self.patterns:
            if type(bits) is not int or not 2 <= bits <= 8:
                raise ConfigError(f"layer_bits: {pattern!r} has {bits!r}, allowed are 2 to 8")

    def of(self, layers: Sequence[Layer]) -> dict[str, int]:
        """Bits by name of the layers that have weights; ConfigError if a pattern fits none."""
        widths = {layer.name: self.default for layer in layers if layer.weight is not None}
        for pattern, bits in self.patterns:
            fitting = [name for name in widths if fnmatchcase(name, pattern)]
            if not fitting:
                raise ConfigError(
                    f"layer_bits: no layer fits {pattern!r}; allowed are patterns of "
                    f"{', '.join(widths)}"
                )
            widths |= dict.fromkeys(fitting, bits)
        return widths


def is_gradual(method: str, per_channel: bool) -> bool:
    """Whether weights are trained between levels and drawn to them gradually (gradual.py)."""
    return method == "best" or (method == "asq" and per_channel)


def start_value(method: str, weight: Tensor, bits: int, per_channel: bool) -> Tensor:
    """λ of ASQ, or the step of LSQ, before training, float64: () or (output channels,).

    DoReFa has none: 1. Raises ConfigError for `bits` outside 2 to 8.
    """
    weight = weight.detach().double()
    if method == "asq-paper":
        return torch.tensor(PAPER_LAMBDA, dtype=torch.float64)
    if method == "asq":
        return search_lambda(weight, bits, per_channel)
    if method == "dorefa":
        return torch.ones((), dtype=torch.float64)
    return search_step(weight, bits, per_channel)


def _nearest(method: str, weight: Tensor, bits: int, per_channel: bool) -> QuantizedWeight:
    """Each weight to the nearest level; the scale that the normal range lost is restored."""
    weight, top = weight.detach().double(), levels(bits)
    value = start_value(method, weight, bits, per_channel)
    if method == "lsq":
        shape = (-1, *[1] * (weight.dim() - 1))
        codes = (weight / value.reshape(shape)).clamp(-top, top).round()
        scale = value
    else:
        normal = (
            dorefa_symmetric(weight, bits, per_channel)
            if method == "dorefa"
            else asq(weight, value, bits, per_channel)
        )
        codes = (normal * top).round()
        scale = least_squares_scale(weight, normal, per_channel) / top
    scale = scale.expand(len(weight)).clone()
    position = weight / scale.reshape(-1, *[1] * (weight.dim() - 1))
    return QuantizedWeight(codes.to(torch.int8), scale, bits, position.float())


def rounder_of(method: str, widths: dict[str, int], per_channel: bool) -> Rounder:
    """The rounder of a method of METHODS; `best` is per channel whatever `per_channel` says."""

    def nearest(layer: Layer, moments: Callable[[], InputMoments]) -> QuantizedWeight:
        assert layer.weight is not None
        return _nearest(method, layer.weight, widths[layer.name], per_channel)

    def compensated_asq(layer: Layer, moments: Callable[[], InputMoments]) -> QuantizedWeight:
        assert layer.weight is not None
        start = compensated(layer, moments)
        return _nearest(method, start.rounded(), start.bits, per_channel)

    compensated = start_rounder(method, widths)
    return {"best": compensated, "asq": compensated_asq}.get(method, nearest)


def start_rounder(method: str, widths: Mapping[str, int]) -> Rounder:
    """Error-compensated integers, at which the training of a gradual `method` begins, and which
    a layer that is not trained gets after it.

    ASQ's levels are symmetric, and any integers are the clamp of some weights.
    """

    def compensated(layer: Layer, moments: Callable[[], InputMoments]) -> QuantizedWeight:
        assert layer.weight is not None
        bits = widths[layer.name]
        lowest = None if method == "asq" else lowest_code(layer.kind, bits)
        return round_compensated(layer.weight, bits, moments(), lowest)

    return compensated
