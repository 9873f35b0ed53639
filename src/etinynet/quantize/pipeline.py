"""The steps of quantization in order: a float network and pictures in, an integer graph out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from etinynet.errors import ConfigError
from etinynet.frontend.float_graph import FloatGraph, Layer
from etinynet.frontend.modules import float_graph
from etinynet.graph import MIXED, Classification, Graph, Precision, get_precision
from etinynet.model.fields import MIN_SIZE
from etinynet.model.networks import FeatureMap, Network
from etinynet.model.shapes import layer_name
from etinynet.quantize.activations import ActivationRules
from etinynet.quantize.calibrate import calibrate
from etinynet.quantize.correct import Rounded, Rounder, round_and_correct
from etinynet.quantize.equalize import equalized
from etinynet.quantize.finetune import Finetuning, finetune
from etinynet.quantize.lower import lower
from etinynet.quantize.methods import METHODS, Widths, is_gradual, rounder_of, start_rounder
from etinynet.quantize.rounding import InputMoments
from etinynet.quantize.sensitivity import output_sensitivity
from etinynet.quantize.weights import QuantizedWeight
from etinynet.threads import spared
from etinynet.train.loop import Progress
from etinynet.train.pictures import Pictures, to_network

__all__ = [
    "MOST_PICTURES",
    "Quantization",
    "batches_of",
    "network_of",
    "quantize_model",
    "quantize_network",
]

#: All calibration pictures' tensors are held at once: 5 to 10 megabytes each at 224 x 224.
MOST_PICTURES = 2048
_BATCH = 32
_SENSITIVITY_BATCHES = 4


@dataclass(frozen=True)
class Quantization:
    """How to quantize; raises ConfigError. Stored in the graph's metadata.

    `method` one of methods.METHODS. `weight_bits` 2 to 8; `layer_bits` pairs of a name pattern
    and other bits (methods.Widths). `per_layer`: one scale a layer instead of one an output
    channel, which `asq-paper` always and `best` never has. `pictures` is how many calibrate.
    `precision`: one of graph.PRECISIONS, the bits of activations.
    """

    weight_bits: int = 8
    method: str = "best"
    layer_bits: tuple[tuple[str, int], ...] = ()
    per_layer: bool = False
    pictures: int = 512
    precision: str = MIXED.name

    def __post_init__(self) -> None:
        for field, low, high in (("weight_bits", 2, 8), ("pictures", 1, MOST_PICTURES)):
            value = getattr(self, field)
            if type(value) is not int or not low <= value <= high:
                raise ConfigError(f"{field} is {value!r}, allowed are {low} to {high}")
        if self.method not in METHODS:
            raise ConfigError(f"method is {self.method!r}, allowed are {', '.join(METHODS)}")
        if self.per_layer and self.method == "best":
            raise ConfigError("per_layer is True; method 'best' has one scale an output channel")
        get_precision(self.precision)
        _ = self.widths

    @property
    def widths(self) -> Widths:
        return Widths(self.weight_bits, self.layer_bits)

    @property
    def per_channel(self) -> bool:
        return not (self.per_layer or self.method == "asq-paper")


def batches_of(inputs: Tensor) -> list[Tensor]:
    """`inputs` (N, 3, H, W) in batches, as the steps of quantization take them."""
    return [b.contiguous(memory_format=torch.channels_last) for b in inputs.split(_BATCH)]


def _mixed(inputs: Tensor) -> Tensor:
    """`inputs` in an order of chance: the sensitivity is seen by the first batches alone."""
    return inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))]


def _middles(pictures: Pictures, side: int) -> Tensor:
    """The middles of `pictures` as network input."""
    edge = (pictures.pixels.shape[1] - side) // 2
    return to_network(pictures.pixels[:, edge : edge + side, edge : edge + side])


def quantize_network(
    network: FloatGraph,
    widths: Mapping[str, int],
    rounder: Rounder,
    precision: Precision,
    batches: Sequence[Tensor],
) -> Rounded:
    """Weights, scales and refitted constants of every layer, from batches of pictures minus 128.

    `widths` gives the weight bits by layer name. Raises DataError or UnsupportedError.
    """
    statistics = calibrate(network.layers, batches)
    importance = output_sensitivity(network, batches[:_SENSITIVITY_BATCHES])
    rules = ActivationRules(network, statistics, importance, widths, precision)
    return round_and_correct(network, rounder, rules, batches)


def network_of(model: Network, side: int) -> FloatGraph:
    """The float graph of one of our networks for images of `side` x `side` pixels.

    Its output is the scores; of a network without classifier the last feature map.
    """
    shape = (side, side, 3)
    if model.config.classes:
        return float_graph(model, shape, layer_name)
    inner = f"{FeatureMap.PART}."
    return float_graph(FeatureMap(model), shape, lambda path: layer_name(path.removeprefix(inner)))


def quantize_model(
    model: Network,
    inputs: Tensor,
    config: Quantization,
    name: str,
    class_names: tuple[str, ...] | None,
    metadata: Mapping[str, Any],
    finetuning: Finetuning | None = None,
    progress: Callable[[Progress], None] | None = None,
    rounded: Callable[[int, int], None] | None = None,
) -> Graph:
    """The integer graph of a network in evaluation mode.

    `inputs`: calibration pictures minus 128, float32 (N, 3, size, size), size as the network will
    be used. `name` is the graph's, a C identifier; `class_names` are its head's, where the network
    has a classifier; `metadata` is plain JSON and is kept. With `finetuning` the quantized weights
    are trained, and the network they end in is calibrated again, with as many of the training
    pictures too. `progress` is called after each step of training, `rounded` after each layer is,
    with its number from 1 and their count.
    Raises UnsupportedError, DataError, ConfigError, GraphError or ArtefactError, as the steps do.
    """
    if inputs.shape[-1] < MIN_SIZE:
        raise ConfigError(f"size is {inputs.shape[-1]}, allowed are {MIN_SIZE} and more")
    with spared(inputs.shape[-1]):
        network = equalized(network_of(model, inputs.shape[-1]))
        head = Classification(class_names) if model.config.classes else None
        parts = inputs, config, name, head, metadata, finetuning, progress, rounded
        return _quantized(network, *parts)


def _announced(
    rounder: Rounder, count: int, announce: Callable[[int, int], None] | None
) -> Rounder:
    """`rounder`, telling `announce` after each of `count` layers."""
    if announce is None:
        return rounder
    numbers = itertools.count(1)

    def rounded(layer: Layer, moments: Callable[[], InputMoments]) -> QuantizedWeight:
        weight = rounder(layer, moments)
        announce(next(numbers), count)
        return weight

    return rounded


def _quantized(
    network: FloatGraph,
    inputs: Tensor,
    config: Quantization,
    name: str,
    head: Classification | None,
    metadata: Mapping[str, Any],
    finetuning: Finetuning | None,
    progress: Callable[[Progress], None] | None,
    announce: Callable[[int, int], None] | None,
) -> Graph:
    batches = batches_of(inputs[: config.pictures])
    widths = config.widths.of(network.layers)
    rounder = rounder_of(config.method, widths, config.per_channel)
    precision = get_precision(config.precision)
    announced = _announced(rounder, len(widths), announce)
    rounded = quantize_network(network, widths, announced, precision, batches)
    kept = {**metadata, "quantization": json.loads(json.dumps(asdict(config)))}
    if finetuning is not None:
        trained = finetune(
            network, rounded, config.method, config.per_channel, finetuning, batches, progress
        )
        integers = trained.weights
        gradual = is_gradual(config.method, config.per_channel)
        others = start_rounder(config.method, widths) if gradual else rounder

        def trained_or_new(layer: Layer, moments: Callable[[], InputMoments]) -> QuantizedWeight:
            return integers.get(layer.name) or others(layer, moments)

        most = min(config.pictures, MOST_PICTURES - config.pictures)
        seen = _middles(finetuning.data.train.some(most), inputs.shape[-1])
        batches = batches_of(_mixed(torch.cat([inputs[: config.pictures], seen])))
        network = network.with_layers(trained.layers)
        announced = _announced(trained_or_new, len(widths), announce)
        rounded = quantize_network(network, widths, announced, precision, batches)
        kept["training"] = trained.record
    done = network.with_layers(rounded.layers)
    return lower(name, done, rounded.weights, rounded.activations, precision, head, kept)
