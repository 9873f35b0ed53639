"""Counts against the paper's table 1 and against the torch model."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from etinynet.model.config import etinynet, etinynet_0_75, etinynet_1_0, named_config
from etinynet.model.etinynet import EtinyNet
from etinynet.model.networks import build
from etinynet.model.summary import summarize
from etinynet.quantize.pipeline import network_of


def test_counts_of_1_0_are_the_papers():
    summary = summarize(etinynet_1_0())
    assert summary.macs == 113_705_920
    assert summary.paper_macs == 116_901_504
    assert summary.parameters == 963_816
    assert summary.paper_parameters == 976_360
    assert summary.paper == (117_000_000, 976_000)


def test_counts_of_0_75_are_the_papers():
    summary = summarize(etinynet_0_75())
    assert summary.paper_macs == pytest.approx(75e6, rel=0.007)
    assert summary.paper_parameters == pytest.approx(680e3, rel=0.002)
    assert summary.paper == (75_000_000, 680_000)


@pytest.mark.parametrize("width", [0.25, 0.75, 1.0])
@pytest.mark.parametrize("classes", [0, 10])
def test_parameters_are_the_models(width, classes):
    config = etinynet(width, classes, 96)
    model = EtinyNet(config)
    summary = summarize(config)
    assert summary.parameters == sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for b in model.buffers() if b.dim())
    assert summary.paper_parameters == summary.parameters + statistics
    assert summary.paper is None


def test_json_says_what_it_counts():
    record = json.loads(json.dumps(summarize(etinynet_1_0()).to_json()))
    assert record["totals"]["bytes_int8"] == 950_272
    assert record["totals"]["bytes_int4"] == 475_136
    assert record["paper"] == {"macs": 117_000_000, "parameters": 976_000}
    assert "batch-normalized" in record["counts"]
    assert record["layers"][0]["output"] == [112, 112, 32]
    assert len(record["layers"]) == 2 + 3 * 14 + 2


def test_needs_no_torch():
    code = (
        "import sys, etinynet.model.summary, etinynet.model.mxnet_params, "
        "etinynet.model.registry, etinynet.data.images, etinynet.data.labels\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["etinynet-1.0", "mobilenet-v1-0.25", "mobilenet-v2-0.35"])
def test_layers_have_the_names_of_the_graph(name: str) -> None:
    config = named_config(name, 10, 32)
    names = [row.name for row in summarize(config).rows]
    assert names == [layer.name for layer in network_of(build(config).eval(), 32).layers]
    assert not any(layer.startswith("blocks") for layer in names)
