"""What lies behind a training: one row a finished epoch, as a table and as checked JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from etinynet.errors import ArtefactError

__all__ = ["Epoch", "Run", "run_from_json", "table", "words"]

_SHARES = ("top1", "top5")
_POSITIVE = ("learning_rate", "seconds", *_SHARES)
_MOST_WORDS = 100


@dataclass(frozen=True)
class Epoch:
    """One row of metrics.csv: mean training loss, and accuracy on the held-out pictures."""

    epoch: int
    learning_rate: float
    loss: float
    top1: float
    top5: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """A training so far: `history` has one row a finished epoch.

    `lengthened`: (done, epochs) of each time that the run was given more epochs: so many were
    done, and so many it should have had until then.
    """

    history: tuple[Epoch, ...] = ()
    lengthened: tuple[tuple[int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `run_from_json` reads back to an equal run."""
        return {
            "history": [asdict(row) for row in self.history],
            "lengthened": [list(pair) for pair in self.lengthened],
        }

    def changes(self) -> dict[str, Any]:
        """`lengthened` for the provenance of weights, as JSON; empty where it never was."""
        return {"lengthened": self.to_json()["lengthened"]} if self.lengthened else {}


def words(value: object) -> str:
    """`value` for a message: one line, shortened."""
    text = repr(value)
    return text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS]}..."


def table(history: Iterable[Epoch]) -> bytes:
    """metrics.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Epoch))
    for row in history:
        writer.writerow(f"{v:.6g}" if type(v) is float else v for v in asdict(row).values())
    return text.getvalue().encode()


def run_from_json(info: dict[str, Any], epochs: int, source: str) -> Run:
    """The run in `info`, of at most `epochs` rows; raises ArtefactError naming `source`."""
    rows, pairs = info.get("history"), info.get("lengthened", [])
    if not isinstance(rows, list) or len(rows) > epochs:
        raise ArtefactError(
            f"{source}: history is {words(rows)}; a list of at most {epochs} epochs is allowed"
        )
    history = tuple(_row(row, number, source) for number, row in enumerate(rows, 1))
    if not isinstance(pairs, list) or not all(_is_pair(pair, epochs) for pair in pairs):
        raise ArtefactError(
            f"{source}: lengthened is {words(pairs)}; a list of pairs of integers is allowed, "
            f"each below {epochs}"
        )
    return Run(history, tuple((done, total) for done, total in pairs))


def _is_pair(pair: object, epochs: int) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(number) is int for number in pair)
        and 0 <= pair[0] <= pair[1] < epochs
    )


def _row(value: object, number: int, source: str) -> Epoch:
    """The row of epoch `number`."""
    where = f"{source}: history[{number - 1}]"
    names = [field.name for field in fields(Epoch)]
    if not isinstance(value, dict) or sorted(value) != sorted(names):
        raise ArtefactError(f"{where} is {words(value)}; allowed are exactly {', '.join(names)}")
    if type(value["epoch"]) is not int or value["epoch"] != number:
        raise ArtefactError(f"{where}: epoch is {words(value['epoch'])}; {number} is allowed")
    for name in names[1:]:
        found = value[name]
        least = 0 if name in _POSITIVE else -math.inf
        most = 1 if name in _SHARES else math.inf
        if type(found) is not float or not math.isfinite(found) or not least <= found <= most:
            raise ArtefactError(
                f"{where}: {name} is {words(found)}; a finite number {least} to {most} is allowed"
            )
    return Epoch(**value)
