"""The bill of materials of a generated folder, as CycloneDX 1.6."""

from __future__ import annotations

import json
from importlib import metadata
from typing import Any

from etinynet.backend.c.interface import class_names
from etinynet.graph.ir import Graph

__all__ = ["bill_of_materials"]


def bill_of_materials(graph: Graph, name: str, digest: str, tools: str | None) -> bytes:
    """What the folder of library `name` is made of: code, network, and who made both.

    Nothing else is in it, which it says. `digest` is that of the graph, `tools` the compiler of the
    linked programs, None where there are none. The same arguments give the same bytes.
    """
    version = metadata.version("etinynet")
    toolkit = {"type": "application", "name": "etinynet", "version": version}
    compiler = [] if tools is None else [{"type": "application", "name": tools}]
    files = [f"{name}_weights.c", *([f"{name}_classes.c"] if class_names(graph) else [])]
    code: dict[str, Any] = {
        "type": "library",
        "bom-ref": "code",
        "name": "etinynet-c",
        "version": version,
        "description": "Kernels, schedule and firmware: every file but those of the network",
        "licenses": [{"license": {"id": "MIT"}}],
    }
    network: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "network",
        "name": graph.name,
        "description": f"Integer graph; its values are in {' and '.join(files)}",
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "licenses": [
            {"license": {"name": "LicenseRef-Network: as the owner of the network states"}}
        ],
    }
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [toolkit, *compiler]},
            "component": {"type": "library", "bom-ref": "library", "name": name},
        },
        "components": [code, network],
        "dependencies": [{"ref": "library", "dependsOn": ["code", "network"]}],
        "compositions": [{"aggregate": "complete", "assemblies": ["library"]}],
    }
    return (json.dumps(bill, indent=2) + "\n").encode()
