"""An arena above 1 MiB: equal to the reference where it can be held, else refused by every verb."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import ASSETS, PICTURE, Run

from etinynet.backend.c import plan
from etinynet.graph.io import graph_to_bytes
from graph_cases import GraphBuilder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph file whose first layer, 2 MiB, is in memory at one time."""
    builder = GraphBuilder(np.random.default_rng(0), "large", (256, 256, 3))
    last = builder.add("conv2d", "stem", "input", channels=32, kernel=3, padding=1)
    path = tmp_path_factory.mktemp("large") / "large.etn"
    path.write_bytes(graph_to_bytes(builder.finish(last, 10)))
    return path


def test_it_equals_the_reference(run: Run, large: Path, tmp_path: Path) -> None:
    assert run("verify", large, "--on", "host", "--data", ASSETS, "-n", 2, "--layers").status == 0
    scores = [
        run("run", large, PICTURE, "--on", on, "--json").json()["pictures"][0]["scores"]
        for on in ("reference", "host")
    ]
    assert scores[0] == scores[1]
    assert run("compile", large, "--target", "host", "-o", tmp_path / "large_c").status == 0


def test_what_cannot_be_held_is_refused_with_sizes(
    run: Run, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (
        ("run", large, PICTURE, "--on", "stm32h743"),
        ("verify", large, "--on", "stm32f746", "--data", ASSETS),
        ("compile", large, "--target", "stm32f412", "-o", tmp_path / "none"),
    ):
        assert "large: the arena takes " in run(*words).refused()
    monkeypatch.setattr(plan, "MOST_BYTES", 2 << 20)
    for words in (
        ("run", large, PICTURE, "--on", "host"),
        ("verify", large, "--on", "host", "--data", ASSETS),
        ("compile", large, "--target", "host", "-o", tmp_path / "none"),
    ):
        assert "the generated C holds at most 2097152" in run(*words).refused()
    assert list(tmp_path.iterdir()) == []
