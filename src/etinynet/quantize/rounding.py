"""Error-compensated rounding: integers that give the float outputs on the quantized inputs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from etinynet.frontend.float_graph import Layer
from etinynet.graph.ir import POINT
from etinynet.quantize.quantizers import levels
from etinynet.quantize.weights import FEW_BITS, QuantizedWeight

__all__ = ["InputMoments", "regressed", "round_compensated"]

# Added to the moments' diagonal, relative to its mean: keeps the inverse steady. Few positions show
# directions as still that other pictures move in.
_DAMPING, _DAMPING_OF_FEW = 1e-3, 0.2
# Constant inputs have no spread but this part of their square, far above what float64 leaves.
_LEAST_SPREAD = 1e-8
# Positions of each batch that are looked at: neighbours are much alike.
_POSITIONS = 8192
# So many positions a weight are needed before weights may leave the float ones: fewer would be
# learnt by heart.
_ENOUGH = 32
# Scales below the largest weight's, which are searched at few bits.
_SCALES = [i / 40 for i in range(44, 10, -1)]
_SWEEPS = 4
# The half of a level that rounds to it, less what float32 may lose.
_CELL = 0.499


class InputMoments:
    """Second central moments of what one layer's weights multiply, summed over batches.

    Shape (1, K, K), or (channels, K, K) for a depthwise layer, K the weights of one output.
    Central, since the affine correction that follows makes up for every constant error.
    """

    def __init__(self) -> None:
        self.count = 0
        self._chance = torch.Generator().manual_seed(0)
        self._sums: dict[str, Tensor] = {}

    def add(self, layer: Layer, quantized: Tensor, real: Tensor) -> None:
        """Takes in a batch (N, C, H, W) of the layer's input, quantized and in the float net."""
        mine, other = _columns(layer, quantized), _columns(layer, real)
        if mine.shape[2] > _POSITIONS:
            chosen = torch.randperm(mine.shape[2], generator=self._chance)[:_POSITIONS]
            mine, other = mine[:, :, chosen], other[:, :, chosen]
        mine, other = mine.double(), other.double()
        self.count += mine.shape[2]
        turned = mine.transpose(1, 2)
        for key, value in {
            "quantized": mine.sum(2),
            "real": other.sum(2),
            "square": mine @ turned,
            "cross": other @ turned,
        }.items():
            self._sums[key] = self._sums.get(key, torch.zeros(())) + value

    def central(self) -> Tensor:
        """Covariance of the quantized inputs, float64."""
        return self._covariance("quantized", "square")

    def cross(self) -> Tensor:
        """Covariance of the float inputs (rows) with the quantized ones (columns), float64."""
        return self._covariance("real", "cross")

    def _covariance(self, rows: str, products: str) -> Tensor:
        left, right = self._sums[rows] / self.count, self._sums["quantized"] / self.count
        return self._sums[products] / self.count - left[:, :, None] * right[:, None, :]

    def damping(self) -> Tensor:
        """What to add to the covariance, a diagonal, positive also where inputs are constant."""
        square = self._sums["square"].diagonal(dim1=1, dim2=2).mean(1) / self.count
        least = _LEAST_SPREAD * square.clamp_min(_LEAST_SPREAD)
        spread = torch.maximum(self.central().diagonal(dim1=1, dim2=2).mean(1), least)
        size = self._sums["square"].shape[1]
        part = _DAMPING_OF_FEW if self.few() else _DAMPING
        return (part * spread)[:, None, None] * torch.eye(size, dtype=torch.float64)

    def few(self) -> bool:
        """Whether there are too few positions for their number of weights to be relied on."""
        return self.count < _ENOUGH * self._sums["square"].shape[1]


def _columns(layer: Layer, x: Tensor) -> Tensor:
    """(groups, K, positions): the inputs that each output's weights meet."""
    window = layer.window
    if window == POINT:
        return x.transpose(0, 1).flatten(1)[None]
    top, left, bottom, right = window.padding
    padded = functional.pad(x, (left, right, top, bottom))
    columns = functional.unfold(padded, window.kernel, stride=window.stride)
    if layer.kind == "depthwise":
        columns = columns.unflatten(1, (x.shape[1], -1))
        return columns.permute(1, 2, 0, 3).flatten(2)
    return columns.transpose(0, 1).flatten(1)[None]


def _times(rows: Tensor, moments: Tensor) -> Tensor:
    """Each row (outputs, K) times its group's matrix (groups, K, K)."""
    return (rows[:, None, :] @ moments)[:, 0] if len(moments) > 1 else rows @ moments[0]


def regressed(weight: Tensor, moments: InputMoments) -> Tensor:
    """The float weight, (outputs, K) float64, that meets the float outputs on quantized inputs.

    Least squares of W·x against W'·x', x' what the layers before give after quantization; so a
    layer makes up for what they lost. With too few positions it is `weight` itself.
    """
    flat = weight.detach().double().flatten(1)
    if moments.few():
        return flat
    damping = moments.damping()
    target = _times(flat, moments.cross() + damping)
    left = moments.central() + damping
    if len(left) > 1:
        return torch.linalg.solve(left, target[:, :, None])[:, :, 0]
    return torch.linalg.solve(left[0], target.T).T


def _compensated(
    target: Tensor, scale: Tensor, inverse: Tensor, low: int, top: int
) -> tuple[Tensor, Tensor]:
    """(codes `low` to `top`, what was rounded to them), column by column.

    The error of each column moves into those not yet rounded.
    """
    left = target / scale
    codes = torch.empty_like(left)
    for column in range(left.shape[1]):
        codes[:, column] = left[:, column].round().clamp(low, top)
        error = (left[:, column] - codes[:, column]) / inverse[:, column, column]
        left[:, column + 1 :] -= error[:, None] * inverse[:, column, column + 1 :]
    return codes, left


def _polished(
    target: Tensor, scale: Tensor, codes: Tensor, moments: Tensor, low: int, top: int
) -> tuple[Tensor, Tensor]:
    """(scale, codes) after sweeps: the best scale for the codes, then the best code of each column.

    Neither step can raise the squared output error.
    """
    for _ in range(_SWEEPS):
        lean = _times(codes, moments)
        power, match = (lean * codes).sum(1, keepdim=True), (lean * target).sum(1, keepdim=True)
        scale = torch.where((power > 0) & (match > 0), match / power, scale)
        slope = _times(target - codes * scale, moments)
        for column in range(codes.shape[1]):
            own = moments[:, column, column, None]
            best = codes[:, column : column + 1] + slope[:, column : column + 1] / (own * scale)
            best = best.round().clamp(low, top)
            change = (codes[:, column : column + 1] - best) * scale
            codes[:, column : column + 1] = best
            slope = slope + change * moments[:, column]
    return scale, codes


def round_compensated(
    weight: Tensor, bits: int, moments: InputMoments, lowest: int | None = None
) -> QuantizedWeight:
    """Integers and one scale an output channel, chosen for a small error of the layer's output.

    GPTQ (Frantar et al. 2022, algorithm 1; the columns of largest moments first) on the regressed
    weight, for each of a row of scales if `bits` is small; the best, or the nearest integers where
    they are closer, are polished by coordinate descent. A channel of zeros gets the scale of
    the coarsest. Codes go from `lowest`, symmetric without it. ConfigError: `bits` not 2 to 8.
    """
    top = levels(bits)
    low = -top if lowest is None else lowest
    target = regressed(weight, moments)
    damped = moments.central() + moments.damping()
    order = damped.diagonal(dim1=1, dim2=2).sum(0).argsort(descending=True)
    target, damped = target[:, order], damped[:, order][:, :, order]
    inverse = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    largest = torch.maximum(target / top, target / low).amax(1, keepdim=True)
    spare = largest.amax() if largest.any() else torch.ones((), dtype=torch.float64)
    largest = torch.where(largest > 0, largest, spare)

    def measured(scale: Tensor, codes: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        left = target - codes * scale
        return (_times(left, damped) * left).sum(1, keepdim=True), scale, codes, position

    near = target / largest
    best = measured(largest, near.round(), near)
    for part in _SCALES if bits <= FEW_BITS else [1.0]:
        found = measured(largest * part, *_compensated(target, largest * part, inverse, low, top))
        closer = found[0] < best[0]
        best = tuple(torch.where(closer, new, old) for new, old in zip(found, best, strict=True))
    _, scale, codes, position = best
    if bits <= FEW_BITS:
        scale, codes = _polished(target, scale, codes.clone(), damped, low, top)
    position = codes + (position - codes).clamp(-_CELL, _CELL)
    back = order.argsort()
    return QuantizedWeight(
        codes[:, back].to(torch.int8).reshape(weight.shape),
        scale[:, 0],
        bits,
        position[:, back].float().reshape(weight.shape),
    )
