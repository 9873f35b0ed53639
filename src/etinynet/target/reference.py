"""The reference executor in the clothes of a target: what all others must equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from etinynet.graph.check import check
from etinynet.graph.execute import execute_all
from etinynet.graph.ir import Graph
from etinynet.target.base import Closing, Result, check_image

__all__ = ["ReferenceProgram", "ReferenceTarget"]


class ReferenceProgram(Closing):
    """A graph, executed by graph.execute."""

    def __init__(self, graph: Graph) -> None:
        check(graph)
        self._graph = graph

    def run(self, image: NDArray[np.int8], *, tensors: bool = False) -> Result:
        """See `base.Program.run`."""
        check_image(self._graph, image)
        values = execute_all(self._graph, image)
        scores = values[self._graph.outputs[0]].astype(np.int16).reshape(-1)
        return Result(scores, values if tensors else None)


class ReferenceTarget:
    """NumPy on this computer."""

    name = "reference"

    def load(self, graph: Graph) -> ReferenceProgram:
        """A program that executes `graph`; raises GraphError if it is not legal."""
        return ReferenceProgram(graph)
