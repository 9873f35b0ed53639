"""Puts the rows that a traced program reports together to the tensors of its graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.backend.c import pieces, store_rows
from etinynet.errors import DeviceFault, MismatchError
from etinynet.graph.ir import Graph

__all__ = ["Trace", "row_bytes"]


def row_bytes(files: Mapping[str, bytes]) -> list[int]:
    """Bytes that one output row, or piece of it, of each call has in memory, in their order."""
    report = json.loads(files["report.json"])
    layouts = {entry["name"]: entry for entry in report["tensors"]}
    return [layouts[call["output"]]["row_bytes"] for call in report["operators"]]


class Trace:
    """Tensors in the making; `files` are those of the generated library, with its report.json.

    Copies that the library makes of a tensor are among them.
    """

    def __init__(self, graph: Graph, files: Mapping[str, bytes], image: NDArray[np.int8]) -> None:
        report = json.loads(files["report.json"])
        self._layouts = {entry["name"]: entry for entry in report["tensors"]}
        self._outputs = [call["output"] for call in report["operators"]]
        self._tensors: dict[str, NDArray[Any]] = {graph.input: image.copy()}
        self._seen: dict[str, NDArray[np.int64]] = {}
        self._row_bytes = row_bytes(files)
        for name in self._outputs:
            layout = self._layouts[name]
            dtype = np.int8 if layout["bits"] <= 8 else np.int16
            self._tensors[name] = np.zeros(layout["shape"], dtype)
            self._seen[name] = np.zeros(layout["shape"][0] * pieces(layout), np.int64)

    def bytes_of(self, op: int, row: int, rows: int) -> int:
        """Bytes that rows `row` .. `row + rows - 1` of the output of operator number `op` have.

        Raises DeviceFault if there is no such operator or row.
        """
        outputs = self._outputs
        if not 0 <= op < len(outputs):
            raise DeviceFault(
                f"the program reported rows of operator {op}, expected are 0 to {len(outputs) - 1}"
            )
        most = len(self._seen[outputs[op]])
        if row < 0 or rows < 1 or row + rows > most:
            raise DeviceFault(
                f"operator {outputs[op]!r}: the program reported {rows} rows from row {row} on, "
                f"it has {most}"
            )
        return rows * self._row_bytes[op]

    def add(self, op: int, row: int, rows: int, data: bytes) -> None:
        """Rows `row` .. `row + rows - 1` of the output of call number `op`, as in memory.

        Raises DeviceFault if `data` is not what `bytes_of` says.
        """
        wanted = self.bytes_of(op, row, rows)
        if len(data) != wanted:
            raise DeviceFault(
                f"operator {self._outputs[op]!r}: the program reported {len(data)} bytes "
                f"for {rows} rows, expected are {wanted}"
            )
        name = self._outputs[op]
        store_rows(self._layouts[name], row, rows, data, self._tensors[name])
        self._seen[name][row : row + rows] += 1

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All tensors by name; raises MismatchError unless each row was reported exactly once."""
        for name, seen in self._seen.items():
            wrong = np.flatnonzero(seen != 1)
            if len(wrong):
                raise MismatchError(
                    f"tensor {name!r}: the program made row {wrong[0]} {seen[wrong[0]]} times, "
                    "it has to be once"
                )
        return self._tensors
