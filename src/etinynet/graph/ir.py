"""The integer graph: tensors, operators and their constants, as frozen values.

The rules that make a graph legal are code in graph/check.py and prose in docs/graph.md; what an
operator of each kind is stands in graph/ops.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.graph.precision import MIXED, Precision

__all__ = ["POINT", "Classification", "Graph", "Op", "Requantization", "Tensor", "Window"]


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


@dataclass(frozen=True)
class Window:
    """What an output pixel reads: `kernel` and `stride` are (height, width).

    `padding` is (top, left, bottom, right), in pixels that read the zero point.
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @classmethod
    def square(cls, kernel: int, stride: int = 1, padding: int = 0) -> Window:
        """The same on all sides."""
        return cls((kernel, kernel), (stride, stride), (padding,) * 4)

    @property
    def is_square(self) -> bool:
        """Whether both sides have one kernel, one stride and one padding."""
        one = self.kernel[0], self.stride[0], self.padding[0]
        return self == Window.square(*one)

    @property
    def area(self) -> int:
        """Input pixels of one output pixel."""
        return self.kernel[0] * self.kernel[1]

    def output_sides(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the output for an input of `height` x `width` pixels."""
        top, left, bottom, right = self.padding
        return (
            (height + top + bottom - self.kernel[0]) // self.stride[0] + 1,
            (width + left + right - self.kernel[1]) // self.stride[1] + 1,
        )


#: The window of operators that read a pixel for a pixel.
POINT = Window()


@dataclass(frozen=True, eq=False)
class Requantization:
    """From int32 accumulator to output tensor; see `arithmetic.requantize`.

    The arrays are int32 of length out_channels, or 1 for all channels; `residual_multiplier` is
    present where the operator has a residual, one value a channel since equalized channels differ.
    A `shift` below 0 multiplies the accumulator by 2^-shift instead of dividing the sum.
    """

    multiplier: NDArray[np.int32]
    offset: NDArray[np.int32]
    shift: int
    relu: bool = False
    residual_multiplier: NDArray[np.int32] | None = None


@dataclass(frozen=True, eq=False)
class Op:
    """One operator: `output` = kind(first of `inputs`) [+ residual, the second of `inputs`].

    `weight` is an int8 array that holds `weight_bits`-bit values, its axes as the operator table
    (graph/ops.py) names them. `bias` is int32 of length out_channels, added to the accumulator
    before ReLU; None is zero.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    output: str
    window: Window = POINT
    weight: NDArray[np.int8] | None = None
    weight_bits: int = 8
    bias: NDArray[np.int32] | None = None
    requantization: Requantization | None = None

    @property
    def input(self) -> str:
        """The tensor that the operator accumulates."""
        return self.inputs[0]

    @property
    def residual(self) -> str | None:
        """The tensor that the requantization adds, if there is one."""
        return self.inputs[1] if len(self.inputs) > 1 else None


@dataclass(frozen=True)
class Classification:
    """The graph's one output holds a score for each class.

    `class_names` has a name for each, or is None where the classes have none.
    """

    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """Tensors by name and operators in order of execution; `metadata` is plain JSON.

    `name` is a C identifier. The input tensor holds pixel minus 128 as int8, its channels in the
    order of the picture's. Each of `outputs` has the scale of its tensor; `head` says what they
    mean, None that the graph does not say. `precision` bounds the bits that operators read.
    """

    name: str
    tensors: dict[str, Tensor]
    ops: tuple[Op, ...]
    input: str
    outputs: tuple[str, ...]
    head: Classification | None = None
    precision: Precision = MIXED
    metadata: dict[str, Any] = field(default_factory=dict)
