"""Outputs: refused before any work where they cannot be, and never over what is the user's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import GRAPH, Run

#: Of each verb that writes: its call less the output, the output's option, a good name.
VERBS = {
    "import": (("import", "a.params"), "-o", "made.safetensors"),
    "train": (("train", "photos"), "-o", "made"),
    "teach": (("train", "photos", "--teacher", "imagenet"), "-o", "made"),
    "quantize": (("quantize", "a.safetensors", "--calibration", "photos"), "-o", "made.etn"),
    "analyse": (("quantize", "a", "--analyse", "--calibration", "photos"), "-o", "made"),
    "compile": (("compile", GRAPH, "--target", "stm32f746"), "-o", "made"),
    "export": (("export", GRAPH, "--to", "onnx"), "-o", "made.onnx"),
    "profile": (("profile", GRAPH, "--on", "stm32f746"), "--html", "made.html"),
}
WORK = (
    *("artefact.content.read_file", "commands.network.read_file", "commands.training.list_folder"),
    *("commands.training.open_float", "commands.quantizing.open_float"),
    *("commands.analysing.open_float", "commands.building.open_graph"),
    *("commands.exporting.open_graph", "commands.profiling.open_graph"),
)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder to be in; all that reads an input fails the test."""

    def work(*arguments: object, **others: object) -> None:
        raise AssertionError("work before the output was checked")

    for name in WORK:
        monkeypatch.setattr(f"etinynet.{name}", work)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
def test_refused_before_any_work(run: Run, idle: Path, verb: str) -> None:
    call, option, name = VERBS[verb]
    (idle / "taken").write_text("mine")
    words = run(*call, option, f"taken/{name}").refused()
    assert f"{option} is 'taken/{name}', " in words
    assert f"{str(idle / 'taken')!r} is not a folder; allowed is a " in words
    (idle / name).mkdir() if "." in name else (idle / name).write_text("mine")
    words = run(*call, option, name).refused()
    assert f"{option} is {name!r}, a f" in words
    assert "; allowed is " in words
    assert sorted(path.name for path in idle.rglob("*")) == sorted(("taken", name))


@pytest.mark.parametrize("verb", [verb for verb, call in VERBS.items() if "." in call[2]])
def test_a_name_for_another_kind_of_file(run: Run, idle: Path, verb: str) -> None:
    """Above all, not the name of the input."""
    call, option, name = VERBS[verb]
    words = run(*call, option, "mine.params").refused()
    assert f"{option} is 'mine.params'; allowed is a name that ends in {Path(name).suffix}" in words
    assert list(idle.iterdir()) == []


@pytest.mark.parametrize("verb", ["compile", "analyse"])
def test_folders_with_work_of_the_user(run: Run, idle: Path, verb: str) -> None:
    call, option, name = VERBS[verb]
    (idle / name).mkdir()
    (idle / name / "thesis.txt").write_text("mine")
    assert "made: thesis.txt was not among what" in run(*call, option, name).refused()
    assert (idle / name / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("verb", ["train", "teach", "quantize"])
def test_folders_with_a_run(run: Run, idle: Path, verb: str) -> None:
    call, option, name = VERBS[verb]
    folder = idle / name
    if verb == "quantize":
        call = (*call, "--data", "photos")
        folder = Path(f"{folder}.training") / "quantized"
    assert "holds no run to resume" in run(*call, option, name, "--resume").refused()
    folder.mkdir(parents=True)
    (folder / "last.safetensors").write_bytes(b"")
    assert "holds a run already (last.safetensors)" in run(*call, option, name).refused()


def test_folders_are_made(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "made.onnx"
    assert run("export", GRAPH, "--to", "onnx", "-o", path).status == 0
    assert path.stat().st_size > 100_000


def test_compiled_for_another_part(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own files give way, from inside the folder too; an edited one never."""
    output = tmp_path / "made"
    for target in ("host", "stm32f746", "stm32f412"):
        assert run("compile", GRAPH, "--target", target, "-o", output).status == 0
        report = json.loads((output / "report.json").read_text())
        assert report.get("measured", {"part": "host"})["part"] == target
    monkeypatch.chdir(output)
    assert run("compile", GRAPH, "--target", "host", "-o", ".").status == 0
    report = json.loads((output / "report.json").read_text())
    present = {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}
    assert present == {*report["files"], "report.json"}
    assert Path.cwd() == output
    assert run("compile", GRAPH, "--target", "stm32f412", "-o", output).status == 0
    edited = output / "firmware" / "board_registers.h"
    edited.write_text(edited.read_text().replace("16000000", "100000000"))
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    words = run("compile", GRAPH, "--target", "stm32f412", "-o", output).refused()
    assert "firmware/board_registers.h was edited after compile wrote it: move it or name" in words
    assert before == {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_compile_killed(tmp_path: Path) -> None:
    """Kills of the whole process while it writes; the next one finds nothing to complain of."""
    output = tmp_path / "made"
    code = "from etinynet.cli import main; main()"
    call = [sys.executable, "-c", code, "compile", GRAPH, "--target", "host", "-o", output]
    assert subprocess.run(call, capture_output=True, check=False).returncode == 0
    files = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    for number in range(2):
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        known = set(tmp_path.iterdir())
        while process.poll() is None and set(tmp_path.iterdir()) <= known:
            pass  # until it has made its temporary folder
        time.sleep(0.05 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert {p: p.read_bytes() for p in output.rglob("*") if p.is_file()} == files
    assert subprocess.run(call, capture_output=True, check=False).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
