"""One layer quantized, all others float: what each layer's weights cost in accuracy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from etinynet.errors import DataError
from etinynet.frontend.float_graph import (
    INPUT,
    FloatGraph,
    Layer,
    drop_unread,
    last_reads,
    output_of,
    run_layers,
)
from etinynet.quantize.correct import fit_layer
from etinynet.quantize.quantizers import lsq
from etinynet.quantize.search import search_step

__all__ = ["Cost", "Sensitivities", "fitted_versions", "measure_versions"]


@dataclass(frozen=True)
class Cost:
    """The network with one layer quantized, on n pictures; shares are 0 to 1.

    `agreement`: the first class is the float network's; `top1`: it is the label's, None without
    labels; `score_error`: mean squared error of the scores by their variance in a picture.
    """

    agreement: float
    top1: float | None
    score_error: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Sensitivities:
    """The cost of each layer alone, by name, and the float network's own top-1 on `n` pictures."""

    n: int
    float_top1: float | None
    costs: dict[str, Cost]


@torch.no_grad()
def fitted_versions(
    layers: Sequence[Layer], bits: int, batches: Sequence[Tensor]
) -> Iterator[tuple[str, Layer]]:
    """Each layer by name; one with weights has them at `bits` bits, its constants refitted.

    Weights: nearest uniform levels, one searched step an output channel. The fit (correct.py) is
    on the float outputs of the layers before, for batches (N, 3, H, W), pixel minus 128.
    """
    states = [{INPUT: batch} for batch in batches]
    last_read = last_reads(layers)
    for index, layer in enumerate(layers):
        version = layer
        if layer.weight is not None:
            step = search_step(layer.weight, bits, True)
            version = dataclasses.replace(layer, weight=lsq(layer.weight, step, bits))
            version = fit_layer(layer, version, bits, [(values, values) for values in states])
        yield layer.name, version
        for values in states:
            values[layer.name] = output_of(layer, values)
            drop_unread(values, last_read, index)


def _scores_with(
    network: FloatGraph, index: int, version: Layer, real: Mapping[str, Tensor]
) -> Tensor:
    """Scores (N, classes) with `version` in the place of layer `index`; the earlier are `real`."""
    values = dict(real)
    for layer in (version, *network.layers[index + 1 :]):
        values[layer.name] = output_of(layer, values)
    return network.scores(values)


@torch.no_grad()
def measure_versions(
    network: FloatGraph,
    versions: Mapping[str, Layer],
    batches: Iterable[tuple[Tensor, Tensor | None]],
) -> Sensitivities:
    """The cost of each layer of `versions` that has weights, in the place of the float one.

    `batches`: inputs (N, 3, H, W), pixel minus 128, and labels (N) or None. Raises DataError
    without a picture, or if a score of the float network is not finite.
    """
    named = {i: x.name for i, x in enumerate(network.layers) if x.weight is not None}
    sums = {name: torch.zeros(3, dtype=torch.float64) for name in named.values()}
    spread, count, correct, labelled = 0.0, 0, 0, True
    for inputs, labels in batches:
        real = run_layers(network.layers, inputs)
        scores = network.scores(real)
        if not torch.isfinite(scores).all():
            raise DataError("analysis: a score of the float network is not finite")
        first = scores.argmax(1)
        count += len(scores)
        spread += (scores - scores.mean(1, keepdim=True)).double().square().sum().item()
        labelled = labelled and labels is not None
        correct += 0 if labels is None else int((first == labels).sum())
        for index, name in named.items():
            found = _scores_with(network, index, versions[name], real)
            sums[name][0] += (found.argmax(1) == first).sum()
            sums[name][1] += 0 if labels is None else (found.argmax(1) == labels).sum()
            sums[name][2] += (found - scores).double().square().sum()
    if not count:
        raise DataError("analysis: 0 pictures, at least 1 is needed")
    costs = {
        name: Cost(
            agreement=agreed / count,
            top1=right / count if labelled else None,
            score_error=error / max(spread, torch.finfo(torch.float64).tiny),
        )
        for name, (agreed, right, error) in ((n, s.tolist()) for n, s in sums.items())
    }
    return Sensitivities(count, correct / count if labelled else None, costs)
