"""Weights and requantization constants as C arrays, equal ones only once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.backend.c.pack import pack_weight, weight_c_type
from etinynet.graph.ir import Graph, Op

__all__ = ["Array", "OpConstants", "constants_of", "identifier"]

_COLUMNS = 100


@dataclass(frozen=True)
class Array:
    """One array of the generated library."""

    symbol: str
    c_type: str
    length: int
    bytes: int
    text: str


@dataclass(frozen=True)
class OpConstants:
    """Symbols ("NULL": none) of an operator's arrays; `per_tensor` and `narrow_...`: etn_rule."""

    weight: str = "NULL"
    bias: str = "NULL"
    multiplier: str = "NULL"
    offset: str = "NULL"
    residual_multiplier: str = "NULL"
    per_tensor: bool = False
    narrow_offset: bool = False
    narrow_bias: bool = False
    weight_bytes: int = 0
    constant_bytes: int = 0


@dataclass
class _Store:
    prefix: str
    arrays: list[Array] = field(default_factory=list)
    _known: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def add(self, name: str, c_type: str, values: NDArray[Any]) -> str:
        key = (c_type, values.tobytes())
        if key not in self._known:
            symbol = f"{self.prefix}_{name}"
            self._known[key] = symbol
            text = _format(values.reshape(-1), c_type)
            self.arrays.append(Array(symbol, c_type, values.size, values.nbytes, text))
        return self._known[key]


def identifier(name: str) -> str:
    """`name` of an operator or tensor as a part of a C identifier."""
    return re.sub(r"[^A-Za-z0-9]", "_", name)


def _words(values: NDArray[Any], c_type: str) -> Iterable[str]:
    if c_type == "uint32_t":
        return (f"0x{value:08x}u," for value in values.tolist())
    if c_type == "int32_t":
        # -2^31 is not a literal of C: the minus sign is applied to a value too large for int
        return (f"{v}," if v > -(2**31) else "-2147483647 - 1," for v in values.tolist())
    return (f"{value}," for value in values.tolist())


def _format(values: NDArray[Any], c_type: str) -> str:
    lines, line = [], "   "
    for word in _words(values, c_type):
        if len(line) + 1 + len(word) > _COLUMNS:
            lines.append(line)
            line = "   "
        line += " " + word
    return "\n".join([*lines, line])


def _is_narrow(values: NDArray[np.int32]) -> bool:
    """Whether `values` fit int16, which takes half the flash and loads as fast."""
    narrow = np.iinfo(np.int16)
    return bool(values.min() >= narrow.min and values.max() <= narrow.max)


def _scales(op: Op, channels: int) -> tuple[dict[str, NDArray[Any]], bool]:
    """Arrays of the requantization, all of one length: 1 if each has one value for all channels."""
    rule = op.requantization
    assert rule is not None
    names = ["multiplier", "offset", *(["residual_multiplier"] if op.residual else [])]
    arrays: dict[str, NDArray[Any]] = {name: getattr(rule, name) for name in names}
    if _is_narrow(rule.offset):
        arrays["offset"] = rule.offset.astype(np.int16)
    per_tensor = all(array.size == 1 for array in arrays.values())
    if not per_tensor:
        arrays = {name: np.broadcast_to(array, (channels,)) for name, array in arrays.items()}
    return arrays, per_tensor


def _add(store: _Store, graph: Graph, index: int, op: Op, narrow_bias: bool) -> OpConstants:
    if op.requantization is None:
        return OpConstants()
    name = f"{index}_{identifier(op.name)}"
    scales, per_tensor = _scales(op, graph.tensors[op.output].shape[2])
    words = dict(scales)
    if op.bias is not None:
        words["bias"] = op.bias.astype(np.int16) if narrow_bias else op.bias
    symbols = {
        field: store.add(f"{name}_{field}", f"{array.dtype}_t", array)
        for field, array in words.items()
    }
    weight_bytes = 0
    if op.weight is not None:
        packed = pack_weight(op)
        symbols["weight"] = store.add(f"{name}_weight", weight_c_type(op), packed)
        weight_bytes = packed.nbytes
    return OpConstants(
        **symbols,
        per_tensor=per_tensor,
        narrow_offset=scales["offset"].dtype == np.int16,
        narrow_bias=narrow_bias,
        weight_bytes=weight_bytes,
        constant_bytes=sum(array.nbytes for array in words.values()),
    )


def constants_of(graph: Graph) -> tuple[list[Array], list[OpConstants]]:
    """Arrays in order of first use, and for each operator the symbols it refers to.

    Biases are int16 where all allow it: kernels that read either could not be shared.
    """
    store = _Store(graph.name)
    narrow_bias = all(_is_narrow(op.bias) for op in graph.ops if op.bias is not None)
    per_op = [_add(store, graph, index, op, narrow_bias) for index, op in enumerate(graph.ops)]
    return store.arrays, per_op
