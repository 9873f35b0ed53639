"""The verb train: its options, and what they become."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from etinynet.cli_shared import Json, side
from etinynet.commands.recipes import OPTIONS
from etinynet.errors import ConfigError
from etinynet.show import print_json, print_lines
from etinynet.train.recipe import OPTIMIZERS, Recipe

__all__ = ["train"]


def _option(field: str, what: str) -> Any:
    """The option of a recipe's field; what it is without the option is told, not set."""
    name, default = OPTIONS[field], getattr(Recipe, field)
    if type(default) is bool:
        name, default = f"{name}/{name.replace('--', '--no-', 1)}", "yes" if default else "no"
    return typer.Option(name, help=f"{what}; else {default}.", show_default=False)


Data = Annotated[list[Path], typer.Argument(help="Folder of class folders of pictures.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder for checkpoints.")]
Network = Annotated[str, typer.Option(help="Network, as for summary.")]
Size = Annotated[int | None, side("Side of the input; else 96, or the teacher's")]
Teacher = Annotated[
    str | None,
    typer.Option(
        help="Wider network to learn from instead of labels; folders of any kind. Its student "
        "has a recipe of its own: 20 epochs of adam, 0.002, mirrored, crops from a quarter on."
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on where -o DIR stopped, by its recipe; only --epochs may be more."
    ),
]
Epochs = Annotated[int | None, _option("epochs", "Passes over the training pictures")]
Seed = Annotated[int | None, _option("seed", "Fixes every random choice")]
Optimizer = Annotated[str | None, _option("optimizer", " or ".join(OPTIMIZERS))]
Rate = Annotated[float | None, _option("learning_rate", "Highest learning rate")]
BatchSize = Annotated[int | None, _option("batch_size", "Pictures in each step")]
Momentum = Annotated[float | None, _option("momentum", "Share of the last step in the next")]
WeightDecay = Annotated[float | None, _option("weight_decay", "Pull of weights to 0")]
Warmup = Annotated[int | None, _option("warmup_epochs", "Epochs in which the rate rises")]
Smoothing = Annotated[float | None, _option("label_smoothing", "Share of the other classes")]
Crop = Annotated[float | None, _option("smallest_crop", "Smallest crop, as a share of the area")]
Mirror = Annotated[bool | None, _option("flip", "Mirror half of the pictures")]
Rotation = Annotated[float | None, _option("rotation_degrees", "Turns, up to so many degrees")]
Colour = Annotated[float | None, _option("colour", "Changes of brightness, contrast and white")]


def train(
    data: Data,
    output: Output,
    model: Network = "etinynet-0.75",
    size: Size = None,
    teacher: Teacher = None,
    resume: Resume = False,
    epochs: Epochs = None,
    seed: Seed = None,
    optimizer: Optimizer = None,
    learning_rate: Rate = None,
    batch_size: BatchSize = None,
    momentum: Momentum = None,
    weight_decay: WeightDecay = None,
    warmup_epochs: Warmup = None,
    label_smoothing: Smoothing = None,
    smallest_crop: Crop = None,
    flip: Mirror = None,
    rotation_degrees: Rotation = None,
    colour: Colour = None,
    as_json: Json = False,
) -> None:
    """Train a classifier on folders of pictures; about a fifth is held out to measure it.

    After every epoch, and when stopped by Ctrl-C or SIGTERM, DIR/model.safetensors holds the
    weights so far, and --resume goes on. With more --epochs, also after the last one, the rate
    goes on along the schedule of the new number.

    \b
    etinynet train photos --model etinynet-0.75 --size 96 -o runs/photos
    etinynet train photos --epochs 100 --mirror --crop 0.25 --rate 0.05 -o runs/mirrored
    etinynet train photos -o runs/photos --resume --epochs 80
    etinynet train photos more-photos --teacher imagenet --epochs 20 -o runs/narrow
    """
    options = {field: value for field, value in locals().items() if field in OPTIONS}
    from etinynet.commands.closing import closing_lines
    from etinynet.commands.training import teach, train_folder

    if teacher is not None:
        result = teach(teacher, data, output, model, size, options, resume)
        text = f"agrees with {teacher} on {result['agreement']:.2f} % of {result['n']} pictures"
        print_json(result) if as_json else print_lines(f"{text} -> {result['weights']}")
        return
    if len(data) > 1:
        raise ConfigError("more than one folder is given; only --teacher takes several")
    result = train_folder(data[0], output, model, 96 if size is None else size, options, resume)
    if as_json:
        print_json(result)
        return
    print_lines(
        f"held-out top-1 {result['top1']:.2f} % of {result['n']} pictures (last of "
        f"{result['epochs']} epochs, best {result['best_top1']:.2f} %) -> {result['weights']}",
        *closing_lines(result),
    )
