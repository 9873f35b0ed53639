"""Bad input of every kind: one line, exit code 2, nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from command import ASSETS, GRAPH, PICTURE, Run
from PIL import Image

from etinynet.data.images import Preprocess
from etinynet.errors import ArtefactError, GraphError
from etinynet.graph import graph_from_bytes, graph_to_bytes
from etinynet.model.weights import weights_from_bytes
from graph_cases import ETINYNET_1_0, etinynet_graph


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict", "nothing", PICTURE), "model 'nothing' is neither a name"),
        (("predict", "nothing.etn", PICTURE), "cannot read this graph file: No such file"),
        (("predict", "nothing.safetensors", PICTURE), "cannot read this weights file: No such"),
        (("predict", GRAPH, "nothing.jpg"), "nothing.jpg: cannot read this picture: No such file"),
        (("predict", GRAPH, PICTURE, "--top", 0), "--top is 0, allowed are 1 and more"),
        (
            ("run", GRAPH, "--on", "stm32f999", PICTURE),
            "target 'stm32f999' is unknown, allowed are",
        ),
        (("verify", GRAPH, "--on", "host", "--data", ASSETS, "-n", 0), "-n is 0, allowed are 1"),
        (
            ("compile", GRAPH, "--target", "host", "-o", "c", "--plan", "small"),
            "--plan is 'small', allowed are stream, inplace, fast",
        ),
        (("run", GRAPH, "--on", "host", PICTURE, "--plan", "small"), "plan: 'small' is unknown"),
        (
            ("run", GRAPH, "--on", "reference", PICTURE, "--plan", "fast"),
            "target 'reference' has no memory plan, --plan is 'fast'",
        ),
        (("evaluate", GRAPH, ASSETS, "--limit", 0), "--limit is 0, allowed are 1 and more"),
        (("evaluate", GRAPH, ASSETS), "no class folders; expected one folder of pictures a class"),
        (("summary", "etinynet-9"), "width is 9.0; a number above 0 and up to 8 is allowed"),
        (("summary", "resnet"), "unknown network 'resnet'; allowed: etinynet-1.0"),
        (("quantize", GRAPH, "--calibration", ASSETS, "-o", "x.etn"), "already an integer graph"),
        (("nonsense",), "No such command 'nonsense'"),
        (("predict", GRAPH, PICTURE, "--nonsense"), "No such option: --nonsense"),
        (("train", "nothing", "-o", "runs"), "nothing: cannot read this folder: No such file"),
    ],
)
def test_one_line(
    run: Run,
    arguments: tuple[object, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in run(*arguments).refused()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [-5, 0, 1, 2, 7, 4097, 10**12])
def test_sides(run: Run, weights: Path, photos: Path, tmp_path: Path, size: int) -> None:
    for call in (
        ("summary", "etinynet-1.0"),
        ("summary", "mobilenet-v2-0.35"),
        ("train", photos, "-o", tmp_path / "runs"),
        ("quantize", weights, "--calibration", photos, "-o", tmp_path / "made.etn"),
    ):
        words = run(*call, "--size", size).refused()
        assert words == f"etinynet: --size is {size}, allowed are 8 to 4096"
    assert list(tmp_path.iterdir()) == []


def test_the_smallest_and_the_largest_side(
    run: Run, weights: Path, photos: Path, tmp_path: Path
) -> None:
    call = ("quantize", weights, "--calibration", photos, "-o", tmp_path / "made.etn")
    assert run(*call, "--size", 8, "--pictures", 2).status == 0
    assert Preprocess.for_size(4096).size == 4096
    for network in ("etinynet-1.0", "mobilenet-v1-0.25"):
        for size in (8, 4096):
            assert run("summary", network, "--size", size, "--json").json()["size"] == size


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    grey = Image.fromarray(np.full((30, 40), 90, np.uint8))
    grey.save(folder / "grey.png")
    grey.convert("CMYK").save(folder / "cmyk.jpg")
    Image.new("RGB", (1, 1), (9, 99, 199)).save(folder / "one.png")
    Image.new("RGB", (20_000, 3)).save(folder / "long.png")
    return folder


def test_odd_pictures_are_pictures(run: Run, pictures: Path) -> None:
    found = run("predict", GRAPH, *sorted(pictures.iterdir()), "--json").json()
    assert len(found["pictures"]) == 4


def test_what_is_no_picture(run: Run, tmp_path: Path) -> None:
    text, cut = tmp_path / "text.jpg", tmp_path / "cut.jpg"
    text.write_text("no picture")
    cut.write_bytes(PICTURE.read_bytes()[:1500])
    assert f"{text}: not a picture of a known format" in run("predict", GRAPH, text).refused()
    assert f"{cut}: " in run("predict", GRAPH, cut).refused()


def test_folders(run: Run, weights: Path, tmp_path: Path) -> None:
    empty, output = tmp_path / "empty", tmp_path / "made.etn"
    empty.mkdir()
    words = run("quantize", weights, "--calibration", empty, "-o", output).refused()
    assert "no pictures; expected files ending in" in words
    assert "no class folders" in run("evaluate", GRAPH, empty).refused()
    (empty / "dog").mkdir()
    assert "no pictures" in run("evaluate", GRAPH, empty).refused()
    shutil.copy(PICTURE, empty / "dog")
    assert "class folder 'dog' is unknown" in run("evaluate", GRAPH, empty).refused()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("sign-digits-5.jpg", "line 1: 'sign-digits-5.jpg'; expected path, tab, class index"),
        ("sign-digits-5.jpg\tfive\n", "line 1: class index 'five'; an integer 0 to 65535"),
        ("nothing.jpg\t5\n", "line 1: no picture at"),
        ("sign-digits-5.jpg\t10\n", "class index 10, "),
        ("", "no lines; expected path, tab, class index"),
    ],
)
def test_tables(run: Run, tmp_path: Path, table: str, words: str) -> None:
    (tmp_path / "labels.tsv").write_text(table)
    refused = run("evaluate", GRAPH, ASSETS, "--labels", tmp_path / "labels.tsv").refused()
    assert words in refused


@pytest.mark.parametrize("bits", [1, 9])
def test_weight_bits(run: Run, weights: Path, photos: Path, tmp_path: Path, bits: int) -> None:
    output = tmp_path / "made.etn"
    words = run(
        "quantize", weights, "--calibration", photos, "-o", output, "--weight-bits", bits
    ).refused()
    assert f"weight_bits is {bits}, allowed are 2 to 8" in words
    assert not output.exists()


def test_a_model_that_does_not_fit(run: Run, tmp_path: Path) -> None:
    """Wider than EtinyNet-1.0 by half: more weights than 1 MiB."""
    blocks = tuple((a * 3 // 2, b * 3 // 2, c * 3 // 2, s, d) for a, b, c, s, d in ETINYNET_1_0)
    graph = etinynet_graph(np.random.default_rng(0), blocks, side=64, classes=100)
    path, output = tmp_path / "large.etn", tmp_path / "large_c"
    path.write_bytes(graph_to_bytes(graph))
    words = run("compile", path, "--target", "stm32f746", "-o", output).refused()
    assert "1048576" in words.replace(",", "")
    assert not output.exists()


def test_damaged_files_through_the_command(run: Run, weights: Path, tmp_path: Path) -> None:
    for source in (GRAPH, weights):
        data = source.read_bytes()
        damaged = tmp_path / f"damaged{source.suffix}"
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
        for content in (b"", data[:100], data[:-1], flipped):
            damaged.write_bytes(content)
            assert str(damaged) in run("predict", damaged, PICTURE).refused()
    damaged = tmp_path / "damaged.params"
    damaged.write_bytes(b"\x12\x01" + bytes(50))
    output = tmp_path / "made.safetensors"
    assert str(damaged) in run("import", damaged, "-o", output).refused()
    assert not output.exists()


def test_every_tenth_byte_of_a_graph_counts() -> None:
    data = GRAPH.read_bytes()
    for place in [*range(0, 12_000, 10), *range(12_000, len(data), 5_000)]:
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises((ArtefactError, GraphError)):
            graph_from_bytes(bytes(changed), "changed")


def test_every_tenth_byte_of_weights_counts(weights: Path) -> None:
    data = weights.read_bytes()
    for place in [*range(0, 6_000, 10), *range(6_000, len(data), 5_000)]:
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises(ArtefactError):
            weights_from_bytes(bytes(changed), "changed")


def test_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("etinynet.commands.using.open_model", stop)
    assert run("predict", GRAPH, PICTURE).status == 130
