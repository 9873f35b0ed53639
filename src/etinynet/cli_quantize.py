"""The verb quantize: its options, and what they become."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from etinynet.cli_shared import Json, Labels, Model, side
from etinynet.errors import ConfigError
from etinynet.show import print_json, print_lines

__all__ = ["quantize"]


Calibration = Annotated[Path, typer.Option(help="Folder of typical pictures, no labels.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="The .etn file to write.")]
WeightBits = Annotated[
    int | None, typer.Option(help="Bits of each weight, 2 to 8; else 8, or 4 with --analyse.")
]
Pictures = Annotated[int, typer.Option(help="Calibration pictures, at most 2048.")]
Method = Annotated[
    str | None, typer.Option(help="best, lsq, asq, asq-paper or dorefa: how weights are rounded.")
]
LayerBits = Annotated[
    list[str] | None,
    typer.Option(help="Other bits of some layers, as '*.dw?=8' or stem=8; repeatable."),
]
PerLayer = Annotated[
    bool, typer.Option("--per-layer", help="One scale a layer, not one an output channel.")
]
PrecisionName = Annotated[
    str | None,
    typer.Option(
        "--precision", help="mixed: activations of 16 bits before matrices; or int8: 8 everywhere."
    ),
]
Data = Annotated[
    list[Path] | None, typer.Option(help="Train the quantized weights on this folder; repeatable.")
]
DataPictures = Annotated[
    int | None, typer.Option(help="At most so many of each --data; else 4000.")
]
Epochs = Annotated[int | None, typer.Option(help="How often training sees each picture; else 20.")]
Seed = Annotated[int | None, typer.Option(help="Fixes every random choice of training; else 0.")]
Resume = Annotated[bool, typer.Option(help="Go on where training stopped.")]
Size = Annotated[int | None, side("Other input side than trained with")]
Name = Annotated[
    str | None, typer.Option(help="Name of the network and its C library; else the file's.")
]
Analyse = Annotated[
    bool, typer.Option("--analyse", help="Write figures and a table to the folder -o instead.")
]
DrawnLayer = Annotated[
    list[str] | None, typer.Option(help="To analyse: a layer to draw, such as b0.pw; repeatable.")
]


def quantize(
    weights: Model,
    calibration: Calibration,
    output: Output,
    weight_bits: WeightBits = None,
    pictures: Pictures = 512,
    method: Method = None,
    layer_bits: LayerBits = None,
    per_layer: PerLayer = False,
    precision: PrecisionName = None,
    data: Data = None,
    data_pictures: DataPictures = None,
    epochs: Epochs = None,
    seed: Seed = None,
    resume: Resume = False,
    size: Size = None,
    name: Name = None,
    analyse: Analyse = False,
    layer: DrawnLayer = None,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """Turn float weights into an integer graph, calibrated on typical pictures.

    With --data the quantized weights are trained too, on the labels of class folders that the
    model knows, else to do what the float model does; the state lies in OUTPUT.training.

    \b
    etinynet quantize runs/photos/model.safetensors --calibration photos -o photos.etn
    etinynet quantize imagenet --calibration photos --weight-bits 4 --data photos -o small.etn
    etinynet quantize imagenet --analyse --calibration photos --layer b13.pw -o analysis
    """
    training = {"--data-pictures": data_pictures, "--epochs": epochs, "--seed": seed}
    training["--resume"] = resume or None
    if analyse:
        own = {"--method": method, "--layer-bits": layer_bits, "--per-layer": per_layer or None}
        own |= {"--precision": precision, "--name": name}
        _refuse({**own, **training}, "--analyse measures every method; it takes no")
        if len(data or ()) > 1:
            raise ConfigError("--data is given more than once; --analyse takes one folder")
        from etinynet.commands.analysing import analyse_file, print_analysis

        bits, labelled = 4 if weight_bits is None else weight_bits, data[0] if data else None
        found = analyse_file(
            weights, calibration, output, bits, pictures, size, layer or (), labelled, labels
        )
        print_json(found) if as_json else print_analysis(found)
        return
    _refuse({"--layer": layer, "--labels": labels}, "only --analyse takes")
    if not data:
        _refuse(training, "no training without --data, which goes with")
    from etinynet.commands.quantizing import Request, Teaching, quantize_file

    bits = 8 if weight_bits is None else weight_bits
    chosen = "best" if method is None else method
    request = Request(bits, chosen, tuple(layer_bits or ()), per_layer, pictures, precision)
    teaching = None
    if data:
        most = 4000 if data_pictures is None else data_pictures
        teaching = Teaching(tuple(data), most, 20 if epochs is None else epochs, seed or 0, resume)
    result = quantize_file(weights, calibration, output, request, size, teaching, name)
    print_json(result) if as_json else _print_made(result)


def _print_made(result: dict[str, Any]) -> None:
    print_lines(
        f"{result['bytes']:,} bytes, {result['weight_bits']}-bit weights, method "
        f"{result['method']}, {result['pictures']} calibration pictures -> {result['graph']}"
    )


def _refuse(options: dict[str, object], why: str) -> None:
    """Raises ConfigError for the first of `options` that is given, not None."""
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"{why} {name}")
