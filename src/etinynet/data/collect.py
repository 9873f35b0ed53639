"""Pictures of a folder without labels, in a fixed mixed order: for calibration and verification."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from etinynet.data.images import Preprocess, load_picture
from etinynet.data.labels import EXTENSIONS
from etinynet.errors import DataError

__all__ = ["find_pictures", "prepared"]


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
