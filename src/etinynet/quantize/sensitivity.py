"""Sensitivity: how much noise in each channel of each layer disturbs the scores."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from etinynet.frontend.float_graph import INPUT, FloatGraph, output_of

__all__ = ["output_sensitivity"]


@torch.enable_grad()
def output_sensitivity(
    network: FloatGraph, batches: Iterable[Tensor], seed: int = 0
) -> dict[str, Tensor]:
    """Noise gain of every channel, float64, up to one factor common to all, by layer name.

    Independent noise of variance v on each value of a channel adds about gain * v to the variance
    of the scores around their mean, or of a map's values: the sum of squared derivatives, estimated
    with random projections (Hutchinson's estimator).
    """
    generator = torch.Generator().manual_seed(seed)
    gains: dict[str, Tensor] = {}
    for batch in batches:
        values = {INPUT: batch}
        for layer in network.layers:
            output = output_of(layer, values)
            if output.requires_grad:
                output.retain_grad()
            else:
                output = output.detach().requires_grad_()
            values[layer.name] = output
        torch.stack(
            [_projected(values[name], generator) for name in network.outputs]
        ).sum().backward()
        for layer in network.layers:
            slope = values[layer.name].grad
            assert slope is not None  # every layer reaches an output
            gain = slope.double().square().sum((0, 2, 3))
            gains[layer.name] = gains.get(layer.name, torch.zeros_like(gain)) + gain
    return gains


def _projected(output: Tensor, generator: torch.Generator) -> Tensor:
    """A random projection of one output; of scores, what all of a picture share does not count."""
    scores = output.flatten(1)
    if output.shape[2:] == (1, 1):
        scores = scores - scores.mean(1, keepdim=True)
    return (scores * torch.randn(scores.shape, generator=generator)).sum()
