"""Builds a generated library with the host's compiler and runs it on pictures, with traces."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from etinynet.backend.c import compile_graph, store_rows
from etinynet.graph import Graph
from optional_tools import require

__all__ = ["FLAGS", "HostLibrary", "build"]

FLAGS = (
    "-std=c99",
    "-O0",
    "-g",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Werror",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)

_MAIN = Path(__file__).with_name("host_main.c")


@dataclass(frozen=True)
class HostLibrary:
    """An executable that reads a picture and writes status, scores and trace records."""

    program: Path
    graph: Graph
    report: dict

    def run(
        self, image: NDArray[np.int8], mode: str = "rows", argument: int = 0
    ) -> tuple[int, NDArray[np.int16], dict[str, NDArray[np.int16]]]:
        """Status, scores and all traced tensors by name.

        `mode`: "rows" (callback; aborts with 7 at row `argument` - 1 if that is not 0), "frame",
        "misaligned" (arena moved by `argument` bytes) or "null" (pointer number `argument`).
        """
        pixels = (image.astype(np.int16) + 128).astype(np.uint8).tobytes()
        done = subprocess.run(
            [self.program, mode, str(argument)], input=pixels, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return self._decode(done.stdout)

    def _decode(self, data: bytes) -> tuple[int, NDArray[np.int16], dict[str, NDArray[np.int16]]]:
        layouts = {entry["name"]: entry for entry in self.report["tensors"]}
        tensors: dict[str, NDArray[np.int16]] = {}
        while True:
            kind, row, rows, size = struct.unpack_from("<iiii", data)
            content, data = data[16 : 16 + size], data[16 + size :]
            if kind < 0:
                return row, np.frombuffer(content, np.int16), tensors
            layout = layouts[self.graph.ops[kind].output]
            made = tensors.setdefault(layout["name"], np.zeros(layout["shape"], np.int16))
            store_rows(layout, row, rows, content, made)


def build(
    folder: Path,
    graph: Graph,
    flags: Sequence[str] = (),
    compiler: str | None = None,
    **options: object,
) -> HostLibrary:
    """Compiles the library of `graph`, made with `options`, in `folder`, with its sanitizers."""
    compiler = compiler or require("gcc")
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in compile_graph(graph, **options).items():
        (folder / name).write_bytes(data)
    report = json.loads((folder / "report.json").read_text())
    rows = ", ".join(
        str(entry["row_bytes"])
        for op in graph.ops
        for entry in report["tensors"]
        if entry["name"] == op.output
    )
    upper = graph.name.upper()
    defines = [
        f'-DHEADER="{graph.name}.h"',
        f"-DRUN={graph.name}_run",
        f"-DRUN_FRAME={graph.name}_run_frame",
        f"-DPICTURE_BYTES={int(np.prod(graph.tensors[graph.input].shape))}",
        f"-DROW_PIXELS={int(np.prod(graph.tensors[graph.input].shape[1:]))}",
        f"-DARENA_BYTES={upper}_ARENA_BYTES",
        f"-DSCORES={upper}_SCORES",
        f"-DROW_BYTES={rows}",
    ]
    program = folder / "program"
    sources = [folder / f"{graph.name}.c", folder / f"{graph.name}_weights.c", _MAIN]
    command = [compiler, *FLAGS, "-DETN_TRACE", *flags, *defines, f"-I{folder}", *sources]
    done = subprocess.run([*command, "-o", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return HostLibrary(program, graph, report)
