"""Rows of benchmarks/results: what was measured, after date, tool versions and machine."""

from __future__ import annotations

import csv
import datetime
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["append_rows"]

RESULTS = Path(__file__).parent / "results"


def append_rows(name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Adds `rows` to results/`name`.csv, each with the conditions it was measured under."""
    conditions = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        **{tool: metadata.version(tool) for tool in ("torch", "numpy", "pillow")},
        "machine": f"{platform.system()} {platform.machine()}",
    }
    path = RESULTS / f"{name}.csv"
    full = [{**conditions, **row} for row in rows]
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, full[0].keys(), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(full)
