"""Opens many pictures; the few that are damaged are left out and listed, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.data.images import Preprocess, open_picture
from etinynet.data.record import HeldOut
from etinynet.errors import DataError

__all__ = ["MAX_DAMAGED", "Reading", "prepared"]

#: Share of the pictures that may be damaged: they are left out. More is an error.
MAX_DAMAGED = 0.05

_SHOWN = 3


class Reading:
    """What came of opening some of `total` pictures.

    `kept`: positions of those that `prepared` gave; `damaged`: path and reason of those that
    cannot be read; `flawed`: paths of those whose pixels are whole and whose other data are not.
    What a training held out (`held_out`) is not opened; `spared` counts it.
    """

    def __init__(self, total: int, held_out: HeldOut | None = None) -> None:
        self.total = total
        self.spared = 0
        self._held_out = held_out
        self.kept: list[int] = []
        self.damaged: list[tuple[Path, str]] = []
        self.flawed: list[Path] = []

    def open(self, path: Path, short: int | None = None) -> NDArray[np.uint8] | None:
        """The picture, uint8 (height, width, 3), or None where it is left out.

        `short`: how short its short side may be decoded (images.open_picture).
        """
        if self._held_out is not None and self._held_out.has(path):
            self.spared += 1
            return None
        try:
            picture = open_picture(path, short)
        except DataError as error:
            self.damaged.append((path, str(error)))
            return None
        if picture.flaw is not None:
            self.flawed.append(path)
        return picture.pixels

    def too_many(self) -> bool:
        """Whether more pictures are damaged than may be left out."""
        return len(self.damaged) > MAX_DAMAGED * self.total

    def check(self) -> None:
        """Raises DataError that lists the damaged pictures, if they are too many.

        Also where all pictures were held out.
        """
        if self.spared and self.spared + len(self.damaged) == self.total:
            raise DataError(f"the training of these weights held out all {self.spared:,} pictures")
        if not self.too_many():
            return
        if len(self.damaged) == 1:
            raise DataError(self.damaged[0][1])
        raise DataError(
            f"{len(self.damaged):,} of {self.total:,} pictures cannot be read, and at most "
            f"{MAX_DAMAGED:.0%} are left out: {self.words()}"
        )

    def words(self) -> str:
        """The first damaged pictures with reasons, and how many more there are."""
        rest = len(self.damaged) - _SHOWN
        first = "; ".join(reason for _, reason in self.damaged[:_SHOWN])
        return f"{first}; and {rest:,} more" if rest > 0 else first

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: left_out (picture, reason), and metadata_damaged, a list of paths."""
        return {
            "left_out": [{"picture": str(p), "reason": why} for p, why in self.damaged],
            "metadata_damaged": [str(path) for path in self.flawed],
        }


def prepared(
    paths: Sequence[Path],
    preprocess: Preprocess,
    reading: Reading | None = None,
    most: int | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """At most `most` of the pictures `paths`, each uint8 (size, size, 3).

    Damaged ones are left out; `reading.kept` says which were not. Once too many are damaged, the
    others are opened only to list all that are, and DataError is raised.
    """
    reading = Reading(len(paths)) if reading is None else reading
    for index, path in enumerate(paths):
        if len(reading.kept) == most:
            break
        picture = reading.open(path, preprocess.short)
        if picture is not None and not reading.too_many():
            reading.kept.append(index)
            yield preprocess.apply(picture)
    reading.check()
