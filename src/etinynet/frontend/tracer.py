"""Goes through a traced module node by node, and names the layers that come of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.fx import Node

from etinynet.errors import UnsupportedError
from etinynet.frontend.float_graph import INPUT
from etinynet.frontend.fusion import Draft

__all__ = ["Convert", "Padding", "Traced", "Tracer", "parents_of"]

_LONGEST_NAME = 64
#: The operations that hold the weights of a layer.
_WEIGHTED = ("conv2d", "linear")

Padding = tuple[int, int, int, int]
Convert = Callable[["Tracer", Node], str]


@dataclass(frozen=True)
class Traced:
    """What torch.export found: nodes in order, and the tensors that they read by name."""

    nodes: tuple[Node, ...]
    constants: dict[str, Tensor]
    image: str


def _owner_of(node: Node) -> str:
    """The dotted path of the submodule that a node belongs to; "" for the module itself."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return str(paths[-1]) if paths else ""


def parents_of(path: str) -> list[str]:
    """`path` and the paths of all submodules around it, the module itself last."""
    parts = path.split(".") if path else []
    return [".".join(parts[:count]) for count in range(len(parts), -1, -1)]


def _kind_of(node: Node) -> str:
    """As in "conv2d" for aten.conv2d.default."""
    if node.op != "call_function":
        return node.op
    text = str(node.target)
    return text.split(".")[1] if text.startswith("aten.") else text


class Tracer:
    """Goes through the nodes in order; `drafts` holds the layers so far by name.

    `operations` says what becomes of a node, by its kind: the name of the tensor that it makes.
    """

    def __init__(
        self, traced: Traced, operations: Mapping[str, Convert], rename: Callable[[str], str]
    ) -> None:
        self._traced, self._operations = traced, operations
        self.drafts: dict[str, Draft] = {}
        self.outputs: tuple[str, ...] = ()
        #: By name of a layer with weights: the submodule that they belong to.
        self.paths: dict[str, str] = {}
        self._tensors: dict[str, str] = {traced.image: INPUT}
        self._pads: dict[str, Padding] = {}
        weighted = [_owner_of(node) for node in traced.nodes if _kind_of(node) in _WEIGHTED]
        self._names = _Names(weighted, rename)

    def visit(self, node: Node) -> None:
        """Takes one node into the drafts."""
        if node.op == "output":
            found = node.args[0]
            assert isinstance(found, tuple | list)
            self.outputs = tuple(self.tensor(node, one) for one in found)
        elif node.op == "call_function":
            convert = self._operations.get(_kind_of(node))
            if convert is None:
                self.refuse(node, "has no integer form")
            self._tensors[node.name] = convert(self, node)

    def refuse(self, node: Node, why: str) -> NoReturn:
        """Raises UnsupportedError for `node`."""
        where = _owner_of(node) or "the module itself"
        known = ", ".join(sorted({kind.removesuffix("_") for kind in self._operations}))
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
            self.paths[name] = _owner_of(node)
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
            for parent in parents_of(path):
                self._counts[parent] = self._counts.get(parent, 0) + 1
        self._rename = rename
        self._taken = {INPUT}

    def of(self, node: Node) -> str:
        """A new name for what `node` makes."""
        path = _owner_of(node)
        if _kind_of(node) in _WEIGHTED:
            alone = [parent for parent in parents_of(path) if parent and self._counts[parent] == 1]
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
