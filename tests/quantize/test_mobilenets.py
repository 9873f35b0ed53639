"""MobileNets from their definitions to an emulated part: equal bits, and they fit."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from small_networks import pictures

from etinynet.errors import FitError
from etinynet.graph import Graph
from etinynet.model.config import named_config
from etinynet.model.networks import build_untrained
from etinynet.quantize.pipeline import Quantization, quantize_model
from etinynet.target import verify
from etinynet.target.base import get_target

SIZE, CLASSES = 96, 100
#: Flash and RAM in all on the STM32F746, plan "stream", and instructions, measured and rounded up.
LIMITS = {
    "mobilenet-v1-0.25": (285_000, 20_000, 10_500_000),
    "mobilenet-v2-0.35": (615_000, 29_000, 18_000_000),
}


@functools.cache
def quantized(name: str, size: int = SIZE, classes: int = CLASSES) -> Graph:
    """Random weights; the normalizations' statistics are those of the calibration pictures."""
    x = pictures(8, size)
    model = build_untrained(named_config(name, classes, size), x)
    return quantize_model(model, x, Quantization(8, pictures=8), "mobile", None, {})


def image(size: int = SIZE) -> np.ndarray:
    return pictures(1, size, seed=9)[0].permute(1, 2, 0).numpy().astype(np.int8)


@pytest.mark.parametrize("name", LIMITS)
def test_host_and_part_equal_the_reference(name: str) -> None:
    graph = quantized(name)
    with get_target("host").load(graph) as program:
        assert verify.verify(graph, program, [image()], tensors=True).passed
    with get_target("stm32f746", mode="stream").load(graph) as program:
        assert verify.verify(graph, program, [image()], tensors=True).passed
        result = program.run(image())
    flash, ram, instructions = LIMITS[name]
    print(f"{name}: {result.flash_bytes}, {result.ram_bytes}, {result.instructions}")
    assert result.flash_bytes <= flash
    assert result.ram_bytes <= ram
    assert result.instructions <= instructions


def test_scores_differ_from_picture_to_picture() -> None:
    graph = quantized("mobilenet-v1-0.25")
    with get_target("reference").load(graph) as program:
        first, second = (
            program.run(x.permute(1, 2, 0).numpy().astype(np.int8)).scores
            for x in pictures(2, SIZE, seed=3)
        )
    assert len(np.unique(first)) > CLASSES // 2
    assert np.abs(first.astype(int) - second).mean() > 100


def test_a_thousand_classes_of_8_bits_exceed_a_megabyte() -> None:
    """MobileNetV2-0.35 has 1.66 million weights; the STM32H743 has flash for them."""
    graph = quantized("mobilenet-v2-0.35", 32, 1000)
    with pytest.raises(FitError, match=r"weights and constants take 17\d{5} bytes, .* has 1048576"):
        get_target("stm32f746").load(graph)
    with get_target("stm32h743").load(graph) as program:
        assert verify.verify(graph, program, [image(32)]).passed
