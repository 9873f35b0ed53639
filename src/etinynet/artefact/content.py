"""What an artefact holds and what made it: reading, SHA-256, provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from etinynet.errors import ArtefactError
from etinynet.text import shown

__all__ = ["package_version", "provenance", "read_file", "sha256"]


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def read_file(path: Path, kind: str) -> bytes:
    """Content of `path`; raises ArtefactError naming `kind` ("weights", "graph") if unreadable."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path}: cannot read this {kind} file: {error.strerror}") from None


def package_version() -> str:
    """This package's version; "not installed" where it only lies on the path."""
    try:
        return metadata.version("etinynet")
    except metadata.PackageNotFoundError:
        return "not installed"


def provenance(command: str, inputs: Mapping[str, bytes]) -> dict[str, object]:
    """What made an artefact: the command, this package's version, the SHA-256 of each input.

    Names of files stand in it as `text.shown` gives them.
    """
    hashes = {shown(name): sha256(data) for name, data in sorted(inputs.items())}
    return {"command": shown(command), "version": package_version(), "inputs": hashes}
