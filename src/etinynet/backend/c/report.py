"""report.json: sizes, layouts and operators of a generated library, and rows decoded by it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.artefact import provenance
from etinynet.backend.c.constants import Array, OpConstants
from etinynet.backend.c.plan import Plan
from etinynet.backend.c.rows import STRIP_PIXELS
from etinynet.backend.c.tables import most_rows
from etinynet.graph.ir import Graph
from etinynet.graph.ops import macs

__all__ = ["decode_rows", "pieces", "plan_mode", "report_bytes", "store_rows"]


def _tensor(plan: Plan, name: str) -> dict[str, Any]:
    tensor, layout = plan.program.tensors[name], plan.layouts[name]
    entry: dict[str, Any] = {
        "name": name,
        "shape": list(tensor.shape),
        "bits": tensor.bits,
        "order": layout.order,
        "element_bytes": layout.element_bytes,
        "pixel_stride": layout.pixel_stride,
        "channel_stride": layout.channel_stride,
        "pad": layout.pad,
        "row_bytes": layout.row_bytes,
    }
    strip = plan.strip_pixels(name)
    if strip:
        strip_bytes = strip * layout.pixel_stride * layout.element_bytes
        return entry | {"strip_pixels": strip, "row_bytes": strip_bytes}
    spans = plan.spans[name]
    return entry | {
        "strip_pixels": 0,
        "offsets": list(plan.places[name]),
        "most_rows": most_rows(plan, name),
        "life": [min(first for first, _ in spans) // 2, max(last for _, last in spans) // 2],
    }


def _operator(plan: Plan, index: int, values: OpConstants) -> dict[str, Any]:
    op, step = plan.program.ops[index], plan.steps[index]
    return {
        "name": op.name,
        "kind": op.kind,
        "symbol": f"op_{index}_{op.kind}",
        "input": op.input,
        "output": op.output,
        "residual": op.residual,
        "macs": macs(op, plan.program.tensors[op.output]),
        "weight_bytes": values.weight_bytes,
        "constant_bytes": values.constant_bytes,
        "scratch_bytes": plan.scratch_bytes[index],
        "step_rows": step.rows,
        "barrier": step.barrier,
        "strip_pixels": STRIP_PIXELS if step.before >= 0 else 0,
    }


def report_bytes(
    graph: Graph,
    digest: str,
    plan: Plan,
    arrays: list[Array],
    constants: list[OpConstants],
    command: str,
) -> bytes:
    """Content of report.json; `digest` is that of the graph under its own name.

    Sizes are computed, not measured; code is known after linking.
    """
    weights = sum(array.bytes for array in arrays if array.symbol.endswith("_weight"))
    report = {
        "format": "etinynet-c-report",
        "version": 1,
        "provenance": provenance(command, {}),
        "graph_sha256": digest,
        "name": graph.name,
        "planned": {
            "mode": plan.mode,
            "arena_bytes": plan.arena_bytes,
            "region_bytes": list(plan.region_bytes),
            "arena_lower_bound": plan.peak_bytes,
            "scores_bytes": 2 * graph.tensors[graph.outputs[0]].shape[2],
            "weight_bytes": weights,
            "constant_bytes": sum(array.bytes for array in arrays) - weights,
            "macs": sum(macs(op, graph.tensors[op.output]) for op in graph.ops),
            "calls": len(plan.events),
        },
        "tensors": [_tensor(plan, name) for name in plan.program.tensors],
        "operators": [_operator(plan, i, values) for i, values in enumerate(constants)],
    }
    return (json.dumps(report, indent=2) + "\n").encode()


def plan_mode(files: Mapping[str, bytes]) -> str:
    """The mode of the memory plan of a generated library, by its report.json."""
    return str(json.loads(files["report.json"])["planned"]["mode"])


def pieces(tensor: dict[str, Any]) -> int:
    """Pieces in which a row of `tensor`, an entry of "tensors", is handed to etn_trace."""
    strip: int = tensor["strip_pixels"]
    return -(-tensor["shape"][1] // strip) if strip else 1


def decode_rows(
    tensor: dict[str, Any], rows: int, data: bytes
) -> NDArray[np.int8] | NDArray[np.int16]:
    """Values (rows, width, channels) in the memory `data` of `rows` rows handed to etn_trace.

    `tensor` is an entry of "tensors" of report.json; `data` has rows * row_bytes bytes. For a
    tensor in strips, `rows` counts pieces of rows, and the width is that of a strip. The result is
    int8 for tensors of up to 8 bits, else int16, as in the reference executor.
    """
    _, width, channels = tensor["shape"]
    width = tensor["strip_pixels"] or width
    element = tensor["element_bytes"]
    flat = np.frombuffer(data, "<i2" if element == 2 else "i1")
    lines = flat.reshape(rows, tensor["row_bytes"] // element)
    places = (
        tensor["pad"]
        + np.arange(width)[:, None] * tensor["pixel_stride"]
        + np.arange(channels) * tensor["channel_stride"]
    )
    values = lines[:, places]
    return values.astype(np.int8) if tensor["bits"] <= 8 else values.astype(np.int16)


def store_rows(
    tensor: dict[str, Any], row: int, rows: int, data: bytes, into: NDArray[Any]
) -> None:
    """Decodes what etn_trace was handed and writes it to its place in `into` (height, width,
    channels); arguments as for `decode_rows`, `row` the first row or piece."""
    values = decode_rows(tensor, rows, data)
    strip = tensor["strip_pixels"]
    if not strip:
        into[row : row + rows] = values
        return
    line, piece = divmod(row, pieces(tensor))
    part = into[line, piece * strip : (piece + 1) * strip]
    part[:] = values[0, : len(part)]
