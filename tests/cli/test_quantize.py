"""quantize with its options: methods, widths of single layers, training, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import ASSETS, GRAPH, PICTURE, Run

from etinynet.graph import check, read_graph

#: On two pictures and with nearest rounding: quick.
QUICK = ("--method", "lsq", "--pictures", 2)


@pytest.fixture
def quantize(run: Run, weights: Path, photos: Path, tmp_path: Path) -> Run:
    """`etinynet quantize ... -o made.etn` of the small float model."""
    output = tmp_path / "made.etn"
    return lambda *options: run(
        "quantize", weights, "--calibration", photos, "-o", output, *options
    )


def made(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


def test_method_and_widths(quantize: Run, tmp_path: Path) -> None:
    found = quantize(
        *QUICK, "--weight-bits", 4, "--layer-bits", "*.dw?=8", "--layer-bits", "stem=6", "--json"
    ).json()
    assert (found["method"], found["weight_bits"], found["pictures"]) == ("lsq", 4, 2)
    assert "training" not in found
    graph = read_graph(tmp_path / "made.etn")
    check(graph)
    bits = {op.name: op.weight_bits for op in graph.ops if op.weight is not None}
    assert bits["stem"] == 6
    assert bits["b0.dw1"] == bits["b0.dw2"] == 8
    assert bits["b0.pw"] == bits["scores"] == 4
    assert graph.metadata["quantization"]["layer_bits"] == [["*.dw?", 8], ["stem", 6]]
    command = graph.metadata["provenance"]["command"]
    assert command == "quantize small.safetensors --method lsq --weight-bits 4 --pictures 2"
    assert made(tmp_path) == ["made.etn"]


def test_one_scale_a_layer(quantize: Run, tmp_path: Path) -> None:
    text = quantize("--method", "dorefa", "--pictures", 2, "--per-layer")
    assert text.status == 0
    assert "8-bit weights, method dorefa, 2 calibration pictures" in text.out
    assert read_graph(tmp_path / "made.etn").metadata["quantization"]["per_layer"] is True


def test_training(quantize: Run, photos: Path, tmp_path: Path) -> None:
    """The folders are the model's classes: labels are used. Then the finished run resumed."""
    train = (*QUICK, "--weight-bits", 3, "--data", photos, "--epochs", 1, "--data-pictures", 30)
    first = quantize(*train, "--json")
    assert "30 pictures to train on, with labels" in first.err
    found = first.json()
    assert found["training"]["epoch"] == 1
    assert found["training"]["labels"] is True
    assert 0 <= found["training"]["top1"] <= 1
    assert made(tmp_path) == ["made.etn", "made.etn.training"]
    graph = read_graph(tmp_path / "made.etn")
    check(graph)
    assert graph.metadata["training"]["recipe"]["optimizer"] == "adam"
    assert graph.metadata["training"]["pictures"] + graph.metadata["training"]["held_out"] == 30
    assert graph.metadata["provenance"]["command"].endswith("--epochs 1 --seed 0")
    before = (tmp_path / "made.etn").read_bytes()

    assert "holds a run already (last.safetensors)" in quantize(*train).refused()
    assert "made with seed 0, this run has 1" in quantize(*train, "--resume", "--seed", 1).refused()
    words = quantize(*train, "--resume", "--layer-bits", "stem=8").refused()
    assert "made with quantization" in words
    words = quantize(*train, "--resume", "--data-pictures", 29).refused()
    assert "made with data '" in words
    assert (tmp_path / "made.etn").read_bytes() == before

    again = quantize(*train, "--resume", "--json").json()
    assert again["training"] == found["training"]
    assert (tmp_path / "made.etn").read_bytes() == before


def test_training_without_labels(quantize: Run, photos: Path, tmp_path: Path) -> None:
    folders = ("--data", photos / "left", "--data", photos / "right")
    found = quantize(*QUICK, *folders, "--epochs", 1, "--data-pictures", 8, "--json")
    assert "16 pictures to train on, without labels" in found.err
    assert found.json()["training"]["labels"] is False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "gptq"), "method is 'gptq', allowed are best, lsq, asq, asq-paper, dorefa"),
        (("--per-layer",), "per_layer is True; method 'best' has one scale an output channel"),
        (("--layer-bits", "stem"), "--layer-bits is 'stem'; PATTERN=BITS is allowed, such as"),
        (("--layer-bits", "=8"), "--layer-bits is '=8'; PATTERN=BITS is allowed"),
        (("--layer-bits", "stem="), "--layer-bits is 'stem='; PATTERN=BITS is allowed"),
        (("--layer-bits", "stem=-4"), "--layer-bits is 'stem=-4'; PATTERN=BITS is allowed"),
        (("--layer-bits", "stem=٤"), "; PATTERN=BITS is allowed"),
        (("--layer-bits", "stem=" + "9" * 5000), "; PATTERN=BITS is allowed"),
        (("--layer-bits", "stem=9"), "layer_bits: 'stem' has 9, allowed are 2 to 8"),
        (("--layer-bits", "b99.*=8"), "layer_bits: no layer fits 'b99.*'; allowed are patterns of"),
        (("--weight-bits", "four"), "Invalid value for '--weight-bits'"),
        (("--pictures", 0), "pictures is 0, allowed are 1 to 2048"),
        (("--pictures", 2049), "pictures is 2049, allowed are 1 to 2048"),
        (("--resume",), "no training without --data, which goes with --resume"),
        (("--epochs", 3), "no training without --data, which goes with --epochs"),
        (("--layer", "b0.pw"), "only --analyse takes --layer"),
        (("--data", "nothing"), "nothing: not a folder of pictures"),
        (("--data", PICTURE), f"{PICTURE}: not a folder of pictures"),
        (("--data", ASSETS, "--epochs", 0), "recipe: epochs is 0; an integer 1 to 100000"),
        (("--data", ASSETS, "--seed", -1), "recipe: seed is -1; an integer 0 to 2147483647"),
        (("--data", ASSETS, "--data-pictures", 0), "--data-pictures is 0, allowed are 1 and more"),
        (("--data", ASSETS, "--data-pictures", 1), "1 pictures leave the "),
        (("--analyse", "--data", ASSETS, "--data", ASSETS), "--data is given more than once"),
    ],
    ids=lambda value: " ".join(str(one)[:24] for one in value) if type(value) is tuple else "",
)
def test_bad_options(
    quantize: Run, options: tuple[object, ...], words: str, tmp_path: Path
) -> None:
    pictures = () if "--pictures" in options else ("--pictures", 2)
    assert words in quantize(*options, *pictures).refused()
    assert made(tmp_path) == []


def test_bad_training(quantize: Run, photos: Path, tmp_path: Path) -> None:
    """No graph is written; what is left is the state of the training, if it began."""
    folder = tmp_path / "made.etn.training"
    train = ("--pictures", 2, "--data", photos, "--data-pictures", 12, "--epochs", 1)
    absent = quantize(*train, "--method", "lsq", "--resume").refused()
    assert "holds no run to resume, there is no last.safetensors; leave out --resume" in absent
    assert (
        "epochs is 1; 2 and more are allowed" in quantize(*train, "--method", "asq-paper").refused()
    )
    folder.write_text("mine")
    words = quantize(*train, "--method", "lsq").refused()
    assert f"-o is '{folder}', a file of that name exists" in words
    assert made(tmp_path) == ["made.etn.training"]
    folder.unlink()
    (folder / "quantized").mkdir(parents=True)
    (folder / "quantized" / "last.safetensors").write_bytes(b"no state")
    words = quantize(*train, "--method", "lsq", "--resume").refused()
    assert "not a training state, or damaged" in words
    assert made(tmp_path) == ["made.etn.training"]


def test_a_graph_is_not_quantized_again(run: Run, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "made.etn"
    options = ("--calibration", photos, "-o", output, "--data", photos)
    assert "already an integer graph" in run("quantize", GRAPH, *options).refused()
    assert made(tmp_path) == []


def test_an_output_without_a_name(
    run: Run, weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    training = ("--data", photos, "--data-pictures", 12, "--resume")
    words = run(
        "quantize", weights, "--calibration", photos, *QUICK, *training, "-o", "."
    ).refused()
    assert "-o is '.'; allowed is a name that ends in .etn" in words
    assert made(tmp_path) == []
