"""Error-compensated rounding: each weight's rounding error is made up for by those after it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from etinynet.quantize.layers import Layer
from etinynet.quantize.weights import QuantizedWeight

__all__ = ["InputMoments", "round_compensated"]

# Added to the moments' diagonal, relative to its mean: keeps the inverse steady (GPTQ's 1 %).
_DAMPING = 0.01
# Constant inputs have no spread but this part of their square, far above what float64 leaves.
_LEAST_SPREAD = 1e-8


class InputMoments:
    """Second central moments of what one layer's weights multiply, summed over batches.

    Shape (1, K, K), or (channels, K, K) for a depthwise layer, K the weights of one output.
    Central, since the affine correction that follows makes up for every constant error.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sum = torch.zeros(())
        self._square = torch.zeros(())

    def add(self, layer: Layer, x: Tensor) -> None:
        """Takes in a batch (N, C, H, W) of the layer's input."""
        columns = _columns(layer, x).double()
        self._count += columns.shape[2]
        self._sum = self._sum + columns.sum(2)
        self._square = self._square + columns @ columns.transpose(1, 2)

    def central(self) -> Tensor:
        """Covariance, float64."""
        mean = self._sum / self._count
        return self._square / self._count - mean[:, :, None] * mean[:, None, :]

    def spread(self) -> Tensor:
        """Mean variance of each group, positive also where its inputs are constant, float64."""
        square = self._square.diagonal(dim1=1, dim2=2).mean(1) / self._count
        least = _LEAST_SPREAD * square.clamp_min(_LEAST_SPREAD)
        return torch.maximum(self.central().diagonal(dim1=1, dim2=2).mean(1), least)


def _columns(layer: Layer, x: Tensor) -> Tensor:
    """(groups, K, positions): the inputs that each output's weights meet."""
    if layer.kernel == 1:
        return x.transpose(0, 1).flatten(1)[None]
    columns = functional.unfold(x, layer.kernel, padding=layer.padding, stride=layer.stride)
    if layer.kind == "depthwise":
        columns = columns.unflatten(1, (x.shape[1], -1))
        return columns.permute(1, 2, 0, 3).flatten(2)
    return columns.transpose(0, 1).flatten(1)[None]


def round_compensated(
    weight: Tensor, rounded: QuantizedWeight, moments: InputMoments
) -> QuantizedWeight:
    """`rounded` with the same scales and bits, its integers chosen for a small output error.

    The method is GPTQ (Frantar et al. 2022, algorithm 1): column by column, the error of a weight
    moves into the columns not yet rounded, weighted by the inverse of the input's moments.
    """
    top = 2 ** (rounded.bits - 1) - 1
    covariance = moments.central()
    eye = torch.eye(covariance.shape[1], dtype=torch.float64)
    damped = covariance + (_DAMPING * moments.spread())[:, None, None] * eye
    inverse = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    left = (weight.detach().double().flatten(1) / rounded.scale[:, None]).clone()
    integers = torch.empty_like(left)
    for column in range(left.shape[1]):
        integers[:, column] = left[:, column].round().clamp(-top, top)
        error = (left[:, column] - integers[:, column]) / inverse[:, column, column]
        left[:, column:] -= error[:, None] * inverse[:, column, column:]
    shaped = integers.to(torch.int8).reshape(weight.shape)
    return QuantizedWeight(shaped, rounded.scale, rounded.bits)
