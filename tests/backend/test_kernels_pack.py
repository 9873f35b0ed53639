"""Packed weights: the bytes they take in flash, their types, and the scratch of each kernel."""

from __future__ import annotations

import numpy as np
import pytest

from etinynet.backend.c.pack import pack_weight, scratch_bytes, weight_c_type
from etinynet.graph.ir import Graph, Op, Tensor, Window


def _op(kind: str, shape: tuple[int, ...], bits: int, kernel: int = 1) -> Op:
    weight = np.ones(shape, np.int8)
    window = Window.square(kernel, 1, kernel // 2)
    return Op(kind, "op", ("x",), "y", window, weight, bits)


@pytest.mark.parametrize(
    ("kind", "shape", "bits", "c_type", "size"),
    [
        ("pointwise", (256, 128), 8, "uint32_t", 256 * 128),
        ("pointwise", (256, 128), 5, "uint32_t", 256 * 128),
        ("pointwise", (256, 128), 4, "uint32_t", 256 * 64),
        ("pointwise", (256, 128), 2, "uint32_t", 256 * 64),
        ("dense", (3, 5), 8, "uint32_t", 4 * 6),
        ("dense", (3, 5), 4, "uint32_t", 4 * 4),
        ("conv2d", (32, 3, 3, 3), 8, "uint32_t", 32 * 28),
        ("conv2d", (32, 3, 3, 3), 4, "uint32_t", 32 * 14),
        ("depthwise", (32, 3, 3), 8, "int8_t", 32 * 9 + 4),
        ("depthwise", (32, 3, 3), 4, "uint8_t", 32 * 5),
        ("depthwise", (32, 5, 5), 8, "int8_t", 32 * 25),
        ("depthwise", (32, 5, 5), 4, "uint8_t", 32 * 13),
    ],
)
def test_flash_bytes(kind: str, shape: tuple[int, ...], bits: int, c_type: str, size: int) -> None:
    op = _op(kind, shape, bits, shape[1] if len(shape) > 2 else 1)
    packed = pack_weight(op)
    assert (weight_c_type(op), packed.nbytes) == (c_type, size)
    assert f"{packed.dtype}_t" == c_type


@pytest.mark.parametrize(
    ("kind", "shape", "channels", "size"),
    [
        ("pointwise", (8, 128), 128, 4 * 128),
        ("pointwise", (8, 27), 27, 4 * 28),
        ("conv2d", (32, 3, 3, 3), 3, 4 * 28 + 32 * 28 * 2),
        ("depthwise", (32, 3, 3), 32, 0),
        ("dense", (10, 64), 64, 0),
    ],
)
def test_scratch(kind: str, shape: tuple[int, ...], channels: int, size: int) -> None:
    op = _op(kind, shape, 8, 3 if len(shape) > 2 else 1)
    tensor = Tensor("x", (4, 4, channels), 8, 0, 1.0)
    assert scratch_bytes(op, Graph("g", {"x": tensor}, (op,), "x", ("y",))) == size
