"""Sensitivity: how much noise in each channel of each layer disturbs the scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from etinynet.quantize.layers import INPUT, SCORES, Layer, output_of

__all__ = ["output_sensitivity"]


@torch.enable_grad()
def output_sensitivity(
    layers: Sequence[Layer], batches: Iterable[Tensor], seed: int = 0
) -> dict[str, Tensor]:
    """Noise gain of every channel, float64, up to one factor common to all, by layer name.

    Independent noise of variance v on each value of a channel adds about gain * v to the variance
    of the scores around their mean: the sum of squared derivatives, estimated with random
    projections of the scores (Hutchinson's estimator).
    """
    generator = torch.Generator().manual_seed(seed)
    gains: dict[str, Tensor] = {}
    for batch in batches:
        values = {INPUT: batch}
        for layer in layers:
            output = output_of(layer, values)
            if output.requires_grad:
                output.retain_grad()
            else:
                output = output.detach().requires_grad_()
            values[layer.name] = output
        scores = values[SCORES].flatten(1)
        direction = torch.randn(scores.shape, generator=generator)
        ((scores - scores.mean(1, keepdim=True)) * direction).sum().backward()
        for layer in layers:
            slope = values[layer.name].grad
            assert slope is not None
            gain = slope.double().square().sum((0, 2, 3))
            gains[layer.name] = gains.get(layer.name, torch.zeros_like(gain)) + gain
    return gains
