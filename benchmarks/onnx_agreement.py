"""Compares ONNX Runtime on the exported model with the integer graph, as CSV rows.

python benchmarks/onnx_agreement.py GRAPH PICTURES OUT: GRAPH is an .etn file or a name, PICTURES a
folder; OUT is made and holds the model. The graph runs as compiled C, which is checked against the
reference.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from record import append_rows

from etinynet.commands.exporting import export_file
from etinynet.data.collect import find_pictures
from etinynet.data.reading import prepared
from etinynet.graph.io import graph_digest
from etinynet.opened import graph_of, host_scores, open_graph
from etinynet.show import tracked

__all__ = ["compare", "main", "runtime_scores"]

LEVELS = {
    "default": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def runtime_scores(
    path: Path, level: str, threads: int, pictures: Iterator[NDArray[np.uint8]]
) -> NDArray[np.float64]:
    """Real-valued scores (pictures, classes) by ONNX Runtime, one picture at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = LEVELS[level]
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rows = []
    for picture in pictures:
        image = picture.transpose(2, 0, 1)[None].astype(np.float32)
        rows.append(session.run(["scores"], {"image": image})[0][0])
    return np.array(rows, np.float64)


def compare(
    found: NDArray[np.float64], expected: NDArray[np.float64], scale: float
) -> dict[str, Any]:
    """Share of equal top-1 and differences of scores, in steps of the output and in real units."""
    steps = np.abs(np.rint((found - expected) / scale))
    same = found.argmax(1) == expected.argmax(1)
    return {
        "n": len(found),
        "top1_equal": f"{same.mean():.4f}",
        "pictures_equal": int((steps.max(1) == 0).sum()),
        "largest_steps": int(steps.max()),
        "mean_steps": f"{steps.mean():.4f}",
        "largest": f"{steps.max() * scale:.6f}",
        "mean": f"{steps.mean() * scale:.6f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    opened = open_graph(arguments.graph)
    graph = graph_of(opened)
    path = arguments.out / f"{graph.name}.onnx"
    exported = export_file(arguments.graph, "onnx", path)
    files = find_pictures(arguments.pictures, arguments.most)
    shown = tracked(prepared(files, opened.preprocess), len(files), "compiled C")
    expected = np.array(list(host_scores(opened, shown)))
    rows = []
    for level in LEVELS:
        shown = tracked(prepared(files, opened.preprocess), len(files), f"optimizations: {level}")
        start = time.perf_counter()
        found = runtime_scores(path, level, arguments.threads, shown)
        seconds = (time.perf_counter() - start) / len(files)
        row = {
            **{name: metadata.version(name) for name in ("onnx", "onnxruntime")},
            "cpus": os.cpu_count(),
            "threads": arguments.threads,
            "graph": graph.name,
            "graph_sha256": graph_digest(graph),
            "weight_bits": min(op.weight_bits for op in graph.ops),
            "bytes": exported["bytes"],
            "optimizations": level,
            **compare(found, expected, graph.tensors[graph.outputs[0]].scale),
            "seconds_a_picture": f"{seconds:.3f}",
        }
        rows.append(row)
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    append_rows("onnx_agreement", rows)


if __name__ == "__main__":
    main()
