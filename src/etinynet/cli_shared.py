"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["GraphFile", "Json", "Labels", "Model", "Plan"]

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
Labels = Annotated[
    Path | None, typer.Option(help="Table of path TAB class index, instead of class folders.")
]
