"""Rows of benchmarks/results: what was measured, after date, tool versions and machine."""

from __future__ import annotations

import csv
import datetime
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from etinynet.train.loop import METRICS

__all__ = ["append_rows", "seconds_of", "trained_epochs"]

RESULTS = Path(__file__).parent / "results"


def append_rows(name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Adds `rows` to results/`name`.csv, each with the conditions it was measured under.

    Their keys are the table's columns, in any order; ValueError for others.
    """
    conditions = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        **{tool: metadata.version(tool) for tool in ("torch", "numpy", "pillow")},
        "machine": f"{platform.system()} {platform.machine()}",
    }
    path = RESULTS / f"{name}.csv"
    full = [{**conditions, **row} for row in rows]
    columns = list(full[0])
    if path.exists():
        with path.open(newline="") as file:
            columns = next(csv.reader(file))
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(full)


def trained_epochs(folder: Path) -> list[dict[str, str]]:
    """What a training in `folder`, or in the folders in it, has behind it: a row an epoch."""
    rows: list[dict[str, str]] = []
    for path in sorted(folder.rglob(METRICS)):
        with path.open(newline="") as file:
            rows += csv.DictReader(file)
    return rows


def seconds_of(epochs: Iterable[Mapping[str, Any]]) -> float:
    """Seconds that `trained_epochs` took."""
    return sum((float(row["seconds"]) for row in epochs), 0.0)
