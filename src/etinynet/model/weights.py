"""Float weights files: safetensors whose one checksum covers every byte, checked when loaded."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from etinynet.artefact import read_file, write_file
from etinynet.data.images import Preprocess
from etinynet.errors import ArtefactError, ConfigError
from etinynet.model.config import NetworkConfig, config_from_json
from etinynet.model.fields import MAX_SIZE, MIN_SIZE
from etinynet.model.kinds import kind_of
from etinynet.model.networks import Network, build
from etinynet.model.shapes import state_shapes
from etinynet.text import parse_json, require_shallow

__all__ = [
    "FORMAT",
    "VERSION",
    "LoadedModel",
    "build_model",
    "load_weights",
    "save_weights",
    "weights_from_bytes",
    "weights_to_bytes",
]

FORMAT = "etinynet-weights"
VERSION = 1

_KEY = "etinynet"
_BLANK = b"0" * 64  # stands where the checksum goes while the checksum is computed
_MAX_HEADER = 4_000_000

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network in evaluation mode with all that its file says about it."""

    model: Network
    config: NetworkConfig
    class_names: tuple[str, ...] | None
    preprocess: Preprocess
    provenance: dict[str, Any]


def weights_to_bytes(
    model: Network,
    *,
    provenance: Mapping[str, object],
    class_names: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
) -> bytes:
    """The file of `model`; `preprocess` None: that of the configuration's size.

    `provenance` is artefact.provenance's. Raises ArtefactError where values are not finite or
    the number of class names is not the number of classes.
    """
    config = model.config
    arrays = _arrays(model)
    _check_arrays(arrays, config, config.name)
    if class_names is not None:
        class_names = list(class_names)
    _check_class_names(class_names, config, config.name)
    info = {
        "format": FORMAT,
        "version": VERSION,
        "config": config.to_json(),
        "class_names": class_names,
        "preprocess": (preprocess or Preprocess.for_size(config.size)).to_json(),
        "provenance": dict(provenance),
    }
    try:
        require_shallow(info)
    except ValueError as error:
        raise ArtefactError(f"{config.name}: provenance: {error}") from None
    # One metadata entry, checksum first: with two, safetensors would not fix their order.
    return _with_checksum(save(arrays, {_KEY: f"{_BLANK.decode()} {json.dumps(info)}"}))


def _with_checksum(blank: bytes) -> bytes:
    mark = f'"{_KEY}":"'.encode()
    start = blank.index(mark) + len(mark)
    digest = hashlib.sha256(blank).hexdigest().encode()
    return blank[:start] + digest + blank[start + len(_BLANK) :]


def save_weights(
    path: Path,
    model: Network,
    *,
    provenance: Mapping[str, object],
    class_names: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
) -> None:
    """Writes `weights_to_bytes` to `path`, whole or not at all; raises ArtefactError."""
    data = weights_to_bytes(
        model, provenance=provenance, class_names=class_names, preprocess=preprocess
    )
    write_file(path, data)


def load_weights(path: Path) -> LoadedModel:
    """Reads and checks a weights file; raises ArtefactError, one line that begins with the path."""
    return weights_from_bytes(read_file(path, "weights"), str(path))


def weights_from_bytes(data: bytes, source: str) -> LoadedModel:
    """The network in `data`; `source` names it in errors.

    Raises ArtefactError: another format or version, truncated, any changed bit, missing, extra or
    misshaped arrays, other element types, values that are not finite, negative variances.
    """
    info = _checked_info(data, source)
    try:
        config = config_from_json(info.get("config"))
        preprocess = Preprocess.from_json(info.get("preprocess"))
    except ConfigError as error:
        raise ArtefactError(f"{source}: {error}") from None
    if not MIN_SIZE <= preprocess.size <= MAX_SIZE:
        raise ArtefactError(
            f"{source}: preprocess gives size {preprocess.size}; {MIN_SIZE} to {MAX_SIZE} "
            "is allowed"
        )
    class_names = info.get("class_names")
    _check_class_names(class_names, config, source)
    provenance = info.get("provenance")
    if not isinstance(provenance, dict):
        raise ArtefactError(f"{source}: provenance is {provenance!r}, not an object")
    model = build_model(config, _tensors(data, source), source)
    names = None if class_names is None else tuple(class_names)
    return LoadedModel(model, config, names, preprocess, provenance)


def build_model(config: NetworkConfig, arrays: Mapping[str, NDArray[Any]], source: str) -> Network:
    """The network of `config` in evaluation mode with the values of `arrays`.

    Names, shapes, types and values are checked first; raises ArtefactError naming `source`.
    """
    _check_arrays(arrays, config, source)
    model = build(config)
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    model.load_state_dict({**model.state_dict(), **state})
    return model.eval()


def _arrays(model: Network) -> Arrays:
    state = model.state_dict()
    return {
        name: state[name].detach().cpu().contiguous().numpy() for name in state_shapes(model.config)
    }


def _check_arrays(arrays: Mapping[str, NDArray[Any]], config: NetworkConfig, source: str) -> None:
    shapes = state_shapes(config)
    for name in arrays:
        if name not in shapes:
            raise ArtefactError(f"{source}: array {name!r} belongs to no layer of {config.name}")
    for name, shape in shapes.items():
        array = arrays.get(name)
        if array is None:
            raise ArtefactError(f"{source}: array {name!r} is missing")
        if array.shape != shape:
            raise ArtefactError(
                f"{source}: array {name!r} has shape {array.shape}; expected {shape}"
            )
        if array.dtype != np.float32:
            raise ArtefactError(f"{source}: array {name!r} is {array.dtype}; expected float32")
        if not np.isfinite(array).all():
            raise ArtefactError(f"{source}: array {name!r} holds values that are not finite")
        if name.endswith(".running_var") and (array < 0).any():
            raise ArtefactError(f"{source}: array {name!r} holds a negative variance")


def _check_class_names(names: object, config: NetworkConfig, source: str) -> None:
    if names is None:
        return
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArtefactError(f"{source}: class_names is {names!r}; null or strings are allowed")
    if len(names) != config.classes:
        raise ArtefactError(f"{source}: {len(names)} class names for {config.classes} classes")


def _header(data: bytes, source: str) -> dict[str, Any]:
    """The JSON header of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(len(data) - 8, _MAX_HEADER):
        raise ArtefactError(f"{source}: not a weights file, or truncated: {kind_of(data)}")
    try:
        header = parse_json(data[8 : 8 + size].decode("utf-8"))
    except ValueError:
        raise ArtefactError(f"{source}: not a weights file, or its header is damaged") from None
    if not isinstance(header, dict):
        raise ArtefactError(f"{source}: not a weights file, or its header is damaged")
    return header


def _checked_info(data: bytes, source: str) -> dict[str, Any]:
    """The description in the metadata, once format, version and checksum are found right."""
    metadata = _header(data, source).get("__metadata__")
    entry = metadata.get(_KEY) if isinstance(metadata, dict) else None
    match = re.fullmatch("([0-9a-f]{64}) (.*)", entry) if isinstance(entry, str) else None
    if match is None:
        raise ArtefactError(
            f"{source}: not an etinynet weights file, or its header is damaged: {kind_of(data)}"
        )
    stated = match[1].encode()
    if hashlib.sha256(data.replace(stated, _BLANK, 1)).hexdigest().encode() != stated:
        raise ArtefactError(f"{source}: damaged: its content does not have the recorded SHA-256")
    try:
        info = parse_json(match[2])
    except ValueError as error:
        raise ArtefactError(f"{source}: its description is damaged: {error}") from None
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise ArtefactError(f"{source}: not an etinynet weights file")
    if info.get("version") != VERSION:
        raise ArtefactError(
            f"{source}: weights file version {info.get('version')!r}; {VERSION} is allowed"
        )
    return info


def _tensors(data: bytes, source: str) -> dict[str, NDArray[Any]]:
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ArtefactError(f"{source}: damaged: {error}") from None
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in entries:
        if entry["dtype"] != "F32":
            raise ArtefactError(f"{source}: array {name!r} is {entry['dtype']}; expected F32")
        values = np.frombuffer(entry["data"], "<f4")
        if values.size != math.prod(entry["shape"]):
            raise ArtefactError(f"{source}: array {name!r} has a damaged shape")
        arrays[name] = values.reshape(entry["shape"])
    return arrays
