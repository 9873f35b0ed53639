"""One file, written whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from etinynet.artefact.temporary import abandoned, new_file, sync_folder
from etinynet.errors import ArtefactError

__all__ = ["write_all", "write_file"]


def write_file(path: Path, data: bytes) -> None:
    """Writes `data` to a temporary file beside `path`, then renames: whole or not at all.

    Makes the folder if it is absent, follows links, keeps the permissions of a file that it
    replaces, and returns when the disk has it. Raises ArtefactError if the place cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = None
    try:
        mode = _mode(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        for old in abandoned(target.parent, target.name):
            if old.is_file():
                old.unlink(missing_ok=True)
        temporary, descriptor = new_file(target.parent, target.name)
        # open until it has its name, and so locked; Windows renames no open file
        held = None if sys.platform == "win32" else os.dup(descriptor)
        try:
            write_all(descriptor, data)
            if mode is not None:
                temporary.chmod(mode)
            temporary.replace(target)
        finally:
            if held is not None:
                os.close(held)
        temporary = None
        sync_folder(target.parent)
    except OSError as error:
        raise ArtefactError(f"{path}: cannot write: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes `data` to an open file, brings it to the disk and closes it."""
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _mode(target: Path) -> int | None:
    """Permissions of the file that is there; None where there is none."""
    try:
        found = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found):
        raise OSError(None, "a folder, device or pipe of that name exists")
    return stat.S_IMODE(found)
