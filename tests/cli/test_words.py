"""What reaches the terminal: plain text whatever files are called, and one line an error."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command import ASSETS, GRAPH, PICTURE, Run
from PIL import Image

from etinynet.errors import FitError
from etinynet.model.config import etinynet as config_of
from etinynet.model.etinynet import EtinyNet
from etinynet.model.weights import save_weights
from etinynet.show import print_table

CODE = "from etinynet.cli import main; main()"
LONG = 300 * "a"


def process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`etinynet arguments...` as a process of its own, every warning an error."""
    words = [os.fsencode(str(argument)) for argument in arguments]
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE, *words],
        capture_output=True,
        env={**os.environ, **environment},
    )


def test_as_a_process() -> None:
    found = process("predict", "sign-digits", PICTURE, "--json")
    assert (found.returncode, found.stderr) == (0, b"")
    assert json.loads(found.stdout)["top"][0]["name"] == "5"
    refused = process("predict", "sign-digits", "nothing.jpg")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert refused.stderr.startswith(b"etinynet: nothing.jpg: cannot read this picture: ")
    assert refused.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[31m\a.jpg", r"a\u001b[31m\u0007.jpg"),
        ("[red]a.jpg", "[red]a.jpg"),
        (":smile:.jpg", ":smile:.jpg"),
        ("\x9b\u202e.jpg", r"\u009b\u202e.jpg"),
        ("\udcff.jpg", r"\udcff.jpg"),
        (" b" * 90 + ".jpg", "b b b b b"),
    ],
    ids=["escape", "markup", "emoji", "invisible", "not-utf-8", "long"],
)
def test_names_are_shown_and_not_obeyed(run: Run, tmp_path: Path, name: str, shown: str) -> None:
    path = tmp_path / name
    absent = run("predict", GRAPH, path)
    assert shown in absent.refused()
    assert absent.err.count("\n") == 1
    shutil.copy(PICTURE, path)
    text = run("predict", GRAPH, path)
    assert text.status == 0
    assert shown in text.out
    assert text.out.replace("\n", "").isprintable()
    assert run("predict", GRAPH, path, "--json").json()["pictures"][0]["picture"] == str(path)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_name_on_any_terminal(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "b\xe9\u732b\udcff.jpg"
    shutil.copy(PICTURE, path)
    found = process("predict", GRAPH, path, "--json", PYTHONIOENCODING=encoding)
    assert found.stderr == b""
    assert json.loads(found.stdout)["pictures"][0]["picture"] == str(path)
    text = process("predict", GRAPH, path, PYTHONIOENCODING=encoding)
    assert (text.returncode, text.stderr) == (0, b"")
    assert rb"\udcff.jpg" in text.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", GRAPH, LONG),
        ("predict", f"{LONG}.etn", PICTURE),
        ("predict", f"{LONG}.safetensors", PICTURE),
        ("import", f"{LONG}.params", "-o", "out.safetensors"),
        ("compile", GRAPH, "--target", "host", "-o", LONG),
        ("verify", GRAPH, "--on", "reference", "--data", LONG),
        ("evaluate", GRAPH, LONG),
        ("evaluate", GRAPH, ASSETS, "--labels", LONG),
        ("evaluate", GRAPH, ASSETS, "--labels", "table.tsv"),
        ("train", LONG, "-o", "out"),
    ],
    ids=lambda arguments: " ".join(str(a)[:9] for a in arguments),
)
def test_names_too_long_for_a_file(
    run: Run, arguments: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.tsv").write_text(f"{LONG}.jpg\t0\n")
    outcome = run(*arguments)
    assert LONG in outcome.refused()
    assert outcome.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["table.tsv"]


def test_one_line_also_after_progress(run: Run, tmp_path: Path, weights: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "bad.png").write_bytes(b"no picture")
    calls = (
        ("verify", GRAPH, "--on", "reference", "--data", tmp_path),
        ("train", tmp_path, "-o", tmp_path / "runs"),
    )
    for call in calls:
        outcome = run(*call)
        outcome.refused()
        assert outcome.err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "bad.png"]
    silent = run("verify", GRAPH, "--on", "reference", "--data", ASSETS, "-n", 1)
    assert silent.err == "1 picture compared; passed over: 1 .etn, 1 .md, 1 others\n"


def test_a_folder_unlike_the_models_classes(run: Run, tmp_path: Path) -> None:
    for name in ("2", "5"):
        (tmp_path / name).mkdir()
        shutil.copy(PICTURE, tmp_path / name)
    found = run("evaluate", "sign-digits", tmp_path, "--json").json()
    rows = {row["name"]: row["recall"] for row in found["per_class"] if row["n"]}
    assert rows == {"2": 0, "5": 100}
    (tmp_path / "2").rename(tmp_path / "two")
    words = run("evaluate", "sign-digits", tmp_path).refused()
    assert "class folder 'two' is unknown; sign-digits knows 0, 1, 2" in words


def test_a_long_thin_picture(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "thin.png"
    Image.fromarray(np.full((1, 20_000, 3), 7, np.uint8)).save(path)
    assert len(run("predict", GRAPH, path, "--json").json()["top"]) == 5


def test_scores_that_overflow(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = EtinyNet(config_of(0.03, classes=2, size=32)).eval()
    model.stem.norm.weight.data *= 3e38
    path = tmp_path / "large.safetensors"
    save_weights(path, model, provenance={"command": "test"})
    assert "a score is not finite" in run("predict", path, PICTURE).refused()


def test_without_torch(run: Run, monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (
        ("train", ASSETS, "-o", "runs"),
        ("quantize", weights, "--calibration", ASSETS, "-o", "a.etn"),
    ):
        words = run(*call).refused()
        assert words == (
            "etinynet: package 'torch', PyTorch, is not installed; in the clone of etinynet run "
            "pip install -e '.[train]'"
        )
    assert run("predict", GRAPH, PICTURE).status == 0


def test_sizes_of_what_does_not_fit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **others: object) -> None:
        raise FitError("large: takes 2 bytes,\nthe part's flash has 1")

    monkeypatch.setattr("etinynet.target.mcu.McuTarget.load", refuse)
    outcome = run("run", GRAPH, "--on", "stm32f746", PICTURE)
    assert outcome.refused() == "etinynet: large: takes 2 bytes, the part's flash has 1"


def test_interrupted_in_one_line(tmp_path: Path) -> None:
    """A real ^C while a command waits for its input."""
    pipe = tmp_path / "slow.etn"
    os.mkfifo(pipe)
    started = subprocess.Popen(
        [sys.executable, "-c", CODE, "predict", pipe, PICTURE],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A shell lets its background commands ignore ^C, and what they start inherits it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with pipe.open("wb") as writer:  # opens when the command does
        writer.flush()
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=30)
    assert started.returncode == 130
    assert (out, err) == (b"", b"etinynet: interrupted\n")


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_reader_that_stops_reading(options: tuple[str, ...]) -> None:
    """`etinynet summary ... | head`: nothing on stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    found = subprocess.run(
        [sys.executable, "-c", CODE, "summary", "etinynet-1.0", *options],
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    assert (found.returncode, found.stderr) == (1, b"")


def test_no_number_of_a_table_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    row = [f"column {number}" for number in range(14)]
    print_table(row, [[10**12 + number for number in range(14)], [60 * "n", *13 * [1]]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split() == [f"{10**12 + number:,}" for number in range(14)]
    assert "…" not in "".join(lines)
