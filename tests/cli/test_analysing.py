"""quantize --analyse: figures and table, whole or not at all."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import GRAPH, Run

from etinynet.commands.analysing import analyse_file, print_analysis
from etinynet.errors import ArtefactError, ConfigError, DataError, ToolError, UnsupportedError

FILES = {
    *("analysis.json", "layers.csv", "figure3-b0.pw.png", "figure3-b13.pw.png"),
    *("figure4-b0.pw.png", "figure4-b13.pw.png"),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory, weights: Path, photos: Path) -> Path:
    output = tmp_path_factory.mktemp("analysis") / "found"
    analyse_file(str(weights), photos, output, 4, 12, data=photos)
    return output


def test_folder(analysed: Path) -> None:
    assert {path.name for path in analysed.iterdir()} == FILES
    result = json.loads((analysed / "analysis.json").read_text(encoding="utf-8"))
    assert (result["weight_bits"], result["calibration_pictures"], result["n"]) == (4, 12, 12)
    assert 0 <= result["float_top1"] <= 1
    assert [figures["layer"] for figures in result["figures"]] == ["b0.pw", "b13.pw"]
    assert len(result["figures"][0]["figure4"]) == 10
    names = [row["layer"] for row in result["layers"]]
    assert names[:4] == ["stem", "b0.dw1", "b0.pw", "b0.dw2"]
    assert names[-1] == "scores"
    for row in result["layers"]:
        assert row["weights"] > 0
        assert row["snr_db"]["uniform"] > 10
        assert 0 <= row["agreement"] <= 1
        assert 0 <= row["top1"] <= 1


def test_table(analysed: Path) -> None:
    result = json.loads((analysed / "analysis.json").read_text(encoding="utf-8"))
    with (analysed / "layers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == [row["layer"] for row in result["layers"]]
    for text, row in zip(rows, result["layers"], strict=True):
        assert text["shape"] == "x".join(map(str, row["shape"]))
        assert float(text["snr_db_asq_search"]) == pytest.approx(row["snr_db"]["asq_search"], 1e-4)
        assert float(text["top1"]) == pytest.approx(row["top1"], 1e-4)


def test_without_labels_and_one_layer(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = ["b2.dw1", "scores", "b2.dw1"]
    result = analyse_file(str(weights), photos, tmp_path / "found", 2, 3, layers=layers)
    assert result["float_top1"] is None
    assert result["layers"][0]["top1"] is None
    assert {path.name for path in (tmp_path / "found").glob("*.png")} == {
        f"figure{number}-{layer}.png" for number in (3, 4) for layer in ("b2.dw1", "scores")
    }
    capsys.readouterr()
    print_analysis(result)
    out = capsys.readouterr().out
    for words in (
        "agreement of 3 pictures",
        "b2.dw1: figure 3",
        "J where λ multiplies: ",
        "uniform",
    ):
        assert words in out


def test_again_is_the_same(weights: Path, photos: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "one")]
    for folder in folders:
        analyse_file(str(weights), photos, folder, 4, 3, layers=["stem"])
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()


def test_refused(
    weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "found"

    def analyse(model: object = weights, bits: int = 4, pictures: int = 3, **more: object) -> None:
        analyse_file(str(model), photos, output, bits, pictures, **more)  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match=r"weight_bits is 9, allowed are 2 to 8"):
        analyse(bits=9)
    with pytest.raises(ConfigError, match=r"pictures is 0, allowed are 1 to 2048"):
        analyse(pictures=0)
    with pytest.raises(ConfigError, match=r"--layer is 'b99.pw', allowed are stem, b0.dw1, b0.pw"):
        analyse(layers=["stem", "b99.pw"])
    with pytest.raises(ConfigError, match=r"--layer is 'pool', allowed"):
        analyse(layers=["pool"])
    with pytest.raises(ConfigError, match=r"--labels is .*needs --data"):
        analyse(labels=photos / "labels.tsv")
    with pytest.raises(UnsupportedError, match="already an integer graph"):
        analyse(GRAPH)
    with pytest.raises(ArtefactError, match="neither a name"):
        analyse("absent")
    table = tmp_path / "labels.tsv"
    table.write_text("left/0.png\t7\n")
    with pytest.raises(DataError, match=r"class index 7, .* knows 0 to 1"):
        analyse(data=photos, labels=table)
    (tmp_path / "unknown" / "middle").mkdir(parents=True)
    (tmp_path / "unknown" / "middle" / "0.png").write_bytes((photos / "left/0.png").read_bytes())
    with pytest.raises(DataError, match="class folder 'middle' is unknown"):
        analyse(data=tmp_path / "unknown")
    assert not output.exists()
    output.mkdir()
    (output / "mine.txt").write_text("kept")
    with pytest.raises(ArtefactError, match=r"mine.txt was not among what quantize --ana"):
        analyse()
    assert [path.name for path in output.iterdir()] == ["mine.txt"]
    (output / "mine.txt").unlink()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ToolError, match=r"pip install -e '\.\[plot\]'"):
        analyse()


def test_command(run: Run, weights: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "found"
    given = ("quantize", weights, "--calibration", photos, "-o", output, "--pictures", 3)
    found = run(*given, "--analyse", "--layer", "b0.pw", "--layer", "stem", "--json").json()
    assert found["weight_bits"] == 4
    assert [figures["layer"] for figures in found["figures"]] == ["b0.pw", "stem"]
    again = run(*given, "--analyse", "--layer", "b0.pw", "--layer", "stem", "--data", photos)
    assert again.status == 0
    assert "top1 of 3 pictures" in again.out
    assert str(output) in again.out
    words = run(*given, "--layer", "b0.pw").refused()
    assert "only --analyse takes --layer" in words


def test_no_options_of_the_analysis_by_themselves(run: Run, weights: Path, photos: Path) -> None:
    given = ("quantize", weights, "--calibration", photos, "-o", photos / "no.etn")
    for more in (("--layer", "stem"), ("--labels", photos / "labels.tsv")):
        assert f"only --analyse takes {more[0]}" in run(*given, *more).refused()
    for more in (("--method", "asq"), ("--per-layer",), ("--layer-bits", "stem=8"), ("--seed", 1)):
        words = run(*given, "--analyse", *more).refused()
        assert f"--analyse measures every method; it takes no {more[0]}" in words
