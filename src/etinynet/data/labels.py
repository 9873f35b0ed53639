"""Lists of labelled pictures: a folder of class folders, or a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from etinynet.data.files import find_files, loose_pictures, no_pictures, sub_folders
from etinynet.errors import DataError

__all__ = [
    "Dataset",
    "Example",
    "class_folders",
    "list_folder",
    "list_table",
    "read_class_names",
    "with_classes",
]

_TRAINING = ("train", "training")
# Of several, the first holds the held-out pictures.
_HELD_OUT = ("val", "valid", "validation", "test", "testing")
_SHOWN = 3


@dataclass(frozen=True)
class Example:
    """One picture and its class index; `key` is its path relative to the data, with '/'."""

    path: Path
    label: int
    key: str


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures; each label indexes `class_names`.

    `held_out_keys`: pictures that the folders themselves hold out, None where they do not.
    `passed_over`: how many other files lay there, by ending or kind.
    """

    examples: tuple[Example, ...]
    class_names: tuple[str, ...]
    held_out_keys: frozenset[str] | None = None
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def of(self, examples: Iterable[Example]) -> Dataset:
        """The same with other examples."""
        return replace(self, examples=tuple(examples))


def class_folders(folder: Path) -> tuple[Path, Path | None]:
    """Where the class folders of `folder` lie, and where those of held-out pictures, if there.

    That is `folder`; but where it holds a folder of training pictures (train, training) and of
    others (val, valid, validation, test, testing), with folders in them, it is these two. Beside
    further folders they are that only where some of the folders in them have the same names.
    Raises DataError where a folder cannot be read.
    """
    parts = {part.name.lower(): part for part in sub_folders(Path(folder))}
    training = [parts[name] for name in _TRAINING if name in parts]
    held_out = [parts[name] for name in _HELD_OUT if name in parts]
    if len(training) != 1 or not held_out:
        return Path(folder), None
    inner = [{one.name for one in sub_folders(part)} for part in (training[0], held_out[0])]
    others = set(parts) - {*_TRAINING, *_HELD_OUT}
    if not all(inner) or (others and not inner[0] & inner[1]):
        return Path(folder), None
    return training[0], held_out[0]


def list_folder(folder: Path) -> Dataset:
    """Pictures in the class folders of `folder`: sorted folder names are classes 0, 1, ...

    Folders in a class folder belong to it. Which files count is data.files' rule. Where the
    folder is split already (class_folders), the classes are those of its training part. Raises
    DataError: not a folder, unreadable, no class folder, a class folder without pictures, a
    class of the held-out part that the training part lacks.
    """
    folder = Path(folder)
    training, held_out = class_folders(folder)
    passed_over: Counter[str] = Counter()
    names = [path.name for path in sub_folders(training)]
    if not names:
        raise DataError(f"{folder}: no class folders; expected one folder of pictures a class")
    if loose := loose_pictures(training):
        passed_over["pictures outside class folders"] = loose
    examples = _of_classes(training, folder, names, passed_over)
    if held_out is None:
        return Dataset(tuple(examples), tuple(names), None, passed_over)
    for path in sub_folders(held_out):
        if path.name not in names:
            raise DataError(f"{path}: {training.name} has no class of that name")
    for path in sub_folders(folder):
        if path not in (training, held_out):
            found = find_files(path)
            passed_over.update(found.passed_over)
            passed_over[f"pictures in {path.name}"] = len(found.paths)
    others = _of_classes(held_out, folder, names, passed_over)
    keys = frozenset(example.key for example in others)
    return Dataset((*examples, *others), tuple(names), keys, passed_over)


def _of_classes(
    part: Path, folder: Path, names: list[str], passed_over: Counter[str]
) -> list[Example]:
    """Pictures of the class folders of `part`; their keys are relative to `folder`."""
    examples: list[Example] = []
    for path in sub_folders(part):
        found = find_files(path, part)
        if not found.paths:
            raise no_pictures(path, found.passed_over)
        passed_over.update(found.passed_over)
        label = names.index(path.name)
        examples += [Example(p, label, p.relative_to(folder).as_posix()) for p in found.paths]
    return examples


def with_classes(dataset: Dataset, class_names: Sequence[str]) -> Dataset | None:
    """`dataset` with labels that index `class_names`; None if a name is not exactly one there."""
    if any(class_names.count(name) != 1 for name in dataset.class_names):
        return None
    index = [class_names.index(name) for name in dataset.class_names]
    examples = tuple(replace(one, label=index[one.label]) for one in dataset.examples)
    return replace(dataset, examples=examples, class_names=tuple(class_names))


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
    absent: list[str] = []
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
            absent.append(f"line {number}: no picture at {str(path)!r}")
        examples.append(Example(path, label, parts[0]))
    if absent:
        more = f"; and {len(absent) - _SHOWN:,} lines more" if len(absent) > _SHOWN else ""
        raise DataError(f"{table}: {'; '.join(absent[:_SHOWN])}{more}")
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
