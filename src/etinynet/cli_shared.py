"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from etinynet.artefact import package_version
from etinynet.errors import ConfigError
from etinynet.model.fields import MAX_SIZE, MIN_SIZE
from etinynet.show import print_lines

__all__ = ["GraphFile", "Json", "Labels", "LibraryName", "Model", "Plan", "Version", "side"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Model = Annotated[
    str,
    typer.Argument(help="A name (sign-digits, imagenet) or a .etn, .safetensors, .params file."),
]
GraphFile = Annotated[str, typer.Argument(help="An integer graph: a .etn file or a name.")]
Plan = Annotated[
    str | None,
    typer.Option(help="Memory plan: stream, inplace or fast. [default: the quickest that fits]"),
]
LibraryName = Annotated[
    str | None, typer.Option("--name", help="Name of the network and its C library; else its own.")
]
Labels = Annotated[
    Path | None, typer.Option(help="Table of path TAB class index, instead of class folders.")
]


def side(words: str) -> Any:
    """The option of an input's side in pixels."""
    return typer.Option(help=f"{words}, {MIN_SIZE} to {MAX_SIZE}.", callback=_checked_side)


def _checked_side(size: int | None) -> int | None:
    if size is not None and not MIN_SIZE <= size <= MAX_SIZE:
        raise ConfigError(f"--size is {size}, allowed are {MIN_SIZE} to {MAX_SIZE}")
    return size


def _print_version(wanted: bool) -> None:
    if wanted:
        print_lines(f"etinynet {package_version()}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
]
