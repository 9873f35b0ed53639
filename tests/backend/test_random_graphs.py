"""Random legal graphs: every tensor equals the reference's in every plan, form and target."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from etinynet.backend.c import MODES
from etinynet.graph.ir import KINDS
from etinynet.target.base import TARGETS, get_target
from etinynet.target.verify import verify
from every_plan import compare_graphs
from random_graphs import legal_graph, pictures

GRAPHS, TOGETHER = 200, 20
PARTS = [name for name in TARGETS if name not in ("reference", "host")]


@pytest.mark.parametrize("first", range(0, GRAPHS, TOGETHER))
def test_every_plan_and_form_equals_the_reference(tmp_path: Path, first: int) -> None:
    """`python benchmarks/plans.py` does the same with as many graphs as one likes."""
    outcome = compare_graphs(range(first, first + TOGETHER), tmp_path)
    assert outcome.wrong == []
    assert outcome.graphs == TOGETHER
    assert outcome.programs > 2 * TOGETHER


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("seed", [1000, 1002])
def test_parts_equal_the_reference(seed: int, name: str) -> None:
    graph = legal_graph(seed)
    mode = MODES[(seed + PARTS.index(name)) % len(MODES)]
    with get_target(name, mode=mode).load(graph) as program:
        assert verify(graph, program, pictures(seed, graph)[:1], tensors=True).passed


def test_the_graphs_are_of_all_kinds() -> None:
    found: Counter[str] = Counter()
    for seed in range(GRAPHS):
        graph = legal_graph(seed)
        reads = Counter(name for op in graph.ops for name in {op.input, op.residual})
        words = {op.kind for op in graph.ops}
        words |= {f"shortcut of {op.kind}" for op in graph.ops if op.residual}
        words |= {f"own {op.kind}" for op in graph.ops if op.residual == op.input}
        words |= {f"weights {op.weight_bits}" for op in graph.ops if op.weight is not None}
        words |= {"read twice"} if max(reads[name] for name in graph.tensors) > 1 else set()
        for height, width, channels in (tensor.shape for tensor in graph.tensors.values()):
            words |= {"odd"} if height % 2 and width % 2 and height * width > 1 else set()
            words |= {"one channel"} if channels == 1 else set()
            words |= {"many channels"} if channels > 50 else set()
        found.update(words)
    expected = [*KINDS, "read twice", "odd", "one channel", "many channels"]
    expected += [f"weights {bits}" for bits in range(2, 9)]
    for kind in ("depthwise", "pointwise", "add"):
        expected += [f"shortcut of {kind}", f"own {kind}"]
    assert {word: found[word] for word in expected if found[word] < 15} == {}
    assert found["own conv2d"] > 0
