"""The verb quantize: its options, and what they become."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etinynet.cli_shared import Json, Labels, Model
from etinynet.errors import ConfigError
from etinynet.show import print_json, print_lines

__all__ = ["quantize"]


def quantize(
    weights: Model,
    calibration: Annotated[Path, typer.Option(help="Folder of typical pictures, no labels.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .etn file to write.")],
    weight_bits: Annotated[
        int | None, typer.Option(help="Bits of each weight, 2 to 8; else 8, or 4 with --analyse.")
    ] = None,
    pictures: Annotated[int, typer.Option(help="Calibration pictures, at most 2048.")] = 512,
    method: Annotated[
        str | None,
        typer.Option(help="best, lsq, asq, asq-paper or dorefa: how weights are rounded."),
    ] = None,
    layer_bits: Annotated[
        list[str] | None,
        typer.Option(help="Other bits of some layers, as '*.dw?=8' or stem=8; repeatable."),
    ] = None,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="One scale a layer, not one an output channel.")
    ] = False,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Train the quantized weights on this folder; repeatable."),
    ] = None,
    data_pictures: Annotated[
        int | None, typer.Option(help="At most so many of each --data; else 4000.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="How often training sees each picture; else 20.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Fixes every random choice of training; else 0.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on where training stopped.")] = False,
    size: Annotated[int | None, typer.Option(help="Other input side than trained with.")] = None,
    analyse: Annotated[
        bool, typer.Option("--analyse", help="Write figures and a table to the folder -o instead.")
    ] = False,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="To analyse: a layer to draw, such as b0.pw; repeatable."),
    ] = None,
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
    training = {
        "--data-pictures": data_pictures,
        "--epochs": epochs,
        "--seed": seed,
        "--resume": resume or None,
    }
    if analyse:
        from etinynet.commands.analysing import analyse_file, print_analysis

        own = {"--method": method, "--layer-bits": layer_bits, "--per-layer": per_layer or None}
        _refuse({**own, **training}, "--analyse measures every method; it takes no")
        bits = 4 if weight_bits is None else weight_bits
        if len(data or ()) > 1:
            raise ConfigError("--data is given more than once; --analyse takes one folder")
        labelled = data[0] if data else None
        found = analyse_file(
            weights, calibration, output, bits, pictures, size, layer or (), labelled, labels
        )
        print_json(found) if as_json else print_analysis(found)
        return
    _refuse({"--layer": layer, "--labels": labels}, "only --analyse takes")
    if not data:
        _refuse(training, "no training without --data, which goes with")
    from etinynet.commands.quantizing import Request, Teaching, quantize_file

    request = Request(
        weight_bits=8 if weight_bits is None else weight_bits,
        method="best" if method is None else method,
        layer_bits=tuple(layer_bits or ()),
        per_layer=per_layer,
        pictures=pictures,
    )
    teaching = None
    if data:
        most = 4000 if data_pictures is None else data_pictures
        count = 20 if epochs is None else epochs
        teaching = Teaching(tuple(data), most, count, seed or 0, resume)
    result = quantize_file(weights, calibration, output, request, size, teaching)
    if as_json:
        print_json(result)
        return
    print_lines(
        f"{result['bytes']:,} bytes, {result['weight_bits']}-bit weights, method "
        f"{result['method']}, {result['pictures']} calibration pictures -> {output}"
    )


def _refuse(options: dict[str, object], why: str) -> None:
    """Raises ConfigError for the first of `options` that is given, not None."""
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"{why} {name}")
