"""Every plan of random graphs in both forms of the kernels, compared with the reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from etinynet.backend.c import compile_graph
from etinynet.graph.ir import Graph
from every_strip import PLANS, in_plan
from many_libraries import FORMS, Library, differences
from random_graphs import legal_graph, pictures

__all__ = ["Outcome", "compare_graphs"]


@dataclass
class Outcome:
    """`graphs` were planned in every plan and run as `programs`, plans that are alike once;
    `wrong` are those that differ from the reference or cannot be generated, in words."""

    graphs: int = 0
    programs: int = 0
    wrong: list[str] = field(default_factory=list)


def _without_name(files: dict[str, bytes], name: str) -> bytes:
    """What the library does: its source without the head and without its name."""
    source = files[f"{name}.c"].split(b"*/", 1)[1]
    return source.replace(name.encode(), b"").replace(name.upper().encode(), b"")


def _libraries(seed: int, graph: Graph, outcome: Outcome) -> list[Library]:
    """The libraries of all plans that differ in more than their name."""
    found: dict[bytes, Library] = {}
    images = pictures(seed, graph)[:2]
    for plan in PLANS:
        named = replace(graph, name=f"seed{seed}_{plan}")
        try:
            with in_plan(plan) as mode:
                files = compile_graph(named, mode=mode)
        except Exception as error:  # a defect of whatever kind is the outcome
            outcome.wrong.append(f"{named.name}: {error!r}")
            continue
        found.setdefault(_without_name(files, named.name), Library(named, files, images))
    return list(found.values())


def compare_graphs(seeds: Iterable[int], folder: Path) -> Outcome:
    """The graphs of `seeds` in every plan and both forms, built in `folder`, new or empty."""
    outcome = Outcome()
    libraries = []
    for seed in seeds:
        libraries += _libraries(seed, legal_graph(seed), outcome)
        outcome.graphs += 1
    for form in FORMS:
        found = differences(folder / form, libraries, form)
        outcome.programs += len(libraries)
        outcome.wrong += [f"{name}, {form}: {words}" for name, words in found.items()]
    return outcome
