"""EtinyNet-1.0 at 224 x 224 fits the parts of 1 MiB and runs in the instructions we promise."""

from __future__ import annotations

import numpy as np
import pytest

from etinynet.graph import execute
from etinynet.target.base import get_target
from graph_cases import etinynet_graph, random_image


@pytest.mark.parametrize("name", ["stm32f412", "stm32f746"])
def test_fits_runs_and_equals_the_reference(name: str) -> None:
    rng = np.random.default_rng(0)
    graph = etinynet_graph(rng)
    image = random_image(rng, graph)
    with get_target(name).load(graph) as program:
        result = program.run(image)
    np.testing.assert_array_equal(result.scores, execute(graph, image))
    assert result.instructions < 160_000_000
    assert result.flash_bytes <= 1 << 20
    assert result.ram_bytes < 160 * 1024
    assert result.stack_bytes < 1024
