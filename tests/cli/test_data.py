"""Folders as people have them, through the verbs: the split, what is left out, what is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command import GRAPH, PICTURE, Run

from etinynet.commands.closing import closing_lines
from etinynet.data.recall import Recalls
from etinynet.model.weights import load_weights

TRAIN = ("--model", "etinynet-0.25", "--size", 32, "--epochs", 1)


def messy(photos: Path, folder: Path) -> Path:
    """`photos` as a Mac and a phone leave them, one of 40 damaged."""
    shutil.copytree(photos, folder)
    for name in ("left", "right"):
        (folder / name / "._0.png").write_bytes(b"\x00\x05\x16\x07")
        (folder / name / "IMG_1.HEIC").touch()
    (folder / "left" / "roll").mkdir()
    (folder / "left" / "1.png").rename(folder / "left" / "roll" / "1.jpe")
    whole = (folder / "right" / "2.png").read_bytes()
    (folder / "right" / "2.png").write_bytes(whole[: len(whole) // 2])
    return folder


def test_a_messy_folder_through_every_verb(run: Run, photos: Path, tmp_path: Path) -> None:
    folder = messy(photos, tmp_path / "photos")
    passed_over = {"hidden": 2, ".heic": 2}
    trained = run("train", folder, "-o", tmp_path / "run", *TRAIN, "--json")
    assert "39 pictures of 2 classes; passed over: 2 .heic, 2 hidden; convert" in trained.err
    assert "left out as damaged, 1: " in trained.err
    made = trained.json()
    assert made["passed_over"] == passed_over
    weights, graph = Path(made["weights"]), tmp_path / "side.etn"
    assert load_weights(weights).provenance["data"]["split"] == "by-class"
    quantized = run("quantize", weights, "--calibration", folder, "-o", graph, "--json")
    assert "held-out pictures" in quantized.err
    held_out = quantized.json()["passed_over"].pop("held-out pictures")
    for model in (weights, graph):
        every = run("evaluate", model, folder, "--json").json()
        assert every["n"] == 39
        assert every["classes"] == 2
        assert every["passed_over"] == passed_over
        assert [Path(one["picture"]).name for one in every["left_out"]] == ["2.png"]
        rest = run("evaluate", model, folder, "--held-out", "--json").json()
        assert rest["n"] == made["n"]
        assert rest["n"] <= held_out <= rest["n"] + 1
        assert rest["per_class"] == made["per_class"] or model == graph
    verified = run("verify", graph, "--on", "host", "--data", folder, "-n", 40, "--json").json()
    assert verified["n"] == 39
    assert verified["passed_over"] == passed_over
    damaged = folder / "right" / "2.png"
    assert f"{damaged}: " in run("predict", graph, damaged).refused()


def test_a_limit_is_of_all_classes(run: Run, weights: Path, photos: Path) -> None:
    found = run("evaluate", weights, photos, "--limit", 20, "--json").json()
    assert found["n"] == 20
    assert all(5 <= one["n"] <= 15 for one in found["per_class"])
    assert run("evaluate", weights, photos, "--limit", 20, "--json").json() == found


def test_train_and_val_folders(run: Run, photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(photos, data / "train")
    for name in ("left", "right"):
        (data / "val" / name).mkdir(parents=True)
        for number in range(3):
            (data / "train" / name / f"{number}.png").rename(data / "val" / name / f"{number}.png")
    trained = run("train", data, "-o", tmp_path / "run", *TRAIN, "--json").json()
    assert trained["n"] == 6
    weights, graph = Path(trained["weights"]), tmp_path / "side.etn"
    quantized = run("quantize", weights, "--calibration", data, "-o", graph, "--json").json()
    assert quantized["pictures"] == 34
    for model in (weights, graph):
        assert run("evaluate", model, data, "--held-out", "--json").json()["n"] == 6
        assert run("evaluate", model, data / "val", "--json").json()["n"] == 6
        assert run("evaluate", model, photos, "--held-out", "--json").json()["n"] == 6


def test_packaged_figure_keeps_its_split(run: Run, shared_data: Path) -> None:
    """The packaged weights record no rule: theirs is by name, and holds out 420."""
    found = run(
        "evaluate", "sign-digits", shared_data / "sign-digits", "--held-out", "--json"
    ).json()
    assert found["n"] == 420
    assert found["top1"] == pytest.approx(99.05, abs=0.01)


def test_heic_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.HEIC"
    path.touch()
    assert "convert them to JPEG, for instance by 'magick" in run("predict", GRAPH, path).refused()


def test_a_few_damaged_ones_of_many(run: Run, tmp_path: Path) -> None:
    pictures = []
    for number in range(20):
        pictures.append(tmp_path / f"{number}.jpg")
        shutil.copy(PICTURE, pictures[-1])
    pictures[4].write_bytes(b"no picture")
    found = run("predict", GRAPH, *pictures, "--json")
    assert "left out as damaged, 1: " in found.err
    rows = json.loads(found.out)["pictures"]
    assert [row["picture"] for row in rows] == [str(p) for p in pictures if p != pictures[4]]
    pictures[9].write_bytes(b"no picture")
    words = run("predict", GRAPH, *pictures).refused()
    assert "2 of 20 pictures cannot be read, and at most 5% are left out" in words
    assert "4.jpg: not a picture" in words
    assert "9.jpg: not a picture" in words


def test_closing_lines() -> None:
    recalls = Recalls(("cat", "dog", "elk"))
    for label, right, wrong in ((0, 300, 0), (1, 0, 3)):
        for correct in (True,) * right + (False,) * wrong:
            recalls.add(label, correct)
    assert closing_lines(recalls.to_json()) == [
        "balanced accuracy 50.00 %, each class counting alike: dog has 3, cat 300 pictures",
        "fewest correct: dog 0 of 3, cat 300 of 300",
        "not measured, for want of pictures: 1 class: elk",
    ]
