"""What commands print: tables and plain JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["note", "print_json", "print_lines", "print_table", "progress", "tracked"]

Item = TypeVar("Item")

_stderr = Console(stderr=True, emoji=False)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # file names that are not UTF-8, or a terminal that is not
        text = json.dumps(value, indent=2)
    print(text)


def print_lines(*lines: str) -> None:
    """Plain lines on stdout."""
    for line in lines:
        print(_printable(line))


def note(line: str) -> None:
    """One plain line on stderr, for what is worth knowing beside the result."""
    _stderr.print(_printable(line), markup=False, highlight=False, soft_wrap=True)


def print_table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; columns whose cells are all numbers or empty are set to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(heading):
        numeric = all(row[index][:1].isdigit() for row in cells if row[index])
        table.add_column(_printable(name), justify="right" if numeric else "left", no_wrap=True)
    for row in cells:
        table.add_row(*row)
    # wide enough for every cell whole: a number that is cut is another number
    Console(width=10_000, soft_wrap=True, markup=False, emoji=False, highlight=False).print(table)


def _cell(value: object) -> str:
    return f"{value:,}" if type(value) is int else _printable(str(value))


def _printable(text: str) -> str:
    """`text` with escapes for what would steer a terminal or cannot be encoded."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(escaped)


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display on stderr; it disappears when done, and is for terminals alone."""
    display = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_stderr,
        transient=True,
    )
    if not _stderr.is_terminal:  # a display that is merely disabled ends with an empty line
        yield display
        return
    with display:
        yield display


def tracked(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """`items` with a progress bar of `total` steps, called `what`."""
    with progress() as display:
        yield from display.track(items, total=total, description=what)
