"""Both forms of every kernel, by every compiler, against graph/execute.py: equal bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_case import Case, KernelCall, Place
from kernel_harness import ArmHarness, HostProgram, host_program
from numpy.typing import NDArray

from etinynet.backend.c.pack import is_3x3
from etinynet.graph.ir import Op, Requantization, Window
from etinynet.graph.ops import COPY, weight_shape
from etinynet.target.toolchain import host_compiler

FORMS = {"portable": (), "dsp": ("-DETN_EMULATE_DSP",)}
#: zig stands for wherever there is no other compiler: its own has no address sanitizer.
COMPILERS = ("zig -O1", "gcc -O0", "gcc -O3", "clang -O0", "clang -O3")
ARM = {
    "cortex_m4 zig": (),
    "cortex_m7 zig": (),
    "cortex_m4 arm-none-eabi-gcc": (),
    "cortex_m7 arm-none-eabi-gcc portable": ("-U__ARM_FEATURE_DSP",),
}
LIMIT = 2**31 - 1
PROPERTY = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


@pytest.fixture(scope="session", params=[f"{c} {form}" for c in COMPILERS for form in FORMS])
def host(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tool: Callable[[str], str],
) -> Iterator:
    """The harness in one form by one compiler, with its sanitizers."""
    name, level, form = request.param.split()
    if name == "zig":
        command = host_compiler().command
        flags = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
    else:
        command = (tool(name),)
        flags = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    folder: Path = tmp_path_factory.mktemp("harness")
    program = HostProgram(host_program(folder, command, (level, *flags, *FORMS[form])))
    yield program
    program.close()


@pytest.fixture(scope="session", params=ARM)
def arm(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tool: Callable[[str], str],
) -> ArmHarness:
    """The harness for one core by one compiler, in the DSP form unless it says portable."""
    cpu, name, *_ = request.param.split()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETINYNET_ARM_CC", "" if name == "zig" else tool(name))
        return ArmHarness(tmp_path_factory.mktemp("arm"), cpu, ARM[request.param])


@st.composite
def integers(draw: st.DrawFn, shape: tuple[int, ...], low: int, high: int) -> NDArray[np.int64]:
    """Arrays of random values, of extreme values only, or of one extreme value."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    style = draw(st.sampled_from(("random", "extremes", "lowest", "highest")))
    if style == "random":
        return random.integers(low, high, shape, endpoint=True)
    if style == "extremes":
        return random.choice([low, high], shape)
    return np.full(shape, low if style == "lowest" else high, np.int64)


@st.composite
def places(draw: st.DrawFn, wide: bool) -> Place:
    order = draw(st.sampled_from(("hwc", "hcw")))
    pad = draw(st.integers(0, 1)) if order == "hcw" else 0
    return Place(order, wide, pad, draw(st.integers(0, 2)))


@st.composite
def finished(
    draw: st.DrawFn,
    op: Op,
    x: NDArray[np.int64],
    zero_point: int,
    bound: int,
    residual: bool | None = None,
) -> Case:
    """`op` with bias, requantization, shortcut and layouts; accumulators are within `bound`."""
    bits = draw(st.sampled_from((2, 4, 7, 8, 12, 16)))
    channels = x.shape[2] if op.weight is None else len(op.weight)
    constants = 1 if draw(st.booleans()) else channels
    bias = None
    if op.weight is not None and draw(st.booleans()):
        bias = draw(integers((channels,), bound - LIMIT, LIMIT - bound)).astype(np.int32)
    room = int(np.log2((LIMIT + 1) // bound)) if bias is None else 0
    narrow = draw(st.booleans())
    low, high = (-(2**15), 2**15 - 1) if narrow else (-(2**30) + 2**23, 2**30 - 2**23)
    rule = Requantization(
        draw(integers((constants,), -LIMIT - 1, LIMIT)).astype(np.int32),
        draw(integers((constants,), low, high)).astype(np.int32),
        draw(st.integers(-min(room, 16), 24)),
        draw(st.booleans()),
        draw(integers((constants,), -LIMIT, LIMIT)).astype(np.int32),
    )
    wide_shortcut = draw(st.booleans())
    if wide_shortcut:  # its products take as much of int32 as offsets and accumulators leave
        rule = replace(
            rule,
            multiplier=rule.multiplier >> 2,
            offset=rule.offset >> 2,
            residual_multiplier=rule.residual_multiplier >> 1,
        )
    op = replace(op, bias=bias, requantization=rule)
    place, shortcut_place = draw(places(bits > 8)), draw(places(wide_shortcut))
    gap = draw(st.integers(0, 2))
    case = Case(op, x, bits, zero_point, None, place, shortcut_place, gap, narrow)
    if draw(st.booleans()) if residual is None else residual:
        high = 2**15 - 1 if wide_shortcut else 127
        shortcut = draw(integers(case.expected_shape(), -high - 1, high))
        case = replace(case, residual=shortcut)
    return case


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Any window, half of them square."""
    tall, down = draw(st.integers(1, 7)), draw(st.integers(1, 4))
    wide, right = (tall, down) if draw(st.booleans()) else (draw(st.integers(1, 7)), 1)
    left = draw(st.integers(0, wide - 1))
    end = left if draw(st.booleans()) else draw(st.integers(0, wide - 1))
    return Window((tall, wide), (down, right), (0, left, 0, end))


def widths(window: Window, most: int) -> st.SearchStrategy[int]:
    """Widths of an input that `window` fits."""
    _, left, _, right = window.padding
    return st.integers(max(1, window.kernel[1] - left - right), most)


@st.composite
def matrices(draw: st.DrawFn, kind: str) -> Case:
    """pointwise and dense: int16 inputs."""
    height, width = (
        (draw(st.integers(1, 4)), draw(st.integers(1, 9))) if kind == "pointwise" else (1, 1)
    )
    depth, channels = draw(st.integers(1, 70)), draw(st.integers(1, 9))
    weight_bits = draw(st.integers(2, 8))
    high = 2 ** (weight_bits - 1) - 1
    weight = draw(integers((channels, depth), -high, high)).astype(np.int8)
    x = draw(integers((height, width, depth), -(2**15), 2**15 - 1))
    op = Op(kind, "op", ("x",), "y", weight=weight, weight_bits=weight_bits)
    return draw(finished(op, x, 0, depth * high * 2**15))


@st.composite
def convolutions(draw: st.DrawFn, kind: str) -> Case:
    """conv2d and depthwise: int8 inputs, as many rows as the kernel has."""
    window = draw(windows())
    if kind == "depthwise" and draw(st.booleans()):
        window = Window.square(3, draw(st.integers(1, 2)), 1)
    in_channels, channels = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    width = draw(widths(window, 40))
    weight_bits = draw(st.integers(2, 8))
    high = 2 ** (weight_bits - 1) - 1
    depth = in_channels if kind == "conv2d" else 1
    if kind == "depthwise":
        in_channels = channels
    shape = weight_shape(kind, in_channels, channels, window)
    weight = draw(integers(shape, -high, high)).astype(np.int8)
    x = draw(integers((window.kernel[0], width, in_channels), -128, 127))
    op = Op(kind, "op", ("x",), "y", window, weight, weight_bits)
    return draw(finished(op, x, draw(st.integers(-128, 127)), window.area * depth * high * 128))


@st.composite
def tight_depthwise(draw: st.DrawFn) -> Case:
    """etn_depthwise_tight: rows above or below that are not there, parts, output over a row."""
    case = draw(convolutions("depthwise").filter(lambda one: is_3x3(one.op.window)))
    stride, width_in = case.op.window.stride[1], case.x.shape[1]
    width_out = case.expected_shape()[1]
    most = draw(st.integers(1, width_out))
    if most < width_out and (stride * most + 5) // 4 * 4 > width_in:
        most = width_out
    missing = draw(st.sampled_from((-1, 0, 2)))
    if missing >= 0:
        case.x[missing] = case.zero_point
    case = replace(case, most=most, missing=missing, in_gap=0)
    rows = [row for row in ((0,) if most < width_out else (0, 1, 2)) if row != missing]
    if rows and stride == 1 and case.out_bits <= 8 and draw(st.booleans()):
        case = replace(case, over=draw(st.sampled_from(rows)), out=Place(tight=True))
    return case


@st.composite
def gathered(draw: st.DrawFn) -> Case:
    """pointwise on lines of channels, of 8 or 16 bits, through etn_pointwise_gather."""
    case = replace(draw(matrices("pointwise")), gather=True, in_gap=0)
    if draw(st.booleans()):
        return replace(case, in_place=Place(wide=True))
    return replace(case, x=case.x >> 8)


@st.composite
def max_pools(draw: st.DrawFn) -> Case:
    window = replace(draw(windows()), padding=(0,) * 4)
    if draw(st.booleans()):
        window = Window.square(2, 2)
    width, channels = draw(widths(window, 30)), draw(st.integers(1, 6))
    x = draw(integers((window.kernel[0], width, channels), -128, 127))
    op = Op("max_pool", "op", ("x",), "y", window)
    return Case(op, x, out=draw(places(draw(st.booleans()))), in_gap=draw(st.integers(0, 1)))


@st.composite
def averages(draw: st.DrawFn) -> Case:
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 15)), draw(st.integers(1, 6))
    x = draw(integers(shape, -128, 127))
    op = Op("global_avg_pool", "op", ("x",), "y")
    return draw(finished(op, x, 0, shape[0] * shape[1] * 128, residual=False))


@st.composite
def windowed_averages(draw: st.DrawFn) -> Case:
    window = draw(windows())
    width, channels = draw(widths(window, 30)), draw(st.integers(1, 6))
    x = draw(integers((window.kernel[0], width, channels), -128, 127))
    op = Op("avg_pool", "op", ("x",), "y", window)
    zero_point = draw(st.integers(-128, 127))
    return draw(finished(op, x, zero_point, window.area * 128, residual=False))


@st.composite
def sums(draw: st.DrawFn) -> Case:
    wide = draw(st.booleans())
    high = 2**15 - 1 if wide else 127
    shape = 1, draw(st.integers(1, 15)), draw(st.integers(1, 6))
    op = Op("add", "op", ("x", "z"), "y")
    x = draw(integers(shape, -high - 1, high))
    case = draw(finished(op, x, 0, (high + 1) << 16, residual=True))
    return replace(case, in_place=draw(places(wide)))


@st.composite
def copies(draw: st.DrawFn) -> Case:
    """From one layout to another, wider or as wide."""
    wide = draw(st.booleans())
    high = 2**15 - 1 if wide else 127
    x = draw(integers((1, draw(st.integers(1, 15)), draw(st.integers(1, 6))), -high - 1, high))
    op = Op(COPY, "op", ("x",), "y")
    out = draw(places(wide or draw(st.booleans())))
    return Case(op, x, 16 if out.wide else 8, out=out, in_place=draw(places(wide)))


CASES = {
    "conv2d": convolutions("conv2d"),
    "depthwise": convolutions("depthwise"),
    "depthwise_tight": tight_depthwise(),
    "pointwise": matrices("pointwise"),
    "pointwise_gather": gathered(),
    "dense": matrices("dense"),
    "max_pool": max_pools(),
    "avg_pool": windowed_averages(),
    "global_avg_pool": averages(),
    "add": sums(),
    "copy": copies(),
}


@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=60, **PROPERTY)
@given(data=st.data())
def test_kernel_equals_reference(host: HostProgram, kind: str, data: st.DataObject) -> None:
    call = KernelCall.of(data.draw(CASES[kind]))
    assert host.run(call) == call.after


@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=25, **PROPERTY)
@given(data=st.data())
def test_kernel_on_arm_equals_reference(arm: ArmHarness, kind: str, data: st.DataObject) -> None:
    call = KernelCall.of(data.draw(CASES[kind]))
    assert arm.run(call) == call.after
