"""An `.etn` file of every kind of operator, and such files with anything in them changed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
from graph_edits import edit_rule, every_kind
from numpy.typing import NDArray
from safetensors.numpy import load, save

from etinynet.graph import Graph, graph_to_bytes
from etinynet.graph.io import FORMAT, VERSION
from etinynet.graph.ir import Op, Requantization

__all__ = ["BASE", "DATA", "Arrays", "base_graph", "container", "rewrite", "same"]

Arrays = dict[str, NDArray[Any]]


def base_graph() -> Graph:
    """`every_kind` with constants of each coding."""
    factors = np.array([2**30, -(2**19) * 4095, 3 * 2**20, 2**5], np.int32)
    return edit_rule(every_kind(), "dw", multiplier=factors, shift=0)


BASE = base_graph()
DATA = graph_to_bytes(BASE)


def same(one: object, other: object) -> bool:
    """Equality of parts of graphs, arrays by dtype, shape and value."""
    if isinstance(one, np.ndarray):
        alike = isinstance(other, np.ndarray) and one.dtype == other.dtype
        return alike and np.array_equal(one, other)
    if isinstance(one, (Graph, Op, Requantization)):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def rewrite(
    edit: Callable[[dict[str, Any], Arrays], None] = lambda description, arrays: None,
    text: str | None = None,
    packed: bytes | None = None,
    **header: Any,
) -> bytes:
    """The file of `BASE`, its description and arrays edited, with the checksum made right."""
    from etinynet.graph.io import _digest

    arrays = {name: array.copy() for name, array in load(DATA).items()}
    description = json.loads(zlib.decompress(arrays.pop("description").tobytes()))
    edit(description, arrays)
    if text is None:
        text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    packed = zlib.compress(text.encode(), 9) if packed is None else packed
    whole = {
        "format": FORMAT, "version": VERSION, "sha256": _digest(packed, arrays)
    } | header  # fmt: skip
    arrays.setdefault("description", np.frombuffer(packed, np.uint8))
    return save(arrays, metadata={FORMAT: json.dumps(whole)})


def container(header: object, rest: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest
