"""The embedded model's firmware on QEMU beside our emulator: same file, same scores, same counts.

python benchmarks/qemu.py: needs qemu-system-arm with plugins, as Debian's package has them, and
writes results/qemu.csv. QEMU's netduinoplus2 has flash and RAM where the STM32F412 has them and
runs the firmware as it is shipped. Its mps2-an386 and mps2-an500 have RAM at address 0 and no
memory at 0x08000000: for these the same objects are linked with the flash at 0, and our emulator
runs that file too. Nothing in QEMU has the registers of the STM32H743.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import append_rows

from etinynet.backend.c import MODES
from etinynet.data.images import to_input
from etinynet.data.reading import prepared
from etinynet.graph import Graph, execute
from etinynet.opened import graph_of, open_graph
from etinynet.show import print_table
from etinynet.target.base import pixels
from etinynet.target.mcu import McuProgram, McuTarget
from etinynet.target.parts import Part, Region, get_part
from etinynet.target.toolchain import compile_sources, host_compiler, run_tool

__all__ = ["BOARDS", "main"]

_MODEL = "sign-digits"
_SECONDS = 60


@dataclass(frozen=True)
class Board:
    """A machine of QEMU for programs of `part`; `moved`: their flash lies at address 0 there."""

    machine: str
    part: str
    moved: bool


BOARDS = (
    Board("netduinoplus2", "stm32f412", False),
    Board("mps2-an386", "stm32f412", True),
    Board("mps2-an500", "stm32f746", True),
)


def build_plugin(folder: Path) -> Path:
    """Compiles qemu_count.c in `folder`."""
    source = Path(__file__).with_name("qemu_count.c")
    (folder / source.name).write_bytes(source.read_bytes())
    compiler = host_compiler(("-fPIC",))
    objects = compile_sources(compiler, [source.name], folder)
    run_tool((*compiler.command, *compiler.flags, "-shared", *objects, "-o", "count.so"), folder)
    return folder / "count.so"


def run_qemu(
    machine: str, elf: bytes, image: NDArray[np.int8], plugin: Path
) -> tuple[NDArray[np.int16], int]:
    """Scores and executed instructions of the program `elf` for `image`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "firmware.elf").write_bytes(elf)
        (folder / "picture.rgb").write_bytes(pixels(image))
        options = ["-nographic", "-monitor", "none", "-serial", "none"]
        options += ["-semihosting-config", "enable=on,target=native", "-kernel", "firmware.elf"]
        options += ["-plugin", f"{plugin},out=count"]
        command = ["qemu-system-arm", "-M", machine, *options]
        subprocess.run(command, cwd=folder, check=True, timeout=_SECONDS)
        scores = np.frombuffer((folder / "scores.bin").read_bytes(), "<i2")
        return scores.astype(np.int16), int((folder / "count").read_text())


def _part_of(board: Board) -> Part:
    part = get_part(board.part)
    flash = Region("flash", 0, part.flash.length) if board.moved else part.flash
    return dataclasses.replace(part, flash=flash)


def compare(
    board: Board, program: McuProgram, graph: Graph, image: NDArray[np.int8], plugin: Path
) -> dict[str, Any]:
    """What QEMU and our emulator say of one picture."""
    result = program.run(image)
    scores, count = run_qemu(board.machine, program.firmware.elf, image, plugin)
    expected = execute(graph, image).reshape(-1)
    return {
        "scores_of_qemu_equal": np.array_equal(scores, expected),
        "scores_of_emulator_equal": np.array_equal(result.scores, expected),
        "instructions_of_qemu": count,
        "instructions_of_emulator": result.instructions,
        "equal": count == result.instructions and np.array_equal(scores, result.scores),
    }


def measure(plugin: Path) -> Iterator[dict[str, Any]]:
    """A row for each board, plan and embedded picture."""
    version = subprocess.run(
        ["qemu-system-arm", "--version"], capture_output=True, text=True, check=True
    ).stdout
    opened = open_graph(_MODEL)
    graph = graph_of(opened)
    with resources.as_file(resources.files("etinynet") / "assets") as folder:
        paths = sorted(Path(folder).glob(f"{_MODEL}-*.jpg"))
        images = [to_input(picture) for picture in prepared(paths, opened.preprocess)]
    for board in BOARDS:
        for plan in MODES:
            with McuTarget(_part_of(board), mode=plan).load(graph) as program:
                for path, image in zip(paths, images, strict=True):
                    yield {
                        "qemu": re.findall(r"version (\S+)", version)[0],
                        "machine": board.machine,
                        "part": board.part,
                        "flash_at": f"{program.firmware.part.flash.origin:#010x}",
                        "plan": plan,
                        "picture": path.name,
                        **compare(board, program, graph, image, plugin),
                        "tools": program.firmware.tools,
                    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    if shutil.which("qemu-system-arm") is None:
        raise SystemExit("qemu-system-arm is not on the path")
    with tempfile.TemporaryDirectory() as name:
        rows = list(measure(build_plugin(Path(name))))
    append_rows("qemu", rows)
    shown = [key for key in rows[0] if key not in ("qemu", "tools")]
    print_table(shown, [[row[key] for key in shown] for row in rows])
    if not all(row["equal"] for row in rows):
        raise SystemExit("QEMU and the emulator differ")


if __name__ == "__main__":
    main()
