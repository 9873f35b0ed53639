"""Compares a program with the reference executor, to the bit; says where they part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.graph.execute import execute_all
from etinynet.graph.ir import Graph
from etinynet.target.base import Program, Result

__all__ = ["Difference", "Verification", "verify"]


@dataclass(frozen=True)
class Difference:
    """One value that is not the reference's: in picture number `picture`, counted from 0.

    `operator` made `tensor`; `index` is (row, column, channel) in it.
    """

    picture: int
    operator: str
    tensor: str
    index: tuple[int, int, int]
    expected: int
    got: int

    def __str__(self) -> str:
        return (
            f"picture {self.picture}, operator {self.operator!r}, tensor {self.tensor!r} at "
            f"{self.index}: expected {self.expected}, got {self.got}"
        )


@dataclass(frozen=True)
class Verification:
    """Outcome: of `pictures` compared, `equal` had no difference; `first` is the first one found.

    With tensors it is the earliest in order of execution: where the error was made.
    """

    pictures: int
    equal: int
    first: Difference | None

    @property
    def passed(self) -> bool:
        """Whether every picture was equal."""
        return self.equal == self.pictures


def verify(
    graph: Graph,
    program: Program,
    images: Iterable[NDArray[np.int8]],
    *,
    tensors: bool = False,
) -> Verification:
    """Runs each of `images` on `program` and the reference; `tensors` compares all of them.

    Images are int8 (height, width, 3), pixel minus 128. The errors of `program.run` pass through.
    """
    pictures = equal = 0
    first: Difference | None = None
    for number, image in enumerate(images):
        expected = execute_all(graph, image)
        result = program.run(image, tensors=tensors)
        difference = _first_difference(graph, number, expected, result)
        pictures += 1
        equal += difference is None
        first = first or difference
    return Verification(pictures, equal, first)


def _first_difference(
    graph: Graph, picture: int, expected: Mapping[str, NDArray[Any]], result: Result
) -> Difference | None:
    for op in graph.ops:
        want = expected[op.output]
        pairs = []
        if result.tensors is not None:
            pairs.append(result.tensors[op.output])
        if op.output == graph.outputs[0]:
            pairs.append(result.scores.reshape(want.shape))
        for got in pairs:
            wrong = np.argwhere(got != want)
            if len(wrong):
                row, column, channel = (int(n) for n in wrong[0])
                at = (row, column, channel)
                return Difference(picture, op.name, op.output, at, int(want[at]), int(got[at]))
    return None
