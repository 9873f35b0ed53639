"""Microcontroller targets: a graph as firmware on the emulated part, counted and measured."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
from numpy.typing import NDArray

from etinynet.backend.c import compile_graph, plan_mode
from etinynet.backend.c.names import usable_name
from etinynet.errors import DeviceFault, MismatchError
from etinynet.graph.ir import Graph
from etinynet.target.base import Closing, MemoryUse, Result, check_image, pixels
from etinynet.target.elf import Image
from etinynet.target.emulator import Machine, Run
from etinynet.target.link import STACK_BYTES, Firmware, build_firmware, main_source
from etinynet.target.parts import Part
from etinynet.target.trace import Trace

__all__ = ["McuProgram", "McuTarget", "memory_use", "read_scores"]

_PICTURE, _SCORES = "picture.rgb", "scores.bin"


class McuProgram(Closing):
    """A graph in the flash of an emulated part.

    `files` is the generated library, called `name`; `firmware`, made of it, is what a real part
    would be given.
    """

    def __init__(
        self,
        graph: Graph,
        part: Part,
        stack_bytes: int,
        optimization: str,
        mode: str | None,
        command: str,
        name: str | None,
    ) -> None:
        self._graph, self._part = graph, part
        self.name = usable_name(graph) if name is None else name
        self._stack_bytes, self._optimization = stack_bytes, optimization
        self.files = compile_graph(
            graph,
            mode=mode,
            flash_bytes=part.flash.length,
            regions=part.arena_regions(stack_bytes),
            command=command,
            name=self.name,
        )
        self.firmware = self._build(part, trace=False)
        self._machine: Machine | None = None
        self._is_checked = False
        self._tracer: Machine | None = None
        self._trace: Trace | None = None

    def run(self, image: NDArray[np.int8], *, tensors: bool = False) -> Result:
        """See `base.Program.run`; raises DeviceFault if the program does anything illegal.

        The first picture runs on a machine that checks alignment too, which takes twice as long.
        Tensors come from a second build that reports each row, on another such machine; the
        numbers in the result are always those of the first.
        """
        check_image(self._graph, image)
        run = self._run(image)
        scores = read_scores(self._graph, self._part, run)
        counts = run.counts
        calls = json.loads(self.files["report.json"])["operators"]
        per_op = {call["name"]: counts.operators.get(n, 0) for n, call in enumerate(calls)}
        return Result(
            scores,
            self._tensors(image, scores) if tensors else None,
            counts.total,
            {"": counts.outside, **per_op},
            memory_use(self.firmware.image, run.stack_bytes),
            self.firmware.tools,
            plan_mode(self.files),
        )

    def _run(self, image: NDArray[np.int8]) -> Run:
        if self._machine is None:
            check = not self._is_checked
            self._machine = Machine(self._part, self.firmware.image, check_alignment=check)
        run = self._machine.run({_PICTURE: pixels(image)})
        if not self._is_checked:
            self._machine, self._is_checked = None, True
        return run

    def _build(self, part: Part, trace: bool) -> Firmware:
        sources = {name: data for name, data in self.files.items() if name.endswith((".c", ".h"))}
        return build_firmware(
            {**sources, "firmware_main.c": main_source(self.name)},
            part,
            stack_bytes=self._stack_bytes,
            optimization=self._optimization,
            trace=trace,
        )

    def _tensors(
        self, image: NDArray[np.int8], scores: NDArray[np.int16]
    ) -> dict[str, NDArray[np.int8] | NDArray[np.int16]]:
        machine = self._tracer or self._load_tracer()
        self._trace = Trace(self._graph, self.files, image)
        run = machine.run({_PICTURE: pixels(image)})
        if not np.array_equal(read_scores(self._graph, self._part, run), scores):
            raise MismatchError(
                f"{self._part.name}: the traced build of graph {self._graph.name!r} gives other "
                "scores than the plain one; they have to be equal"
            )
        return self._trace.tensors()

    def _load_tracer(self) -> Machine:
        """The traced build, on a part with twice the flash: its calls may not fit the real one."""
        flash = dataclasses.replace(self._part.flash, length=2 * self._part.flash.length)
        part = dataclasses.replace(self._part, flash=flash)
        image = self._build(part, trace=True).image
        machine = Machine(part, image, check_alignment=True)

        def collect(op: int, row: int, rows: int, address: int) -> None:
            assert self._trace is not None
            op, row, rows = (_signed(number) for number in (op, row, rows))
            data = machine.read(address, self._trace.bytes_of(op, row, rows))
            self._trace.add(op, row, rows, data)

        machine.on_call("etn_trace", collect)
        self._tracer = machine
        return machine


class McuTarget:
    """`part`, emulated, with `stack_bytes` kept free for the stack; `optimization` as in -O2.

    `mode` is that of the memory plan, None for the quickest that fits; `command` goes into the
    generated library's provenance; `name` is the library's, None for the graph's own or, where that
    is taken, another.
    """

    def __init__(
        self,
        part: Part,
        *,
        stack_bytes: int = STACK_BYTES,
        optimization: str = "-O2",
        mode: str | None = None,
        command: str = "",
        name: str | None = None,
    ) -> None:
        self.part, self.name = part, part.name
        self._stack_bytes, self._optimization = stack_bytes, optimization
        self._mode, self._command, self._name = mode, command, name

    def load(self, graph: Graph) -> McuProgram:
        """Compiles and links `graph`; FitError if it exceeds the part's flash or RAM."""
        return McuProgram(
            graph,
            self.part,
            self._stack_bytes,
            self._optimization,
            self._mode,
            self._command,
            self._name,
        )


def _signed(register: int) -> int:
    return register - (1 << 32) if register >= 1 << 31 else register


def read_scores(graph: Graph, part: Part, run: Run) -> NDArray[np.int16]:
    """The scores that firmware for `graph` has written; DeviceFault unless they are all there."""
    count = graph.tensors[graph.outputs[0]].shape[2]
    wanted = f"{_SCORES!r} of {2 * count} bytes, {count} scores of int16, is expected"
    answer = run.written.get(_SCORES)
    if answer is None:
        others = ", ".join(map(repr, run.written)) or "nothing"
        raise DeviceFault(f"{part.name}: the program has ended and written {others}; {wanted}")
    if len(answer) != 2 * count:
        raise DeviceFault(
            f"{part.name}: the program has written {len(answer)} bytes to {_SCORES!r}; {wanted}"
        )
    return np.frombuffer(answer, "<i2").astype(np.int16)


def memory_use(image: Image, stack_bytes: int) -> MemoryUse:
    """Sizes of a linked `image` by its symbols; `stack_bytes` as a run has measured it."""
    marks = image.marks
    data = marks["etn_data_end"] - marks["etn_data_start"]
    flash_end = marks["etn_data_load"] + data
    others = sum(
        marks[f"etn_ram_{number}_end"] - start
        for number in range(1, len(marks))
        if (start := marks.get(f"etn_ram_{number}_start")) is not None
    )
    objects = [s for s in image.symbols if not s.is_function and s.address < flash_end]
    weights = sum(s.size for s in objects if s.name.endswith("_weight"))
    constants = sum(s.size for s in objects if s.name != "vectors") - weights + data
    return MemoryUse(
        weights=weights,
        constants=constants,
        code=image.flash_bytes - weights - constants,
        variables=marks["etn_bss_end"] - marks["etn_data_start"] + others,
        stack=stack_bytes,
        stack_reserved=marks["etn_stack_top"] - marks["etn_stack_bottom"],
    )
