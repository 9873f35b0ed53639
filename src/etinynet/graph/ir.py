"""The integer graph: tensors, operators and their constants, as frozen values.

The rules that make a graph legal are code in graph/check.py and prose in docs/graph.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "Graph", "Op", "Requantization", "Tensor", "output_shape"]

#: Operator names; the same word names the function in execute.py and the kernel of each backend.
KINDS = (
    *("conv2d", "depthwise", "pointwise", "dense"),
    *("max_pool", "avg_pool", "global_avg_pool", "add"),
)


@dataclass(frozen=True)
class Tensor:
    """An activation of shape (height, width, channels), signed integers of `bits` bits.

    real value = scale * (integer - zero_point). `scale` informs people and the softmax at the end;
    execution never reads it. Padding reads `zero_point`. Where the lowering has equalized
    channels, the real value is that of the equalized network.
    """

    name: str
    shape: tuple[int, int, int]
    bits: int
    zero_point: int
    scale: float


@dataclass(frozen=True, eq=False)
class Requantization:
    """From int32 accumulator to output tensor; see `arithmetic.requantize`.

    The arrays are int32 of length out_channels, or 1 for all channels; `residual_multiplier` is
    present where the operator has a shortcut, one value a channel since equalized channels differ.
    A `shift` below 0 multiplies the accumulator by 2^-shift instead of dividing the sum.
    """

    multiplier: NDArray[np.int32]
    offset: NDArray[np.int32]
    shift: int
    relu: bool = False
    residual_multiplier: NDArray[np.int32] | None = None


@dataclass(frozen=True, eq=False)
class Op:
    """One operator: `output` = kind(`input`) [+ shortcut from `residual`].

    Weights are int8 arrays holding `weight_bits`-bit values:
    conv2d (out, kernel, kernel, in) · depthwise (channels, kernel, kernel) ·
    pointwise and dense (out, in) · pools and add none.
    `bias` is int32 of length out_channels, added to the accumulator before ReLU; None is zero.
    """

    kind: str
    name: str
    input: str
    output: str
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    weight: NDArray[np.int8] | None = None
    weight_bits: int = 8
    bias: NDArray[np.int32] | None = None
    requantization: Requantization | None = None
    residual: str | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """Tensors by name and operators in order of execution; `metadata` is plain JSON.

    `name` is a C identifier. The input tensor holds pixel minus 128 as int8, channels R, G, B.
    """

    name: str
    tensors: dict[str, Tensor]
    ops: tuple[Op, ...]
    input: str
    output: str
    metadata: dict[str, Any] = field(default_factory=dict)


def output_shape(
    kind: str,
    shape: tuple[int, int, int],
    out_channels: int,
    kernel: int,
    stride: int,
    padding: int,
) -> tuple[int, int, int]:
    """Shape (height, width, channels) that an operator makes of an input of `shape`."""
    if kind in ("dense", "global_avg_pool"):
        return 1, 1, out_channels
    height, width, _ = shape
    return (
        (height + 2 * padding - kernel) // stride + 1,
        (width + 2 * padding - kernel) // stride + 1,
        out_channels,
    )
