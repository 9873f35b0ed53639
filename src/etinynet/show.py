"""What commands print: tables and plain JSON on stdout, progress on stderr."""

from __future__ import annotations

import datetime
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from etinynet.text import json_text, shown

__all__ = [
    "Lines",
    "Shown",
    "note",
    "print_json",
    "print_lines",
    "print_table",
    "progress",
    "tracked",
]

Item = TypeVar("Item")

#: Also sides, 96x96x3, and what is absent.
_NUMBER = re.compile(r"-?[\d,.x]*")
_MOST_WIDTH, _LEAST_WIDTH, _GAP = 160, 20, 2
# Without a terminal, a line for every tenth of the work and for its end, but none within so many
# seconds of its begin or of another; and one after so many seconds, however slow the work is.
_CLOSEST = 2.0
_FARTHEST = 30.0

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


class Shown(Protocol):
    """Shows how far a command is."""

    def show(self, what: str, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` steps of `what` are done; another `what` starts from anew."""


class _Bar:
    """On a terminal: one bar, which goes on as `what` changes."""

    def __init__(self, display: Progress) -> None:
        self._display = display
        self._what: str | None = None

    def show(self, what: str, done: int, total: int, detail: str = "") -> None:
        if what != self._what:
            for task in self._display.task_ids:
                self._display.remove_task(task)
            self._task = self._display.add_task(what)
            self._what = what
        text = f"{what}, {detail}" if detail else what
        self._display.update(self._task, description=text, completed=done, total=total)


class Lines:
    """Elsewhere, as in a log file: lines, the last one when all is done; none for quick work."""

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._clock = write, clock
        self._what: str | None = None

    def show(self, what: str, done: int, total: int, detail: str = "") -> None:
        now = self._clock()
        tenth = 10 * done // max(total, 1)
        if what != self._what:
            self._what, self._began, self._first = what, now, done
            self._written, self._tenth = now, tenth
        waited = now - self._written
        ended = done == total and now - self._began >= _CLOSEST
        passed = tenth > self._tenth and waited >= _CLOSEST
        if not (ended or passed or waited >= _FARTHEST):
            return
        self._written, self._tenth = now, tenth
        parts = [f"{what}: {done:,} of {total:,}", *([detail] if detail else [])]
        if self._first < done < total:
            left = (now - self._began) * (total - done) / (done - self._first)
            parts.append(f"{datetime.timedelta(seconds=round(left))} left")
        self._write(", ".join(parts))


@contextmanager
def progress() -> Iterator[Shown]:
    """What shows progress on stderr: a bar that disappears when done, or lines."""
    if not _stderr.is_terminal:
        yield Lines(note)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_stderr,
        transient=True,
    ) as display:
        yield _Bar(display)


def tracked(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """`items`, `total` of them, with their progress shown, called `what`."""
    with progress() as display:
        display.show(what, 0, total)
        for done, item in enumerate(items, 1):
            yield item
            display.show(what, done, total)
