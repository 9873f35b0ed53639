"""compile: an integer graph becomes a folder of C, for a part with its firmware, measured."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.artefact import Record, check_replaceable, write_directory
from etinynet.backend.c import MODES, compile_graph, package_files, plan_mode
from etinynet.backend.c.names import check_library_name
from etinynet.errors import ConfigError, UnsupportedError
from etinynet.graph import Graph, execute
from etinynet.opened import graph_of, open_graph
from etinynet.show import note
from etinynet.target.base import MemoryUse, Result, get_target
from etinynet.target.link import build_firmware, main_source, project_files
from etinynet.target.mcu import McuProgram, McuTarget
from etinynet.target.parts import get_part
from etinynet.target.stack_bound import StackAnalysis

__all__ = ["compile_to", "demo_picture", "expected_line", "memory_json"]

_RECORD = Record("report.json", "compile")


def memory_json(use: MemoryUse | None) -> dict[str, int]:
    """Bytes of flash and RAM by part, as a run has measured them; empty where it has not."""
    if use is None:
        return {}
    return {
        "flash weights": use.weights,
        "flash constants": use.constants,
        "flash code": use.code,
        "flash total": use.flash,
        "RAM variables and arena": use.variables,
        "RAM stack": use.stack,
        "RAM total": use.ram,
    }


def compile_to(
    model: str, target: str, output: Path, plan: str | None, name: str | None = None
) -> dict[str, Any]:
    """Writes the C library of `model` to folder `output`; returns what it holds and needs.

    `plan` is the mode of the memory plan, None for the quickest that fits; `name` is the library's,
    None for the graph's own.
    For a part the firmware is built too, run once on the test picture to measure its stack, and
    written to `firmware/`. Raises FitError if it does not fit, and then writes nothing.
    """
    if plan is not None and plan not in MODES:
        raise ConfigError(f"--plan is {plan!r}, allowed are {', '.join(MODES)}")
    get_target(target)  # refuses an unknown name before anything is read
    if target == "reference":
        raise UnsupportedError("target 'reference' is not compiled; allowed: host and the parts")
    if name is not None:
        check_library_name(name, "--name")
    check_replaceable("-o", output, _RECORD)
    graph = graph_of(open_graph(model))
    command = f"compile {Path(model).name} --target {target}"
    command += "" if plan is None else f" --plan {plan}"
    command += "" if name is None else f" --name {name}"
    name = graph.name if name is None else name
    if target == "host":
        files = compile_graph(graph, mode=plan, command=command, name=name)
        files |= package_files(graph, files, name)
        write_directory(output, files, _RECORD)
        return {
            "target": target,
            "folder": str(output),
            "files": len(files),
            "plan": plan_mode(files),
        }
    chosen = McuTarget(get_part(target), mode=plan, command=command, name=name)
    with chosen.load(graph) as program:
        result = program.run(demo_picture(graph))
        line = expected_line(graph, target)
        bound = _stack_bound(program)
        files = _with_firmware(program, result, bound, line)
        files |= package_files(graph, files, name)
    write_directory(output, files, _RECORD)
    return {
        "target": target,
        "folder": str(output),
        "files": len(files),
        "plan": plan_mode(files),
        "memory": memory_json(result.memory),
        "flash_bytes": result.flash_bytes,
        "ram_bytes": result.ram_bytes,
        "stack_bound": bound,
        "instructions": result.instructions,
        "tools": result.tools,
        "expected_line": line,
    }


def demo_picture(graph: Graph) -> NDArray[np.int8]:
    """The picture that board_uart.c shows where there is no camera, as input of `graph`."""
    height, width, channels = graph.tensors[graph.input].shape
    row, byte = np.mgrid[:height, : width * channels]
    pixels = ((row * byte >> 4) + 3 * row).astype(np.uint8) ^ np.uint8(128)
    return pixels.view(np.int8).reshape(height, width, channels)


def expected_line(graph: Graph, part: str) -> str:
    """What board_uart.c prints for the test picture, by the reference executor."""
    scores = execute(graph, demo_picture(graph)).astype("<i2").reshape(-1)
    best = int(np.argmax(scores))
    crc = zlib.crc32(scores.tobytes())
    return f"{part}: class {best} of {len(scores)}, score {scores[best]}, checksum {crc:x}"


def _stack_bound(program: McuProgram) -> dict[str, int]:
    """Bytes of stack at most, by the machine code: of the whole program, and of the library without
    `read_row`. Empty, which is said, where the code has no bound.
    """
    try:
        analysis = StackAnalysis(program.firmware.image)
        library = analysis.bound(f"{program.name}_run", lambda called: called.startswith("op_"))
        return {"program": analysis.bound("etn_reset"), "library": library}
    except UnsupportedError as error:
        note(str(error))
        return {}


def _with_firmware(
    program: McuProgram, result: Result, bound: dict[str, int], line: str
) -> dict[str, bytes]:
    """The library's files with the measured report, and the firmware in its own folder."""
    part = program.firmware.part
    files = dict(program.files)
    sources = {name: data for name, data in files.items() if name.endswith((".c", ".h"))}
    sources["firmware_main.c"] = main_source(program.name)
    report = json.loads(files["report.json"])
    report["measured"] = {
        "part": part.name,
        "flash_bytes": result.flash_bytes,
        "ram_bytes": result.ram_bytes,
        "memory": memory_json(result.memory),
        "instructions": result.instructions,
        "tools": result.tools,
    }
    report["stack_bound"] = bound
    report["expected_line"] = line
    files["report.json"] = (json.dumps(report, indent=2) + "\n").encode()
    own = project_files(part, program.name)
    own[f"{program.name}.elf"] = program.firmware.elf
    own[f"{program.name}_uart.elf"] = build_firmware(sources, part, board="uart").elf
    return {**files, **{f"firmware/{name}": data for name, data in own.items()}}
