"""The `.etn` files of the paper's networks with 4-bit weights are as small as promised."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import ORDERS, pictures
from torch import nn

from etinynet.data.images import Preprocess
from etinynet.graph import Classification, Graph, graph_from_bytes, graph_to_bytes
from etinynet.graph.coding import encode
from etinynet.model.config import named_config
from etinynet.model.etinynet import EtinyNet
from etinynet.quantize.pipeline import Quantization, quantize_model

#: Bytes that a file may have, names of 1000 classes and all else included.
MOST_BYTES = {"etinynet-1.0": 560_000, "etinynet-0.75": 395_000}
SIZE = 64


@functools.cache
@torch.no_grad()
def network(name: str, order: str) -> Graph:
    """A network of random weights and normalizations, as the command would quantize it."""
    torch.manual_seed(0)
    config = named_config(name, 1000, SIZE, normalization=order)
    model = EtinyNet(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.5, 0.5)
    model(pictures(8, SIZE))
    preprocess = Preprocess.for_size(SIZE).to_json()
    metadata = {"network": config.to_json(), "preprocess": preprocess}
    return quantize_model(
        model.eval(), pictures(4, SIZE, 2), Quantization(4, pictures=4), "imagenet", None, metadata
    )


def size_with(graph: Graph, class_names: list[str]) -> int:
    named = replace(graph, head=Classification(tuple(class_names)))
    data = graph_to_bytes(named)
    assert graph_from_bytes(data, "file").head == named.head
    return len(data)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", MOST_BYTES)
def test_with_names_that_hardly_deflate(name: str, order: str) -> None:
    """20 random letters a class, twice the length of ImageNet's."""
    codes = np.random.default_rng(3).integers(ord("a"), ord("z") + 1, (1000, 20))
    names = ["".join(map(chr, row)) for row in codes]
    assert size_with(network(name, order), names) <= MOST_BYTES[name]


@pytest.mark.parametrize("name", MOST_BYTES)
def test_with_the_names_of_imagenet(name: str, shared_data: Path) -> None:
    lines = (shared_data / "imagenet-sample" / "classes.tsv").read_text(encoding="utf-8")
    names = [line.split("\t")[2] for line in lines.splitlines()[1:]]
    assert size_with(network(name, "conv_relu_bn"), names) <= MOST_BYTES[name]


@pytest.mark.parametrize("order", ORDERS)
def test_every_factor_takes_two_bytes(order: str) -> None:
    for op in network("etinynet-0.75", order).ops:
        rule = op.requantization
        for values in () if rule is None else (rule.multiplier, rule.residual_multiplier):
            assert values is None or encode(values)[0] in ("short", "int16"), op.name
