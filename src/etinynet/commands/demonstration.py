"""demo: the embedded model on its own pictures, on three targets that have to agree."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from etinynet.data.collect import prepared
from etinynet.data.images import to_input
from etinynet.opened import graph_of, open_graph, rank, real_scores
from etinynet.target.base import get_target

__all__ = ["run_demo"]

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
    rows, equal = [], True
    for index, path in enumerate(paths):
        expected = results["reference"][index].scores
        same = {n: np.array_equal(results[n][index].scores, expected) for n in _TARGETS}
        equal &= all(same.values())
        best = rank(real_scores(graph, expected), opened.class_names, 1)[0]
        count = results[_PART][index].instructions
        words = ["equal" if same[name] else "DIFFERS" for name in _TARGETS]
        rows.append([path.name, best.name, f"{best.score:.3f}", *words, count])
    last = results[_PART][-1]
    summary = (
        f"{_PART}: flash {last.flash_bytes:,} bytes, RAM {last.ram_bytes:,} bytes "
        f"(stack {last.stack_bytes:,}); scores are {'' if equal else 'NOT '}equal to the bit"
    )
    return {
        "model": _MODEL,
        "equal": equal,
        "targets": list(_TARGETS),
        "rows": rows,
        "instructions": last.instructions,
        "flash_bytes": last.flash_bytes,
        "ram_bytes": last.ram_bytes,
        "summary": summary,
    }
