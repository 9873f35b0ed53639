"""A walk that appends one random operator after the other, all legal, until scores are left.

The C backend keeps one memory layout a tensor, so that the readers of a tensor must be of one kind:
each is made for a use, one of `USES`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

import numpy as np

from etinynet.graph.arithmetic import INT32_MAX, INT32_MIN
from etinynet.graph.check import accumulator_range, check
from etinynet.graph.ir import Graph, Op, Tensor, output_shape
from random_graphs.constants import (
    random_bias,
    random_rule,
    random_weight,
    random_zero_point,
)

__all__ = ["Walk"]

#: Who reads a tensor: pointwise and dense, conv2d, 3x3 depthwise, and windows of other kinds.
USES = ("pixels", "picture", "lines", "windows")

_POOLS = ("max_pool", "avg_pool", "global_avg_pool")
_MOST_CHANNELS = 70


class _Window(TypedDict):
    kernel: int
    stride: int
    padding: int


class Walk:
    """Tensors and operators made so far. `strips` leads along depthwise and pointwise operators
    on rows wide enough to be made in strips."""

    def __init__(self, rng: np.random.Generator, *, strips: bool) -> None:
        self.rng, self.strips = rng, strips
        sides = [int(n) for n in rng.integers(1, 41, 2)]
        if strips:
            sides = [int(rng.integers(6, 30)), int(rng.integers(12, 60))]
        elif rng.random() < 0.3:
            sides[int(rng.integers(0, 2))] = int(rng.integers(1, 8))
        shape = (sides[0], sides[1], int(rng.choice([1, 2, 3, 3, 3, 4, 5, 8])))
        self.tensors = {"input": Tensor("input", shape, 8, random_zero_point(rng, 8), 1.0)}
        self.use = {"input": "picture"}
        self.ops: list[Op] = []
        self._count = 0

    def graph(self, name: str) -> Graph | None:
        """The checked graph of a whole walk, None where it led to no scores."""
        last = "input"
        for _ in range(int(self.rng.integers(1, 11))):
            last = self._steps(last)
        for _ in range(30):
            if self._is_flat(last) and self.rng.random() < 0.6:
                break
            last = self._narrow(last) or last
        if not self._is_flat(last):
            return None
        self._drop_unread(last)
        made = {op.output for op in self.ops}
        if not any("input" in (op.input, op.residual) for op in self.ops):
            return None
        tensors = {n: tensor for n, tensor in self.tensors.items() if n in made or n == "input"}
        graph = Graph(name, tensors, tuple(self.ops), "input", last, {})
        check(graph)
        return graph

    def _is_flat(self, name: str) -> bool:
        return name != "input" and self.tensors[name].shape[:2] == (1, 1)

    def _chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def _below(self, most: int) -> int:
        """1 to `most`."""
        return int(self.rng.integers(1, most + 1))

    # ---- operators

    def _add(
        self,
        kind: str,
        source: str,
        use: str,
        *,
        channels: int = 0,
        window: _Window | None = None,
        residual: str | None = None,
    ) -> str | None:
        """Appends an operator whose output is for `use`; its name, None where none is legal."""
        rng, origin = self.rng, self.tensors[source]
        window = window or _Window(kernel=1, stride=1, padding=0)
        if kind in (*_POOLS, "add", "depthwise"):
            channels = origin.shape[2]
        shape = output_shape(kind, origin.shape, channels, **window)
        self._count += 1
        name = f"t{self._count}.{kind}"
        wide = [2, 3, 4, 8, 9, 10, 12, 15, 16]
        bits = int(rng.choice(wide if use == "pixels" else [2, 3, 4, 5, 7, 8, 8, 8]))
        out = Tensor(name, shape, bits, random_zero_point(rng, bits), float(rng.uniform(1e-3, 10)))
        if kind == "max_pool":
            out = replace(origin, name=name, shape=shape)
        op = Op(kind, name, source, name, **window, residual=residual)
        op = self._with_constants(op, origin, out)
        if kind != "max_pool":
            if op.bias is None and not self._in_range(op, origin):
                return None
            shortcut = None if residual is None else self.tensors[residual]
            rule = random_rule(rng, op, origin, out, shortcut)
            if rule is None:
                return None
            op = replace(op, requantization=rule)
        self.tensors[name], self.use[name] = out, use
        self.ops.append(op)
        return name

    def _with_constants(self, op: Op, source: Tensor, out: Tensor) -> Op:
        shapes = {
            "conv2d": (out.shape[2], op.kernel, op.kernel, source.shape[2]),
            "depthwise": (out.shape[2], op.kernel, op.kernel),
            "pointwise": (out.shape[2], source.shape[2]),
            "dense": (out.shape[2], source.shape[2]),
        }
        if op.kind not in shapes:
            return op
        bits = int(self.rng.choice([2, 3, 4, 4, 5, 6, 7, 8, 8]))
        weight = random_weight(self.rng, shapes[op.kind], bits)
        op = replace(op, weight=weight, weight_bits=bits)
        if self._chance(0.6) and self._in_range(op, source):
            op = replace(op, bias=random_bias(self.rng, op, source))
        return op

    def _in_range(self, op: Op, source: Tensor) -> bool:
        low, high = accumulator_range(op, source)
        return int(low.min()) >= INT32_MIN and int(high.max()) <= INT32_MAX

    def _window(self, height: int, width: int) -> _Window:
        """Any window that fits."""
        kernel = min(self._below(7), max(1, min(height, width)))
        padding = int(self.rng.integers(0, kernel))
        return _Window(kernel=kernel, stride=self._below(4), padding=padding)

    def _channels(self) -> int:
        most = int(self.rng.choice([3, 8, 16, _MOST_CHANNELS]))
        return self._below(most)

    # ---- steps

    def _alike(self, source: str, shape: tuple[int, int, int], share: float) -> str | None:
        """A tensor of `shape` for a shortcut, in `share` of the cases in which there is one; half
        of these the operator's own input, where it can be."""
        if not self._chance(share):
            return None
        found = [name for name, tensor in self.tensors.items() if tensor.shape == shape]
        if source in found and self._chance(0.5):
            return source
        return str(self.rng.choice(found)) if found else None

    def _next_use(self, source: str) -> str:
        if self.strips and self._chance(0.85):
            return "pixels" if self.use[source] == "lines" else "lines"
        return str(self.rng.choice(USES, p=(0.3, 0.14, 0.42, 0.14)))

    def _steps(self, source: str) -> str:
        """One operator that reads `source`, now and then two, which are added where they can be."""
        made = self._step(source)
        if made is None:
            return source
        if self._chance(0.15):
            other = self._step(source)
            if other is not None and self.tensors[other].shape == self.tensors[made].shape:
                return self._add("add", made, self._next_use(made), residual=other) or made
        return made

    def _step(self, source: str) -> str | None:
        use, following = self.use[source], self._next_use(source)
        if self._chance(0.1):
            other = self._alike(source, self.tensors[source].shape, 1)
            return self._add("add", source, following, residual=other)
        steps = {"pixels": self._matrix, "picture": self._conv2d, "lines": self._depthwise}
        return steps.get(use, self._windowed)(source, following)

    def _matrix(self, source: str, use: str) -> str | None:
        height, width, own = self.tensors[source].shape
        channels = own if self._chance(0.25) else self._channels()
        if (height, width) == (1, 1) and self._chance(0.4):
            return self._add("dense", source, use, channels=channels)
        shortcut = self._alike(source, (height, width, channels), 0.5)
        if shortcut is None and self._chance(0.3):  # as many channels as a shortcut has
            sides = [n for n, tensor in self.tensors.items() if tensor.shape[:2] == (height, width)]
            shortcut = str(self.rng.choice(sides))
            channels = self.tensors[shortcut].shape[2]
        return self._add("pointwise", source, use, channels=channels, residual=shortcut)

    def _conv2d(self, source: str, use: str) -> str | None:
        shape, channels = self.tensors[source].shape, self._channels()
        window = self._window(*shape[:2])
        if self.strips or self._chance(0.5):
            window = _Window(kernel=3, stride=self._below(2), padding=1)
        made = output_shape("conv2d", shape, channels, **window)
        shortcut = self._alike(source, made, 0.45)
        return self._add("conv2d", source, use, channels=channels, window=window, residual=shortcut)

    def _depthwise(self, source: str, use: str) -> str | None:
        shape = self.tensors[source].shape
        window = _Window(kernel=3, stride=int(self.rng.choice([1, 1, 2])), padding=1)
        made = output_shape("depthwise", shape, shape[2], **window)
        plain = self.strips and self._chance(0.5)  # strips want one without a shortcut
        shortcut = None if plain else self._alike(source, made, 0.45)
        return self._add("depthwise", source, use, window=window, residual=shortcut)

    def _windowed(self, source: str, use: str) -> str | None:
        shape = self.tensors[source].shape
        window = self._window(*shape[:2])
        kind = str(self.rng.choice(["max_pool", "avg_pool", "depthwise"]))
        if kind == "max_pool":
            window["padding"] = 0
            if self._chance(0.5) and min(shape[:2]) >= 2:
                window = _Window(kernel=2, stride=2, padding=0)
        shortcut = None
        if kind == "depthwise":
            shortcut = self._alike(source, output_shape(kind, shape, shape[2], **window), 0.45)
        return self._add(kind, source, use, window=window, residual=shortcut)

    # ---- to the scores

    def _narrow(self, source: str) -> str | None:
        """One operator on the way to a height and a width of 1."""
        tensor, use, following = self.tensors[source], self.use[source], self._next_use(source)
        height, width, _ = tensor.shape
        whole = _Window(kernel=height, stride=1, padding=0)
        if (height, width) == (1, 1):
            return self._step(source)
        if use == "windows":
            if height == width and height <= 7 and self._chance(0.5):
                kind = str(self.rng.choice(["avg_pool", "max_pool", "depthwise"]))
                return self._add(kind, source, following, window=whole)
            return self._add("global_avg_pool", source, following)
        if use == "pixels":
            return self._add("pointwise", source, "windows", channels=self._below(40))
        if use == "lines":
            window = _Window(kernel=3, stride=1, padding=1)
            return self._add("depthwise", source, "windows", window=window)
        if height == width and height <= 7 and self._chance(0.5):
            return self._add("conv2d", source, following, channels=self._below(40), window=whole)
        window = self._window(height, width)
        return self._add("conv2d", source, "windows", channels=self._below(40), window=window)

    def _drop_unread(self, last: str) -> None:
        """Removes what nobody reads; the operator that makes `last` becomes the last."""
        while True:
            read = {last, *(name for op in self.ops for name in (op.input, op.residual))}
            kept = [op for op in self.ops if op.output in read]
            if len(kept) == len(self.ops):
                break
            self.ops = kept
        self.ops.sort(key=lambda op: op.output == last)
