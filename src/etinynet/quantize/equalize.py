"""Equalized columns: factors moved from a pointwise layer's inputs into the layer before it."""

from __future__ import annotations

import dataclasses

from etinynet.frontend.float_graph import FloatGraph

__all__ = ["equalized"]

# A column of almost nothing is not blown up further than this.
_LEAST = 1e-2


def equalized(network: FloatGraph) -> FloatGraph:
    """The same network with columns of less different size in every pointwise layer, where free.

    All weights of an output channel share one scale: with columns of very different size the small
    ones round to nothing. A factor of an input channel moves into gain and shift of the layer
    that makes it, which cost the same whatever they are (Nagel et al. 2019, section 4.1). The
    factor is the root of the column's size relative to the mean: it takes half of the difference,
    in decibels, and leaves the rest, since larger inputs carry more of each rounding error. Free
    is a tensor that this layer alone reads and that has a gain of its own, no residual, no clamp.
    """
    result = dict(network.by_name)
    for layer in network.layers:
        maker = result.get(layer.input)
        alone = len(network.consumers[layer.input]) == 1 and layer.input not in network.outputs
        if layer.kind != "pointwise" or maker is None or not alone:
            continue
        if maker.gain is None or maker.shift is None or maker.residual is not None:
            continue
        if maker.clamp is not None:
            continue
        assert layer.weight is not None
        power = layer.weight.square().mean((0, 2, 3)).sqrt()
        factor = power / power.mean().clamp_min(1e-12)
        factor = factor.clamp_min(_LEAST).sqrt()
        if not factor.isfinite().all():  # weights beyond all proportion, which later steps name
            continue
        result[maker.name] = dataclasses.replace(
            maker, gain=maker.gain * factor, shift=maker.shift * factor
        )
        result[layer.name] = dataclasses.replace(
            result[layer.name], weight=layer.weight / factor.reshape(1, -1, 1, 1)
        )
    return network.with_layers(list(result.values()))
