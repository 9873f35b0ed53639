"""The `.etn` container: a graph as safetensors with a versioned header and a checksum."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from etinynet.errors import ArtefactError, ConfigError, GraphError
from etinynet.graph.check import check
from etinynet.graph.coding import decode, encode, pack_nibbles, unpack_nibbles
from etinynet.graph.ir import Classification, Graph, Op, Requantization, Tensor, Window
from etinynet.graph.precision import Precision
from etinynet.text import parse_json

__all__ = [
    "FORMAT",
    "MOST_TEXT",
    "VERSION",
    "graph_digest",
    "graph_from_bytes",
    "graph_to_bytes",
    "read_graph",
]

FORMAT = "etinynet-graph"
VERSION = 3
#: Bytes of JSON that a description may have; a reader inflates no more.
MOST_TEXT = 1 << 22

Arrays = dict[str, NDArray[Any]]

_DESCRIPTION = "description"
_CLASSIFICATION = "classification"
#: The arrays of constants and the type of each; every value belongs to one operator, in order.
_STORES = {"weights": np.uint8, "int16": np.int16, "short": np.uint16, "int32": np.int32}
_RULE_ARRAYS = ("multiplier", "offset", "residual_multiplier")


def _fields(part: Op | Requantization | Window) -> dict[str, Any]:
    """The fields of `part` that are not at their default."""
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    defaults = {field.name: field.default for field in dataclasses.fields(part)}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, np.ndarray) or value != defaults[name]
    }


def _put(array: NDArray[np.int32], stores: dict[str, list[NDArray[Any]]]) -> list[Any]:
    """Appends `array` to the store of its coding; returns what the description says of it."""
    coding, stored, base = encode(array)
    stores[coding].append(stored)
    return [coding, len(array), base]


def _describe_op(op: Op, stores: dict[str, list[NDArray[Any]]]) -> dict[str, Any]:
    entry = _fields(op)
    if "window" in entry:
        entry["window"] = _fields(op.window)
    if op.weight is not None:
        entry["weight"] = list(op.weight.shape)
        flat = op.weight.reshape(-1)
        stores["weights"].append(
            pack_nibbles(flat) if op.weight_bits <= 4 else flat.astype(np.uint8)
        )
    if op.bias is not None:
        entry["bias"] = _put(op.bias, stores)
    if op.requantization is not None:
        rule = _fields(op.requantization)
        for field in _RULE_ARRAYS:
            if field in rule:
                rule[field] = _put(rule[field], stores)
        entry["requantization"] = rule
    return entry


def _describe_head(head: Classification | None) -> dict[str, Any] | None:
    """The head's fields and, as "kind", which it is."""
    return None if head is None else {"kind": _CLASSIFICATION, **dataclasses.asdict(head)}


def _describe(graph: Graph) -> tuple[bytes, Arrays]:
    """The description, JSON text, and the arrays of constants."""
    stores: dict[str, list[NDArray[Any]]] = {
        name: [np.zeros(0, dtype)] for name, dtype in _STORES.items()
    }
    description = {
        "name": graph.name,
        "input": graph.input,
        "outputs": graph.outputs,
        "head": _describe_head(graph.head),
        "precision": dataclasses.asdict(graph.precision),
        "tensors": [dataclasses.asdict(tensor) for tensor in graph.tensors.values()],
        "ops": [_describe_op(op, stores) for op in graph.ops],
        "metadata": graph.metadata,
    }
    text = json.dumps(description, sort_keys=True, separators=(",", ":")).encode()
    return text, {name: np.concatenate(parts) for name, parts in stores.items()}


def _digest(description: bytes, arrays: Arrays) -> str:
    total = hashlib.sha256(description)
    for name, array in sorted(arrays.items()):
        total.update(f"{name}:{array.dtype}:{array.shape};".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def graph_digest(graph: Graph) -> str:
    """SHA-256 over description and constants: a graph's identity in everything made from it."""
    return _digest(*_describe(graph))


def graph_to_bytes(graph: Graph) -> bytes:
    """Content of the `.etn` file of a legal graph; equal graphs give equal bytes.

    Raises GraphError where the graph is not legal, or described by more than MOST_TEXT bytes.
    """
    check(graph)
    text, arrays = _describe(graph)
    if len(text) > MOST_TEXT:
        raise GraphError(
            f"graph: description is {len(text)} bytes of JSON, allowed is at most {MOST_TEXT}; "
            "metadata should hold less"
        )
    packed = zlib.compress(text, 9)
    header = {"format": FORMAT, "version": VERSION, "sha256": _digest(packed, arrays)}
    arrays[_DESCRIPTION] = np.frombuffer(packed, np.uint8)
    return save(arrays, metadata={FORMAT: json.dumps(header)})


def _read_header(data: bytes) -> dict[str, Any]:
    """The header object that `graph_to_bytes` stored under the key FORMAT."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError("truncated")
    metadata = parse_json(data[8 : 8 + length])["__metadata__"]
    if set(metadata) != {FORMAT}:
        raise ValueError(f"header keys {sorted(metadata)}")
    header = parse_json(metadata[FORMAT])
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']!r}")
    return dict(header)


def _inflate(packed: bytes) -> bytes:
    """The description's text; never more than MOST_TEXT bytes are made of hostile ones."""
    stream = zlib.decompressobj()
    text = stream.decompress(packed, MOST_TEXT + 1)
    if len(text) > MOST_TEXT:
        raise ValueError(f"description inflates to more than {MOST_TEXT} bytes")
    if not stream.eof or stream.unused_data:
        raise ValueError("description is not one whole deflate stream")
    return text


def _read_arrays(data: bytes, checksum: object) -> tuple[bytes, Arrays]:
    """Packed description and arrays of constants, of their types, under the right checksum."""
    arrays = load(data)
    types = {_DESCRIPTION: np.uint8, **_STORES}
    for name in arrays.keys() | types.keys():
        array = arrays.get(name)
        seen = "absent" if array is None else f"{array.dtype} {array.shape}"
        if array is None or name not in types or array.dtype != types[name] or array.ndim != 1:
            raise ValueError(f"array {name!r} is {seen}")
    packed = arrays.pop(_DESCRIPTION).tobytes()
    if _digest(packed, arrays) != checksum:
        raise ValueError("checksum differs")
    return packed, arrays


def _take(arrays: Arrays, store: object, count: object, where: str) -> NDArray[Any]:
    """The next `count` values of a store, which are then gone from it."""
    if not isinstance(store, str) or store not in arrays:
        raise ValueError(f"{where} lies in {store!r}")
    left = arrays[store]
    if type(count) is not int or not 1 <= count <= len(left):
        raise ValueError(f"{where} has {count!r} values, {store} has {len(left)} left")
    arrays[store] = left[count:]
    return left[:count]


def _take_constants(place: Any, arrays: Arrays, where: str) -> NDArray[np.int32]:
    coding, count, base = place
    if coding == "weights":
        raise ValueError(f"{where} lies in {coding!r}")
    return decode(coding, _take(arrays, coding, count, where), base)


def _take_weight(shape: Any, bits: Any, arrays: Arrays, where: str) -> NDArray[np.int8]:
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise ValueError(f"{where} has shape {shape!r:.50}")
    count = math.prod(shape)
    if bits <= 4:
        packed = _take(arrays, "weights", (count + 1) // 2, where)
        return unpack_nibbles(packed, count).reshape(shape)
    return _take(arrays, "weights", count, where).astype(np.int8).reshape(shape)


def _as_tuple(value: Any, where: str) -> tuple[Any, ...]:
    """A list of the description as the tuple of ir.py."""
    if not isinstance(value, list):
        raise ValueError(f"{where} is {value!r:.50}, no list")
    return tuple(value)


def _build_op(entry: dict[str, Any], arrays: Arrays) -> Op:
    """The operator of `entry`; takes its constants, in the order in which they were put."""
    where = f"operator {entry['name']!r:.80}"
    entry["inputs"] = _as_tuple(entry["inputs"], f"{where}: inputs")
    if "window" in entry:
        sides = {key: _as_tuple(n, f"{where}: {key}") for key, n in entry["window"].items()}
        entry["window"] = Window(**sides)
    if "weight" in entry:
        bits = entry.get("weight_bits", Op.weight_bits)
        entry["weight"] = _take_weight(entry["weight"], bits, arrays, f"{where}: weight")
    if "bias" in entry:
        entry["bias"] = _take_constants(entry["bias"], arrays, f"{where}: bias")
    if "requantization" in entry:
        rule = dict(entry["requantization"])
        for field in _RULE_ARRAYS:
            if field in rule:
                rule[field] = _take_constants(rule[field], arrays, f"{where}: {field}")
        entry["requantization"] = Requantization(**rule)
    return Op(**entry)


def _build_head(entry: dict[str, Any] | None) -> Classification | None:
    if entry is None:
        return None
    fields = dict(entry)
    kind = fields.pop("kind")
    if kind != _CLASSIFICATION:
        raise ValueError(f"head is {kind!r:.50}, this release knows {_CLASSIFICATION!r}")
    if fields["class_names"] is not None:
        fields["class_names"] = _as_tuple(fields["class_names"], "class_names")
    return Classification(**fields)


def _build(description: dict[str, Any], arrays: Arrays) -> Graph:
    tensors = {}
    for entry in description["tensors"]:
        if entry["name"] in tensors:
            raise ValueError(f"two tensors {entry['name']!r}")
        tensors[entry["name"]] = Tensor(**entry | {"shape": _as_tuple(entry["shape"], "shape")})
    ops = tuple(_build_op(dict(entry), arrays) for entry in description["ops"])
    for store, left in arrays.items():
        if len(left):
            raise ValueError(f"{len(left)} values of {store} belong to no operator")
    return Graph(
        name=description["name"],
        tensors=tensors,
        ops=ops,
        input=description["input"],
        outputs=_as_tuple(description["outputs"], "outputs"),
        head=_build_head(description["head"]),
        precision=Precision(**description["precision"]),
        metadata=description["metadata"],
    )


def graph_from_bytes(data: bytes, source: str) -> Graph:
    """The legal graph in the bytes of an `.etn` file; `source` names the file in errors.

    Raises ArtefactError for anything damaged, of another format or of another version, and
    GraphError where the content is intact but breaks a rule.
    """
    try:
        header = _read_header(data)
        version = header["version"]
        if version != VERSION:
            raise ArtefactError(
                f"{source}: graph format version {version!r}, this release reads {VERSION}"
            )
        packed, arrays = _read_arrays(data, header["sha256"])
        graph = _build(parse_json(_inflate(packed)), arrays)
        check(graph)
    except GraphError as error:
        raise GraphError(f"{source}: {error}") from None
    except (
        ConfigError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        SafetensorError,
        RecursionError,
        zlib.error,
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
