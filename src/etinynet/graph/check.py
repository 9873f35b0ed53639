"""What makes a graph legal, as code: run after lowering, at loading, before every backend."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import NoReturn

import numpy as np

from etinynet.errors import GraphError
from etinynet.graph.arithmetic import INT32_MAX, INT32_MIN, signed_range
from etinynet.graph.ir import Classification, Graph, Op, Requantization, Tensor, Window
from etinynet.graph.ops import OPS, accumulator_range, output_shape, weight_shape
from etinynet.graph.precision import Precision
from etinynet.text import MOST_NESTING, require_shallow

__all__ = ["check"]

_C_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
_MAX_SIDE = 4096
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
    kinds: dict[str, type] = {"tensors": dict, "ops": tuple, "outputs": tuple, "metadata": dict}
    for field, kind in kinds.items():
        value = getattr(graph, field)
        _require(isinstance(value, kind), "graph", field, type(value).__name__, kind.__name__)
    parts: dict[type, Iterable[object]] = {
        Tensor: graph.tensors.values(),
        Op: graph.ops,
        Precision: (graph.precision,),
    }
    for kind, values in parts.items():
        for value in values:
            _require(isinstance(value, kind), "graph", "part", type(value).__name__, kind.__name__)
    names: list[object] = [graph.input, *graph.outputs]
    for op in graph.ops:
        good = isinstance(op.inputs, tuple) and len(op.inputs) > 0
        _require(good, "graph", "inputs of an operator", op.inputs, "a tuple of at least one name")
        names += [op.name, op.output, *op.inputs]
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
    for name in (graph.input, *graph.outputs):
        _require(name in graph.tensors, "graph", "input or output", name, "a tensor of the graph")
    made, read, op_names = {graph.input}, set(graph.outputs), set()
    for op in graph.ops:
        where = f"operator {op.name!r}"
        good_name = _matches(_NAME, op.name)
        _require(good_name, where, "name", op.name, "letters, digits, _ and .")
        _require(op.name not in op_names, where, "name", op.name, "a name used once")
        op_names.add(op.name)
        for source in op.inputs:
            _require(source in made, where, "input", source, "a tensor made by an earlier operator")
            read.add(source)
        _require(op.output in graph.tensors, where, "output", op.output, "a tensor of the graph")
        _require(op.output not in made, where, "output", op.output, "a tensor not yet made")
        made.add(op.output)
    for name, tensor in graph.tensors.items():
        where = f"tensor {name!r}"
        _require(name == tensor.name, where, "name", tensor.name, "the key it is stored under")
        _require(name in made and name in read, where, "use", "unused", "made and read")


def _check_ends(graph: Graph) -> None:
    source = graph.tensors[graph.input]
    where = f"tensor {source.name!r}"
    _require(source.bits == 8, where, "bits of the graph's input", source.bits, "8")
    count = len(graph.outputs)
    different = len(set(graph.outputs)) == count and graph.input not in graph.outputs
    _require(different, "graph", "outputs", graph.outputs, "different tensors, not the input")
    if graph.head is not None:
        _check_classification(graph, graph.head)


def _check_classification(graph: Graph, head: object) -> None:
    kind = type(head)
    _require(kind is Classification, "graph", "head", kind.__name__, "Classification or none")
    assert isinstance(head, Classification)
    count = len(graph.outputs)
    _require(count == 1, "graph", "number of outputs", count, "1 with a Classification")
    result = graph.tensors[graph.outputs[0]]
    where = f"tensor {result.name!r}"
    flat = result.shape[:2] == (1, 1)
    _require(flat, where, "shape of the scores", result.shape, "(1, 1, classes)")
    names = head.class_names
    if names is None:
        return
    good = isinstance(names, tuple) and all(isinstance(n, str) for n in names)
    _require(good, "graph", "class_names", type(names).__name__, "a tuple of strings")
    scores = result.shape[2]
    allowed = f"{scores}, one a score"
    _require(len(names) == scores, "graph", "number of class_names", len(names), allowed)


def _check_window(op: Op, source: Tensor) -> None:
    where, window = f"operator {op.name!r}", op.window
    known = isinstance(op.kind, str) and op.kind in OPS
    _require(known, where, "kind", op.kind, ", ".join(OPS))
    _require(isinstance(window, Window), where, "window", type(window).__name__, "a Window")
    windowed = OPS[op.kind].windowed
    for field, count, low, high in (
        ("kernel", 2, 1, 7),
        ("stride", 2, 1, 4),
        ("padding", 4, 0, 6),
    ):
        value, highest = getattr(window, field), high if windowed else low
        inside = (
            isinstance(value, tuple)
            and len(value) == count
            and all(type(n) is int and low <= n <= highest for n in value)
        )
        _require(inside, where, field, value, f"{count} integers of {low} to {highest}")
    for axis, name in enumerate(("height", "width")):
        kernel, side = window.kernel[axis], source.shape[axis]
        before, after = window.padding[axis], window.padding[axis + 2]
        allowed = f"below the kernel's {name}, {kernel}"
        _require(max(before, after) < kernel, where, "padding", window.padding, allowed)
        allowed = f"at most the padded input of {source.shape}"
        _require(side + before + after >= kernel, where, "kernel", window.kernel, allowed)


def _check_geometry(op: Op, source: Tensor, result: Tensor) -> None:
    where = f"operator {op.name!r}"
    row = OPS[op.kind]
    fewest, most = row.inputs
    counts = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    count = len(op.inputs)
    _require(fewest <= count <= most, where, "number of inputs", count, f"{counts} for {op.kind}")
    if op.kind == "dense":
        _require(source.shape[:2] == (1, 1), where, "input shape", source.shape, "(1, 1, channels)")
    made = output_shape(op.kind, source.shape, result.shape[2], op.window)
    _require(result.shape == made, where, "output shape", result.shape, str(made))
    if not row.requantized:
        _require(not any(op.window.padding), where, "padding", op.window.padding, "0")
        before, after = ((t.bits, t.zero_point, t.scale) for t in (source, result))
        _require(before == after, where, "bits, zero_point, scale", after, f"its input's {before}")


def _check_precision(graph: Graph, op: Op) -> None:
    """No operator reads more bits than the graph's precision has for it."""
    where, precision = f"operator {op.name!r}", graph.precision
    limits = [precision.bits(op.kind)] + [precision.sum_bits] * (len(op.inputs) - 1)
    for name, most in zip(op.inputs, limits, strict=True):
        bits = graph.tensors[name].bits
        allowed = f"at most {most} by precision {precision.name!r}"
        _require(bits <= most, where, f"bits of {name!r}", bits, allowed)


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
    out_channels = result.shape[2]
    bits = op.weight_bits if type(op.weight_bits) is int else None
    if not OPS[op.kind].has_weight:
        bare = op.weight is None and op.bias is None
        _require(bare, where, "weight or bias", "present", f"none for {op.kind}")
        _require(bits == 8, where, "weight_bits", op.weight_bits, f"8 for {op.kind}")
        return
    shape = weight_shape(op.kind, source.shape[2], out_channels, op.window)
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
    if not OPS[op.kind].requantized:
        _require(rule is None, where, "requantization", "present", f"none for {op.kind}")
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


def _check_no_overflow(op: Op, source: Tensor, residual: Tensor | None) -> None:
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
    if factor is not None and residual is not None:
        spread = (int(np.abs(factor.astype(np.int64)).max()) >> (17 - residual.bits)) + 1
    for bound in (int(ends.min()) - spread, int(ends.max()) + spread):
        _require(INT32_MIN <= bound <= INT32_MAX, where, "requantized sum bound", bound, "int32")


def _check_residual(op: Op, graph: Graph) -> None:
    where = f"operator {op.name!r}"
    rule = op.requantization
    if op.residual is None:
        unused = rule is None or rule.residual_multiplier is None
        _require(unused, where, "residual_multiplier", "present", "none without a residual")
        return
    residual, result = graph.tensors[op.residual], graph.tensors[op.output]
    alike = residual.shape == result.shape
    _require(alike, where, "residual's shape", residual.shape, str(result.shape))
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
        _check_window(op, source)
        _check_geometry(op, source, result)
        _check_precision(graph, op)
        _check_weight(op, source, result)
        _check_requantization(op, result)
        _check_residual(op, graph)
        _check_no_overflow(op, source, None if op.residual is None else graph.tensors[op.residual])
