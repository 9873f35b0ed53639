"""EtinyNet-1.0 from the authors' float file to three emulated parts: accuracy, bits, costs, as CSV.

python benchmarks/imagenet_int8.py PARAMS CALIBRATION SAMPLE OUT: the authors' classifier; a folder
of pictures that are not in SAMPLE, 512 of which calibrate; a folder with labels.tsv; a folder for
the weights and the graph, which are not to be shared.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from record import append_rows

from etinynet.commands.network import import_file
from etinynet.commands.quantizing import Request, quantize_file
from etinynet.commands.using import evaluate_model, run_pictures, verify_target
from etinynet.data.collect import find_pictures

__all__ = ["main", "measure"]

PARTS = ("stm32f412", "stm32f746", "stm32h743")
VERIFIED = 20


def measure(params: Path, calibration: Path, sample: Path, out: Path) -> list[dict[str, Any]]:
    """One row a part, each with the accuracies of the float network and of the graph."""
    out.mkdir(parents=True, exist_ok=True)
    weights, graph = str(out / "imagenet.safetensors"), str(out / "imagenet.etn")
    import_file(params, Path(weights), None)
    made = quantize_file(weights, calibration, Path(graph), Request(pictures=512))
    real = evaluate_model(weights, sample, sample / "labels.tsv", None, False)
    integer = evaluate_model(graph, sample, sample / "labels.tsv", None, False)
    picture = find_pictures(sample, 1)
    rows = []
    for part in PARTS:
        cost = run_pictures(graph, part, picture)
        same = verify_target(graph, part, sample, VERIFIED, layers=False)
        rows.append(
            {
                "calibration_pictures": made["pictures"],
                "graph_bytes": made["bytes"],
                "n": integer["n"],
                "float_top1": real["top1"],
                "float_top5": real["top5"],
                "int8_top1": integer["top1"],
                "int8_top5": integer["top5"],
                "target": part,
                "equal": same["equal"],
                "verified": same["n"],
                "instructions": cost["instructions"],
                "flash_bytes": cost["flash_bytes"],
                "ram_bytes": cost["ram_bytes"],
                "stack_bytes": cost["pictures"][0]["stack_bytes"],
                "tools": cost["tools"],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("params", "calibration", "sample", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    rows = measure(arguments.params, arguments.calibration, arguments.sample, arguments.out)
    append_rows("imagenet_int8", rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
