"""Files and folders of any name: not UTF-8, with control characters, very long; every verb."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from command import GRAPH, PICTURE, Run

from etinynet.graph import read_graph
from etinynet.model.weights import load_weights

#: A byte that is no UTF-8, an escape sequence, a control character, a right-to-left mark, a line.
NAME = os.fsdecode(b"m\xff\x1b[31m\xc2\x9b\xe2\x80\xae\xe2\x80\xa8")
SHOWN = r"m\udcff\u001b[31m\u009b\u202e\u2028"


@pytest.fixture
def folder(tmp_path: Path, weights: Path, photos: Path) -> Path:
    """Of that name, and so is all in it."""
    path = tmp_path / NAME
    path.mkdir()
    shutil.copy(GRAPH, path / f"{NAME}.etn")
    shutil.copy(weights, path / f"{NAME}.safetensors")
    for side in ("left", "right"):
        (path / "photos" / f"{side}{NAME}").mkdir(parents=True)
        for picture in (photos / side).iterdir():
            shutil.copy(picture, path / "photos" / f"{side}{NAME}" / f"{NAME}{picture.name}")
    return path


def plain(outcome: object) -> None:
    """Nothing of the names as it is in what was printed."""
    for text in (outcome.out, outcome.err):
        assert text.replace("\n", "").isprintable(), text


def text_files(folder: Path) -> dict[str, str]:
    kinds = (".c", ".h", ".json", ".csv", ".txt", ".svg", ".html")
    files = (path for path in folder.rglob("*") if path.suffix in kinds)
    return {path.name: path.read_text(encoding="utf-8") for path in files}


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_graphs(
    run: Run, folder: Path, tool: Callable[[str], str], options: tuple[str, ...]
) -> None:
    graph, made = folder / f"{NAME}.etn", folder / "made"
    calls = (
        ("compile", graph, "--target", "host", "-o", made / "c"),
        ("export", graph, "--to", "onnx", "-o", folder / "made.onnx"),
        ("profile", graph, "--on", "stm32f412", "--html", folder / "made.html"),
        ("run", graph, "--on", "reference", PICTURE),
    )
    for call in calls:
        outcome = run(*call, *options)
        assert outcome.status == 0, outcome.err
        plain(outcome)
    for name, text in text_files(folder).items():
        assert text.replace("\n", "").isprintable(), name
    source = next((made / "c").glob("*_weights.c"))
    assert f"Command: compile {SHOWN}.etn --target host\n" in source.read_text()
    report = json.loads((made / "c" / "report.json").read_text())
    assert report["provenance"]["command"] == f"compile {SHOWN}.etn --target host"
    strict = (tool("gcc"), "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only")
    subprocess.run([*strict, source], check=True)
    model = onnx.load(folder / "made.onnx")
    properties = {one.key: json.loads(one.value) for one in model.metadata_props}
    assert properties["provenance"]["command"] == f"export {SHOWN}.etn --to onnx"


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_weights_and_pictures(run: Run, folder: Path, options: tuple[str, ...]) -> None:
    pictures, trained = folder / "photos", folder / f"{NAME}-runs"
    start = ("train", pictures, "-o", trained, "--size", 32, "--epochs", 1)
    quantize = ("quantize", trained / "model.safetensors", "--calibration", pictures, "-o")
    graph = folder / f"made{NAME}.etn"
    calls = (
        (*start, "--model", "etinynet-0.1"),
        (*quantize, graph),
        ("evaluate", graph, pictures),
        ("verify", graph, "--on", "host", "--data", pictures, "-n", 2),
        ("predict", graph, next(pictures.rglob("*.png"))),
        ("export", graph, "--to", "onnx", "-o", folder / "made.onnx"),
    )
    for call in calls:
        outcome = run(*call, *options)
        assert outcome.status == 0, outcome.err
        plain(outcome)
    names = (f"left{NAME}", f"right{NAME}")
    assert load_weights(trained / "model.safetensors").class_names == names
    assert read_graph(graph).head.class_names == names
    model = onnx.load(folder / "made.onnx")
    shown = {one.key: json.loads(one.value) for one in model.metadata_props}["class_names"]
    assert [name[:10] for name in shown] == [r"leftm\udcf", r"rightm\udc"]


def test_errors(run: Run, folder: Path) -> None:
    weights = folder / f"{NAME}.safetensors"
    for call in (
        ("import", folder / f"{NAME}.etn", "-o", folder / "x"),
        ("predict", weights, folder / NAME),
        ("quantize", weights, "--calibration", folder / NAME, "-o", folder / "x.etn"),
        ("train", folder / NAME, "-o", folder / "x"),
        ("summary", NAME),
        ("nonsense" + NAME,),
    ):
        outcome = run(*call)
        outcome.refused()
        plain(outcome)
        assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("name", [150 * "y", 60 * "猫", 40 * "\x1b"], ids=["y", "wide", "escapes"])
def test_a_long_name_leaves_the_numbers_whole(run: Run, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.jpg"
    shutil.copy(PICTURE, path)
    lines = run("predict", GRAPH, path).out.splitlines()
    assert lines[0].rstrip().endswith(".jpg   score")
    assert lines[0].startswith(str(tmp_path)[:20])
    for line in lines[1:]:
        assert re.search(r" 0\.\d{4}$", line), line
