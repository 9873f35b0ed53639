"""Lists of labelled pictures: a folder of class folders or a table, and the held-out fifth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from etinynet.errors import DataError

__all__ = [
    "EXTENSIONS",
    "Dataset",
    "Example",
    "list_folder",
    "list_table",
    "read_class_names",
    "split_held_out",
]

#: File name endings that count as pictures, in any case; other files are passed over.
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Example:
    """One picture and its class index; `key` is its path relative to the data, with '/'."""

    path: Path
    label: int
    key: str


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures; each label indexes `class_names`."""

    examples: tuple[Example, ...]
    class_names: tuple[str, ...]


def list_folder(folder: Path) -> Dataset:
    """Pictures in the class folders of `folder`: sorted folder names are classes 0, 1, ...

    Hidden files and folders are passed over. Raises DataError: not a folder, unreadable, no class
    folder, or a class folder without pictures (EXTENSIONS).
    """
    folder = Path(folder)
    names = sorted(p.name for p in _entries(folder) if p.is_dir())
    if not names:
        raise DataError(f"{folder}: no class folders; expected one folder of pictures a class")
    examples: list[Example] = []
    for label, name in enumerate(names):
        pictures = sorted(
            p for p in _entries(folder / name) if p.suffix.lower() in EXTENSIONS and p.is_file()
        )
        if not pictures:
            raise DataError(
                f"{folder / name}: no pictures; expected files ending in {', '.join(EXTENSIONS)}"
            )
        examples += [Example(p, label, f"{name}/{p.name}") for p in pictures]
    return Dataset(tuple(examples), tuple(names))


def _entries(folder: Path) -> list[Path]:
    try:
        return [p for p in folder.iterdir() if not p.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot read this folder: {error.strerror}") from None


def list_table(table: Path, data: Path | None = None, classes: Path | None = None) -> Dataset:
    """Pictures named by `table`: lines of path, tab, class index; empty lines are passed over.

    Paths are relative to `data`, or to the table's own folder. `classes` is a class-name table
    (read_class_names); without it the classes are named by their index. Raises DataError naming
    the line: wrong number of fields, an index that is not one, a picture that is not there.
    """
    table = Path(table)
    base = table.parent if data is None else Path(data)
    names = None if classes is None else read_class_names(classes)
    examples: list[Example] = []
    for number, line in enumerate(_lines(table), start=1):
        if not line:
            continue
        parts = line.split("\t")
        if len(parts) != 2 or not parts[0]:
            raise DataError(f"{table}: line {number}: {line!r}; expected path, tab, class index")
        label = _index(parts[1], f"{table}: line {number}")
        if names is not None and label >= len(names):
            raise DataError(
                f"{table}: line {number}: class index {label}; {classes} names 0 to "
                f"{len(names) - 1}"
            )
        path = base / parts[0]
        if "\0" in parts[0] or not path.is_file():
            raise DataError(f"{table}: line {number}: no picture at {str(path)!r}")
        examples.append(Example(path, label, parts[0]))
    if not examples:
        raise DataError(f"{table}: no lines; expected path, tab, class index")
    if names is None:
        names = tuple(str(i) for i in range(max(e.label for e in examples) + 1))
    return Dataset(tuple(examples), names)


def read_class_names(table: Path) -> tuple[str, ...]:
    """Class names in order of index, from tab-separated lines under a heading.

    The heading names the columns `index` and `name`; others are passed over. Raises DataError
    naming the line: a missing column, an index out of order, an empty name.
    """
    table = Path(table)
    lines = [(number, line) for number, line in enumerate(_lines(table), start=1) if line]
    heading = lines[0][1].split("\t") if lines else []
    if "index" not in heading or "name" not in heading:
        raise DataError(f"{table}: line 1: heading {heading!r}; expected columns 'index', 'name'")
    at_index, at_name = heading.index("index"), heading.index("name")
    names: list[str] = []
    for number, line in lines[1:]:
        parts = line.split("\t")
        if len(parts) != len(heading):
            raise DataError(f"{table}: line {number}: {len(parts)} fields, {len(heading)} expected")
        index = _index(parts[at_index], f"{table}: line {number}")
        if index != len(names):
            raise DataError(f"{table}: line {number}: index {index}; {len(names)} is expected")
        if not parts[at_name]:
            raise DataError(f"{table}: line {number}: the name is empty")
        names.append(parts[at_name])
    if not names:
        raise DataError(f"{table}: no classes under the heading")
    return tuple(names)


def _index(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise DataError(f"{where}: class index {text!r}; an integer 0 to 65535 is allowed")
    return int(text)


def _lines(table: Path) -> list[str]:
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{table}: cannot read this table: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not UTF-8 text: byte {error.start}") from None
    return [line.rstrip("\r") for line in text.split("\n")]


def split_held_out(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """(training, held-out) parts: held out where SHA-256 of the key, as an integer, is 0 mod 5.

    About a fifth, the same on every machine, and a picture keeps its side when others come or
    go. Raises DataError if either part is empty.
    """
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in dataset.examples:
        digest = hashlib.sha256(example.key.encode("utf-8", "surrogateescape")).digest()
        parts[int.from_bytes(digest, "big") % 5 == 0].append(example)
    for name, part in zip(("training", "held-out"), parts, strict=True):
        if not part:
            raise DataError(
                f"{len(dataset.examples)} pictures leave the {name} part empty; more are needed"
            )
    train, held_out = (Dataset(tuple(part), dataset.class_names) for part in parts)
    return train, held_out
