"""Any torch module as a float graph: traced by torch.export, its operators fused into layers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.fx import Node

from etinynet.errors import UnsupportedError
from etinynet.frontend.float_graph import INPUT, FloatGraph, Layer
from etinynet.frontend.fusion import INFINITY, Draft, Norm
from etinynet.graph.ir import POINT, Window

__all__ = ["float_graph"]

_LONGEST_NAME = 64

Padding = tuple[int, int, int, int]
Convert = Callable[["_Tracer", Node], str]


@dataclass(frozen=True)
class _Traced:
    """What torch.export found: nodes in order, and the tensors that they read by name."""

    nodes: tuple[Node, ...]
    constants: dict[str, Tensor]
    image: str


def float_graph(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    rename: Callable[[str], str] = lambda path: path,
) -> FloatGraph:
    """The layers of `module` in evaluation mode, for one image (height, width, channels).

    The module is called with a float batch (N, channels, height, width) and returns one tensor, or
    a tuple or list of them: the graph's outputs. A layer is named after the smallest submodule that
    holds its weights and no other layer's, given through `rename`. The layers of the smallest
    submodule that holds several are a stage. Raises UnsupportedError naming the submodule and the
    operation where the integer graph has no form for it.
    """
    traced = _export(module, input_shape)
    tracer = _Tracer(traced, rename)
    for node in traced.nodes:
        tracer.visit(node)
    layers = tuple(draft.layer() for draft in tracer.drafts.values())
    return FloatGraph(layers, input_shape, tracer.outputs, _stages(tracer.paths, layers))


def _export(module: nn.Module, input_shape: tuple[int, int, int]) -> _Traced:
    height, width, channels = input_shape
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    image = torch.zeros(1, channels, height, width, dtype=dtype)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        program = torch.export.export(module, (image,))
    except Exception as error:  # whatever the user's forward raises
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedError(
            f"{type(module).__name__}: cannot be traced for an image of {input_shape}: {reason}"
        ) from None
    finally:
        for part in training:
            part.training = True
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    state = dict(program.state_dict) | dict(program.constants)
    names |= signature.inputs_to_lifted_tensor_constants
    constants = {name: state[stored].detach() for name, stored in names.items() if stored in state}
    (picture,) = signature.user_inputs
    return _Traced(tuple(program.graph.nodes), constants, str(picture))


def _owner(node: Node) -> str:
    """The dotted path of the submodule that a node belongs to; "" for the module itself."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return str(paths[-1]) if paths else ""


def _parents(path: str) -> list[str]:
    """`path` and the paths of all submodules around it, the module itself last."""
    parts = path.split(".") if path else []
    return [".".join(parts[:count]) for count in range(len(parts), -1, -1)]


class _Tracer:
    """Goes through the nodes in order; `drafts` holds the layers so far by name."""

    def __init__(self, traced: _Traced, rename: Callable[[str], str]) -> None:
        self._traced = traced
        self.drafts: dict[str, Draft] = {}
        self.outputs: tuple[str, ...] = ()
        #: By name of a layer with weights: the submodule that they belong to.
        self.paths: dict[str, str] = {}
        self._tensors: dict[str, str] = {traced.image: INPUT}
        self._pads: dict[str, Padding] = {}
        weighted = [_owner(node) for node in traced.nodes if _kind_of(node) in _WEIGHTED]
        self._names = _Names(weighted, rename)

    def visit(self, node: Node) -> None:
        """Takes one node into the drafts."""
        if node.op == "output":
            found = node.args[0]
            assert isinstance(found, tuple | list)
            self.outputs = tuple(self.tensor(node, one) for one in found)
        elif node.op == "call_function":
            convert = _CONVERT.get(_kind_of(node))
            if convert is None:
                self.refuse(node, "has no integer form")
            self._tensors[node.name] = convert(self, node)

    def refuse(self, node: Node, why: str) -> NoReturn:
        """Raises UnsupportedError for `node`."""
        where = _owner(node) or "the module itself"
        known = ", ".join(sorted({kind.removesuffix("_") for kind in _CONVERT}))
        raise UnsupportedError(f"{where}: {_kind_of(node)} {why}; operations allowed are {known}")

    def tensor(self, node: Node, value: object) -> str:
        """The name of the tensor that an argument of `node` is."""
        name, padding = self.padded(node, value)
        if any(padding):
            self.refuse(node, "works on a padded tensor; allowed are convolutions and means of one")
        return name

    def padded(self, node: Node, value: object) -> tuple[str, Padding]:
        """As `tensor`, with the zeros (top, left, bottom, right) that were put around it."""
        if not isinstance(value, Node) or value.name not in self._tensors:
            self.refuse(node, "works on something that is not made of the image")
        return self._tensors[value.name], self._pads.get(value.name, (0, 0, 0, 0))

    def pad(self, node: Node, padding: Padding) -> None:
        """Notes that the value of `node` has zeros around it."""
        self._pads[node.name] = padding

    def constant(self, node: Node, index: int, name: str) -> Tensor | None:
        """The parameter or buffer at an argument of `node`; None where there is none."""
        value = self.argument(node, index, name, None)
        if value is None:
            return None
        if not isinstance(value, Node) or value.name not in self._traced.constants:
            self.refuse(node, f"has a {name} that is no parameter or buffer")
        return self._traced.constants[value.name]

    def argument(self, node: Node, index: int, name: str, default: Any) -> Any:
        """An argument by position or by name."""
        if len(node.args) > index:
            return node.args[index]
        return node.kwargs.get(name, default)

    def make(self, node: Node, kind: str, inputs: Sequence[str], **fields: Any) -> str:
        """A new layer; what follows may be fused into it while `node` has one reader."""
        name = self._names.of(node)
        if "weight" in fields:
            self.paths[name] = _owner(node)
        self.drafts[name] = Draft(kind, name, tuple(inputs), **fields)
        return name

    def open(self, node: object) -> Draft | None:
        """The layer that makes the value of `node`, if nothing but the next operation reads it."""
        if not isinstance(node, Node) or len(node.users) > 1:
            return None
        return self.drafts.get(self.tensor(node, node))

    def copying(self, node: Node, name: str) -> Draft:
        """A depthwise layer whose output is its input `name`."""
        channels = int(node.meta["val"].shape[1])
        ones = torch.ones(channels, 1, 1, 1, dtype=node.meta["val"].dtype)
        made = self.make(node, "depthwise", (name,), weight=ones)
        return self.drafts[made]


class _Names:
    """Names of layers: unique, and legal in the integer graph."""

    def __init__(self, weighted: Sequence[str], rename: Callable[[str], str]) -> None:
        self._counts: dict[str, int] = {}
        for path in weighted:
            for parent in _parents(path):
                self._counts[parent] = self._counts.get(parent, 0) + 1
        self._rename = rename
        self._taken = {INPUT}

    def of(self, node: Node) -> str:
        """A new name for what `node` makes."""
        path = _owner(node)
        if _kind_of(node) in _WEIGHTED:
            alone = [parent for parent in _parents(path) if parent and self._counts[parent] == 1]
            path = alone[-1] if alone else path
        elif path == "" or path in self._counts:
            path = ".".join(filter(None, (path, str(node.name))))
        text = re.sub(r"[^A-Za-z0-9_.]", "_", self._rename(path)) or "layer"
        text = text if text[:1].isalpha() else f"n{text}"
        name, number = self._fitting(text), 1
        while name in self._taken:
            number += 1
            name = self._fitting(f"{text}_{number}")
        self._taken.add(name)
        return name

    @staticmethod
    def _fitting(text: str) -> str:
        if len(text) <= _LONGEST_NAME:
            return text
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{text[: _LONGEST_NAME - 9]}_{digest}"


def _stages(paths: dict[str, str], layers: Sequence[Layer]) -> tuple[tuple[str, ...], ...]:
    """Layers with weights by the smallest submodule, not the whole, that holds several of them."""
    counts: dict[str, int] = {}
    for path in paths.values():
        for parent in _parents(path):
            counts[parent] = counts.get(parent, 0) + 1
    stages: dict[str, list[str]] = {}
    for layer in layers:
        if layer.weight is None or layer.name not in paths:
            continue
        around = [p for p in _parents(paths[layer.name]) if p and counts[p] > 1]
        stages.setdefault(around[0] if around else f"/{layer.name}", []).append(layer.name)
    return tuple(map(tuple, stages.values()))


def _kind_of(node: Node) -> str:
    """As in "conv2d" for aten.conv2d.default."""
    if node.op != "call_function":
        return node.op
    text = str(node.target)
    return text.split(".")[1] if text.startswith("aten.") else text


def _pair(value: Any) -> tuple[int, int]:
    first, *rest = [value] if isinstance(value, int) else list(value)
    return int(first), int(rest[0] if rest else first)


def _window(
    tracer: _Tracer, node: Node, kernel: tuple[int, int], start: int, padding: Padding
) -> Window:
    """Stride and padding are the arguments from `start` on; `padding` comes on top."""
    stride = _pair(tracer.argument(node, start, "stride", None) or kernel)
    own = tracer.argument(node, start + 1, "padding", 0)
    if isinstance(own, str):
        tracer.refuse(node, f"has padding {own!r}; numbers are allowed")
    height, width = _pair(own)
    top, left, bottom, right = padding
    return Window(kernel, stride, (top + height, left + width, bottom + height, right + width))


def _conv2d(tracer: _Tracer, node: Node) -> str:
    source, padding = tracer.padded(node, node.args[0])
    weight = tracer.constant(node, 1, "weight")
    assert weight is not None
    dilation = _pair(tracer.argument(node, 5, "dilation", 1))
    groups = int(tracer.argument(node, 6, "groups", 1))
    if dilation != (1, 1):
        tracer.refuse(node, f"has dilation {dilation}; (1, 1) is allowed")
    if groups != 1 and (groups != len(weight) or weight.shape[1] != 1):
        tracer.refuse(
            node,
            f"has {groups} groups of {weight.shape[1]} channels for {len(weight)} outputs; allowed "
            "are one group, or as many as outputs and inputs",
        )
    height, width = (int(side) for side in weight.shape[2:])
    if tracer.argument(node, 3, "stride", None) is None:
        window = Window((height, width), (1, 1), padding)
    else:
        window = _window(tracer, node, (height, width), 3, padding)
    kind = "depthwise" if groups > 1 else "conv2d"
    if kind == "conv2d" and window == POINT:
        kind = "pointwise"
    bias = tracer.constant(node, 2, "bias")
    return tracer.make(node, kind, (source,), weight=weight, bias=bias, window=window)


def _linear(tracer: _Tracer, node: Node) -> str:
    source = tracer.tensor(node, node.args[0])
    shape = node.all_input_nodes[0].meta["val"].shape
    if len(shape) != 2:
        tracer.refuse(node, f"works on {len(shape)} axes; (batch, channels) is allowed")
    weight, bias = tracer.constant(node, 1, "weight"), tracer.constant(node, 2, "bias")
    assert weight is not None
    return tracer.make(node, "dense", (source,), weight=weight, bias=bias)


def _batch_norm(tracer: _Tracer, node: Node) -> str:
    names = ("weight", "bias", "running_mean", "running_var")
    gamma, beta, mean, variance = (
        tracer.constant(node, index, name) for index, name in enumerate(names, 1)
    )
    if mean is None or variance is None or bool(tracer.argument(node, 5, "training", False)):
        tracer.refuse(node, "has no running statistics")
    gamma = torch.ones_like(mean) if gamma is None else gamma
    beta = torch.zeros_like(mean) if beta is None else beta
    draft = tracer.open(node.args[0])
    if draft is None or not draft.takes_norm:
        draft = tracer.copying(node, tracer.tensor(node, node.args[0]))
    epsilon = float(tracer.argument(node, 7, "eps", 1e-5))
    draft.norm = Norm(gamma, beta, mean, variance, epsilon)
    return draft.name


def _clamped(tracer: _Tracer, node: Node, low: float, high: float) -> str:
    draft = tracer.open(node.args[0])
    if draft is None or not draft.takes_clamp:
        draft = tracer.copying(node, tracer.tensor(node, node.args[0]))
    draft.bound(low, high)
    return draft.name


def _relu(tracer: _Tracer, node: Node) -> str:
    return _clamped(tracer, node, 0.0, INFINITY)


def _hardtanh(tracer: _Tracer, node: Node) -> str:
    low = tracer.argument(node, 1, "min_val", -1.0)
    return _clamped(tracer, node, float(low), float(tracer.argument(node, 2, "max_val", 1.0)))


def _relu6(tracer: _Tracer, node: Node) -> str:
    return _clamped(tracer, node, 0.0, 6.0)


def _clamp(tracer: _Tracer, node: Node) -> str:
    low, high = tracer.argument(node, 1, "min", None), tracer.argument(node, 2, "max", None)
    if isinstance(low, Node) or isinstance(high, Node):
        tracer.refuse(node, "has bounds that are tensors; numbers are allowed")
    low = -INFINITY if low is None else float(low)
    return _clamped(tracer, node, low, INFINITY if high is None else float(high))


def _add(tracer: _Tracer, node: Node) -> str:
    if tracer.argument(node, 2, "alpha", 1) != 1:
        tracer.refuse(node, "has a factor alpha; 1 is allowed")
    nodes = [x for x in node.args[:2] if isinstance(x, Node)]
    names = [tracer.tensor(node, x) for x in node.args[:2]]
    if nodes[0].meta["val"].shape != nodes[1].meta["val"].shape:
        tracer.refuse(node, "has summands of different shapes; equal ones are allowed")
    order = list(tracer.drafts)
    last = max(range(2), key=lambda i: order.index(names[i]) if names[i] in order else -1)
    draft = tracer.open(nodes[last])
    if draft is not None and draft.takes_residual and names[0] != names[1]:
        draft.inputs = (*draft.inputs, names[1 - last])
        return draft.name
    return tracer.make(node, "add", names)


def _mean(tracer: _Tracer, node: Node) -> str:
    axes = {int(axis) % 4 for axis in tracer.argument(node, 1, "dim", ()) or ()}
    if axes != {2, 3}:
        tracer.refuse(node, f"is over the axes {sorted(axes)}; height and width are allowed")
    return tracer.make(node, "global_avg_pool", (tracer.tensor(node, node.args[0]),))


def _adaptive_avg_pool2d(tracer: _Tracer, node: Node) -> str:
    size = _pair(tracer.argument(node, 1, "output_size", 1))
    if size != (1, 1):
        tracer.refuse(node, f"gives {size} pixels; (1, 1) is allowed")
    return tracer.make(node, "global_avg_pool", (tracer.tensor(node, node.args[0]),))


def _pool(tracer: _Tracer, node: Node, kind: str) -> str:
    source, padding = tracer.padded(node, node.args[0])
    kernel = _pair(tracer.argument(node, 1, "kernel_size", 1))
    window = _window(tracer, node, kernel, 2, padding)
    if kind == "max_pool" and any(window.padding):
        tracer.refuse(node, f"has padding {window.padding}; 0 is allowed")
    return tracer.make(node, kind, (source,), window=window)


def _max_pool2d(tracer: _Tracer, node: Node) -> str:
    if _pair(tracer.argument(node, 4, "dilation", 1)) != (1, 1):
        tracer.refuse(node, "has a dilation; 1 is allowed")
    if tracer.argument(node, 5, "ceil_mode", False):
        tracer.refuse(node, "rounds sides up; ceil_mode=False is allowed")
    return _pool(tracer, node, "max_pool")


def _avg_pool2d(tracer: _Tracer, node: Node) -> str:
    if tracer.argument(node, 4, "ceil_mode", False):
        tracer.refuse(node, "rounds sides up; ceil_mode=False is allowed")
    padded = any(_pair(tracer.argument(node, 3, "padding", 0)))
    if padded and not tracer.argument(node, 5, "count_include_pad", True):
        tracer.refuse(node, "leaves its padding out of the mean; count_include_pad is allowed")
    if tracer.argument(node, 6, "divisor_override", None) is not None:
        tracer.refuse(node, "has another divisor than its window")
    return _pool(tracer, node, "avg_pool")


def _pad(tracer: _Tracer, node: Node) -> str:
    """Zeros around an image, which the window of the next layer reads as its padding."""
    name, (top, left, bottom, right) = tracer.padded(node, node.args[0])
    sides = [int(side) for side in tracer.argument(node, 1, "pad", ())]
    value = tracer.argument(node, 2, "mode", "constant")
    value = tracer.argument(node, 3, "value", None) if value == "constant" else value
    if value not in (None, 0, 0.0) or len(sides) != 4 or min(sides) < 0:
        tracer.refuse(node, f"puts {value!r} at the sides {sides}; zeros at four are allowed")
    tracer.pad(node, (top + sides[2], left + sides[0], bottom + sides[3], right + sides[1]))
    return name


def _same(tracer: _Tracer, node: Node) -> str:
    return tracer.tensor(node, node.args[0])


def _reshaped(tracer: _Tracer, node: Node) -> str:
    """A (N, C, 1, 1) tensor as (N, C), or back."""
    before, after = node.all_input_nodes[0].meta["val"].shape, node.meta["val"].shape
    sides = (*before[2:], *after[2:])
    if before[1] != after[1] or any(side != 1 for side in sides):
        tracer.refuse(
            node, f"makes {tuple(after)} of {tuple(before)}; one pixel may become channels alone"
        )
    return _same(tracer, node)


#: The operations that hold the weights of a layer, and what an operator of the graph they become.
_WEIGHTED = {"conv2d": "conv2d", "linear": "dense"}

_CONVERT: dict[str, Convert] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _relu,
    "relu_": _relu,
    "relu6": _relu6,
    "relu6_": _relu6,
    "hardtanh": _hardtanh,
    "hardtanh_": _hardtanh,
    "clamp": _clamp,
    "clamp_": _clamp,
    "add": _add,
    "add_": _add,
    "mean": _mean,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "dropout": _same,
    "dropout_": _same,
    "contiguous": _same,
    "alias": _same,
    "flatten": _reshaped,
    "view": _reshaped,
    "reshape": _reshaped,
    "squeeze": _reshaped,
}
