"""Compares random legal graphs, in every memory plan and form, with the reference, as CSV rows.

python benchmarks/plans.py COUNT --first SEED: the graphs of COUNT seeds, from SEED on, built for
this computer in both forms of the kernels; of --part-every graphs one also runs on each emulated
part, in the plan that follows from its seed. Every tensor is compared. A row for each --rows
graphs; exit status 1 if anything differs: seed, plan, form and first difference are printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from record import append_rows

from etinynet.backend.c import MODES
from etinynet.errors import FitError
from etinynet.target.base import TARGETS, get_target
from etinynet.target.verify import verify

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from every_plan import Outcome, compare_graphs
from many_libraries import quick_compiler
from random_graphs import legal_graph, pictures

__all__ = ["main"]

#: Graphs that are linked into one program.
_TOGETHER = 20
_PARTS = tuple(name for name in TARGETS if name not in ("reference", "host"))


def _on_part(seed: int, part: str) -> Iterator[str]:
    """What is wrong with the graph of `seed` on `part`; what exceeds the part passes."""
    graph = legal_graph(seed)
    mode = MODES[seed % len(MODES)]
    try:
        with get_target(part, mode=mode).load(graph) as program:
            found = verify(graph, program, pictures(seed, graph)[:1], tensors=True)
    except FitError:
        return
    except Exception as error:  # a defect of whatever kind is what is looked for
        yield f"seed {seed}, {part}, {mode}: {error!r}"
        return
    if found.first is not None:
        yield f"seed {seed}, {part}, {mode}: {found.first}"


def _compare(seeds: range, part_every: int) -> tuple[Outcome, int]:
    """What all graphs of `seeds` have shown, and how many runs on parts are in it."""
    total, runs = Outcome(), 0
    for start in range(0, len(seeds), _TOGETHER):
        part = seeds[start : start + _TOGETHER]
        with tempfile.TemporaryDirectory() as folder:
            found = compare_graphs(part, Path(folder))
        total.graphs += found.graphs
        total.programs += found.programs
        total.wrong += found.wrong
        for seed in (seed for seed in part if seed % part_every == 0):
            for name in _PARTS:
                total.wrong += _on_part(seed, name)
                runs += 1
    return total, runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--part-every", type=int, default=100)
    parser.add_argument("--rows", type=int, default=500)
    arguments = parser.parse_args()
    wrong = 0
    last = arguments.first + arguments.count
    for first in range(arguments.first, last, arguments.rows):
        start = time.perf_counter()
        seeds = range(first, min(first + arguments.rows, last))
        outcome, runs = _compare(seeds, arguments.part_every)
        row = {
            "ziglang": metadata.version("ziglang"),
            "compiler": quick_compiler("portable").version,
            "first_seed": first,
            "graphs": outcome.graphs,
            "host_programs": outcome.programs,
            "part_runs": runs,
            "wrong": len(outcome.wrong),
            "seconds": f"{time.perf_counter() - start:.0f}",
        }
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        print("".join(f"{words}\n" for words in outcome.wrong), end="", flush=True)
        append_rows("plans", [row])
        wrong += len(outcome.wrong)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
