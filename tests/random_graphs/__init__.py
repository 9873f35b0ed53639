"""Random legal graphs: every operator, odd sides, 1 to 70 channels, shortcuts of all kinds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from etinynet.graph.ir import Graph
from random_graphs.walk import Walk

__all__ = ["legal_graph", "pictures"]


def legal_graph(seed: int, name: str = "net") -> Graph:
    """The graph of `seed`, legal and supported by the C backend; every third favours strips."""
    rng = np.random.default_rng(seed)
    while True:
        graph = Walk(rng, strips=seed % 3 == 0).graph(name)
        if graph is not None:
            return graph


def pictures(seed: int, graph: Graph) -> list[NDArray[np.int8]]:
    """Pictures for `graph`: any values, values at the ends alone, and all white."""
    rng = np.random.default_rng((seed, 1))
    shape = graph.tensors[graph.input].shape
    mixed = rng.integers(-128, 128, shape).astype(np.int8)
    ends = rng.choice([-128, 127], shape).astype(np.int8)
    return [mixed, ends, np.full(shape, 127, np.int8)]
