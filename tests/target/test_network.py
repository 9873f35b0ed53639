"""EtinyNet-1.0 at 224 x 224 fits the parts of 1 MiB and runs in the instructions we promise."""

from __future__ import annotations

import numpy as np
import pytest

from etinynet.graph import execute
from etinynet.target.base import get_target
from graph_cases import etinynet_graph, random_image

#: RAM in all and instructions that each memory plan may take.
LIMITS = {
    "stream": (98_304, 160_000_000),
    "inplace": (118_000, 150_000_000),
    "fast": (160 * 1024, 143_000_000),
}


@pytest.mark.parametrize(
    ("name", "mode"),
    [("stm32f746", "stream"), ("stm32f746", "inplace"), ("stm32f746", "fast"), ("stm32f412", None)],
)
def test_fits_runs_and_equals_the_reference(name: str, mode: str | None) -> None:
    rng = np.random.default_rng(0)
    graph = etinynet_graph(rng)
    image = random_image(rng, graph)
    with get_target(name, mode=mode).load(graph) as program:
        result = program.run(image)
    np.testing.assert_array_equal(result.scores, execute(graph, image))
    ram, instructions = LIMITS[mode or "fast"]
    print(f"{name}, {mode}: RAM {result.ram_bytes}, {result.instructions} instructions")
    assert result.ram_bytes <= ram
    assert result.instructions <= instructions
    assert result.flash_bytes <= 1 << 20
    assert result.stack_bytes < 1024
