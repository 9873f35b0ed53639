"""Single kernel calls: their memory, what must be in it afterwards, and runs on host and on Arm."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from elftools.elf.elffile import ELFFile
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from unicorn import UC_ARCH_ARM, UC_HOOK_BLOCK, UC_MODE_MCLASS, UC_MODE_THUMB, Uc
from unicorn.arm_const import (
    UC_ARM_REG_LR,
    UC_ARM_REG_R0,
    UC_ARM_REG_SP,
    UC_CPU_ARM_CORTEX_M4,
    UC_CPU_ARM_CORTEX_M7,
)

from etinynet.backend.c.pack import is_3x3, pack_weight, scratch_bytes, tight_bytes
from etinynet.graph.arithmetic import requantize
from etinynet.graph.execute import (
    add,
    avg_pool,
    conv2d,
    dense,
    depthwise,
    global_avg_pool,
    max_pool,
    pointwise,
)
from etinynet.graph.ir import Graph, Op, Requantization, Tensor
from etinynet.target.toolchain import device_compiler, run_tool

__all__ = [
    "KINDS",
    "ArmHarness",
    "ArmProgram",
    "Case",
    "HostProgram",
    "KernelCall",
    "Place",
    "host_program",
]

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "src" / "etinynet" / "backend" / "c" / "kernels"
REFERENCE = {
    "conv2d": conv2d,
    "depthwise": depthwise,
    "pointwise": pointwise,
    "dense": dense,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "global_avg_pool": global_avg_pool,
    "add": add,
}
#: In the order of the kinds in kernel_harness_calls.h.
KINDS = tuple(REFERENCE)
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", f"-I{KERNELS}", f"-I{HERE}")

#: Fields of harness_call.
NUMBERS = (
    *("kind", "height", "width_in", "in_channels", "width_out", "out_channels"),
    *("kernel", "stride", "padding", "zero_point", "weight_bits", "row_stride", "line_stride"),
    *("out_start", "out_row", "out_pixel", "out_channel", "wide"),
    *("residual_start", "residual_row", "residual_pixel", "residual_channel", "residual_wide"),
    *("shift", "bits", "relu", "per_tensor", "narrow_offset", "narrow_bias", "left"),
    *("most", "over", "gather"),
    *("in_start", "in_pixel", "in_channel", "in_wide"),
)
_ROW_KINDS = ("conv2d", "depthwise", "max_pool", "avg_pool")
_MAX_ROWS = 8


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


@dataclass(frozen=True)
class Place:
    """A memory layout: `order` hwc or hcw, `pad` before each line (hcw) and `gap` after each row
    (hwc) or line (hcw, in words) in elements, `wide` for int16; `tight` lines have nothing else."""

    order: str = "hcw"
    wide: bool = False
    pad: int = 0
    gap: int = 0
    tight: bool = False

    def strides(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Elements from row to row, pixel to pixel and channel to channel."""
        _, width, channels = shape
        if self.order == "hwc":
            return width * channels + self.gap, channels, 1
        if self.tight:
            return channels * width, 1, width
        line = _round_up(width + self.pad, 4) + 4 * self.gap
        return channels * line + 4 * min(self.pad, 1), 1, line

    def put(self, values: NDArray[np.int64], fill: int) -> bytes:
        """Memory with `values` (height, width, channels); every other element is `fill`."""
        dtype = np.int16 if self.wide else np.int8
        strides = self.strides(values.shape)
        size = (values.shape[0] - 1) * strides[0]
        size += values.shape[1] * values.shape[2] if self.order == "hwc" else strides[0]
        memory = np.full(size, fill, dtype)
        unit = memory.itemsize
        view = as_strided(memory[self.pad :], values.shape, [unit * step for step in strides])
        view[...] = values
        return memory.tobytes()


@dataclass(frozen=True)
class Case:
    """One call: `op` on `x` (height, width, channels); `x` has as many rows as the call reads.

    `op.padding` pads left and right only. `out` and `residual_place` say where things lie.
    With `narrow_offset` the kernel gets offsets as int16, which their values must allow; biases are
    int16 where they allow it. `in_place` is the input's where the kernel takes any.

    With `most` a depthwise call is etn_depthwise_tight, in parts of up to so many outputs; then
    `over` is the input row that the output overwrites, and `missing` the one that is not there
    (-1: none), whose values are the zero point. `gather` takes a pointwise input through
    etn_pointwise_gather.
    """

    op: Op
    x: NDArray[np.int64]
    out_bits: int = 8
    zero_point: int = 0
    residual: NDArray[np.int64] | None = None
    out: Place = field(default_factory=Place)
    residual_place: Place = field(default_factory=Place)
    in_gap: int = 0
    narrow_offset: bool = False
    most: int = 0
    over: int = -1
    missing: int = -1
    gather: bool = False
    in_place: Place = field(default_factory=Place)

    def expected_shape(self) -> tuple[int, int, int]:
        """Shape of the output."""
        height, width, channels = self.x.shape
        op = self.op
        channels = channels if op.weight is None else len(op.weight)
        width = (width + 2 * op.padding - op.kernel) // op.stride + 1
        if op.kind == "global_avg_pool":
            return 1, 1, channels
        return (height - op.kernel) // op.stride + 1, width, channels

    def expected(self) -> NDArray[np.int64]:
        """What graph/execute.py makes of it."""
        op = self.op
        side = op.padding
        x = np.pad(self.x, ((0, 0), (side, side), (0, 0)), constant_values=self.zero_point)
        total = REFERENCE[op.kind](x, replace(op, padding=0), self.zero_point)
        rule = op.requantization
        if rule is None:
            return total
        return requantize(
            total if op.bias is None else total + op.bias,
            rule.multiplier.astype(np.int64),
            rule.offset.astype(np.int64),
            rule.shift,
            self.out_bits,
            relu=rule.relu,
            residual=self.residual,
            residual_multiplier=_factor(rule),
        )


def _offset(rule: Requantization, narrow: bool) -> NDArray[np.int16] | NDArray[np.int32]:
    if not narrow:
        return rule.offset
    offset = rule.offset.astype(np.int16)
    assert np.array_equal(offset, rule.offset)
    return offset


def _factor(rule: Requantization) -> NDArray[np.int64]:
    factor = rule.residual_multiplier
    return np.zeros(len(rule.multiplier), np.int64) if factor is None else factor.astype(np.int64)


@dataclass(frozen=True)
class KernelCall:
    """Numbers and blobs of a call, and the output memory it must leave."""

    numbers: tuple[int, ...]
    blobs: tuple[bytes, ...]
    after: bytes

    @classmethod
    def of(cls, case: Case) -> KernelCall:
        op, expected = case.op, case.expected()
        rule = op.requantization
        rows, place = _input(case)
        row_stride, pixel_stride, line_stride = place.strides(case.x.shape)
        if case.gather:
            row_stride = case.x.shape[1] * case.x.shape[2]
        shortcut = (0, 0, 0)
        residual = b""
        if case.residual is not None:
            shortcut = case.residual_place.strides(case.residual.shape)
            residual = case.residual_place.put(case.residual, 99)
        scale = (max(rule.shift, 0), case.out_bits, int(rule.relu)) if rule else (0, 8, 0)
        numbers = (
            *(KINDS.index(op.kind), *case.x.shape, expected.shape[1], expected.shape[2]),
            *(op.kernel, op.stride, op.padding, case.zero_point),
            *(8 if op.weight_bits > 4 else 4, row_stride, line_stride),
            *(case.out.pad, *case.out.strides(expected.shape), int(case.out.wide)),
            *(case.residual_place.pad, *shortcut, int(case.residual_place.wide)),
            *scale,
            int(rule is not None and len(rule.multiplier) == 1),
            int(case.narrow_offset),
            int(op.bias is None or _narrowed(op.bias).dtype == np.int16),
            0 if rule is None else max(-rule.shift, 0),
            *(case.most, case.over, int(case.gather)),
            *(place.pad, pixel_stride, line_stride, int(place.wide)),
        )
        constants = (
            b"" if op.weight is None else pack_weight(op).tobytes(),
            b"" if op.bias is None else _narrowed(op.bias).tobytes(),
            b"" if rule is None else rule.multiplier.tobytes(),
            b"" if rule is None else _offset(rule, case.narrow_offset).tobytes(),
            b"" if case.residual is None or rule is None else _factor(rule).astype("<i4").tobytes(),
        )
        after = case.out.put(expected, 90)
        before = case.out.put(np.full_like(expected, 90), 90)
        scratch = bytes(_scratch(case))
        return cls(numbers, (*constants, residual, before, scratch, *rows), after)


def _narrowed(bias: NDArray[np.int32]) -> NDArray[np.int16] | NDArray[np.int32]:
    return bias.astype(np.int16) if np.abs(bias.astype(np.int64)).max() < 2**15 else bias


def _scratch(case: Case) -> int:
    shape = (1, *case.x.shape[1:])
    tensors = {"x": Tensor("x", shape, 8, 0, 1.0), "y": Tensor("y", case.expected_shape(), 8, 0, 1)}
    graph = Graph("case", tensors, (), "x", "y")
    if case.most:
        return tight_bytes(case.op, graph, case.most)
    return scratch_bytes(case.op, graph) + (2 * case.x.size if case.gather else 0)


def _input(case: Case) -> tuple[list[bytes], Place]:
    """Blobs of the input (rows, or one and nothing), and how they lie in memory."""
    kind = case.op.kind
    if case.gather:
        place = Place(wide=True, tight=True)
    elif case.most:
        place = Place(tight=True)
    elif kind in ("pointwise", "dense"):
        place = Place("hwc", wide=True, gap=case.in_gap)
    elif kind == "conv2d":
        place = Place("hwc")
    elif kind == "add":
        place = case.in_place
    elif kind == "depthwise" and is_3x3(case.op):
        place = Place("hcw", pad=case.op.padding, gap=case.in_gap)
    else:
        place = Place("hcw", gap=case.in_gap)
    fill = case.zero_point if kind == "depthwise" else 77
    rows = [case.x]
    if kind in _ROW_KINDS or case.gather:
        rows = [case.x[row : row + 1] for row in range(len(case.x))]
    blobs = [place.put(row, fill) for row in rows]
    if case.missing >= 0:
        blobs[case.missing] = b""
    return blobs + [b""] * (_MAX_ROWS - len(blobs)), place


class HostProgram:
    """A running process of kernel_harness_host.c."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen([self._program], stdin=pipe, stdout=pipe, stderr=pipe)

    def run(self, call: KernelCall) -> bytes:
        """Output memory after `call`; fails with the sanitizer's report if there is one."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        sizes = struct.pack(f"<{len(call.blobs)}i", *map(len, call.blobs))
        stdin.write(struct.pack(f"<{len(NUMBERS)}i", *call.numbers) + sizes + b"".join(call.blobs))
        stdin.flush()
        memory = stdout.read(len(call.after))
        if len(memory) != len(call.after):
            report = self._process.communicate()[1].decode()
            self._process = self._start()
            raise AssertionError(report)
        return memory

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def host_program(folder: Path, command: Sequence[str], flags: Sequence[str]) -> Path:
    """Compiles the host's harness in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    source = str(HERE / "kernel_harness_host.c")
    run_tool([*command, *STRICT, *flags, source, "-o", "harness"], folder)
    return folder / "harness"


_CODE, _DATA, _STACK = 0x10000, 0x20000000, 0x30000000
_MODELS = {"cortex_m4": UC_CPU_ARM_CORTEX_M4, "cortex_m7": UC_CPU_ARM_CORTEX_M7}
_ARM_CASE = """
void case_{name}(void *const *blob);
void case_{name}(void *const *blob) {{ harness_run((harness_call){{{numbers}}}, blob); }}
"""
_ARM_ANY = """
void case_any(void *const *blob);
void case_any(void *const *blob) { harness_run(*(const harness_call *)blob[BLOBS], blob); }
"""


class _ArmCode:
    """Functions `case_*` of C text `cases`, compiled for `cpu` and emulated."""

    def __init__(self, folder: Path, cpu: str, cases: str, extra: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cases.c").write_text('#include "kernel_harness_calls.h"\n' + cases)
        compiler = device_compiler(cpu)
        entry = cases.split("void case_", 1)[1].split("(", 1)[0]
        base = "--image-base" if "zig" in compiler.version else "-Ttext"
        link = ("-nostdlib", f"-Wl,{base}={_CODE:#x}", f"-Wl,-e,case_{entry}")
        flags = (*compiler.flags, *STRICT, *extra, "-Wl,--no-gc-sections", *link)
        run_tool([*compiler.command, *flags, "cases.c", "-o", "cases.elf"], folder)
        self._cpu = cpu
        self._functions: dict[str, tuple[int, int]] = {}
        self._segments: list[tuple[int, bytes]] = []
        with (folder / "cases.elf").open("rb") as file:
            elf = ELFFile(file)
            for segment in elf.iter_segments("PT_LOAD"):
                self._segments.append((segment["p_vaddr"], segment.data()))
            for symbol in elf.get_section_by_name(".symtab").iter_symbols():
                place = symbol["st_value"], symbol["st_size"]
                self._functions[symbol.name.removeprefix("case_")] = place

    def _run(self, name: str, blobs: Sequence[bytes], result: int) -> tuple[bytes, int]:
        """The first `result` bytes of blob number 6, the output, and the instructions."""
        engine = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        engine.ctl_set_cpu_model(_MODELS[self._cpu])
        engine.mem_map(0, 1 << 20)
        engine.mem_map(_DATA, 1 << 20)
        engine.mem_map(_STACK, 1 << 16)
        for address, content in self._segments:
            engine.mem_write(address, content)
        addresses, position = [], _DATA + 4 * len(blobs)
        for blob in blobs:
            position = _round_up(position, 8)
            addresses.append(position if blob else 0)
            engine.mem_write(position, blob)
            position += len(blob)
        engine.mem_write(_DATA, struct.pack(f"<{len(addresses)}I", *addresses))
        counter = _Counter(engine)
        engine.reg_write(UC_ARM_REG_R0, _DATA)
        engine.reg_write(UC_ARM_REG_SP, _STACK + (1 << 16))
        engine.reg_write(UC_ARM_REG_LR, 0x101)
        engine.emu_start(self._functions[name][0] | 1, 0x100)
        return bytes(engine.mem_read(addresses[6], result)), counter.total


class ArmProgram(_ArmCode):
    """Kernels with the shapes of `calls` as constants."""

    def __init__(self, folder: Path, cpu: str, calls: dict[str, KernelCall]) -> None:
        cases = (
            _ARM_CASE.format(name=name, numbers=", ".join(map(str, call.numbers)))
            for name, call in calls.items()
        )
        super().__init__(folder, cpu, "".join(cases))

    def code_bytes(self, name: str) -> int:
        """Size of the function of call `name`."""
        return self._functions[name][1]

    def run(self, name: str, call: KernelCall) -> tuple[bytes, int]:
        """Output memory after `call` and the number of instructions that it took."""
        return self._run(name, call.blobs, len(call.after))


class ArmHarness(_ArmCode):
    """Kernels that take any shape at run time; `extra` are flags of the compiler."""

    def __init__(self, folder: Path, cpu: str, extra: Sequence[str] = ()) -> None:
        runtime = KERNELS.parents[2] / "target" / "firmware" / "runtime.c"
        flags = (f"-I{runtime.parent / 'include'}", "-fno-builtin", str(runtime))
        super().__init__(folder, cpu, _ARM_ANY, (*extra, *flags))

    def run(self, call: KernelCall) -> bytes:
        """Output memory after `call`."""
        numbers = struct.pack(f"<{len(NUMBERS)}i", *call.numbers)
        return self._run("any", (*call.blobs, numbers), len(call.after))[0]


class _Counter:
    """Counts instructions by blocks; a Thumb instruction from 0b11101... has 4 bytes, others 2."""

    def __init__(self, engine: Uc) -> None:
        self.total = 0
        self._blocks: dict[tuple[int, int], int] = {}
        engine.hook_add(UC_HOOK_BLOCK, self._on_block)

    def _on_block(self, engine: Uc, address: int, size: int, _: object) -> None:
        count = self._blocks.get((address, size))
        if count is None:
            code = engine.mem_read(address, size)
            count = position = 0
            while position < size:
                position += 4 if code[position + 1] >> 3 >= 0b11101 else 2
                count += 1
            self._blocks[address, size] = count
        self.total += count
