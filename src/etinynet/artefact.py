"""Artefact files: hashes, provenance, and writes that are whole or absent."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from etinynet.errors import ArtefactError

__all__ = ["provenance", "read_file", "sha256", "write_directory", "write_file"]


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def read_file(path: Path, kind: str) -> bytes:
    """Content of `path`; raises ArtefactError naming `kind` ("weights", "graph") if unreadable."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path}: cannot read this {kind} file: {error.strerror}") from None


def provenance(command: str, inputs: Mapping[str, bytes]) -> dict[str, object]:
    """What made an artefact: the command, this package's version, the SHA-256 of each input."""
    try:
        version = metadata.version("etinynet")
    except metadata.PackageNotFoundError:
        version = "not installed"
    hashes = {name: sha256(data) for name, data in sorted(inputs.items())}
    return {"command": command, "version": version, "inputs": hashes}


def write_file(path: Path, data: bytes) -> None:
    """Writes `data` to a temporary name beside `path`, then renames: whole or not at all.

    Raises ArtefactError if the place cannot be written.
    """
    path = Path(path)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise ArtefactError(f"{path}: cannot write: {error.strerror}") from None


def write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes `files` (relative name → content) as folder `path`, whole or not at all.

    An existing folder is replaced only if every file in it carries a name that is written now;
    anything else there belongs to the user. Raises ArtefactError otherwise.
    """
    path = Path(path)
    if path.exists():
        if not path.is_dir():
            raise ArtefactError(f"{path}: cannot write a folder here: a file of that name exists")
        present = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
        foreign = sorted(present - set(files))
        if foreign:
            raise ArtefactError(
                f"{path}: folder holds {foreign[0]!r}, which this command does not write; "
                "name an empty or a new folder"
            )
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        for name, data in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(data)
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        raise ArtefactError(f"{path}: cannot write: {error.strerror}") from None
