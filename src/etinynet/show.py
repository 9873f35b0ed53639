"""What commands print: tables and plain JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from etinynet.text import json_text, shown

__all__ = ["note", "print_json", "print_lines", "print_table", "progress", "tracked"]

Item = TypeVar("Item")

#: Also sides, 96x96x3, and what is absent.
_NUMBER = re.compile(r"-?[\d,.x]*")
_MOST_WIDTH, _LEAST_WIDTH, _GAP = 160, 20, 2

_stderr = Console(stderr=True, emoji=False)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout; escapes hold what a terminal would obey or could not show."""
    text = json_text(value)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal that is not UTF-8
        text = json.dumps(value, indent=2)
    print(text)


def print_lines(*lines: str) -> None:
    """Plain lines on stdout."""
    for line in lines:
        print(shown(line))


def note(line: str) -> None:
    """One plain line on stderr, for what is worth knowing beside the result."""
    _stderr.print(shown(line), markup=False, highlight=False, soft_wrap=True)


def print_table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; columns whose cells are all numbers or empty are set to the right.

    Where it is too wide the middles of names are left out, numbers are whole.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    columns = [[shown(name), *(row[i] for row in cells)] for i, name in enumerate(heading)]
    numeric = [all(map(_NUMBER.fullmatch, filter(None, column[1:]))) for column in columns]
    _narrow(
        [column for column, is_numeric in zip(columns, numeric, strict=True) if not is_numeric],
        sum(map(_width, columns)) + _GAP * (len(columns) - 1) - _MOST_WIDTH,
    )
    table = Table(box=None, pad_edge=False)
    for column, is_numeric in zip(columns, numeric, strict=True):
        table.add_column(column[0], justify="right" if is_numeric else "left", no_wrap=True)
    for index in range(len(cells)):
        table.add_row(*(column[index + 1] for column in columns))
    # wide enough for every cell whole: a number that is cut is another number
    Console(width=10_000, soft_wrap=True, markup=False, emoji=False, highlight=False).print(table)


def _cell(value: object) -> str:
    return f"{value:,}" if type(value) is int else shown(str(value))


def _width(column: Sequence[str]) -> int:
    return max(map(cell_len, column))


def _narrow(columns: Sequence[list[str]], excess: int) -> None:
    """Takes `excess` characters of width off `columns`, the widest first, none below _LEAST."""
    for column in sorted(columns, key=_width, reverse=True):
        width = _width(column)
        if excess <= 0 or width <= _LEAST_WIDTH:
            return
        most = max(width - excess, _LEAST_WIDTH)
        column[:] = [_shortened(text, most) for text in column]
        excess -= width - most


def _shortened(text: str, most: int) -> str:
    """`text` of at most `most` columns on a terminal, its middle left out."""
    if cell_len(text) <= most:
        return text
    head, tail = (most - 3) // 2, most - 3 - (most - 3) // 2
    end = text
    while cell_len(end) > tail:
        end = end[1:]
    return f"{set_cell_size(text, head)}...{end}"


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
