"""This computer as a target: the generated C, compiled natively, in a process fed with pictures."""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from etinynet.backend.c import compile_graph, plan_mode
from etinynet.backend.c.names import usable_name
from etinynet.errors import DeviceFault
from etinynet.graph.ir import Graph
from etinynet.target.base import Closing, Result, check_image, pixels
from etinynet.target.link import render
from etinynet.target.toolchain import compile_sources, host_compiler, run_tool
from etinynet.target.trace import Trace, row_bytes

__all__ = ["HostProgram", "HostTarget"]

_SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_HEAD = struct.Struct("=4i")
_SCORES = -1
_Rows = Callable[[int, int, int, bytes], None]


class _Runner:
    """One compiled executable and its process; gone with `close` or the object."""

    def __init__(self, files: dict[str, bytes], flags: tuple[str, ...]) -> None:
        compiler = host_compiler(flags)
        self.tools = compiler.describe()
        directory = Path(tempfile.mkdtemp(prefix="etinynet-"))
        try:
            for name, data in files.items():
                (directory / name).write_bytes(data)
            sources = [name for name in files if name.endswith(".c")]
            objects = compile_sources(compiler, sources, directory)
            run_tool(
                (*compiler.command, *compiler.flags, *objects, "-o", "host_program"), directory
            )
            self._complaints = (directory / "complaints").open("w+b")
            self._process = subprocess.Popen(
                [directory / "host_program"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
            )
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self.close = weakref.finalize(self, _end, self._process, self._complaints, directory)

    def run(self, frame: bytes, rows: _Rows) -> NDArray[np.int16]:
        """Scores of one picture; `rows` receives what a traced build reports on the way."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frame)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._fault() from None
        while True:
            op, row, count, size = _HEAD.unpack(self._read(_HEAD.size))
            data = self._read(size)
            if op == _SCORES:
                return np.frombuffer(data, np.int16).copy()
            rows(op, row, count, data)

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) < count:
            raise self._fault()
        return data

    def _fault(self) -> DeviceFault:
        status = self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").splitlines()
        words = next((line.strip() for line in lines if "error" in line.lower()), "no message")
        return DeviceFault(f"host: the program ended with status {status}: {words}")


def _end(process: subprocess.Popen[bytes], complaints: IO[bytes], directory: Path) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, complaints):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
    shutil.rmtree(directory, ignore_errors=True)


class HostProgram(Closing):
    """A graph, compiled for this computer."""

    def __init__(self, graph: Graph, flags: tuple[str, ...], mode: str | None) -> None:
        self._graph, self._flags = graph, flags
        self._name = usable_name(graph)
        self._files = compile_graph(graph, mode=mode, name=self._name)
        self._plan = plan_mode(self._files)
        self._runner = self._build(())
        self._tracer: _Runner | None = None

    def run(self, image: NDArray[np.int8], *, tensors: bool = False) -> Result:
        """See `base.Program.run`; raises DeviceFault if the program ends, as sanitizers make it."""
        check_image(self._graph, image)
        if not tensors:
            scores = self._runner.run(pixels(image), _no_rows)
            return Result(scores, tools=self._runner.tools, plan=self._plan)
        if self._tracer is None:
            self._tracer = self._build(("-DETN_TRACE",))
        trace = Trace(self._graph, self._files, image)
        scores = self._tracer.run(pixels(image), trace.add)
        return Result(scores, trace.tensors(), tools=self._tracer.tools, plan=self._plan)

    def run_many(self, images: Iterable[NDArray[np.int8]]) -> Iterator[NDArray[np.int16]]:
        """Scores of each of `images`, one process for all of them."""
        for image in images:
            yield self.run(image).scores

    def close(self) -> None:
        """Ends the processes; a second call does nothing."""
        for runner in (self._runner, self._tracer):
            if runner is not None:
                runner.close()

    def _build(self, flags: tuple[str, ...]) -> _Runner:
        sources: dict[str, Any] = {
            name: data for name, data in self._files.items() if name.endswith((".c", ".h"))
        }
        sources["host_main.c"] = render(
            "host_main.c.jinja",
            name=self._name,
            prefix=self._name.upper(),
            row_bytes=row_bytes(self._files),
        )
        return _Runner(sources, (*self._flags, *flags))


class HostTarget:
    """This computer, by the compiler that toolchain.host_compiler finds.

    `mode` is that of the memory plan. `sanitize` builds with address and undefined-behaviour
    checks; zig has no address sanitizer, so that ETINYNET_CC must name gcc or clang.
    """

    name = "host"

    def __init__(self, *, sanitize: bool = False, mode: str | None = None) -> None:
        self._flags, self._mode = _SANITIZE if sanitize else (), mode

    def load(self, graph: Graph) -> HostProgram:
        """Compiles `graph`; raises ToolError if the compiler is missing or fails."""
        return HostProgram(graph, self._flags, self._mode)


def _no_rows(op: int, row: int, rows: int, data: bytes) -> None:
    raise AssertionError(f"operator {op} reported rows in a build without trace")
