"""MISRA C:2012 by cppcheck: no mandatory rule is broken, and every deviation is documented."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from etinynet.backend.c import compile_graph
from etinynet.graph import Classification
from etinynet.graph.ops import OPS
from graph_cases import random_graph

Tool = Callable[[str], str]
DOCUMENT = Path(__file__).parents[2] / "docs" / "certification.md"
MANDATORY = {
    *("9.1", "12.5", "13.6", "17.3", "17.4", "17.6", "19.1", "21.13", "21.17", "21.18", "21.19"),
    *("21.20", "22.2", "22.4", "22.5", "22.6"),
}


def documented() -> set[str]:
    rows = re.findall(
        r"^\| (\d+\.\d+) \| (advisory|required) \| \S", DOCUMENT.read_text(), flags=re.M
    )
    assert len(rows) == len(dict(rows)) > 20
    return set(dict(rows))


def test_deviations_are_documented_and_none_is_mandatory(tmp_path: Path, tool: Tool) -> None:
    graph = random_graph(np.random.default_rng(0))
    classes = graph.tensors[graph.outputs[0]].shape[2]
    names = tuple(f"class {i}" for i in range(classes))
    graph = replace(graph, head=Classification(names))
    for name, data in compile_graph(graph, mode="stream").items():
        (tmp_path / name).write_bytes(data)
    kernels = sorted(path.name for path in tmp_path.glob("etn_*.h") if "_dsp" not in path.name)
    assert {f"etn_{kind}.h" for kind in OPS} <= set(kernels)
    includes = "\n".join(f'#include "{name}"' for name in kernels if name != "etn_schedule.h")
    (tmp_path / "kernels.c").write_text(f"{includes}\n")
    command = [
        tool("cppcheck"),
        "--addon=misra",
        "--std=c99",
        "--platform=unix32",
        "--quiet",
        "-I.",
    ]
    sources = ("net.c", "net_classes.c", "net_weights.c", "kernels.c")
    found = subprocess.run(
        [*command, "--template={id} {file}:{line}", *sources],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    rules = set(re.findall(r"^misra-c2012-(\d+\.\d+) ", found, flags=re.M))
    assert "11.5" in rules, "the checker has run"
    assert rules & MANDATORY == set()
    assert sorted(rules - documented()) == [], found
    version = subprocess.run(["cppcheck", "--version"], capture_output=True, text=True, check=True)
    if version.stdout.split() == ["Cppcheck", "2.10"]:  # the one that the document names
        assert sorted(documented() - rules) == []
