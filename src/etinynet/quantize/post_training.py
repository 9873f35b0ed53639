"""Post-training quantization: a float network and some pictures in, an integer graph out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from etinynet.errors import ConfigError
from etinynet.graph import Graph
from etinynet.model.etinynet import EtinyNet
from etinynet.quantize.activations import choose_activations
from etinynet.quantize.calibrate import calibrate
from etinynet.quantize.correct import round_and_correct
from etinynet.quantize.layers import layers_of
from etinynet.quantize.lower import lower
from etinynet.quantize.sensitivity import output_sensitivity
from etinynet.quantize.weights import quantize_weight

__all__ = ["MOST_PICTURES", "PostTraining", "quantize_model"]

#: More calibration pictures than this were measured to change nothing.
MOST_PICTURES = 512
_BATCH = 32
_SENSITIVITY_BATCHES = 4


@dataclass(frozen=True)
class PostTraining:
    """How to quantize without training; raises ConfigError. Stored in the graph's metadata.

    `weight_bits` 2 to 8, per output channel; `pictures` is how many calibrate, at most
    MOST_PICTURES.
    """

    weight_bits: int = 8
    pictures: int = MOST_PICTURES

    def __post_init__(self) -> None:
        for field, low, high in (("weight_bits", 2, 8), ("pictures", 1, MOST_PICTURES)):
            value = getattr(self, field)
            if type(value) is not int or not low <= value <= high:
                raise ConfigError(f"{field} is {value!r}, allowed are {low} to {high}")


def _feature_count(model: EtinyNet, size: int) -> int:
    """How many positions the global average takes in."""
    with torch.no_grad():
        features = model.features(torch.zeros(1, 3, size, size))
    return int(features.shape[2] * features.shape[3])


def quantize_model(
    model: EtinyNet,
    inputs: Tensor,
    config: PostTraining,
    name: str,
    metadata: Mapping[str, Any],
) -> Graph:
    """The integer graph of a classifier in evaluation mode.

    `inputs`: calibration pictures minus 128, float32 (N, 3, size, size), size as the network will
    be used. `name` is the graph's, a C identifier; `metadata` is plain JSON and is kept.
    Raises UnsupportedError, DataError, ConfigError or GraphError, as the steps do.
    """
    layers = layers_of(model)
    size = inputs.shape[-1]
    batches: Sequence[Tensor] = [
        batch.contiguous(memory_format=torch.channels_last)
        for batch in inputs[: config.pictures].split(_BATCH)
    ]
    statistics = calibrate(layers, batches)
    weights = {
        layer.name: quantize_weight(layer.weight, config.weight_bits)
        for layer in layers
        if layer.weight is not None
    }
    counts = {"features": _feature_count(model, size)}
    importance = output_sensitivity(layers, batches[:_SENSITIVITY_BATCHES])
    activations = choose_activations(layers, statistics, weights, importance, counts)
    rounded = round_and_correct(layers, weights, activations, batches)
    kept = {**metadata, "quantization": asdict(config)}
    return lower(name, rounded.layers, rounded.weights, activations, size, kept)
