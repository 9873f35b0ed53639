"""export writes a model that ONNX Runtime opens; what it cannot do is said in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
from command import GRAPH, Run

from etinynet.extras import not_installed


def test_export(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "signs.onnx"
    found = run("export", "sign-digits", "--to", "onnx", "-o", path, "--json").json()
    sums = found.pop("inexact_layers")
    assert {"b13.pw", "scores"} <= set(sums)
    assert "stem" not in sums
    assert all(most > 2**24 for most in sums.values())
    assert found == {
        "model": "sign-digits",
        "to": "onnx",
        "file": str(path),
        "bytes": path.stat().st_size,
        "opset": 21,
    }
    model = onnx.load(path)
    properties = {one.key: json.loads(one.value) for one in model.metadata_props}
    assert properties["class_names"] == [str(digit) for digit in range(10)]
    assert properties["provenance"]["command"] == "export sign-digits --to onnx"
    runtime = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert runtime.get_inputs()[0].shape == ["batch", 3, 96, 96]
    assert runtime.get_outputs()[0].shape == ["batch", 10]
    done = run("export", GRAPH, "--to", "onnx", "-o", path)
    assert "bytes, opset 21 -> " in done.out
    words = f"sums of {len(sums)} layers may exceed 2^24, up to which float32 is exact"
    assert f"{words} (the largest: scores, {sums['scores']:,})" in done.err


def test_refusals(run: Run, tmp_path: Path, weights: Path) -> None:
    path = tmp_path / "a.onnx"
    for model, to, output, words in (
        (GRAPH, "tflite", path, "--to is 'tflite', allowed: onnx"),
        (weights, "onnx", path, "float weights; make a graph of them: etinynet quantize"),
        ("nothing.etn", "onnx", path, "cannot read this graph file: No such file"),
        (GRAPH, "onnx", tmp_path / "a.etn", "a.etn'; allowed is a name that ends in .onnx"),
    ):
        assert words in run("export", model, "--to", to, "-o", output).refused()
    assert "Missing option '--to'" in run("export", GRAPH, "-o", path).refused()
    assert list(tmp_path.iterdir()) == []


def test_without_onnx(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "etinynet.backend.onnx", raising=False)
    words = run("export", GRAPH, "--to", "onnx", "-o", tmp_path / "a.onnx").refused()
    assert words == f"etinynet: {not_installed('onnx')}"
    assert list(tmp_path.iterdir()) == []
