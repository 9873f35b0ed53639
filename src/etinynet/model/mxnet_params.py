"""Reads the authors' MXNet `.params` files, hostile bytes included, into our names; numpy only."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etinynet.errors import ArtefactError, ConfigError
from etinynet.model.config import (
    Block,
    EtinyNetConfig,
    etinynet_0_75,
    etinynet_1_0,
)
from etinynet.model.kinds import kind_of
from etinynet.model.shapes import state_shapes

__all__ = ["import_params", "read_params"]

_LIST_MAGIC = (0x112).to_bytes(8, "little")
_ARRAY_MAGIC = 0xF993FAC9  # version 2 of the NDArray format
_MAX_ARRAYS = 4096
_MAX_DIMENSIONS = 8
_MAX_NAME = 256
_FLOAT32 = 0
# The authors' later network clips after every batch normalization.
_CLIP = 12.0
_IGNORED = ("class_predictors.", "box_predictors.", "anchor_generators.")


@dataclass
class _Cursor:
    """A position in `data` that never passes its end."""

    data: bytes
    source: str
    position: int = 0

    def take(self, length: int, what: str) -> bytes:
        if length > len(self.data) - self.position:
            raise ArtefactError(
                f"{self.source}: {what} at byte {self.position} takes {length} bytes and "
                f"{len(self.data) - self.position} are left: truncated or damaged"
            )
        start = self.position
        self.position += length
        return self.data[start : self.position]

    def number(self, form: str, what: str) -> int:
        (value,) = struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}"), what))
        return int(value)

    def expect(self, form: str, what: str, allowed: int) -> None:
        value = self.number(form, what)
        if value != allowed:
            raise ArtefactError(f"{self.source}: {what} is {value:#x}; {allowed:#x} is allowed")

    def count(self, form: str, what: str, low: int, high: int) -> int:
        value = self.number(form, what)
        if not low <= value <= high:
            raise ArtefactError(f"{self.source}: {what} is {value}; {low} to {high} is allowed")
        return value


def read_params(data: bytes, source: str) -> dict[str, NDArray[np.float32]]:
    """The named float32 arrays of an MXNet NDArray-list file (dense, version 2, little endian).

    Every length is checked against the bytes that are there before it is used.
    Raises ArtefactError, one line beginning with `source`.
    """
    if data[:8] != _LIST_MAGIC:
        raise ArtefactError(
            f"{source}: this is {kind_of(data)}; import takes the MXNet .params file of the "
            "paper's authors"
        )
    cursor = _Cursor(data, source, 8)
    cursor.expect("Q", "reserved word", 0)
    count = cursor.count("Q", "number of arrays", 1, _MAX_ARRAYS)
    arrays = [_read_array(cursor, index) for index in range(count)]
    cursor.expect("Q", "number of names", count)
    named: dict[str, NDArray[np.float32]] = {}
    for index, array in enumerate(arrays):
        name = _read_name(cursor, index)
        if name in named:
            raise ArtefactError(f"{source}: name {name!r} appears twice")
        named[name] = array
    if cursor.position != len(data):
        raise ArtefactError(f"{source}: {len(data) - cursor.position} bytes after the last name")
    return named


def _read_array(cursor: _Cursor, index: int) -> NDArray[np.float32]:
    what = f"array {index}"
    cursor.expect("I", f"{what}: format", _ARRAY_MAGIC)
    cursor.expect("i", f"{what}: storage type", 0)
    dimensions = cursor.count("I", f"{what}: number of dimensions", 1, _MAX_DIMENSIONS)
    shape = [
        cursor.count("q", f"{what}: dimension {axis}", 1, len(cursor.data))
        for axis in range(dimensions)
    ]
    cursor.take(8, f"{what}: device")
    cursor.expect("i", f"{what}: element type", _FLOAT32)
    values = cursor.take(4 * math.prod(shape), f"{what}: values")
    return np.frombuffer(values, "<f4").astype(np.float32).reshape(shape)


def _read_name(cursor: _Cursor, index: int) -> str:
    length = cursor.count("Q", f"name {index}: length", 1, _MAX_NAME)
    raw = cursor.take(length, f"name {index}")
    if not all(0x20 < byte < 0x7F for byte in raw):
        raise ArtefactError(f"{cursor.source}: name {index} is {raw!r}; ASCII is allowed")
    return raw.decode("ascii")


def import_params(
    data: bytes, source: str
) -> tuple[EtinyNetConfig, dict[str, NDArray[np.float32]], tuple[str, ...]]:
    """The authors' classifier or detector backbone: configuration, our arrays, ignored names.

    Two layouts are known: the 1000-class network, and the later one whose extra clip layers shift
    the indices (activation_clip 12) inside a one-class detector; the detector's predictors and
    anchors are ignored and named. Blocks stride as in table 1; channels come from the arrays.
    Raises ArtefactError for anything else: missing, extra, misshaped or non-finite arrays,
    negative variances.
    """
    arrays = read_params(data, source)
    clipped = "features1.4.out1.0.weight" not in arrays
    names = _our_names(clipped)
    config = _config(arrays, names, clipped, source)
    state: dict[str, NDArray[np.float32]] = {}
    for ours, shape in state_shapes(config).items():
        theirs = names[ours]
        array = arrays.get(theirs)
        if array is None:
            raise ArtefactError(f"{source}: array {theirs!r} is missing")
        if ours == "classifier.weight" and array.shape == (*shape, 1, 1):
            array = array.reshape(shape)
        _check_array(array, shape, theirs, source)
        state[ours] = array
    used = {names[ours] for ours in state}
    rest = [name for name in arrays if name not in used]
    for name in rest:
        if not name.startswith(_IGNORED):
            raise ArtefactError(f"{source}: array {name!r} belongs to no layer of {config.name}")
    return config, state, tuple(rest)


def _check_array(
    array: NDArray[np.float32], shape: tuple[int, ...], name: str, source: str
) -> None:
    if array.shape != shape:
        raise ArtefactError(f"{source}: array {name!r} has shape {array.shape}; expected {shape}")
    if not np.isfinite(array).all():
        raise ArtefactError(f"{source}: array {name!r} holds values that are not finite")
    if name.endswith(".running_var") and (array < 0).any():
        raise ArtefactError(f"{source}: array {name!r} holds a negative variance")


def _our_names(clipped: bool) -> dict[str, str]:
    """Our array name to theirs, for the layout with or without clip layers."""
    extra = 1 if clipped else 0
    names: dict[str, str] = {}

    def unit(ours: str, conv: str, norm: str) -> None:
        names[f"{ours}.conv.weight"] = f"{conv}.weight"
        for mine, part in (("weight", "gamma"), ("bias", "beta")):
            names[f"{ours}.norm.{mine}"] = f"{norm}.{part}"
        for part in ("running_mean", "running_var"):
            names[f"{ours}.norm.{part}"] = f"{norm}.{part}"

    unit("stem", "features1.0", "features1.2")
    places = [f"features1.{4 + extra + i}" for i in range(8)]
    places += [f"features{group}.{i}" for group in (2, 3) for i in range(3)]
    for index, place in enumerate(places):
        block = f"blocks.{index}"
        unit(f"{block}.dw1", f"{place}.out1.0", f"{place}.out1.1")
        unit(f"{block}.pw", f"{place}.out1.{2 + extra}", f"{place}.out1.{4 + extra}")
        unit(f"{block}.dw2", f"{place}.out2.0", f"{place}.out2.2")
    for part in ("weight", "bias"):
        names[f"classifier.{part}"] = f"output.0.{part}"
    return names


def _config(
    arrays: dict[str, NDArray[np.float32]], names: dict[str, str], clipped: bool, source: str
) -> EtinyNetConfig:
    """Table 1's blocks with the channels of the file's arrays."""

    def rows(ours: str) -> int:
        array = arrays.get(names[ours])
        if array is None:
            raise ArtefactError(f"{source}: not an EtinyNet: array {names[ours]!r} is missing")
        return int(array.shape[0])

    stages = []
    index = 0
    for stage in etinynet_1_0().stages:
        blocks = []
        for block in stage:
            inner = rows(f"blocks.{index}.dw1.conv.weight")
            outer = rows(f"blocks.{index}.pw.conv.weight")
            blocks.append((block.kind, inner, outer, block.stride))
            index += 1
        stages.append(blocks)
    classes = rows("classifier.weight") if names["classifier.weight"] in arrays else 0
    try:
        config = EtinyNetConfig(
            name="etinynet",
            stem_channels=rows("stem.conv.weight"),
            stages=tuple(tuple(Block(*block) for block in blocks) for blocks in stages),
            classes=classes,
            normalization="conv_relu_bn",
            activation_clip=_CLIP if clipped else None,
        )
    except ConfigError as error:
        raise ArtefactError(f"{source}: not an EtinyNet: {error}") from None
    return _with_paper_name(config)


def _with_paper_name(config: EtinyNetConfig) -> EtinyNetConfig:
    for paper in (etinynet_1_0(), etinynet_0_75()):
        if config.stages == paper.stages:
            return EtinyNetConfig.from_json({**config.to_json(), "name": paper.name})
    return config
