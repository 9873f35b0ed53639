"""Pictures of a folder without labels, in a fixed mixed order: for calibration and verification."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from etinynet.data.images import Preprocess, load_picture
from etinynet.data.labels import EXTENSIONS, Dataset, Example, list_folder
from etinynet.errors import DataError

__all__ = ["find_pictures", "prepared", "training_pictures"]


def find_pictures(folder: Path, most: int) -> list[Path]:
    """At most `most` pictures of `folder` and the folders in it, by SHA-256 of the relative path.

    The order mixes classes and is the same on every machine. Raises DataError: not a folder,
    unreadable, no picture (labels.EXTENSIONS).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder of pictures")
    try:
        found = [p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file()]
    except OSError as error:
        raise DataError(f"{folder}: cannot read this folder: {error.strerror}") from None
    if not found:
        raise DataError(f"{folder}: no pictures; expected files ending in {', '.join(EXTENSIONS)}")
    return sorted(found, key=lambda p: _mixed(p.relative_to(folder)))[:most]


def _mixed(path: Path) -> bytes:
    return hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).digest()


def prepared(paths: list[Path], preprocess: Preprocess) -> Iterator[NDArray[np.uint8]]:
    """Each picture as uint8 (size, size, 3); raises DataError at the first that cannot be read."""
    for path in paths:
        yield preprocess.apply(load_picture(path))


def _class_folders(folder: Path) -> list[str]:
    """Names of the folders in `folder`; none if it is no folder that can be read."""
    try:
        return [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError:
        return []


def training_pictures(
    folders: Sequence[Path], most: int, class_names: Sequence[str] | None
) -> tuple[Dataset, bool]:
    """(pictures, whether they are labelled) of `folders`, at most `most` of each.

    Labelled is one folder whose class folders are all named as one class of `class_names` each;
    hidden folders are passed over. Otherwise every label is 0. Raises DataError.
    """
    if class_names is not None and len(folders) == 1:
        folder = Path(folders[0])
        names = _class_folders(folder)
        if names and all(class_names.count(name) == 1 for name in names):
            found = list_folder(folder)
            index = [list(class_names).index(name) for name in found.class_names]
            chosen = sorted(found.examples, key=lambda one: _mixed(Path(one.key)))[:most]
            examples = [Example(one.path, index[one.label], one.key) for one in chosen]
            return Dataset(tuple(examples), tuple(class_names)), True
    examples = [
        Example(path, 0, f"{number}/{path.relative_to(folder).as_posix()}")
        for number, folder in enumerate(folders)
        for path in find_pictures(folder, most)
    ]
    return Dataset(tuple(examples), ("unlabelled",)), False
