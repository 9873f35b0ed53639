"""Which pictures a training held out: a record by the bytes of their files, kept with weights."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from etinynet.errors import ArtefactError, DataError

__all__ = ["HeldOut", "mark"]

_BYTES = 6
_LENGTH = 4 * _BYTES // 3


def mark(path: Path) -> str:
    """What a picture is known by wherever it lies: 48 bits of its file's SHA-256, in base64.

    Raises DataError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DataError(f"{path}: cannot read this picture: {error.strerror or error}") from None
    return base64.b64encode(digest[:_BYTES]).decode()


@dataclass(frozen=True)
class HeldOut:
    """The marks of the pictures that a training held out."""

    marks: frozenset[str]

    @staticmethod
    def of(paths: Iterable[Path]) -> HeldOut:
        """The record of the pictures `paths`; raises DataError where one cannot be read."""
        return HeldOut(frozenset(map(mark, paths)))

    @staticmethod
    def from_json(value: object, source: str) -> HeldOut:
        """What `to_json` made; raises ArtefactError naming `source`."""
        if not isinstance(value, str) or not value or len(value) % _LENGTH or not value.isascii():
            raise ArtefactError(
                f"{source}: held_out_pictures is not text of {_LENGTH} characters a picture"
            )
        return HeldOut(frozenset(value[i : i + _LENGTH] for i in range(0, len(value), _LENGTH)))

    def to_json(self) -> str:
        """All marks in order, as one text."""
        return "".join(sorted(self.marks))

    def has(self, path: Path) -> bool:
        """Whether the picture at `path` is one of them; one that cannot be read is none."""
        try:
            return mark(path) in self.marks
        except DataError:  # it is found damaged when it is opened
            return False
