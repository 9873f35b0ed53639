"""Writes small MXNet `.params` files for tests: numpy arrays to NDArray-list bytes."""

from __future__ import annotations

import struct

import numpy as np

from etinynet.model.config import EtinyNetConfig, etinynet
from etinynet.model.mxnet_params import _our_names
from etinynet.model.shapes import state_shapes


def params_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        parts.append(struct.pack("<IiI", 0xF993FAC9, 0, array.ndim))
        parts.append(struct.pack(f"<{array.ndim}q", *array.shape))
        parts.append(struct.pack("<iii", 1, 0, 0) + array.astype("<f4").tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        parts.append(struct.pack("<Q", len(name)) + name.encode())
    return b"".join(parts)


def small_arrays(clipped: bool = False, classes: int = 3) -> dict[str, np.ndarray]:
    """A network of 8 to 16 channels under the authors' names."""
    random = np.random.default_rng(7)
    names = _our_names(clipped)
    arrays = {}
    for ours, shape in state_shapes(small_config(classes)).items():
        values = np.abs(random.normal(size=shape)).astype(np.float32)
        arrays[names[ours]] = values[..., None, None] if ours == "classifier.weight" else values
    return arrays


def small_config(classes: int = 3) -> EtinyNetConfig:
    return etinynet(0.03, classes, 32, normalization="conv_relu_bn")
