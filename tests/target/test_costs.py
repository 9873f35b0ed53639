"""The embedded model costs exactly what costs.csv says; changed on purpose by --update-costs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from etinynet.backend.c import MODES
from etinynet.opened import graph_of, open_graph
from etinynet.target.base import get_target
from etinynet.target.parts import PARTS

TABLE = Path(__file__).with_name("costs.csv")
UPDATE = "python -m pytest tests/target/test_costs.py --update-costs"
KEY, COSTS = ("part", "plan"), ("instructions", "ram_bytes", "flash_bytes")


def measured(part: str, plan: str) -> dict[str, int]:
    """Costs of one grey picture."""
    graph = graph_of(open_graph("sign-digits"))
    with get_target(part, mode=plan).load(graph) as program:
        result = program.run(np.zeros(graph.tensors[graph.input].shape, np.int8))
    return {name: getattr(result, name) for name in COSTS}


def stored() -> dict[tuple[str, str], dict[str, int]]:
    """The committed costs by part and plan."""
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["part"], row["plan"]): {name: int(row[name]) for name in COSTS} for row in rows}


def store(table: dict[tuple[str, str], dict[str, int]]) -> None:
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*KEY, *COSTS))
        writer.writerows((*key, *costs.values()) for key, costs in sorted(table.items()))


def changes(old: dict[str, int], new: dict[str, int]) -> list[str]:
    """One line for each cost that is not the old one."""
    return [
        f"{name}: {old[name]:,} -> {new[name]:,} ({new[name] - old[name]:+,})"
        for name in COSTS
        if new[name] != old[name]
    ]


@pytest.mark.parametrize("plan", MODES)
@pytest.mark.parametrize("part", PARTS)
def test_costs_are_those_of_the_table(part: str, plan: str, request: pytest.FixtureRequest) -> None:
    new = measured(part, plan)
    if request.config.getoption("--update-costs"):
        store({**(stored() if TABLE.exists() else {}), (part, plan): new})
    found = changes(stored()[part, plan], new)
    assert not found, f"{part}, {plan}: {'; '.join(found)}. If meant, run: {UPDATE}"


def test_a_change_is_told_in_full() -> None:
    old = dict.fromkeys(COSTS, 1000)
    assert changes(old, old) == []
    assert changes(old, {**old, "ram_bytes": 900}) == ["ram_bytes: 1,000 -> 900 (-100)"]
