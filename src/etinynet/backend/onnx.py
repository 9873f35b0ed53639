"""A graph as ONNX: weights and tensors through DequantizeLinear, rounded as the graph rounds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from etinynet.artefact import provenance
from etinynet.errors import UnsupportedError
from etinynet.graph.arithmetic import signed_range
from etinynet.graph.check import check
from etinynet.graph.io import graph_digest
from etinynet.graph.ir import Graph, Op, Tensor
from etinynet.graph.ops import OPS

__all__ = ["OPSET", "export_onnx", "inexact_layers"]

#: The first with INT4 and with QuantizeLinear to int16; version 10 of the file format goes with it.
OPSET = 21
_IR_VERSION = 10
#: float32 holds all integers up to this one.
_EXACT = 1 << 24

_DOUBLE = onnx.TensorProto.DOUBLE
_FLOAT = onnx.TensorProto.FLOAT
_DOCUMENT = (
    "Integer network of etinynet. image: pixels 0 to 255, R, G, B, (batch, 3, height, width). "
    "scores: (batch, classes). Every NAME/integer is the tensor NAME of the integer graph."
)


@dataclass
class _Parts:
    """Nodes and constants of the model as they are made.

    Their names are those of the graph and a word after "/", which no name of a graph holds.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def node(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node; its output has its name, which is returned."""
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def array(self, name: str, values: object, dtype: type[np.generic]) -> str:
        """A constant; returns its name."""
        self.constants[name] = onnx.numpy_helper.from_array(np.asarray(values, dtype), name)
        return name

    def channels(self, name: str, values: NDArray[Any]) -> str:
        """A float64 constant, one value for each channel of (batch, channels, height, width).

        Stored as float32 where that holds all values, which it mostly does: half the bytes.
        """
        values = values.reshape(1, -1, 1, 1)
        if not np.array_equal(values.astype(np.float32), values):
            return self.array(name, values, np.float64)
        return self.node("Cast", name, self.array(f"{name}/short", values, np.float32), to=_DOUBLE)


def _integer(name: str) -> str:
    return f"{name}/integer"


def _centred(name: str) -> str:
    """The name of integers minus zero point, float32: what the readers of a tensor multiply."""
    return f"{name}/centred"


def _zero_point(parts: _Parts, tensor: Tensor) -> str:
    """A constant whose dtype is that of the tensor's integers."""
    dtype = np.int8 if tensor.bits <= 8 else np.int16
    return parts.array(f"{tensor.name}/zero_point", tensor.zero_point, dtype)


def _one(parts: _Parts) -> str:
    """Scale 1, of all that stays in integers: float32 holds them exactly to 2^24."""
    return parts.array("one/scale", 1, np.float32)


def _four_bits(name: str, values: NDArray[np.int8]) -> onnx.TensorProto:
    """An INT4 constant: two values a byte, the first in the low half, an odd count ends with 0."""
    flat = np.append(values.reshape(-1), np.zeros(values.size % 2, np.int8)).astype(np.uint8) & 15
    packed = flat[0::2] | flat[1::2] << 4
    return onnx.TensorProto(
        name=name, data_type=onnx.TensorProto.INT4, dims=values.shape, raw_data=packed.tobytes()
    )


def _kernel(parts: _Parts, op: Op) -> tuple[str, dict[str, Any]]:
    """The weight as float32 integers in ONNX's order (out, in of a group, kernel, kernel)."""
    assert op.weight is not None
    weight = op.weight
    if op.kind == "conv2d":
        weight = weight.transpose(0, 3, 1, 2)
    else:
        weight = weight[:, None] if op.kind == "depthwise" else weight[:, :, None, None]
    name = f"{op.name}/weight"
    if op.weight_bits <= 4:
        parts.constants[name] = _four_bits(name, weight)
    else:
        parts.array(name, weight, np.int8)
    window: dict[str, Any] = {
        "kernel_shape": list(weight.shape[2:]),
        "strides": op.window.stride,
        "pads": op.window.padding,
        "group": len(weight) if op.kind == "depthwise" else 1,
    }
    return parts.node("DequantizeLinear", f"{name}_real", name, _one(parts)), window


def _accumulator(parts: _Parts, op: Op, source: Tensor) -> tuple[str, NDArray[Any]]:
    """The accumulator of integers minus zero point, and what its bias is then."""
    if op.kind == "add":
        factor = parts.array("add/factor", 65536, np.float32)
        total = parts.node("Mul", f"{op.name}/shifted_left", _centred(op.input), factor)
        return total, np.array([source.zero_point * 65536], np.float64)
    if op.kind == "avg_pool":
        ones = np.ones((source.shape[2], *op.window.kernel), np.int8)
        op = replace(op, kind="depthwise", weight=ones)
    if op.weight is None:
        axes = parts.array("height_width/axes", [2, 3], np.int64)
        total = parts.node("ReduceSum", f"{op.name}/sum", _centred(op.input), axes)
        return total, np.array([source.zero_point * source.shape[0] * source.shape[1]], np.float64)
    kernel, window = _kernel(parts, op)
    total = parts.node("Conv", f"{op.name}/conv", _centred(op.input), kernel, **window)
    sums = op.weight.reshape(len(op.weight), -1).astype(np.float64).sum(1)
    return total, source.zero_point * sums + (0 if op.bias is None else op.bias)


def _shortcut(parts: _Parts, op: Op, factor: NDArray[np.int32], fraction: float) -> str:
    """Step 3 of docs/arithmetic.md in steps of the output: floored to their `fraction`."""
    assert op.residual is not None
    plain = parts.node(
        "DequantizeLinear", f"{op.name}/shortcut", _integer(op.residual), _one(parts)
    )
    exact = parts.node("Cast", f"{op.name}/shortcut_exact", plain, to=_DOUBLE)
    scale = parts.channels(f"{op.name}/shortcut_multiplier", factor * 2.0**-16)
    scaled = parts.node("Mul", f"{op.name}/shortcut_scaled", exact, scale)
    floored = parts.node("Floor", f"{op.name}/shortcut_floored", scaled)
    unit = parts.array(f"{op.name}/unit", fraction, np.float64)
    return parts.node("Mul", f"{op.name}/shortcut_steps", floored, unit)


def _requantized(parts: _Parts, op: Op, graph: Graph) -> str:
    """Steps 1 to 4 of docs/arithmetic.md in float64, less the zero point, before saturation.

    The product needs no floor of its own: that of the sum, whose other terms are whole fractional
    units, gives the same. The half is that of the product's rounding.
    """
    source, out, rule = graph.tensors[op.input], graph.tensors[op.output], op.requantization
    assert rule is not None
    gain = rule.multiplier * 2.0 ** (-32 - rule.shift)
    unit = 2.0 ** -max(rule.shift, 0)
    offset = (rule.offset + 0.5) * unit - out.zero_point
    total, bias = _accumulator(parts, op, source)
    values = parts.node("Cast", f"{op.name}/exact", total, to=_DOUBLE)
    if not rule.relu:
        offset = offset + gain * bias
    elif bias.any():
        values = parts.node(
            "Add", f"{op.name}/biased", values, parts.channels(f"{op.name}/bias", bias)
        )
    if rule.relu:
        values = parts.node("Relu", f"{op.name}/relu", values)
    multiplier = parts.channels(f"{op.name}/multiplier", gain)
    values = parts.node("Mul", f"{op.name}/scaled", values, multiplier)
    added = parts.channels(f"{op.name}/offset", offset)
    values = parts.node("Add", f"{op.name}/shifted", values, added)
    if rule.residual_multiplier is not None:
        shortcut = _shortcut(parts, op, rule.residual_multiplier, unit)
        values = parts.node("Add", f"{op.name}/with_shortcut", values, shortcut)
    floored = parts.node("Floor", f"{op.name}/floored", values)
    return parts.node("Cast", f"{op.name}/single", floored, to=_FLOAT)


def _saturated(parts: _Parts, values: str, tensor: Tensor) -> str:
    """`values` within the range of `tensor`, where QuantizeLinear alone saturates to another."""
    if tensor.bits not in (8, 16):
        bounds = [
            parts.array(f"{tensor.name}/{word}", end - tensor.zero_point, np.float32)
            for word, end in zip(("lowest", "highest"), signed_range(tensor.bits), strict=True)
        ]
        values = parts.node("Clip", f"{tensor.name}/saturated", values, *bounds)
    return values


def _quantize(parts: _Parts, values: str, tensor: Tensor) -> None:
    """Integers of `tensor` from whole float32 `values` in its range, that lack its zero point."""
    zero_point = _zero_point(parts, tensor)
    parts.node("QuantizeLinear", _integer(tensor.name), values, _one(parts), zero_point)


def _dequantize(parts: _Parts, tensor: Tensor) -> None:
    zero_point = _zero_point(parts, tensor)
    parts.node(
        "DequantizeLinear", _centred(tensor.name), _integer(tensor.name), _one(parts), zero_point
    )


def _picture(parts: _Parts, tensor: Tensor) -> None:
    """The graph's input: pixel minus 128, whatever its zero point says these integers mean."""
    half = parts.array("image/half", 128, np.float32)
    zero = parts.array("image/zero_point", 0, np.int8)
    shifted = parts.node("Sub", "image/minus_128", "image", half)
    parts.node("QuantizeLinear", _integer(tensor.name), shifted, _one(parts), zero)
    _dequantize(parts, tensor)


def _operator(parts: _Parts, op: Op, graph: Graph) -> None:
    target = graph.tensors[op.output]
    if op.kind == "max_pool":  # in range as its input is; ONNX Runtime accepts no Clip behind it
        window = {"kernel_shape": op.window.kernel, "strides": op.window.stride}
        values = parts.node("MaxPool", f"{op.name}/largest", _centred(op.input), **window)
    else:
        values = _saturated(parts, _requantized(parts, op, graph), target)
    _quantize(parts, values, target)
    if any(op.output in other.inputs for other in graph.ops):
        _dequantize(parts, target)


def _output(parts: _Parts, tensor: Tensor, name: str) -> onnx.ValueInfoProto:
    """An output called `name`: real values (batch, channels), of a map (batch, channels, h, w)."""
    limits = np.finfo(np.float32)
    if not limits.tiny <= tensor.scale <= limits.max:
        raise UnsupportedError(
            f"ONNX: scale of tensor {tensor.name!r} is {tensor.scale!r}, allowed is what float32 "
            f"holds, {limits.tiny:.3g} to {limits.max:.3g}"
        )
    scale = parts.array(f"{name}/scale", tensor.scale, np.float32)
    inputs = _integer(tensor.name), scale, _zero_point(parts, tensor)
    height, width, channels = tensor.shape
    if (height, width) != (1, 1):
        parts.node("DequantizeLinear", name, *inputs)
        return _info(name, channels, height, width)
    parts.node("Flatten", name, parts.node("DequantizeLinear", f"{name}/real", *inputs))
    return _info(name, channels)


def _utf8(value: object) -> Any:
    """JSON `value` without lone surrogates, as names of folders that are not UTF-8 have them.

    They become escapes, as text; entries of a list that differed still do.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_utf8(key): _utf8(inner) for key, inner in value.items()}
    if not isinstance(value, list):
        return value
    made = [_utf8(inner) for inner in value]
    for index, (old, new) in enumerate(zip(value, made, strict=True)):
        while new != old and isinstance(new, str) and made.count(new) > 1:
            made[index] = new = f"{new}_"
    return made


def _properties(graph: Graph, made: dict[str, object]) -> dict[str, str]:
    """The model's metadata: JSON text by name."""
    names = None if graph.head is None else graph.head.class_names
    stored = {
        "class_names": None if names is None else list(names),
        "preprocess": graph.metadata.get("preprocess"),
    }
    values = {key: _utf8(value) for key, value in stored.items() if value is not None}
    values["scales"] = {tensor.name: tensor.scale for tensor in graph.tensors.values()}
    values["provenance"] = {**made, "graph_sha256": graph_digest(graph)}
    return {
        key: json.dumps(value, sort_keys=True, ensure_ascii=False) for key, value in values.items()
    }


def _info(name: str, *shape: int) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, _FLOAT, ["batch", *shape])


def _largest_sum(op: Op, source: Tensor) -> int:
    """Bound of every partial sum of products with integers minus zero point, as float32 adds them;
    0 where nothing is added up."""
    if op.kind in ("add", "max_pool"):
        return 0
    low, high = (end - source.zero_point for end in signed_range(source.bits))
    if op.weight is None:
        return OPS[op.kind].unit(op.window, source.shape) * max(high, -low)
    weight = op.weight.reshape(len(op.weight), -1).astype(np.int64)
    positive, negative = np.maximum(weight, 0).sum(1), -np.minimum(weight, 0).sum(1)
    # low <= 0 <= high: one sign of the values makes the largest sum, the other the smallest
    ends = positive * high - negative * low, negative * high - positive * low
    return int(max(end.max() for end in ends))


def inexact_layers(graph: Graph) -> dict[str, int]:
    """Of each operator whose sums may exceed 2^24, by name: the bound over all pictures.

    Beyond 2^24 float32 rounds, so that the ONNX model may give another integer than the graph.
    `graph` must be legal.
    """
    sums = {op.name: _largest_sum(op, graph.tensors[op.input]) for op in graph.ops}
    return {name: largest for name, largest in sums.items() if largest > _EXACT}


def export_onnx(graph: Graph, *, command: str = "") -> bytes:
    """The bytes of an ONNX model of `graph`; docs/onnx.md says how it computes the same integers.

    Input "image": float32 (batch, 3, height, width), pixels 0 to 255, R, G, B. Output "scores":
    float32 (batch, scores), scale * (integer - zero point); where the graph does not classify, its
    outputs by the names of their tensors, maps as (batch, channels, height, width). `command` goes
    into the provenance. The same graph and `command` give the same bytes. Raises GraphError if the
    graph is not legal, UnsupportedError if the scores' scale leaves float32.
    """
    check(graph)
    parts = _Parts()
    picture = graph.tensors[graph.input]
    _picture(parts, picture)
    for op in graph.ops:
        _operator(parts, op, graph)
    names = ("scores",) if graph.head is not None else graph.outputs
    outputs = [
        _output(parts, graph.tensors[tensor], name)
        for tensor, name in zip(graph.outputs, names, strict=True)
    ]
    height, width, channels = picture.shape
    body = onnx.helper.make_graph(
        parts.nodes,
        graph.name,
        [_info("image", channels, height, width)],
        outputs,
        list(parts.constants.values()),
    )
    made = provenance(command, {})
    model = onnx.helper.make_model(
        body,
        producer_name="etinynet",
        producer_version=str(made["version"]),
        ir_version=_IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        doc_string=_DOCUMENT,
    )
    onnx.helper.set_model_props(model, _properties(graph, made))
    data: bytes = model.SerializeToString(deterministic=True)
    return data
