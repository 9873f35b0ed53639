"""What commands print: tables and plain JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["note", "print_json", "print_lines", "print_table", "progress", "tracked"]

Item = TypeVar("Item")

_stderr = Console(stderr=True)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_lines(*lines: str) -> None:
    """Plain lines on stdout."""
    for line in lines:
        print(line)


def note(line: str) -> None:
    """One plain line on stderr, for what is worth knowing beside the result."""
    _stderr.print(line, markup=False, highlight=False, soft_wrap=True)


def print_table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; columns whose cells are all numbers are set to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(heading):
        numeric = all(row[index][:1].isdigit() for row in cells)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in cells:
        table.add_row(*row)
    Console(width=160, soft_wrap=True, markup=False, highlight=False).print(table)


def _cell(value: object) -> str:
    return f"{value:,}" if type(value) is int else str(value)


def progress() -> Progress:
    """A progress display on stderr; it disappears when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_stderr,
        transient=True,
    )


def tracked(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """`items` with a progress bar of `total` steps, called `what`."""
    with progress() as display:
        yield from display.track(items, total=total, description=what)
