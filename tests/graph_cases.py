"""Legal integer graphs for tests: small random ones, and EtinyNet with random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.graph.arithmetic import signed_range
from etinynet.graph.check import check
from etinynet.graph.ir import Classification, Graph, Op, Requantization, Tensor, Window
from etinynet.graph.ops import OPS, accumulator_range, output_shape, weight_shape
from etinynet.graph.precision import MIXED, Precision

__all__ = [
    "ETINYNET_0_75",
    "ETINYNET_1_0",
    "WIDE",
    "GraphBuilder",
    "at_shift",
    "etinynet_graph",
    "inverted_graph",
    "random_graph",
    "random_image",
    "siblings_graph",
]

#: Allows every operator tensors of 16 bits.
WIDE = Precision("wide", matrix_bits=16, sum_bits=16, window_bits=16)

#: (in, mid, out, stride, dense) of each block, table 1 of the paper.
ETINYNET_1_0 = (
    *[(32, 32, 32, 1, False)] * 4,
    (32, 128, 128, 2, False),
    *[(128, 128, 128, 1, False)] * 3,
    (128, 192, 192, 2, True),
    *[(192, 192, 192, 1, True)] * 2,
    (192, 256, 256, 2, True),
    (256, 256, 256, 1, True),
    (256, 512, 512, 1, True),
)
ETINYNET_0_75 = (
    *[(24, 24, 24, 1, False)] * 4,
    (24, 96, 96, 2, False),
    *[(96, 96, 96, 1, False)] * 3,
    (96, 168, 168, 2, True),
    *[(168, 168, 168, 1, True)] * 2,
    (168, 192, 192, 2, True),
    (192, 192, 192, 1, True),
    (192, 384, 384, 1, True),
)


class GraphBuilder:
    """Appends operators with random constants whose outputs fill their range about evenly."""

    def __init__(self, rng: np.random.Generator, name: str, shape: tuple[int, int, int]) -> None:
        self.rng = rng
        self.name = name
        self.tensors = {"input": Tensor("input", shape, 8, 0, 1 / 64)}
        self.ops: list[Op] = []

    def _weight(self, shape: tuple[int, ...], bits: int) -> NDArray[np.int8]:
        high = signed_range(bits)[1]
        return self.rng.integers(-high, high + 1, shape).astype(np.int8)

    def _rule(self, op: Op, out: Tensor, relu: bool, residual: bool) -> Requantization:
        """Multipliers that bring the typical accumulator to the output's range, with spread."""
        source = self.tensors[op.input]
        low, high = accumulator_range(op, source)
        reach = np.maximum(np.maximum(-low, high), 1).astype(np.float64)
        fan_in = 1 if op.weight is None else max(op.weight[0].size, 1)
        typical = reach / np.sqrt(fan_in) if op.weight is not None else reach / 2
        factor = 2.0 ** (out.bits - 2) / typical * self.rng.uniform(0.6, 1.6, reach.shape)
        # the multiplier must stay below 2^31, the sum below 2^30 for every input
        most = min(0.49 / factor.max(), 2.0**29 / (factor * reach).max())
        wide = residual and self.tensors[op.residual or ""].bits > 8
        shift = int(np.clip(np.floor(np.log2(most)), 0, 12 if wide else 16))
        multiplier = np.clip(np.round(factor * 2.0 ** (32 + shift)), 1, 2**31 - 1)
        per_tensor = op.kind == "global_avg_pool" or self.rng.random() < 0.1
        if per_tensor:
            multiplier = multiplier[multiplier.argmin() :][:1]
        elif self.rng.random() < 0.8:
            multiplier = multiplier * self.rng.choice([1, 1, 1, -1], multiplier.shape)
        spread = self.rng.integers(-20, 21, multiplier.shape) * (1 << max(out.bits - 8, 0))
        offset = ((out.zero_point + spread) << shift) + (1 << shift >> 1)
        shortcut = None
        if residual:
            count = 1 if self.rng.random() < 0.2 else len(multiplier)
            factors = self.rng.integers(1 << 14, 1 << 16, count)
            shortcut = (factors << shift).astype(np.int32)
        return Requantization(
            multiplier.astype(np.int32), offset.astype(np.int32), shift, relu, shortcut
        )

    def add(
        self,
        kind: str,
        name: str,
        source: str,
        *,
        channels: int = 0,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        bits: int = 8,
        weight_bits: int = 8,
        relu: bool = False,
        bias: bool = False,
        residual: str | None = None,
        window: Window | None = None,
    ) -> str:
        """Appends one operator reading `source`; returns its output, named as the operator."""
        origin = self.tensors[source]
        in_channels = origin.shape[2]
        row = OPS[kind]
        channels = in_channels if row.keeps_channels else channels
        window = window or Window.square(kernel, stride, padding)
        shape = output_shape(kind, origin.shape, channels, window)
        weight = weight_shape(kind, in_channels, channels, window)
        if not row.requantized:
            out = Tensor(name, shape, origin.bits, origin.zero_point, origin.scale)
        else:
            low, high = signed_range(bits)
            zero_point = int(self.rng.integers(low // 2, high // 2 + 1)) if bits <= 8 else 0
            out = Tensor(name, shape, bits, zero_point, float(self.rng.uniform(0.01, 0.1)))
        op = Op(
            kind,
            name,
            (source,) if residual is None else (source, residual),
            name,
            window,
            weight=self._weight(weight, weight_bits) if weight else None,
            weight_bits=weight_bits,
            bias=self.rng.integers(-999, 1000, channels).astype(np.int32) if bias else None,
        )
        if row.requantized:
            rule = self._rule(op, out, relu, residual is not None)
            op = Op(**{**op.__dict__, "requantization": rule})
        self.tensors[name] = out
        self.ops.append(op)
        return name

    def block(
        self,
        index: int,
        source: str,
        widths: tuple[int, int, int],
        *,
        stride: int = 1,
        dense: bool = False,
        weight_bits: int = 8,
        wide_bits: int = 12,
    ) -> str:
        """A linear depthwise block (section 3.1 of the paper), dense or not."""
        prefix = f"b{index}"
        _, middle, _ = widths
        first = self.add(
            "depthwise", f"{prefix}.dw1", source, kernel=3, stride=stride, padding=1,
            bits=wide_bits, weight_bits=weight_bits,
        )  # fmt: skip
        same = stride == 1 and self.tensors[source].shape[2] == middle
        second = self.add(
            "pointwise", f"{prefix}.pw", first, channels=middle, relu=True,
            weight_bits=weight_bits, residual=source if dense and same else None,
            bias=bool(self.rng.random() < 0.3),
        )  # fmt: skip
        return self.add(
            "depthwise", f"{prefix}.dw2", second, kernel=3, padding=1, relu=True, bias=True,
            weight_bits=weight_bits, residual=second if dense else None,
        )  # fmt: skip

    def finish(
        self, source: str, classes: int, *, weight_bits: int = 8, precision: Precision = MIXED
    ) -> Graph:
        """Global average pooling and the classifier; returns the checked graph."""
        pooled = self.add("global_avg_pool", "pool_all", source, bits=15)
        scores = self.add(
            "dense", "fc", pooled, channels=classes, bits=16, weight_bits=weight_bits,
            bias=bool(self.rng.random() < 0.5),
        )  # fmt: skip
        ops, head = tuple(self.ops), Classification()
        graph = Graph(self.name, self.tensors, ops, "input", (scores,), head, precision)
        check(graph)
        return graph


def random_image(rng: np.random.Generator, graph: Graph) -> NDArray[np.int8]:
    """A picture for `graph`: int8 (height, width, channels), all values possible."""
    return rng.integers(-128, 128, graph.tensors[graph.input].shape).astype(np.int8)


def random_graph(rng: np.random.Generator, *, name: str = "net", max_side: int = 40) -> Graph:
    """A small network of the EtinyNet kind: odd sides and widths, shortcuts, 4 and 8 bits."""
    height, width = (int(n) for n in rng.integers(16, max_side + 1, 2))
    builder = GraphBuilder(rng, name, (height, width, 3))
    width_now = int(rng.integers(3, 14))
    kernel = int(rng.choice([3, 3, 5]))
    last = builder.add(
        "conv2d", "stem", "input", channels=width_now, kernel=kernel,
        stride=int(rng.integers(1, 3)), padding=int(rng.choice([kernel // 2, kernel // 2, 0])),
        relu=True, bias=bool(rng.random() < 0.5), weight_bits=int(rng.choice([4, 8])),
    )  # fmt: skip
    if rng.random() < 0.8:
        last = builder.add("max_pool", "pool", last, kernel=int(rng.choice([2, 2, 3])), stride=2)
    for index in range(int(rng.integers(1, 5))):
        middle = width_now if rng.random() < 0.5 else int(rng.integers(2, 20))
        last = builder.block(
            index,
            last,
            (width_now, middle, middle),
            stride=1 if rng.random() < 0.7 else 2,
            dense=bool(rng.random() < 0.6),
            weight_bits=int(rng.choice([4, 8])),
            wide_bits=int(rng.choice([8, 12, 14])),
        )
        width_now = middle
    return builder.finish(last, int(rng.integers(2, 12)), weight_bits=int(rng.choice([4, 8])))


def at_shift(op: Op, shift: int) -> Op:
    """`op` with about the same outputs, a smaller `shift` and a multiplier per channel."""
    rule = op.requantization
    assert rule is not None
    assert rule.shift >= shift
    channels = len(rule.multiplier) if op.weight is None else len(op.weight)
    down, sum_down = rule.shift - shift, rule.shift - max(shift, 0)
    changed: dict[str, Any] = {
        "multiplier": np.broadcast_to(rule.multiplier >> down, (channels,)).copy(),
        "offset": np.broadcast_to(rule.offset >> sum_down, (channels,)).copy(),
        "shift": shift,
    }
    if rule.residual_multiplier is not None:
        changed["residual_multiplier"] = rule.residual_multiplier >> sum_down
    return replace(op, requantization=replace(rule, **changed))


def _inverted_block(builder: GraphBuilder, prefix: str, source: str) -> str:
    """An inverted residual block (MobileNetV2): expand, depthwise of any window, project."""
    rng, width = builder.rng, builder.tensors[source].shape[2]
    weight_bits, middle = int(rng.choice([4, 8])), int(rng.integers(2, 20))
    kernel, padding, stride = 3, 1, int(rng.integers(1, 3))
    if rng.random() < 0.4:
        kernel = int(rng.choice([1, 2, 3, 5]))
        padding, stride = int(rng.integers(0, kernel)), int(rng.integers(1, 4))
    last = builder.add(
        "pointwise", f"{prefix}.expand", source, channels=middle, weight_bits=weight_bits,
        relu=bool(rng.random() < 0.5),
    )  # fmt: skip
    last = builder.add(
        "depthwise", f"{prefix}.dw", last, kernel=kernel, padding=padding, stride=stride,
        bits=int(rng.choice([8, 12, 16])), weight_bits=weight_bits,
    )  # fmt: skip
    if rng.random() < 0.5:
        builder.ops[-1] = at_shift(builder.ops[-1], -int(rng.integers(1, 5)))
    same = builder.tensors[last].shape[:2] == builder.tensors[source].shape[:2]
    channels = width if same else int(rng.integers(1, 14))
    return builder.add(
        "pointwise", f"{prefix}.pw", last, channels=channels, weight_bits=weight_bits,
        bits=int(rng.choice([8, 12, 16])), residual=source if same else None,
    )  # fmt: skip


def inverted_graph(rng: np.random.Generator, *, name: str = "net", max_side: int = 32) -> Graph:
    """A small network of the MobileNetV2 kind, and what EtinyNets have not: sums, windowed means,
    any window of pools and depthwise convolutions, wide shortcuts, shifts below 0."""
    height, width = (int(n) for n in rng.integers(14, max_side + 1, 2))
    builder = GraphBuilder(rng, name, (height, width, 3))
    last = builder.add("conv2d", "stem", "input", channels=int(rng.integers(3, 12)), kernel=3)
    kernel, pool = int(rng.integers(1, 4)), str(rng.choice(["max_pool", "avg_pool"]))
    padding = int(rng.integers(0, kernel)) if pool == "avg_pool" else 0
    last = builder.add(
        pool, "pool", last, kernel=kernel, stride=int(rng.integers(1, 3)), padding=padding
    )
    last = builder.add("depthwise", "dw", last, kernel=3, padding=1, bits=12)
    last = builder.add("pointwise", "pw", last, channels=int(rng.integers(3, 12)), bits=16)
    for index in range(int(rng.integers(1, 4))):
        last = _inverted_block(builder, f"b{index}", last)
    twins = [
        builder.add("pointwise", side, last, channels=7, bits=int(rng.choice([8, 16])))
        for side in ("left", "right")
    ]
    last = builder.add("add", "sum", twins[0], residual=twins[1], bits=int(rng.choice([8, 16])))
    last = builder.add("pointwise", "wide", last, channels=9)
    last = builder.add("add", "twice", last, residual=last)
    return builder.finish(last, int(rng.integers(2, 12)), weight_bits=int(rng.choice([4, 8])))


def siblings_graph(rng: np.random.Generator) -> Graph:
    """Four blocks of one shape: b0.dw2 and b1.dw2 differ in the shift; both and b2.dw2 have offsets
    in int16 range, b3.dw2 has not, at the shift of b0.dw2; b2.dw2 has that of b1.dw2."""
    builder = GraphBuilder(rng, "siblings", (14, 11, 3))
    last = builder.add("conv2d", "stem", "input", channels=5, kernel=3, padding=1, relu=True)
    for index in range(4):
        last = builder.block(index, last, (5, 5, 5), dense=True)
    shifts = {"b0.dw2": 6, "b1.dw2": 4, "b2.dw2": 4, "b3.dw2": 6}
    builder.ops = [at_shift(op, shifts[op.name]) if op.name in shifts else op for op in builder.ops]
    rule = builder.ops[-1].requantization
    assert rule is not None
    rule.offset[0] = 2**15
    return builder.finish(last, 4)


def etinynet_graph(
    rng: np.random.Generator,
    blocks: tuple[tuple[int, int, int, int, bool], ...] = ETINYNET_1_0,
    *,
    side: int = 224,
    classes: int = 1000,
    weight_bits: int = 8,
) -> Graph:
    """EtinyNet as in table 1 of the paper, with random weights."""
    builder = GraphBuilder(rng, "etinynet", (side, side, 3))
    last = builder.add(
        "conv2d", "stem", "input", channels=blocks[0][0], kernel=3, stride=2, padding=1, relu=True
    )
    last = builder.add("max_pool", "pool", last, kernel=2, stride=2)
    for index, (inside, middle, outside, stride, dense) in enumerate(blocks):
        last = builder.block(
            index, last, (inside, middle, outside), stride=stride, dense=dense,
            weight_bits=weight_bits,
        )  # fmt: skip
    return builder.finish(last, classes, weight_bits=weight_bits)
