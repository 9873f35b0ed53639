"""What each operation of torch becomes: a layer, or a part of the one before it."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from etinynet.frontend.fusion import INFINITY, Norm
from etinynet.frontend.tracer import Convert, Padding, Tracer
from etinynet.graph.ir import POINT, Window

__all__ = ["OPERATIONS"]


def _pair(value: Any) -> tuple[int, int]:
    first, *rest = [value] if isinstance(value, int) else list(value)
    return int(first), int(rest[0] if rest else first)


def _window(
    tracer: Tracer, node: Node, kernel: tuple[int, int], start: int, padding: Padding
) -> Window:
    """Stride and padding are the arguments from `start` on; `padding` comes on top."""
    stride = _pair(tracer.argument(node, start, "stride", None) or kernel)
    own = tracer.argument(node, start + 1, "padding", 0)
    if isinstance(own, str):
        tracer.refuse(node, f"has padding {own!r}; numbers are allowed")
    height, width = _pair(own)
    top, left, bottom, right = padding
    return Window(kernel, stride, (top + height, left + width, bottom + height, right + width))


def _conv2d(tracer: Tracer, node: Node) -> str:
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


def _linear(tracer: Tracer, node: Node) -> str:
    source = tracer.tensor(node, node.args[0])
    shape = node.all_input_nodes[0].meta["val"].shape
    if len(shape) != 2:
        tracer.refuse(node, f"works on {len(shape)} axes; (batch, channels) is allowed")
    weight, bias = tracer.constant(node, 1, "weight"), tracer.constant(node, 2, "bias")
    assert weight is not None
    return tracer.make(node, "dense", (source,), weight=weight, bias=bias)


def _batch_norm(tracer: Tracer, node: Node) -> str:
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


def _clamped(tracer: Tracer, node: Node, low: float, high: float) -> str:
    if not low <= 0 <= high:
        tracer.refuse(node, f"has the bounds {low:g} and {high:g}; 0 has to lie between them")
    draft = tracer.open(node.args[0])
    if draft is None or not draft.takes_clamp:
        draft = tracer.copying(node, tracer.tensor(node, node.args[0]))
    draft.bound(low, high)
    return draft.name


def _relu(tracer: Tracer, node: Node) -> str:
    return _clamped(tracer, node, 0.0, INFINITY)


def _hardtanh(tracer: Tracer, node: Node) -> str:
    low = tracer.argument(node, 1, "min_val", -1.0)
    return _clamped(tracer, node, float(low), float(tracer.argument(node, 2, "max_val", 1.0)))


def _relu6(tracer: Tracer, node: Node) -> str:
    return _clamped(tracer, node, 0.0, 6.0)


def _clamp(tracer: Tracer, node: Node) -> str:
    low, high = tracer.argument(node, 1, "min", None), tracer.argument(node, 2, "max", None)
    if isinstance(low, Node) or isinstance(high, Node):
        tracer.refuse(node, "has bounds that are tensors; numbers are allowed")
    low = -INFINITY if low is None else float(low)
    return _clamped(tracer, node, low, INFINITY if high is None else float(high))


def _add(tracer: Tracer, node: Node) -> str:
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


def _mean(tracer: Tracer, node: Node) -> str:
    axes = {int(axis) % 4 for axis in tracer.argument(node, 1, "dim", ()) or ()}
    if axes != {2, 3}:
        tracer.refuse(node, f"is over the axes {sorted(axes)}; height and width are allowed")
    return tracer.make(node, "global_avg_pool", (tracer.tensor(node, node.args[0]),))


def _adaptive_avg_pool2d(tracer: Tracer, node: Node) -> str:
    size = _pair(tracer.argument(node, 1, "output_size", 1))
    if size != (1, 1):
        tracer.refuse(node, f"gives {size} pixels; (1, 1) is allowed")
    return tracer.make(node, "global_avg_pool", (tracer.tensor(node, node.args[0]),))


def _pool(tracer: Tracer, node: Node, kind: str) -> str:
    source, padding = tracer.padded(node, node.args[0])
    kernel = _pair(tracer.argument(node, 1, "kernel_size", 1))
    window = _window(tracer, node, kernel, 2, padding)
    if kind == "max_pool" and any(window.padding):
        tracer.refuse(node, f"has padding {window.padding}; 0 is allowed")
    return tracer.make(node, kind, (source,), window=window)


def _max_pool2d(tracer: Tracer, node: Node) -> str:
    if _pair(tracer.argument(node, 4, "dilation", 1)) != (1, 1):
        tracer.refuse(node, "has a dilation; 1 is allowed")
    if tracer.argument(node, 5, "ceil_mode", False):
        tracer.refuse(node, "rounds sides up; ceil_mode=False is allowed")
    return _pool(tracer, node, "max_pool")


def _avg_pool2d(tracer: Tracer, node: Node) -> str:
    if tracer.argument(node, 4, "ceil_mode", False):
        tracer.refuse(node, "rounds sides up; ceil_mode=False is allowed")
    padded = any(_pair(tracer.argument(node, 3, "padding", 0)))
    if padded and not tracer.argument(node, 5, "count_include_pad", True):
        tracer.refuse(node, "leaves its padding out of the mean; count_include_pad is allowed")
    if tracer.argument(node, 6, "divisor_override", None) is not None:
        tracer.refuse(node, "has another divisor than its window")
    return _pool(tracer, node, "avg_pool")


def _pad(tracer: Tracer, node: Node) -> str:
    """Zeros around an image, which the window of the next layer reads as its padding."""
    name, (top, left, bottom, right) = tracer.padded(node, node.args[0])
    sides = [int(side) for side in tracer.argument(node, 1, "pad", ())]
    value = tracer.argument(node, 2, "mode", "constant")
    value = tracer.argument(node, 3, "value", None) if value == "constant" else value
    if value not in (None, 0, 0.0) or len(sides) != 4 or min(sides) < 0:
        tracer.refuse(node, f"puts {value!r} at the sides {sides}; zeros at four are allowed")
    tracer.pad(node, (top + sides[2], left + sides[0], bottom + sides[3], right + sides[1]))
    return name


def _same(tracer: Tracer, node: Node) -> str:
    return tracer.tensor(node, node.args[0])


def _reshaped(tracer: Tracer, node: Node) -> str:
    """A (N, C, 1, 1) tensor as (N, C), or back."""
    before, after = node.all_input_nodes[0].meta["val"].shape, node.meta["val"].shape
    sides = (*before[2:], *after[2:])
    if before[1] != after[1] or any(side != 1 for side in sides):
        tracer.refuse(
            node, f"makes {tuple(after)} of {tuple(before)}; one pixel may become channels alone"
        )
    return _same(tracer, node)


#: By the name of the operation in ATen.
OPERATIONS: dict[str, Convert] = {
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
