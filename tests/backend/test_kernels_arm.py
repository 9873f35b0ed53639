"""The kernels on an emulated Cortex-M4 and M7: equal bits, and instructions within limits.

`pytest -s` prints the table of instructions for each multiplication and of code sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from kernel_case import Case, KernelCall, Place
from kernel_harness import ArmProgram

from etinynet.graph.ir import Op, Requantization, Window

RANDOM = np.random.default_rng(1)
LINES, LINES_PADDED = Place("hcw"), Place("hcw", pad=1)
WIDE_PIXELS = Place("hwc", wide=True)


@dataclass(frozen=True)
class Shape:
    """A layer: `rows` output rows of `width` pixels; limit in instructions per multiplication."""

    kind: str
    rows: int
    width: int
    in_channels: int
    channels: int
    limit: float
    stride: int = 1
    weight_bits: int = 8
    relu: bool = True
    residual: bool = False
    bias: bool = False
    wide_offset: bool = False
    kernel: int = 0
    wide_shortcut: bool = False
    left: int = 0


#: Layers of EtinyNet-1.0 at 224 (some with fewer output channels: their cost is by pairs), then
#: shapes with awkward remainders.
SHAPES = {
    "stem": Shape("conv2d", 1, 112, 3, 32, 1.41, stride=2),
    "pw_56_32": Shape("pointwise", 1, 56, 32, 32, 1.11),
    "pw_28_128": Shape("pointwise", 1, 28, 128, 32, 0.96),
    "pw_28_128_add": Shape("pointwise", 1, 28, 128, 32, 0.99, residual=True, bias=True),
    "pw_28_128_4bit": Shape("pointwise", 1, 28, 128, 32, 0.97, weight_bits=4),
    "pw_14_192": Shape("pointwise", 14, 14, 192, 16, 0.92, bias=True, wide_offset=True),
    "pw_14_192_row": Shape("pointwise", 1, 14, 192, 16, 1.08),
    "pw_7_256_add": Shape("pointwise", 7, 7, 256, 16, 0.96, residual=True, bias=True),
    "pw_7_512": Shape("pointwise", 7, 7, 512, 8, 0.92),
    "dw_56": Shape("depthwise", 1, 56, 32, 32, 2.00, relu=False),
    "dw_56_relu": Shape("depthwise", 1, 56, 32, 32, 2.05, bias=True),
    "dw_56_stride2": Shape("depthwise", 1, 28, 32, 32, 2.42, stride=2, relu=False),
    "dw_28": Shape("depthwise", 1, 28, 128, 128, 2.08, relu=False),
    "dw_28_add": Shape("depthwise", 1, 28, 128, 128, 2.62, residual=True, bias=True),
    "dw_28_4bit": Shape("depthwise", 1, 28, 128, 128, 2.08, relu=False, weight_bits=4),
    "dw_14_relu": Shape("depthwise", 1, 14, 192, 192, 2.88, bias=True, wide_offset=True),
    "dw_7_add": Shape("depthwise", 1, 7, 256, 256, 3.68, residual=True, bias=True),
    "dense": Shape("dense", 1, 1, 512, 64, 1.64),
    "dense_4bit": Shape("dense", 1, 1, 512, 64, 1.96, weight_bits=4, wide_offset=True),
    "max_pool": Shape("max_pool", 1, 56, 32, 32, 7.40, stride=2),
    "average": Shape("global_avg_pool", 7, 7, 512, 512, 2.60),
    "odd_pw": Shape("pointwise", 3, 5, 27, 5, 2.00, bias=True),
    "odd_pw_deep": Shape("pointwise", 2, 3, 700, 3, 2.50),
    "odd_conv": Shape("conv2d", 1, 7, 5, 3, 3.50, weight_bits=4),
    "odd_dw": Shape("depthwise", 1, 3, 5, 5, 5.10, stride=2, weight_bits=3),
    "odd_dw_5": Shape("depthwise", 1, 5, 5, 5, 5.15, residual=True),
    "odd_dense": Shape("dense", 1, 1, 37, 5, 3.80, weight_bits=4),
    "dw_56_left": Shape("depthwise", 1, 56, 32, 32, 2.10, relu=False, left=3),
    "dw_28_add_wide": Shape("depthwise", 1, 28, 128, 128, 2.62, residual=True, wide_shortcut=True),
    "pw_28_48_add_wide": Shape("pointwise", 1, 28, 48, 8, 1.12, residual=True, wide_shortcut=True),
    "pw_7_256_add_wide": Shape("pointwise", 7, 7, 256, 16, 0.97, residual=True, wide_shortcut=True),
    "dw_5x5": Shape("depthwise", 1, 28, 16, 16, 7.10, kernel=5),
    "dw_5x5_4bit": Shape("depthwise", 1, 28, 16, 16, 8.40, kernel=5, stride=2, weight_bits=4),
    "avg_pool": Shape("avg_pool", 1, 28, 16, 16, 55.00),
    "add": Shape("add", 1, 28, 16, 16, 9.80, relu=False, residual=True),
    "add_wide": Shape("add", 1, 28, 16, 16, 10.70, relu=False, residual=True, wide_shortcut=True),
    "odd_max_pool": Shape("max_pool", 1, 7, 3, 3, 7.40, stride=2),
}


def _op(shape: Shape) -> tuple[Op, tuple[int, int, int], int]:
    """The operator without constants, the shape of its input and multiplications in all."""
    usual = {"conv2d": 3, "depthwise": 3, "max_pool": 2, "avg_pool": 3}.get(shape.kind, 1)
    kernel = shape.kernel or usual
    padding = kernel // 2 if shape.kind != "max_pool" else 0
    weights: dict[str, tuple[int, ...]] = {
        "conv2d": (shape.channels, 3, 3, shape.in_channels),
        "depthwise": (shape.channels, kernel, kernel),
    }
    size = weights.get(shape.kind, (shape.channels, shape.in_channels))
    weight = None
    if shape.kind not in ("max_pool", "avg_pool", "global_avg_pool", "add"):
        high = 2 ** (shape.weight_bits - 1) - 1
        weight = RANDOM.integers(-high, high, size, endpoint=True).astype(np.int8)
    pixels = shape.rows * shape.width
    work = pixels * (shape.channels if weight is None else int(np.prod(size)))
    rows = kernel if kernel > 1 else shape.rows
    width = shape.width * shape.stride
    window = Window.square(kernel, shape.stride, padding)
    op = Op(shape.kind, "op", ("x",), "y", window, weight, shape.weight_bits)
    return op, (rows, width, shape.in_channels), work


def _case(shape: Shape) -> tuple[KernelCall, int]:
    """The call on random values that fill the range of the output, and its multiplications."""
    op, in_shape, work = _op(shape)
    wide_in = shape.kind in ("pointwise", "dense")
    high = 2047 if wide_in else 127
    x = RANDOM.integers(-high, high, in_shape, endpoint=True)
    wide_out = shape.kind in ("dense", "global_avg_pool") or not (shape.relu or wide_in)
    wide_out |= shape.wide_shortcut
    case = Case(op, x, 12 if wide_out else 8, -3, None, WIDE_PIXELS if wide_out else LINES_PADDED)
    if shape.kind == "max_pool":
        return KernelCall.of(case), work
    terms = work // (shape.channels * shape.rows * shape.width)
    spread = high * 2 ** (shape.weight_bits - 1) * terms**0.5 / 3
    channels = shape.channels
    reach = 2**17 if shape.wide_offset else 2**12
    rule = Requantization(
        RANDOM.integers(2**31 // 4, 2**31, channels).astype(np.int32),
        RANDOM.integers(-reach, reach, channels).astype(np.int32),
        -shape.left or max(0, int(np.log2(spread)) - case.out_bits),
        shape.relu,
        RANDOM.integers(20000, 60000, channels).astype(np.int32) if shape.residual else None,
    )
    bias = RANDOM.integers(-5000, 5000, channels).astype(np.int32) if shape.bias else None
    op = replace(op, bias=bias, requantization=rule)
    case = replace(case, op=op, narrow_offset=not shape.wide_offset)
    if shape.residual:
        top = 2**15 - 1 if shape.wide_shortcut else 127
        residual = RANDOM.integers(-top - 1, top, case.expected_shape(), endpoint=True)
        place = WIDE_PIXELS if shape.wide_shortcut else LINES
        case = replace(case, residual=residual, residual_place=place)
    return KernelCall.of(case), work


@pytest.fixture(
    scope="session", params=("cortex_m4", "cortex_m7", "cortex_m4 gcc", "cortex_m7 gcc")
)
def arm(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tool: Callable[[str], str],
) -> tuple[ArmProgram, dict, bool]:
    """All shapes compiled for one core, and whether by zig."""
    cpu, *others = request.param.split()
    cases = {name: _case(shape) for name, shape in SHAPES.items()}
    calls = {name: call for name, (call, _) in cases.items()}
    folder: Path = tmp_path_factory.mktemp(cpu)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETINYNET_ARM_CC", tool("arm-none-eabi-gcc") if others else "")
        return ArmProgram(folder, cpu, calls), cases, not others


@pytest.mark.parametrize("name", SHAPES)
def test_kernel_on_arm(arm: tuple[ArmProgram, dict, bool], name: str) -> None:
    """Equal bits by both compilers; the limits are of zig's code."""
    program, cases, by_zig = arm
    call, work = cases[name]
    memory, instructions = program.run(name, call)
    ratio = instructions / work
    print(f"\n{name:16} {ratio:6.3f} instructions/MAC, {program.code_bytes(name):5} bytes")
    assert memory == call.after
    assert ratio <= SHAPES[name].limit or not by_zig
