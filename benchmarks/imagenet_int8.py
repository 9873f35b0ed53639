"""EtinyNet-1.0 from the authors' float file to three emulated parts: accuracy, bits, costs, as CSV.

python benchmarks/imagenet_int8.py PARAMS CALIBRATION SAMPLE OUT: the authors' classifier; a folder
of at most 512 pictures or more that are not in SAMPLE; a folder with labels.tsv; a folder for the
weights and the graph, which are not to be shared.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import platform
from pathlib import Path
from typing import Any

import torch

from etinynet.commands.network import import_file
from etinynet.commands.quantizing import quantize_file
from etinynet.commands.using import evaluate_model, run_pictures, verify_target
from etinynet.data.collect import find_pictures

__all__ = ["main", "measure"]

RESULTS = Path(__file__).parent / "results" / "imagenet_int8.csv"
PARTS = ("stm32f412", "stm32f746", "stm32h743")
VERIFIED = 20


def measure(params: Path, calibration: Path, sample: Path, out: Path) -> list[dict[str, Any]]:
    """One row a part, each with the accuracies of the float network and of the graph."""
    out.mkdir(parents=True, exist_ok=True)
    weights, graph = str(out / "imagenet.safetensors"), str(out / "imagenet.etn")
    import_file(params, Path(weights), None)
    made = quantize_file(weights, calibration, Path(graph), 8, 512, None)
    real = evaluate_model(weights, sample, sample / "labels.tsv", None, False)
    integer = evaluate_model(graph, sample, sample / "labels.tsv", None, False)
    picture = find_pictures(sample, 1)
    rows = []
    for part in PARTS:
        cost = run_pictures(graph, part, picture)
        same = verify_target(graph, part, sample, VERIFIED, layers=False)
        rows.append(
            {
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "machine": f"{platform.system()} {platform.machine()}",
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
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
