"""Temporary files and folders beside an output, and what a killed run left of them.

Their names are `.NAME.etinynet-tmp-RANDOM`. The run that made one holds a lock on it, which its
end releases, however it ends: what nobody holds is abandoned, and the next write to NAME
removes it.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from etinynet.artefact.content import sha256

if sys.platform != "win32":
    import fcntl

__all__ = ["MARK", "abandoned", "is_open_as", "lock", "new_file", "new_folder", "sync_folder"]

#: Part of the name of every temporary file and folder.
MARK = "etinynet-tmp-"
#: Bytes of a name that a temporary name repeats; file systems allow 255 for the whole.
_LONGEST = 200
#: Without locks (Windows, some network file systems) a temporary of this age is abandoned.
_OLD_SECONDS = 24 * 3600
_LOOK = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def _prefix(name: str) -> str:
    """Start of the temporary names for output `name`; "": for the folder they lie in."""
    raw = os.fsencode(name)
    if len(raw) > _LONGEST:
        name = sha256(raw)[:16]
    return f".{name}.{MARK}" if name else f".{MARK}"


def lock(descriptor: int) -> bool | None:
    """Locks an open file or folder until it is closed: whether it was free, None: cannot tell."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_open_as(path: Path, descriptor: int) -> bool:
    """Whether `path` still is the file or folder that was opened."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def new_file(folder: Path, name: str) -> tuple[Path, int]:
    """A new locked file for output `name` of `folder`: its path, and it opened for writing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return _new(folder, name, lambda path: os.open(path, flags, 0o666))


def new_folder(folder: Path, name: str) -> tuple[Path, int | None]:
    """A new locked folder for output `name` of `folder`; to be closed, None without locks."""

    def make(path: Path) -> int:
        path.mkdir()
        return os.open(path, os.O_RDONLY)

    if sys.platform == "win32":
        path = folder / f"{_prefix(name)}{secrets.token_hex(4)}"
        path.mkdir()
        return path, None
    return _new(folder, name, make)


def _new(folder: Path, name: str, make: Callable[[Path], int]) -> tuple[Path, int]:
    while True:
        path = folder / f"{_prefix(name)}{secrets.token_hex(4)}"
        try:
            descriptor = make(path)
        except FileExistsError:
            continue
        except FileNotFoundError:
            if folder.is_dir():  # another run took the folder for abandoned before it was locked
                continue
            raise
        if lock(descriptor) is not False and is_open_as(path, descriptor):
            return path, descriptor
        os.close(descriptor)


def abandoned(folder: Path, name: str) -> Iterator[Path]:
    """Temporaries for output `name` of `folder` whose run has ended, locked while they are used."""
    prefix = _prefix(name)
    try:
        found = [entry for entry in os.scandir(folder) if entry.name.startswith(prefix)]
    except OSError:
        return
    for entry in found:
        path = Path(entry.path)
        with _taken(path) as free:
            if free:
                yield path


@contextmanager
def _taken(path: Path) -> Iterator[bool]:
    """Whether `path` is ours and its run has ended; locks it."""
    try:
        found = path.lstat()
        descriptor = None if sys.platform == "win32" else os.open(path, _LOOK)
    except OSError:
        yield False
        return
    try:
        own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
        state = None if descriptor is None else lock(descriptor)
        if state is None:
            state = time.time() - found.st_mtime > _OLD_SECONDS
        yield own and state and (descriptor is None or is_open_as(path, descriptor))
    finally:
        if descriptor is not None:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Brings the names in `folder` to the disk, where the system can."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # not every file system can do it for folders
    finally:
        os.close(descriptor)
