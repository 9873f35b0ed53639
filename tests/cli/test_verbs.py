"""Every verb of the command line does its work and prints what it promises."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import ASSETS, GRAPH, PICTURE, Run

from etinynet.graph import graph_from_bytes, read_graph
from etinynet.target.host import HostProgram

VERBS = (
    *("summary", "import", "train", "quantize", "compile", "flash", "export"),
    *("predict", "evaluate", "run", "profile", "verify", "demo"),
)
PICTURES = sorted(ASSETS.glob("sign-digits-*.jpg"))


def test_help_names_every_verb_and_loads_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['etinynet']\n"
        "from etinynet.cli import main\n"
        "try: main()\n"
        "except SystemExit as leave: assert leave.code == 0\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for verb in VERBS:
        assert f"  {verb} " in shown.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(run: Run, verb: str) -> None:
    shown = run(verb, "--help")
    assert shown.status == 0
    assert f"  etinynet {verb}" in shown.out


def test_summary(run: Run) -> None:
    found = run("summary", "etinynet-1.0", "--json").json()
    assert found["totals"]["macs"] == 113_705_920
    text = run("summary", "etinynet-0.75").out
    assert "680,000" in text
    assert "681,304" in text


def test_predict_reads_a_graph_and_float_weights(run: Run, weights: Path) -> None:
    found = run("predict", "sign-digits", PICTURE, "--json").json()
    assert found["top"][0]["name"] == "5"
    assert found["top"][0]["class"] == 5
    assert 0 < found["top"][0]["score"] <= 1
    both = run("predict", weights, *PICTURES, "--top", 2, "--json").json()
    assert [len(picture["top"]) for picture in both["pictures"]] == [2, 2, 2]
    assert sum(entry["score"] for entry in both["top"]) == pytest.approx(1, abs=1e-5)


def test_plans_are_chosen_and_reported(run: Run, tmp_path: Path) -> None:
    for plan, chosen in ((("--plan", "stream"), "stream"), ((), "fast")):
        found = run("compile", GRAPH, "--target", "host", "-o", tmp_path / "c", *plan, "--json")
        assert found.json()["plan"] == chosen
        report = json.loads((tmp_path / "c" / "report.json").read_text())
        assert report["planned"]["mode"] == chosen
        assert (tmp_path / "c" / "memory.svg").read_text().startswith("<svg ")
    small = run("run", GRAPH, "--on", "stm32f412", PICTURE, "--plan", "stream", "--json").json()
    large = run("run", GRAPH, "--on", "stm32f412", PICTURE, "--plan", "fast", "--json").json()
    assert small["pictures"][0]["scores"] == large["pictures"][0]["scores"]
    assert small["ram_bytes"] < large["ram_bytes"]
    assert small["instructions"] > large["instructions"]


def test_run_gives_the_reference_scores_and_the_costs(run: Run) -> None:
    expected = run("run", "sign-digits", "--on", "reference", PICTURE, "--json").json()
    found = run("run", GRAPH, "--on", "stm32f412", PICTURE, "--json").json()
    assert found["pictures"][0]["scores"] == expected["pictures"][0]["scores"]
    assert found["top"] == expected["top"]
    assert found["instructions"] > 1_000_000
    assert found["flash_bytes"] > 280_600
    assert 35_000 < found["ram_bytes"] < 262_144
    assert sum(found["pictures"][0]["instructions_per_operator"].values()) == found["instructions"]
    assert expected["instructions"] is None


def test_run_splits_the_memory_and_names_the_plan(run: Run) -> None:
    found = run("run", GRAPH, "--on", "stm32f746", PICTURE, "--plan", "stream", "--json").json()
    assert found["plan"] == "stream"
    assert found["memory"]["flash total"] == found["flash_bytes"]
    assert found["memory"]["RAM total"] == found["ram_bytes"]
    per_mac = found["instructions"] / found["macs"]
    assert found["instructions_per_mac"] == pytest.approx(per_mac, abs=1e-4)
    host = run("run", GRAPH, "--on", "host", PICTURE, "--json").json()
    assert (host["plan"], host["memory"], host["instructions_per_mac"]) == ("fast", {}, None)


def test_profile_tells_measured_and_modelled_apart(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "profile.html"
    shown = run("profile", "sign-digits", "--on", "stm32f746", "--html", page)
    assert "modelled for cortex_m7" in shown.out
    found = run("profile", GRAPH, "--on", "stm32f746", "--plan", "fast", "--json").json()
    instructions = [layer["instructions"] for layer in (*found["layers"], found["outside"])]
    assert sum(instructions) == found["instructions"]
    assert f"{found['instructions']:,}" in shown.out
    for entry in (found, *found["layers"], found["outside"]):
        assert not any("cycles" in key or "milliseconds" in key for key in entry)
        assert entry["modelled"]["cycles"] > 0
        milliseconds = entry["modelled"]["cycles"] / 216_000
        assert entry["modelled"]["milliseconds"] == pytest.approx(milliseconds, abs=6e-4)
    text = page.read_text()
    milliseconds = f"{found['modelled']['milliseconds']:.3f}"
    assert f"modelled, not measured: {milliseconds} ms a picture at the part's highest" in shown.out
    assert "216 MHz (voltage scale 1, over-drive on)" in shown.out
    assert f"<b>{milliseconds} ms</b><span>a picture, modelled at 216 MHz" in text
    assert all(f">{layer['name']}<" in text for layer in found["layers"])
    assert found["modelled"]["validation"] in text
    assert not re.search(r"<script|<link|@import|url\(|src=|https?:", text)


def test_profile_is_for_microcontrollers(run: Run) -> None:
    assert "'host' counts no instructions" in run("profile", GRAPH, "--on", "host").refused()
    assert "--plan" in run("profile", GRAPH, "--on", "reference", "--plan", "fast").refused()


def test_verify_passes(run: Run) -> None:
    found = run("verify", GRAPH, "--on", "host", "--data", ASSETS, "-n", 2, "--layers", "--json")
    assert found.json() | {"difference": None} == found.json()
    assert found.json()["equal"] is True
    assert found.json()["n"] == 2


def test_verify_finds_a_difference(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = HostProgram.run

    def wrong(self: HostProgram, image: Any, *, tensors: bool = False) -> Any:
        result = plain(self, image, tensors=tensors)
        scores = result.scores.copy()
        scores[3] += 1
        return dataclasses.replace(result, scores=scores)

    monkeypatch.setattr(HostProgram, "run", wrong)
    found = run("verify", GRAPH, "--on", "host", "--data", ASSETS, "-n", 2)
    assert found.status == 1
    assert "operator 'scores', tensor 'scores' at (0, 0, 3): expected" in found.out


def test_train_quantize_evaluate_compile(run: Run, photos: Path, tmp_path: Path) -> None:
    folder, graph, library = tmp_path / "runs", tmp_path / "side.etn", tmp_path / "side_c"
    trained = run(
        *("train", photos, "-o", folder, "--model", "etinynet-0.25", "--size", 32),
        *("--epochs", 2, "--json"),
    ).json()
    assert trained["epochs"] == 2
    assert Path(trained["weights"]) == folder / "model.safetensors"
    made = run("quantize", trained["weights"], "--calibration", photos, "-o", graph, "--json")
    assert made.json()["bytes"] == graph.stat().st_size
    assert made.json()["pictures"] == 32
    stored = read_graph(graph)
    assert stored.name == "side"
    assert stored.head.class_names == ("left", "right")
    assert stored.metadata["preprocess"]["size"] == 32
    found = run("evaluate", graph, photos, "--json").json()
    assert found["n"] == 40
    assert found["top5"] == 100
    assert found["top1"] == 100 * found["correct1"] / 40
    held_out = run("evaluate", trained["weights"], photos, "--held-out", "--json").json()
    assert held_out["n"] == trained["n"] < 40
    assert held_out["top1"] == pytest.approx(trained["top1"])
    compiled = run("compile", graph, "--target", "stm32h743", "-o", library, "--json").json()
    report = json.loads((library / "report.json").read_text())
    assert report["measured"]["flash_bytes"] == compiled["flash_bytes"]
    assert (library / "side.h").exists()
    assert (library / "firmware" / "side.elf").read_bytes()[:4] == b"\x7fELF"
    assert run("compile", graph, "--target", "stm32h743", "-o", library).status == 0


def test_evaluate_reads_a_table(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "labels.tsv"
    lines = [f"{path.name}\t{path.stem[-1]}" for path in PICTURES]
    table.write_text("\n".join([*lines, ""]))
    found = run("evaluate", "sign-digits", ASSETS, "--labels", table, "--json").json()
    assert (found["top1"], found["n"]) == (100, 3)
    assert (
        run("evaluate", GRAPH, ASSETS, "--labels", table, "--limit", 1, "--json").json()["n"] == 1
    )


def test_import_reads_the_authors_file(run: Run, shared_data: Path, tmp_path: Path) -> None:
    params = next((shared_data / "weights").glob("0.6553*.params"))
    classes = shared_data / "imagenet-sample" / "classes.tsv"
    output = tmp_path / "imagenet.safetensors"
    found = run("import", params, "-o", output, "--classes", classes, "--json").json()
    assert found["known"] is True
    assert found["parameters"] == 963_816
    sample = shared_data / "imagenet-sample" / "images" / "n01440764.jpg"
    assert run("predict", output, sample, "--json").json()["top"][0]["name"] == "tench"


def test_version(run: Run) -> None:
    outcome = run("--version")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == f"etinynet {metadata.version('etinynet')}\n"


def test_demo_agrees(run: Run) -> None:
    found = run("demo", "--json").json()
    assert found["equal"] is True
    assert [row["name"] for row in found["pictures"]] == ["2", "5", "8"]
    assert [row["class"] for row in found["pictures"]] == [2, 5, 8]
    for row in found["pictures"]:
        assert type(row["score"]) is float
        assert row["equal"] == {"reference": True, "host": True, "stm32f746": True}
        assert row["instructions"] > 1_000_000
    assert [type(found[key]) for key in ("flash_bytes", "ram_bytes", "stack_bytes")] == [int] * 3


def test_the_packaged_graph_says_what_made_it() -> None:
    graph = graph_from_bytes(GRAPH.read_bytes(), "packaged")
    assert graph.metadata["provenance"]["command"].startswith("quantize ")
    assert graph.head.class_names == tuple("0123456789")
    assert np.prod(graph.tensors[graph.input].shape) == 96 * 96 * 3
