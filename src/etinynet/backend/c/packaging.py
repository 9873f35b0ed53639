"""The files that make the C library a folder to hand on: build systems, licence, documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata, resources
from typing import Any

from etinynet.backend.c.emit import render
from etinynet.backend.c.interface import class_names, interface_values
from etinynet.backend.c.materials import bill_of_materials
from etinynet.graph.ir import Graph

__all__ = ["package_files"]

_PACKAGE = resources.files("etinynet.backend.c")


def package_files(graph: Graph, library: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    """Files to lie beside `library`, what `compile_graph` made of `graph` under `name`, by name.

    All four build systems compile the sources in the root of the folder and nothing else: Arduino
    looks into the root and `utility` where there is no `src`, the others are told. Where the
    report.json of `library` has what a run has measured, the README has it too. Raises ToolError
    without jinja2.
    """
    report = json.loads(library["report.json"])
    measured = report.get("measured")
    templates = {
        "CMakeLists.txt": "CMakeLists.txt",
        "library.properties": "library.properties",
        "library.json": "library.json",
        "zephyr/module.yml": "module.yml",
        "zephyr/Kconfig": "Kconfig",
        "zephyr/CMakeLists.txt": "zephyr.cmake",
        f"examples/{name}/{name}.ino": "sketch.ino",
        "README.md": "README.md",
    }
    values = _values(graph, library, report, name)
    files = {
        file: render(f"package/{template}.jinja", **values).encode()
        for file, template in templates.items()
    }
    files["LICENSE"] = (_PACKAGE / "templates" / "package" / "LICENSE").read_bytes()
    tools = None if measured is None else measured["tools"]
    files["bom.cdx.json"] = bill_of_materials(graph, name, report["graph_sha256"], tools)
    return files


def _values(
    graph: Graph, library: Mapping[str, bytes], report: dict[str, Any], name: str
) -> dict[str, Any]:
    height, width, _ = graph.tensors[graph.input].shape
    regions = [size for size in report["planned"]["region_bytes"] if size]
    return {
        **interface_values(graph),
        "name": name,
        "upper": name.upper(),
        "version": metadata.version("etinynet"),
        "digest": report["graph_sha256"],
        "scores": graph.tensors[graph.outputs[0]].shape[2],
        "height": height,
        "width": width,
        "has_names": bool(class_names(graph)),
        "sources": sorted(file for file in library if file.endswith(".c") and "/" not in file),
        "planned": report["planned"],
        "arenas": len(regions) if len(regions) > 1 else 0,
        "firmware": report.get("measured"),
        "stack_bound": report.get("stack_bound"),
        "expected_line": report.get("expected_line"),
    }
