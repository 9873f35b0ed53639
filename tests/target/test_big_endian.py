"""Big-endian cores get the portable form, whatever instructions they have, and the same scores."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from etinynet.backend.c import compile_graph
from etinynet.graph import execute
from etinynet.target.toolchain import host_compiler
from graph_cases import inverted_graph, random_graph, random_image

Tool = Callable[[str], str]

#: Of each machine: zig's target and core, and QEMU's command.
MACHINES = {
    "arm": ("armeb-linux-musleabi", "cortex_r5", "qemu-armeb-static"),
    "s390x": ("s390x-linux-musl", "baseline", "qemu-s390x-static"),
}
MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "etn_types.h"
#include "net.h"
#if ETN_DSP
#error "the DSP form"
#endif
static uint8_t frame[NET_INPUT_HEIGHT][NET_INPUT_WIDTH][NET_INPUT_CHANNELS];
static int16_t scores[NET_SCORES];
int main(void)
{
    void *arena = malloc(NET_ARENA_BYTES);
    if (fread(frame, sizeof frame, 1, stdin) != 1) {
        return 1;
    }
    if (net_run_frame(arena, frame[0][0], scores) != 0) {
        return 2;
    }
    for (int i = 0; i < NET_SCORES; i++) {
        printf("%d\\n", scores[i]);
    }
    return 0;
}
"""


def _compile(folder: Path, target: str, cpu: str, *extra: str) -> None:
    command = (*host_compiler().command, "-target", target, f"-mcpu={cpu}", "-static")
    flags = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", *extra)
    sources = ("net.c", "net_weights.c", "main.c")
    done = subprocess.run(
        (*command, *flags, *sources, "-o", "program"), cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("seed", [0, 100])
@pytest.mark.parametrize("machine", MACHINES)
def test_scores_equal_the_reference(
    tmp_path: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch, machine: str, seed: int
) -> None:
    target, cpu, emulator = MACHINES[machine]
    emulator = tool(emulator)
    monkeypatch.delenv("ETINYNET_CC", raising=False)
    rng = np.random.default_rng(seed)
    graph = random_graph(rng) if seed < 100 else inverted_graph(rng)
    image = random_image(rng, graph)
    for name, data in compile_graph(graph, mode="stream").items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "main.c").write_text(MAIN)
    _compile(tmp_path, target, cpu, *(("-DETN_EMULATE_DSP",) if seed else ()))
    picture = (image.view(np.uint8) ^ 0x80).tobytes()
    done = subprocess.run(
        [emulator, tmp_path / "program"], input=picture, capture_output=True, check=True
    )
    assert [int(line) for line in done.stdout.split()] == execute(graph, image).tolist()


def test_the_arm_core_has_dsp_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETINYNET_CC", raising=False)
    target, cpu, _ = MACHINES["arm"]
    (tmp_path / "empty.c").write_text("")
    command = (*host_compiler().command, "-target", target, f"-mcpu={cpu}", "-dM", "-E", "empty.c")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert b"#define __ARM_FEATURE_DSP 1" in done.stdout
    assert b"#define __ARM_BIG_ENDIAN 1" in done.stdout
