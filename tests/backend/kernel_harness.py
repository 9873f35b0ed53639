"""Runs of single kernel calls on the host and on emulated Arm cores."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile
from kernel_case import NUMBERS, KernelCall
from unicorn import UC_ARCH_ARM, UC_HOOK_BLOCK, UC_MODE_MCLASS, UC_MODE_THUMB, Uc
from unicorn.arm_const import (
    UC_ARM_REG_LR,
    UC_ARM_REG_R0,
    UC_ARM_REG_SP,
    UC_CPU_ARM_CORTEX_M4,
    UC_CPU_ARM_CORTEX_M7,
)

from etinynet.target.toolchain import device_compiler, run_tool

__all__ = ["ArmHarness", "ArmProgram", "HostProgram", "host_program"]

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "src" / "etinynet" / "backend" / "c" / "kernels"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", f"-I{KERNELS}", f"-I{HERE}")


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
            position = -(-position // 8) * 8
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
