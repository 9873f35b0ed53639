"""What makes a graph legal, as code: run after lowering, at loading, before every backend."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from etinynet.errors import GraphError
from etinynet.graph.arithmetic import INT32_MAX, INT32_MIN, signed_range
from etinynet.graph.ir import KINDS, Graph, Op, Requantization, Tensor, output_shape
from etinynet.text import MOST_NESTING, require_shallow

__all__ = ["accumulator_range", "check"]

_C_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
_MAX_SIDE = 4096
_POOLS = ("max_pool", "avg_pool", "global_avg_pool")
_LEAST_SHIFT = -16


def _refuse(where: str, rule: str, value: object, allowed: str) -> NoReturn:
    raise GraphError(f"{where:.100}: {rule} is {value!r:.100}, allowed is {allowed}")


def _require(good: bool, where: str, rule: str, value: object, allowed: str) -> None:
    if not good:
        _refuse(where, rule, value, allowed)


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _check_parts(graph: Graph) -> None:
    """Containers and references have the types of ir.py, so that the other rules can read them."""
    kinds: dict[str, type] = {"tensors": dict, "ops": tuple, "metadata": dict}
    for field, kind in kinds.items():
        value = getattr(graph, field)
        _require(isinstance(value, kind), "graph", field, type(value).__name__, kind.__name__)
    parts: dict[type, Iterable[object]] = {Tensor: graph.tensors.values(), Op: graph.ops}
    for kind, values in parts.items():
        for value in values:
            _require(isinstance(value, kind), "graph", "part", type(value).__name__, kind.__name__)
    names: list[object] = [graph.input, graph.output]
    for op in graph.ops:
        names += [op.name, op.input, op.output, "" if op.residual is None else op.residual]
    for name in names:
        _require(isinstance(name, str), "graph", "name or reference", name, "a string")
    try:
        require_shallow({"metadata": graph.metadata})  # as deep as it lies in the file
        json.dumps(graph.metadata, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        _refuse("graph", "metadata", str(error), f"JSON, at most {MOST_NESTING} levels deep")


def _check_tensor(tensor: Tensor) -> None:
    where = f"tensor {tensor.name!r}"
    good_name = _matches(_NAME, tensor.name)
    _require(good_name, where, "name", tensor.name, "letters, digits, _ and .")
    sides = (
        isinstance(tensor.shape, tuple)
        and len(tensor.shape) == 3
        and all(type(n) is int and 1 <= n <= _MAX_SIDE for n in tensor.shape)
    )
    _require(sides, where, "shape", tensor.shape, f"three integers of 1 to {_MAX_SIDE}")
    _require(
        type(tensor.bits) is int and 2 <= tensor.bits <= 16, where, "bits", tensor.bits, "2 to 16"
    )
    low, high = signed_range(tensor.bits)
    inside = type(tensor.zero_point) is int and low <= tensor.zero_point <= high
    _require(inside, where, "zero_point", tensor.zero_point, f"{low} to {high}")
    good_scale = (
        isinstance(tensor.scale, float) and math.isfinite(tensor.scale) and tensor.scale > 0
    )
    _require(good_scale, where, "scale", tensor.scale, "a finite number above 0")


def _check_wiring(graph: Graph) -> None:
    """Every tensor is the input or made once, before it is read; nothing is left over."""
    _require(_matches(_C_IDENTIFIER, graph.name), "graph", "name", graph.name, "a C identifier")
    _require(len(graph.ops) > 0, "graph", "number of operators", 0, "at least one")
    for name in (graph.input, graph.output):
        _require(name in graph.tensors, "graph", "input or output", name, "a tensor of the graph")
    made, read, op_names = {graph.input}, {graph.output}, set()
    for op in graph.ops:
        where = f"operator {op.name!r}"
        good_name = _matches(_NAME, op.name)
        _require(good_name, where, "name", op.name, "letters, digits, _ and .")
        _require(op.name not in op_names, where, "name", op.name, "a name used once")
        op_names.add(op.name)
        for source in (op.input, op.residual):
            if source is not None:
                _require(
                    source in made, where, "input", source, "a tensor made by an earlier operator"
                )
                read.add(source)
        _require(op.output in graph.tensors, where, "output", op.output, "a tensor of the graph")
        _require(op.output not in made, where, "output", op.output, "a tensor not yet made")
        made.add(op.output)
    _require(
        graph.output == graph.ops[-1].output, "graph", "output", graph.output, "the last operator's"
    )
    for name, tensor in graph.tensors.items():
        _require(
            name == tensor.name,
            f"tensor {name!r}",
            "name",
            tensor.name,
            "the key it is stored under",
        )
        _require(
            name in made and name in read, f"tensor {name!r}", "use", "unused", "made and read"
        )


def _check_ends(graph: Graph) -> None:
    source, result = graph.tensors[graph.input], graph.tensors[graph.output]
    _require(
        source.bits == 8, f"tensor {source.name!r}", "bits of the graph's input", source.bits, "8"
    )
    flat = result.shape[:2] == (1, 1)
    _require(
        flat,
        f"tensor {result.name!r}",
        "shape of the graph's output",
        result.shape,
        "(1, 1, scores)",
    )
    names = graph.metadata.get("class_names")
    if names is not None:
        good = isinstance(names, list) and all(isinstance(n, str) for n in names)
        _require(good, "graph", "class_names", type(names).__name__, "a list of strings")
        count = result.shape[2]
        _require(
            len(names) == count,
            "graph",
            "number of class_names",
            len(names),
            f"{count}, one a score",
        )


def _check_geometry(op: Op, source: Tensor, result: Tensor) -> None:
    where = f"operator {op.name!r}"
    known = isinstance(op.kind, str) and op.kind in KINDS
    _require(known, where, "kind", op.kind, ", ".join(KINDS))
    windowed = op.kind in ("conv2d", "depthwise", "max_pool", "avg_pool")
    for field, low, high in (("kernel", 1, 7), ("stride", 1, 4), ("padding", 0, 6)):
        value = getattr(op, field)
        highest = high if windowed else low
        inside = type(value) is int and low <= value <= highest
        _require(inside, where, field, value, f"{low} to {highest}")
    _require(op.padding < op.kernel, where, "padding", op.padding, f"0 to {op.kernel - 1}")
    height, width, channels = source.shape
    fits = min(height, width) + 2 * op.padding >= op.kernel
    _require(fits, where, "kernel", op.kernel, f"at most the padded input of {source.shape}")
    if op.kind == "dense":
        _require(source.shape[:2] == (1, 1), where, "input shape", source.shape, "(1, 1, channels)")
    same = op.kind in (*_POOLS, "depthwise", "add")
    made = output_shape(
        op.kind,
        source.shape,
        channels if same else result.shape[2],
        op.kernel,
        op.stride,
        op.padding,
    )
    _require(result.shape == made, where, "output shape", result.shape, str(made))
    if op.kind == "max_pool":
        _require(op.padding == 0, where, "padding", op.padding, "0 for max_pool")
        alike = (source.bits, source.zero_point, source.scale) == (
            result.bits,
            result.zero_point,
            result.scale,
        )
        _require(alike, where, "bits, zero_point, scale", "changed", "those of its input")


def _check_array(
    where: str,
    field: str,
    array: object,
    dtype: type[np.generic],
    shapes: tuple[tuple[int, ...], ...],
) -> None:
    good = isinstance(array, np.ndarray) and array.dtype == dtype and array.shape in shapes
    seen = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
    allowed = " or ".join(f"{np.dtype(dtype)} {shape}" for shape in shapes)
    _require(good, where, field, seen, allowed)


def _check_weight(op: Op, source: Tensor, result: Tensor) -> None:
    where = f"operator {op.name!r}"
    in_channels, out_channels = source.shape[2], result.shape[2]
    bits = op.weight_bits if type(op.weight_bits) is int else None
    if op.kind in (*_POOLS, "add"):
        what = "a pool" if op.kind in _POOLS else op.kind
        bare = op.weight is None and op.bias is None
        _require(bare, where, "weight or bias", "present", f"none for {what}")
        _require(bits == 8, where, "weight_bits", op.weight_bits, f"8 for {what}")
        return
    shape: tuple[int, ...] = (out_channels, in_channels)
    if op.kind == "conv2d":
        shape = (out_channels, op.kernel, op.kernel, in_channels)
    elif op.kind == "depthwise":
        shape = (out_channels, op.kernel, op.kernel)
    _check_array(where, "weight", op.weight, np.int8, (shape,))
    possible = bits is not None and 2 <= bits <= 8
    _require(possible, where, "weight_bits", op.weight_bits, "2 to 8")
    assert op.weight is not None
    low, high = signed_range(op.weight_bits)
    for extreme in (int(op.weight.min()), int(op.weight.max())):
        allowed = f"{low} to {high} at {op.weight_bits} bits"
        _require(low <= extreme <= high, where, "weight", extreme, allowed)
    if op.bias is not None:
        _check_array(where, "bias", op.bias, np.int32, ((out_channels,),))


def _check_requantization(op: Op, result: Tensor) -> None:
    where = f"operator {op.name!r}"
    rule = op.requantization
    if op.kind == "max_pool":
        absent = rule is None and op.residual is None
        _require(absent, where, "requantization", "present", "none for max_pool")
        return
    _require(rule is not None, where, "requantization", None, "present")
    good_rule = isinstance(rule, Requantization)
    _require(good_rule, where, "requantization", type(rule).__name__, "a Requantization")
    assert rule is not None
    for field in ("multiplier", "offset"):
        shapes = ((result.shape[2],), (1,))
        _check_array(where, field, getattr(rule, field), np.int32, shapes)
    good_shift = type(rule.shift) is int and _LEAST_SHIFT <= rule.shift <= 24
    _require(good_shift, where, "shift", rule.shift, f"{_LEAST_SHIFT} to 24")
    _require(type(rule.relu) is bool, where, "relu", rule.relu, "true or false")


def accumulator_range(op: Op, source: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Smallest and largest accumulator per output channel, bias included, over all inputs.

    The bounds also hold for every partial sum in any order: positive and negative products are
    summed apart.
    """
    low, high = signed_range(source.bits)
    if op.weight is None:
        count = {"avg_pool": op.kernel**2, "add": 1 << 16}.get(
            op.kind, source.shape[0] * source.shape[1]
        )
        ones = np.ones((source.shape[2], 1), np.int64) * count
    else:
        ones = op.weight.reshape(len(op.weight), -1).astype(np.int64)
    positive, negative = np.maximum(ones, 0).sum(1), np.minimum(ones, 0).sum(1)
    bias = np.int64(0) if op.bias is None else op.bias.astype(np.int64)
    smallest = positive * low + negative * high + np.minimum(bias, 0)
    largest = positive * high + negative * low + np.maximum(bias, 0)
    return smallest, largest


def _check_no_overflow(op: Op, source: Tensor, shortcut: Tensor | None) -> None:
    """Neither the accumulator nor the requantized sum leaves int32, whatever the picture."""
    where = f"operator {op.name!r}"
    rule = op.requantization
    if rule is None:
        return
    smallest, largest = (end << max(-rule.shift, 0) for end in accumulator_range(op, source))
    for bound in (int(smallest.min()), int(largest.max())):
        _require(INT32_MIN <= bound <= INT32_MAX, where, "accumulator bound", bound, "int32")
    if rule.relu:
        smallest, largest = np.maximum(smallest, 0), np.maximum(largest, 0)
    multiplier, offset = rule.multiplier.astype(np.int64), rule.offset.astype(np.int64)
    ends = np.stack([offset + ((end * multiplier + 2**31) >> 32) for end in (smallest, largest)])
    factor, spread = rule.residual_multiplier, 0
    if factor is not None and shortcut is not None:
        spread = (int(np.abs(factor.astype(np.int64)).max()) >> (17 - shortcut.bits)) + 1
    for bound in (int(ends.min()) - spread, int(ends.max()) + spread):
        _require(INT32_MIN <= bound <= INT32_MAX, where, "requantized sum bound", bound, "int32")


def _check_residual(op: Op, graph: Graph) -> None:
    where = f"operator {op.name!r}"
    rule = op.requantization
    if op.residual is None:
        unused = rule is None or rule.residual_multiplier is None
        _require(unused, where, "residual_multiplier", "present", "none without a shortcut")
        _require(op.kind != "add", where, "shortcut", None, "present for add")
        return
    shortcut, result = graph.tensors[op.residual], graph.tensors[op.output]
    possible = op.kind in ("conv2d", "depthwise", "pointwise", "add")
    _require(possible, where, "shortcut", op.kind, "conv2d, depthwise, pointwise or add")
    _require(
        shortcut.shape == result.shape, where, "shortcut shape", shortcut.shape, str(result.shape)
    )
    factor = None if rule is None else rule.residual_multiplier
    shapes = ((result.shape[2],), (1,))
    _check_array(where, "residual_multiplier", factor, np.int32, shapes)


def check(graph: Graph) -> None:
    """Raises GraphError naming operator or tensor, rule, value and what is allowed."""
    _check_parts(graph)
    for tensor in graph.tensors.values():
        _check_tensor(tensor)
    _check_wiring(graph)
    _check_ends(graph)
    for op in graph.ops:
        source, result = graph.tensors[op.input], graph.tensors[op.output]
        _check_geometry(op, source, result)
        _check_weight(op, source, result)
        _check_requantization(op, result)
        _check_residual(op, graph)
        _check_no_overflow(op, source, None if op.residual is None else graph.tensors[op.residual])
