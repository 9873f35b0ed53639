"""The files that make the C library a CMake target, and a library of three other build systems."""

from __future__ import annotations

from importlib import metadata

from etinynet.backend.c.emit import render
from etinynet.graph.ir import Graph

__all__ = ["package_files"]


def package_files(graph: Graph) -> dict[str, bytes]:
    """Files to lie beside those of `compile_graph`, by name; ToolError without jinja2.

    All four build systems compile the two sources in the root of the folder and nothing else:
    Arduino looks into the root and `utility` where there is no `src`, the others are told.
    """
    name = graph.name
    height, width, _ = graph.tensors[graph.input].shape
    values = {
        "name": name,
        "upper": name.upper(),
        "version": metadata.version("etinynet"),
        "scores": graph.tensors[graph.outputs[0]].shape[2],
        "height": height,
        "width": width,
    }
    templates = {
        "CMakeLists.txt": "CMakeLists.txt",
        "library.properties": "library.properties",
        "library.json": "library.json",
        "zephyr/module.yml": "module.yml",
        "zephyr/Kconfig": "Kconfig",
        "zephyr/CMakeLists.txt": "zephyr.cmake",
        f"examples/{name}/{name}.ino": "sketch.ino",
    }
    return {
        file: render(f"package/{template}.jinja", **values).encode()
        for file, template in templates.items()
    }
