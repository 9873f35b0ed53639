"""What a training held out is measured, and never calibrated or trained on: wherever it lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from command import Run
from PIL import Image

from etinynet.data.record import HeldOut
from etinynet.graph import read_graph
from etinynet.model.weights import load_weights

TRAIN = ("--model", "etinynet-0.25", "--size", 32, "--epochs", 1)


def make(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Class folders of so many pictures, all different."""
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (36, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def record_of(weights: Path) -> HeldOut:
    data = load_weights(weights).provenance["data"]
    return HeldOut.from_json(data["held_out_pictures"], str(weights))


def test_a_folder_that_has_moved_and_grown(run: Run, tmp_path: Path) -> None:
    folder, moved = make(tmp_path / "photos", {"a": 30, "b": 12}), tmp_path / "moved"
    weights, graph = tmp_path / "run" / "model.safetensors", tmp_path / "made.etn"
    trained = run("train", folder, *TRAIN, "-o", tmp_path / "run", "--json").json()
    assert run("quantize", weights, "--calibration", folder, "-o", graph).status == 0
    make(moved, {"a": 5, "b": 5}, seed=1)
    for path in folder.rglob("*.png"):
        shutil.copy(path, moved / path.parent.name / f"renamed {path.name}")
    for data in (folder, moved):
        found = run("evaluate", weights, data, "--held-out", "--json").json()
        assert (found["n"], found["top1"]) == (trained["n"], pytest.approx(trained["top1"]))
        assert found["per_class"] == trained["per_class"]
        found = run("evaluate", graph, data, "--held-out", "--json").json()
        assert found["n"] == trained["n"]
    others = make(tmp_path / "others", {"a": 3, "b": 3}, seed=2)
    words = run("evaluate", weights, others, "--held-out").refused()
    assert f"none of the {trained['n']} pictures that the training of {weights} held out" in words
    for path in list((moved / "a").glob("renamed*")):
        path.unlink()
    outcome = run("evaluate", weights, moved, "--held-out", "--json")
    here = outcome.json()["n"]
    assert f"{here} of {trained['n']} pictures that training held out are in " in outcome.err


def test_calibration_on_a_folder_of_another_form(run: Run, tmp_path: Path) -> None:
    """One class of it, or all pictures in one folder: no class folders that the model knows."""
    folder, flat = make(tmp_path / "photos", {"a": 20, "b": 20}), tmp_path / "flat"
    weights, graph = tmp_path / "run" / "model.safetensors", tmp_path / "made.etn"
    trained = run("train", folder, *TRAIN, "-o", tmp_path / "run", "--json").json()
    flat.mkdir()
    for number, path in enumerate(folder.rglob("*.png")):
        shutil.copy(path, flat / f"{number}.png")
    record = record_of(weights)
    in_a = sum(record.has(path) for path in (folder / "a").glob("*.png"))
    for calibration, count, held_out in ((flat, 40, trained["n"]), (folder / "a", 20, in_a)):
        made = run("quantize", weights, "--calibration", calibration, "-o", graph, "--json").json()
        assert made["pictures"] == count - held_out
        assert made["passed_over"] == {"held-out pictures": held_out}
    for path in list(flat.iterdir()):
        if not record.has(path):
            path.unlink()
    words = run("quantize", weights, "--calibration", flat, "-o", graph).refused()
    assert f"the training of these weights held out all {trained['n']} pictures" in words


def test_trained_again(run: Run, tmp_path: Path) -> None:
    """Quantized weights that are trained, and a student: neither sees what was held out."""
    folder = make(tmp_path / "photos", {"a": 20, "b": 20})
    weights, graph = tmp_path / "run" / "model.safetensors", tmp_path / "made.etn"
    run("train", folder, *TRAIN, "-o", tmp_path / "run")
    record = record_of(weights)
    data = ("--data", folder / "a", "--data", folder / "b", "--epochs", 1, "--method", "lsq")
    assert run("quantize", weights, "--calibration", folder, "-o", graph, *data).status == 0
    training = read_graph(graph).metadata["training"]
    assert training["held_out_pictures"] == record.to_json()
    assert training["pictures"] == 40 - len(record.marks)
    student = ("--model", "etinynet-0.1", "--epochs", 1, "--teacher", weights)
    taught = run("train", folder, *student, "-o", tmp_path / "student", "--json").json()
    assert record_of(tmp_path / "student" / "model.safetensors") == record
    found = run("evaluate", taught["weights"], folder, "--held-out", "--json").json()
    assert found["n"] == taught["n"] == len(record.marks)
