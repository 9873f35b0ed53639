"""The command line: one verb a stage of the pipeline, errors in one line with exit code 2."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from etinynet.cli_errors import end_on_sigterm, guarded
from etinynet.cli_quantize import quantize
from etinynet.cli_shared import GraphFile, Json, Labels, LibraryName, Model, Plan, Version, side
from etinynet.cli_train import train
from etinynet.show import note, print_json, print_lines, print_table

__all__ = ["app", "main"]

app = typer.Typer(
    name="etinynet",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _start(version: Version = False) -> None:
    """Real vision networks on 20-dollar microcontrollers: the same bits on host and device."""


@app.command()
def summary(
    name: Annotated[str, typer.Argument(help="etinynet-WIDTH or mobilenet-v1-WIDTH or -v2-WIDTH.")],
    size: Annotated[int, side("Side of the input in pixels")] = 224,
    classes: Annotated[int, typer.Option(help="Classes; 0 for a backbone.")] = 1000,
    as_json: Json = False,
) -> None:
    """Layers of a network with shapes, MACs, parameters and bytes, beside the paper's totals.

    \b
    etinynet summary etinynet-1.0
    etinynet summary etinynet-0.75 --size 96 --classes 10 --json
    etinynet summary mobilenet-v2-0.35
    """
    from etinynet.commands.network import print_summary
    from etinynet.model.config import named_config
    from etinynet.model.summary import summarize

    found = summarize(named_config(name, classes, size))
    print_json(found.to_json()) if as_json else print_summary(found)


@app.command("import")
def import_weights(
    params: Annotated[Path, typer.Argument(help="The authors' MXNet file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Weights to write.")],
    classes: Annotated[
        Path | None, typer.Option(help="Table of class names, columns index and name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn the paper's authors' MXNet weights into a .safetensors file, without MXNet.

    \b
    etinynet import 0.6553-imagenet.params -o imagenet.safetensors --classes classes.tsv
    """
    from etinynet.commands.network import import_file

    result = import_file(params, output, classes)
    if as_json:
        print_json(result)
        return
    print_lines(
        f"{result['name']}: {result['classes']} classes, "
        f"{result['parameters']:,} values -> {output}"
    )
    if result["ignored"]:
        print_lines(f"not part of the network: {', '.join(result['ignored'])}")
    if not result["known"]:
        note("this file is not one of the two whose SHA-256 is recorded; its values are as found")


app.command()(train)
app.command()(quantize)


@app.command("compile")
def compile_model(
    model: GraphFile,
    target: Annotated[str, typer.Option(help="host, stm32f412, stm32f746 or stm32h743.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    plan: Plan = None,
    name: LibraryName = None,
    as_json: Json = False,
) -> None:
    """Write a self-contained C library; for a part also its firmware, linked and measured.

    \b
    etinynet compile photos.etn --target stm32f746 -o photos_c
    etinynet compile photos.etn --target stm32f412 --plan stream --name leaves -o leaves_c
    """
    from etinynet.commands.building import compile_to

    result = compile_to(model, target, output, plan, name)
    if as_json:
        print_json(result)
        return
    print_lines(f"{result['files']} files, memory plan {result['plan']} -> {output}")
    if "flash_bytes" in result:
        print_table(("memory", "bytes"), result["memory"].items())
        if result["stack_bound"]:
            bound = result["stack_bound"]
            print_lines(
                f"stack by the machine code: at most {bound['program']:,} bytes, of the library "
                f"{bound['library']:,} and what read_row takes"
            )
        print_lines(f"with the test picture the board says: {result['expected_line']}")


@app.command()
def flash(
    firmware: Annotated[Path, typer.Argument(help="The .elf that compile wrote to firmware/.")],
    on: Annotated[str, typer.Option(help="stm32f412, stm32f746 or stm32h743.")],
    as_json: Json = False,
) -> None:
    """Write firmware into the board at a debug probe (ST-LINK, CMSIS-DAP, J-Link) and start it.

    \b
    etinynet flash photos_c/firmware/photos_uart.elf --on stm32f746
    """
    from etinynet.commands.flashing import flash_file

    result = flash_file(firmware, on)
    if as_json:
        print_json(result)
        return
    print_lines(f"{result['bytes']:,} bytes -> {result['part']} at probe {result['probe']}")


@app.command()
def export(
    model: GraphFile,
    to: Annotated[str, typer.Option(help="The format: onnx.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    name: LibraryName = None,
    as_json: Json = False,
) -> None:
    """Write an integer graph in another format; ONNX Runtime gives the same integers, where
    float32 holds all sums: layers where it may not are counted.

    \b
    etinynet export photos.etn --to onnx -o photos.onnx
    """
    from etinynet.commands.exporting import export_file

    result = export_file(model, to, output, name)
    sums: dict[str, int] = result["inexact_layers"]
    if sums:
        largest = max(sums, key=lambda layer: sums[layer])
        note(
            f"sums of {len(sums)} layers may exceed 2^24, up to which float32 is exact "
            f"(the largest: {largest}, {sums[largest]:,}); a value there may then be a step away"
        )
    if as_json:
        print_json(result)
        return
    print_lines(f"{result['bytes']:,} bytes, opset {result['opset']} -> {output}")


@app.command()
def predict(
    model: Model,
    images: Annotated[list[Path], typer.Argument(help="Pictures.")],
    top: Annotated[int, typer.Option(help="How many classes to show.")] = 5,
    as_json: Json = False,
) -> None:
    """The best classes of pictures, by the float network or the reference executor.

    \b
    etinynet predict sign-digits hand.jpg
    """
    from etinynet.commands.using import predict_pictures

    result = predict_pictures(model, images, top)
    if as_json:
        print_json(result)
        return
    for picture in result["pictures"]:
        print_table((picture["picture"], "score"), _ranked(picture["top"]))


@app.command()
def evaluate(
    model: Model,
    data: Annotated[Path, typer.Argument(help="Folder of class folders, or of --labels' paths.")],
    labels: Labels = None,
    limit: Annotated[int | None, typer.Option(help="Only N pictures, of all classes.")] = None,
    held_out: Annotated[bool, typer.Option(help="Only the pictures that train held out.")] = False,
    as_json: Json = False,
) -> None:
    """Top-1 and top-5 accuracy on labelled pictures; a graph runs as compiled C, checked first.

    \b
    etinynet evaluate photos.etn photos --held-out
    etinynet evaluate imagenet imagenet-sample --labels imagenet-sample/labels.tsv --json
    """
    from etinynet.commands.closing import closing_lines
    from etinynet.commands.using import evaluate_model

    result = evaluate_model(model, data, labels, limit, held_out)
    if as_json:
        print_json(result)
        return
    print_lines(
        f"top-1 {result['top1']:.2f} %, top-5 {result['top5']:.2f} % of {result['n']} pictures "
        f"({result['by']})",
        *closing_lines(result),
    )


@app.command()
def run(
    model: GraphFile,
    images: Annotated[list[Path], typer.Argument(help="Pictures.")],
    on: Annotated[str, typer.Option(help="reference, host, stm32f412, stm32f746, stm32h743.")],
    plan: Plan = None,
    as_json: Json = False,
) -> None:
    """Run pictures on a target; a microcontroller is emulated with exactly the part's memory.

    \b
    etinynet run photos.etn --on stm32f746 leaf.jpg
    """
    from etinynet.commands.using import run_pictures

    result = run_pictures(model, on, images, plan)
    if as_json:
        print_json(result)
        return
    for picture in result["pictures"]:
        print_table((picture["picture"], "score"), _ranked(picture["top"]))
        if picture["instructions"] is not None:
            print_lines(f"instructions {picture['instructions']:,}")
    if result["flash_bytes"] is not None:
        print_lines(f"flash {result['flash_bytes']:,} bytes, RAM {result['ram_bytes']:,} bytes")


@app.command()
def profile(
    model: GraphFile,
    on: Annotated[str, typer.Option(help="stm32f412, stm32f746 or stm32h743.")],
    plan: Plan = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with bars as well.")] = None,
    as_json: Json = False,
) -> None:
    """What each layer costs on a part: MACs, bytes, instructions; beside them modelled cycles.

    \b
    etinynet profile photos.etn --on stm32f746 --html profile.html
    etinynet profile sign-digits --on stm32f412 --plan stream --json
    """
    from etinynet.commands.profiling import print_profile, profile_model

    result = profile_model(model, on, plan, html)
    print_json(result) if as_json else print_profile(result)


@app.command()
def verify(
    model: GraphFile,
    on: Annotated[str, typer.Option(help="The target to compare with the reference.")],
    data: Annotated[Path, typer.Option(help="Folder of pictures.")],
    n: Annotated[int, typer.Option("-n", help="How many pictures.")] = 20,
    layers: Annotated[bool, typer.Option(help="Compare every tensor, not only scores.")] = False,
    plan: Plan = None,
    as_json: Json = False,
) -> None:
    """Compare a target with the reference, to the bit; exit code 1 at the first difference.

    \b
    etinynet verify photos.etn --on stm32f746 --data photos -n 20 --layers
    """
    from etinynet.commands.using import verify_target

    result = verify_target(model, on, data, n, layers, plan)
    if as_json:
        print_json(result)
    elif result["equal"]:
        print_lines(f"{on}: {result['n']} pictures equal to the reference, to the bit")
    else:
        print_lines(f"{on}: differs: {result['difference']['words']}")
    if not result["equal"]:
        raise typer.Exit(1)


@app.command()
def demo(as_json: Json = False) -> None:
    """The embedded model on its three pictures: reference, host C, emulated STM32F746.

    \b
    etinynet demo
    """
    from etinynet.commands.demonstration import print_demo, run_demo

    result = run_demo()
    print_json(result) if as_json else print_demo(result)
    if not result["equal"]:
        raise typer.Exit(1)


def _ranked(top: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(f"{entry['class']} {entry['name']}", f"{entry['score']:.4f}") for entry in top]


def main() -> None:
    """Entry point: runs the command line; errors become one line on stderr and exit code 2."""
    arguments = sys.argv[1:] or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a class name beyond the terminal's characters
            stream.reconfigure(errors="backslashreplace")
    end_on_sigterm()
    sys.exit(guarded(lambda: app(arguments, standalone_mode=False)))
