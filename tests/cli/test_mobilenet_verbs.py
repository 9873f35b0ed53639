"""Every verb on a MobileNet: from photographs to verified firmware."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Run


@pytest.mark.parametrize("name", ["mobilenet-v1-0.25", "mobilenet-v2-0.1"])
def test_from_photographs_to_firmware(run: Run, photos: Path, tmp_path: Path, name: str) -> None:
    weights, graph = tmp_path / "run" / "model.safetensors", tmp_path / "made.etn"
    trained = run(
        *("train", photos, "--model", name, "--size", 32, "--epochs", 1),
        *("-o", tmp_path / "run", "--json"),
    ).json()
    assert trained["n"] == 8
    made = run("quantize", weights, "--calibration", photos, "-o", graph, "--json").json()
    assert made["pictures"] == 32
    verified = run(
        *("verify", graph, "--on", "stm32f746", "--data", photos, "-n", 2, "--layers", "--json")
    ).json()
    assert verified["equal"] is True
    assert run("run", graph, photos / "left" / "0.png", "--on", "host", "--json").status == 0
    compiled = run("compile", graph, "--target", "stm32f412", "-o", tmp_path / "c", "--json")
    assert compiled.status == 0, compiled.err
    assert run("evaluate", weights, photos, "--held-out", "--json").json()["n"] == 8


def test_summary(run: Run) -> None:
    found = run("summary", "mobilenet-v1-0.25", "--json").json()
    assert found["totals"]["macs"] == 41_030_272
    assert found["layers"][1]["name"] == "b0.dw"
    assert "mobilenet-v3" in run("summary", "mobilenet-v3-1.0").refused()


def test_no_student_of_a_mobilenet(run: Run, photos: Path, tmp_path: Path) -> None:
    run("train", photos, "--model", "mobilenet-v1-0.1", "--size", 32, "--epochs", 1, "-o", tmp_path)
    teacher = tmp_path / "model.safetensors"
    student = ("--model", "etinynet-0.25", "--epochs", 1, "-o", tmp_path / "student")
    words = run("train", photos, "--teacher", teacher, *student).refused()
    assert "a mobilenet-v1-0.1; allowed is an EtinyNet" in words
