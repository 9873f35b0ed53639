"""The `.etn` container: a graph as safetensors with a versioned header and a checksum."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from etinynet.errors import ArtefactError, GraphError
from etinynet.graph.check import check
from etinynet.graph.ir import Graph, Op, Requantization, Tensor

__all__ = [
    "FORMAT",
    "VERSION",
    "graph_digest",
    "graph_from_bytes",
    "graph_to_bytes",
    "pack_nibbles",
    "read_graph",
]

FORMAT = "etinynet-graph"
VERSION = 1

Arrays = dict[str, NDArray[Any]]


def pack_nibbles(weight: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Values of at most 4 bits, flattened, two to a byte, the first in the low half."""
    flat = weight.reshape(-1).astype(np.uint8) & 15
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    return (flat[0::2] | (flat[1::2] << 4)).astype(np.uint8)


def _unpack_nibbles(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.int8]:
    count = int(np.prod(shape))
    if packed.dtype != np.uint8 or packed.shape != ((count + 1) // 2,):
        raise ValueError(f"packed weight is {packed.dtype} {packed.shape}")
    halves = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count]
    return ((halves.astype(np.int8) ^ 8) - 8).reshape(shape)


def _narrowest(array: NDArray[np.int32]) -> NDArray[np.int16] | NDArray[np.int32]:
    """`array` as int16 where all its values fit: half the bytes, the same numbers."""
    narrow = array.astype(np.int16)
    return narrow if np.array_equal(narrow, array) else array


def _pop_int32(arrays: Arrays, name: str) -> NDArray[np.int32] | None:
    array = arrays.pop(name, None)
    if array is None or array.dtype == np.int32:
        return array
    if array.dtype != np.int16:
        raise ValueError(f"array {name!r} is {array.dtype}")
    return array.astype(np.int32)


def _describe(graph: Graph) -> tuple[dict[str, Any], Arrays]:
    """JSON description and arrays, those of operator `x` named `x.weight`, `x.bias`, ..."""
    arrays: Arrays = {}
    ops = []
    for op in graph.ops:
        entry = {
            field: getattr(op, field)
            for field in (
                "kind",
                "name",
                "input",
                "output",
                "kernel",
                "stride",
                "padding",
                "residual",
            )
        }
        if op.weight is not None:
            entry |= {"weight_bits": op.weight_bits, "weight_shape": list(op.weight.shape)}
            packed = op.weight_bits <= 4
            arrays[f"{op.name}.weight"] = pack_nibbles(op.weight) if packed else op.weight
        if op.bias is not None:
            arrays[f"{op.name}.bias"] = _narrowest(op.bias)
        if op.requantization is not None:
            rule = op.requantization
            entry |= {"shift": rule.shift, "relu": rule.relu}
            for field in ("multiplier", "offset", "residual_multiplier"):
                array = getattr(rule, field)
                if array is not None:
                    arrays[f"{op.name}.{field}"] = _narrowest(array)
        ops.append(entry)
    tensors = [dataclasses.asdict(tensor) for tensor in graph.tensors.values()]
    description = {
        "name": graph.name,
        "input": graph.input,
        "output": graph.output,
        "tensors": tensors,
        "ops": ops,
        "metadata": graph.metadata,
    }
    return description, arrays


def _digest(text: str, arrays: Arrays) -> str:
    total = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        total.update(f"{name}:{array.dtype}:{array.shape};".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def graph_digest(graph: Graph) -> str:
    """SHA-256 over description and arrays: the identity of a graph in everything made from it."""
    description, arrays = _describe(graph)
    return _digest(json.dumps(description, sort_keys=True), arrays)


def graph_to_bytes(graph: Graph) -> bytes:
    """Content of the `.etn` file of a legal graph; equal graphs give equal bytes."""
    check(graph)
    description, arrays = _describe(graph)
    text = json.dumps(description, sort_keys=True)
    header = {"format": FORMAT, "version": VERSION, "sha256": _digest(text, arrays), "graph": text}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(contiguous, metadata={FORMAT: json.dumps(header)})


def _read_header(data: bytes) -> dict[str, Any]:
    """The header object that `graph_to_bytes` stored under the key FORMAT."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError("truncated")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    if set(metadata) != {FORMAT}:
        raise ValueError(f"header keys {sorted(metadata)}")
    header = json.loads(metadata[FORMAT])
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']!r}")
    return dict(header)


def _build_op(entry: dict[str, Any], arrays: Arrays) -> Op:
    name = entry["name"]
    weight, rule = None, None
    if "weight_shape" in entry:
        weight = arrays.pop(f"{name}.weight")
        if entry["weight_bits"] <= 4:
            weight = _unpack_nibbles(weight, tuple(entry["weight_shape"]))
    if "shift" in entry:
        multiplier = _pop_int32(arrays, f"{name}.multiplier")
        offset = _pop_int32(arrays, f"{name}.offset")
        if multiplier is None or offset is None:
            raise ValueError(f"operator {name!r} lacks multiplier or offset")
        rule = Requantization(
            multiplier=multiplier,
            offset=offset,
            shift=entry.pop("shift"),
            relu=entry.pop("relu"),
            residual_multiplier=_pop_int32(arrays, f"{name}.residual_multiplier"),
        )
    entry.pop("weight_shape", None)
    bias = _pop_int32(arrays, f"{name}.bias")
    return Op(**entry, weight=weight, bias=bias, requantization=rule)


def _build(description: dict[str, Any], arrays: Arrays) -> Graph:
    tensors = {}
    for entry in description["tensors"]:
        if entry["name"] in tensors:
            raise ValueError(f"two tensors {entry['name']!r}")
        tensors[entry["name"]] = Tensor(**entry | {"shape": tuple(entry["shape"])})
    ops = tuple(_build_op(dict(entry), arrays) for entry in description["ops"])
    if arrays:
        raise ValueError(f"array {min(arrays)!r} belongs to no operator")
    return Graph(
        name=description["name"],
        tensors=tensors,
        ops=ops,
        input=description["input"],
        output=description["output"],
        metadata=description["metadata"],
    )


def graph_from_bytes(data: bytes, source: str) -> Graph:
    """The legal graph in the bytes of an `.etn` file; `source` names the file in errors.

    Raises ArtefactError for anything damaged, of another format or of a newer version, and
    GraphError where the content is intact but breaks a rule.
    """
    try:
        header = _read_header(data)
        version = header["version"]
        if version != VERSION:
            raise ArtefactError(
                f"{source}: graph format version {version!r}, this release reads {VERSION}"
            )
        arrays = load(data)
        if _digest(header["graph"], arrays) != header["sha256"]:
            raise ValueError("checksum differs")
        graph = _build(json.loads(header["graph"]), dict(arrays))
        check(graph)
    except GraphError as error:
        raise GraphError(f"{source}: {error}") from None
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        SafetensorError,
        RecursionError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtefactError(f"{source}: not an intact .etn graph: {reason[:120]}") from None
    return graph


def read_graph(path: Path) -> Graph:
    """The graph in file `path`; raises as `graph_from_bytes`, and ArtefactError if unreadable."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path}: cannot read this graph file: {error.strerror}") from None
    return graph_from_bytes(data, str(path))
