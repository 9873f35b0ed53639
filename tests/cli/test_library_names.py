"""--name, and what a network is called where a file's name cannot be a library's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from command import GRAPH, PICTURE, Run

from etinynet.graph import read_graph
from etinynet.graph.io import graph_digest, graph_to_bytes

QUICK = ("--method", "lsq", "--pictures", 2)


@pytest.fixture
def named_etn(tmp_path: Path) -> Path:
    """The embedded model under a name that the library's own headers have."""
    path = tmp_path / "taken.etn"
    path.write_bytes(graph_to_bytes(replace(read_graph(GRAPH), name="etn")))
    return path


@pytest.mark.parametrize(
    ("file", "options", "name", "words"),
    [
        ("leaves", (), "leaves", ""),
        ("time", (), "net_time", "the network is called net_time"),
        ("my leaves", (), "my_leaves", "the network is called my_leaves"),
        ("time", ("--name", "leaves"), "leaves", ""),
        ("модель", ("--name", "leaves"), "leaves", ""),
    ],
)
def test_quantize_names_the_graph(
    run: Run,
    weights: Path,
    photos: Path,
    tmp_path: Path,
    file: str,
    options: tuple[str, ...],
    name: str,
    words: str,
) -> None:
    output = tmp_path / f"{file}.etn"
    command = ("quantize", weights, "--calibration", photos, "-o", output, *QUICK, "--json")
    found = run(*command, *options)
    assert found.json()["name"] == name
    assert read_graph(output).name == name
    assert ("the network is called" in found.err) == bool(words)
    assert words in found.err


def test_quantize_refuses_names_before_it_reads_anything(run: Run, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    command = ("quantize", nothing, "--calibration", nothing, "-o")
    words = run(*command, tmp_path / "модель.etn").refused()
    assert "'модель' has letters other than a to z; give the network a name with --name" in words
    words = run(*command, tmp_path / "a.etn", "--name", "stdio").refused()
    assert "--name is 'stdio', which is a header of the system" in words
    words = run(*command, tmp_path / "a", "--analyse", "--name", "leaves").refused()
    assert words.endswith("it takes no --name")


def test_compile_refuses_a_name_that_is_taken(run: Run, named_etn: Path, tmp_path: Path) -> None:
    for target in ("host", "stm32f746"):
        command = ("compile", named_etn, "--target", target, "-o", tmp_path / "c")
        words = run(*command).refused()
        assert "name is 'etn', which belongs to the library's own headers" in words
        assert "(--name)" in words
        assert "--name is 'c', which" in run(*command, "--name", "c").refused()
    assert not (tmp_path / "c").exists()


def test_compile_under_another_name(run: Run, named_etn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    command = ("compile", named_etn, "--target", "host", "--name", "leaves", "-o", folder)
    assert run(*command).status == 0
    assert "int leaves_run(" in (folder / "leaves.h").read_text()
    report = json.loads((folder / "report.json").read_text())
    assert report["name"] == "leaves"
    assert report["graph_sha256"] == graph_digest(read_graph(named_etn))
    assert report["provenance"]["command"].endswith("--target host --name leaves")


@pytest.mark.parametrize("target", ["host", "stm32f746"])
def test_programs_run_whatever_their_graph_is_called(
    run: Run, named_etn: Path, target: str
) -> None:
    found = run("run", named_etn, PICTURE, "--on", target, "--json").json()
    expected = run("run", GRAPH, PICTURE, "--on", target, "--json").json()
    assert found["pictures"][0]["top"] == expected["pictures"][0]["top"]


def test_export_under_another_name(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    assert run("export", GRAPH, "--to", "onnx", "-o", file, "--name", "leaves").status == 0
    assert onnx.load(file).graph.name == "leaves"
    words = run("export", GRAPH, "--to", "onnx", "-o", file, "--name", "a b").refused()
    assert "--name is 'a b', which is not letters" in words
