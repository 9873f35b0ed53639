"""export: an integer graph in a format of other tools."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from etinynet.artefact import check_file, write_file
from etinynet.backend.c.names import check_library_name
from etinynet.errors import ConfigError
from etinynet.opened import graph_of, open_graph

__all__ = ["export_file"]

_FORMATS = ("onnx",)


def export_file(model: str, to: str, output: Path, name: str | None = None) -> dict[str, Any]:
    """Writes the graph `model` to `output` in format `to`; returns sizes, and `inexact_layers`.

    `name` is that of the graph in it, None for its own.
    Raises ConfigError for an unknown format, and the errors of reading, converting and writing.
    """
    if to not in _FORMATS:
        raise ConfigError(f"--to is {to!r}, allowed: {', '.join(_FORMATS)}")
    if name is not None:
        check_library_name(name, "--name")
    check_file("-o", output, ".onnx")
    from etinynet.backend.onnx import OPSET, export_onnx, inexact_layers

    graph = graph_of(open_graph(model))
    command = f"export {Path(model).name} --to {to}"
    if name is not None:
        graph, command = replace(graph, name=name), f"{command} --name {name}"
    data = export_onnx(graph, command=command)
    write_file(output, data)
    return {
        "model": model,
        "to": to,
        "file": str(output),
        "bytes": len(data),
        "opset": OPSET,
        "inexact_layers": inexact_layers(graph),
    }
