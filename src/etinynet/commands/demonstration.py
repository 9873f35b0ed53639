"""demo: the embedded model on its own pictures, on three targets that have to agree."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from etinynet.data.images import to_input
from etinynet.data.reading import prepared
from etinynet.opened import graph_of, open_graph, rank, real_scores
from etinynet.show import print_lines, print_table
from etinynet.target.base import get_target

__all__ = ["print_demo", "run_demo"]

_MODEL = "sign-digits"
_PART = "stm32f746"
_TARGETS = ("reference", "host", _PART)


def run_demo() -> dict[str, Any]:
    """Classes, agreement, flash, RAM and instructions of the embedded model, as plain JSON."""
    opened = open_graph(_MODEL)
    graph = graph_of(opened)
    with resources.as_file(resources.files("etinynet") / "assets") as folder:
        paths = sorted(Path(folder).glob(f"{_MODEL}-*.jpg"))
        inputs = [to_input(picture) for picture in prepared(paths, opened.preprocess)]
    results = {}
    for name in _TARGETS:
        with get_target(name).load(graph) as program:
            results[name] = [program.run(image) for image in inputs]
    pictures, equal = [], True
    for index, path in enumerate(paths):
        expected = results["reference"][index].scores
        same = {n: np.array_equal(results[n][index].scores, expected) for n in _TARGETS}
        equal &= all(same.values())
        best = rank(real_scores(graph, expected), opened.class_names, 1)[0]
        count = results[_PART][index].instructions
        row = {"picture": path.name, **best.to_json(), "equal": same, "instructions": count}
        pictures.append(row)
    last = results[_PART][-1]
    return {
        "model": _MODEL,
        "equal": equal,
        "pictures": pictures,
        "target": _PART,
        "instructions": last.instructions,
        "flash_bytes": last.flash_bytes,
        "ram_bytes": last.ram_bytes,
        "stack_bytes": last.stack_bytes,
    }


def print_demo(found: Mapping[str, Any]) -> None:
    """The table of what `run_demo` gave."""
    rows = [
        (
            row["picture"],
            row["name"],
            f"{row['score']:.3f}",
            *("equal" if row["equal"][name] else "DIFFERS" for name in _TARGETS),
            row["instructions"],
        )
        for row in found["pictures"]
    ]
    print_table(("picture", "class", "score", *_TARGETS, "instructions"), rows)
    print_lines(
        f"{found['target']}: flash {found['flash_bytes']:,} bytes, RAM {found['ram_bytes']:,} "
        f"bytes (stack {found['stack_bytes']:,}); scores are "
        f"{'' if found['equal'] else 'NOT '}equal to the bit"
    )
