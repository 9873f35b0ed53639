"""The one rule for which files of a folder are pictures, and what is passed over."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from etinynet.errors import DataError

__all__ = [
    "EXTENSIONS",
    "UNREADABLE",
    "Found",
    "conversion",
    "find_files",
    "is_hidden",
    "loose_pictures",
    "no_pictures",
    "sub_folders",
    "words_of",
]

#: File name endings that count as pictures, in any case.
EXTENSIONS = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
#: Endings of pictures that are not read: of phones, then of cameras' raw files.
UNREADABLE = (
    *(".avif", ".heic", ".heif"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
)

# What systems leave beside pictures; hidden files, as .DS_Store and ._x.jpg, come on top.
_SYSTEM = ("__macosx", "desktop.ini", "thumbs.db")
_HIDDEN = "hidden"
_LINKS = "broken links"
_OTHER = "others"
_ENDING = re.compile(r"\.[a-z0-9]{1,8}")
_SHOWN = 6


@dataclass
class Found:
    """Pictures, sorted by path, and how many other files were passed over, by ending or kind."""

    paths: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a system leaves beside pictures."""
    return name.startswith(".") or name.lower() in _SYSTEM


def find_files(folder: Path, within: Path | None = None) -> Found:
    """Pictures in `folder` and all folders in it, linked ones too.

    `within`: the folder that `folder` is a class of. Each folder is entered once, so that links
    make no loops; but each class is as full as its link says. Raises DataError where a folder
    cannot be read.
    """
    found = Found()
    if within is not None:
        _collect(folder, {os.path.realpath(within)}, found)
        return found
    for entry in _entries(folder, found.passed_over):
        if entry.is_dir():
            _collect(entry, {os.path.realpath(folder)}, found)
        else:
            _sort(entry, found)
    return found


def _collect(folder: Path, entered: set[str], found: Found) -> None:
    before = len(found.paths)
    waiting = [folder]  # no recursion: folders may be deeper than Python's stack
    while waiting:
        current = waiting.pop()
        real = os.path.realpath(current)
        if real in entered:
            continue
        entered.add(real)
        entries = _entries(current, found.passed_over)
        waiting += [entry for entry in reversed(entries) if entry.is_dir()]
        for entry in entries:
            if not entry.is_dir():
                _sort(entry, found)
    found.paths[before:] = sorted(found.paths[before:])


def _sort(entry: Path, found: Found) -> None:
    ending = entry.suffix.lower()
    if not entry.is_file():
        found.passed_over[_LINKS if entry.is_symlink() else "no files"] += 1
    elif ending in EXTENSIONS:
        found.paths.append(entry)
    else:
        kind = ending if _ENDING.fullmatch(ending) else _OTHER
        found.passed_over[kind] += 1


def sub_folders(folder: Path) -> list[Path]:
    """Folders in `folder`, sorted by name, those that are linked too. Raises DataError."""
    return [entry for entry in _entries(folder) if entry.is_dir()]


def loose_pictures(folder: Path) -> int:
    """How many pictures lie in `folder` itself. Raises DataError."""
    return sum(e.suffix.lower() in EXTENSIONS and e.is_file() for e in _entries(folder))


def _entries(folder: Path, passed_over: Counter[str] | None = None) -> list[Path]:
    """What is not hidden in `folder`, sorted; counts what is."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot read this folder: {error.strerror}") from None
    shown = [entry for entry in entries if not is_hidden(entry.name)]
    if passed_over is not None and len(shown) < len(entries):
        passed_over[_HIDDEN] += len(entries) - len(shown)
    return shown


def no_pictures(folder: Path, passed_over: Mapping[str, int]) -> DataError:
    """The error for a folder without a picture, which says what is there instead."""
    there = f"; passed over: {words_of(passed_over)}" if passed_over else ""
    return DataError(
        f"{folder}: no pictures; expected files ending in {', '.join(EXTENSIONS)}{there}"
    )


def words_of(passed_over: Mapping[str, int]) -> str:
    """`passed_over` in words, most frequent first, with how to convert pictures among them."""
    counts = sorted(passed_over.items(), key=lambda one: (-one[1], one[0]))
    words = ", ".join(f"{count:,} {name}" for name, count in counts[:_SHOWN])
    if len(counts) > _SHOWN:
        words += f", {sum(count for _, count in counts[_SHOWN:]):,} of other kinds"
    if not any(name in UNREADABLE for name in passed_over):
        return words
    return f"{words}; {conversion([name for name, _ in counts if name in UNREADABLE])}"


def conversion(endings: list[str]) -> str:
    """How pictures that are not read become JPEG."""
    names = " ".join(f"*{ending}" for ending in endings)
    return f"convert them to JPEG, for instance by 'magick mogrify -format jpg {names}'"
