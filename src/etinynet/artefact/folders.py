"""One folder, written whole or not at all; only what is ours and unchanged gives way to it."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from etinynet.artefact.places import check_folder
from etinynet.artefact.record import SYSTEM_FILES, Record, check_ours, recorded, with_record
from etinynet.artefact.swap import create, repair, replace_inside, replace_whole
from etinynet.artefact.temporary import is_open_as, lock
from etinynet.errors import ArtefactError

__all__ = ["check_replaceable", "write_directory"]

#: How long another run may take to write the folder.
_PATIENCE_SECONDS = 20.0
_PAUSE_SECONDS = 0.05


def check_replaceable(option: str, path: Path, record: Record) -> None:
    """Raises the errors of `write_directory` that can be known before the files are.

    `option` is the command line's name for `path`. What a killed run left there is repaired.
    """
    check_folder(option, path)
    target = Path(os.path.realpath(path))
    try:
        repair(target, record.name)
        if target.exists():
            with _held(target, record, path):
                pass
    except OSError as error:
        raise _cannot(path, error) from None


def write_directory(path: Path, files: Mapping[str, bytes], record: Record) -> None:
    """Writes `files` (relative name → content) as folder `path`, whole or not at all.

    The JSON file `record.name` of `files` gets the SHA-256 of all others. A folder that exists is
    replaced only if such a record proves that every file in it is ours and unchanged; links to it
    stay. swap.py says what a kill leaves; the disk has all when this returns. Raises
    ArtefactError, and then the folder is as it was.
    """
    complete = with_record(files, record)
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        repair(target, record.name)
        if not target.exists() and create(target, complete):
            return
        with _held(target, record, path):
            known = recorded(target, record) or {}

            def check(old: Path) -> None:
                check_ours(old, record, path)

            if _must_stay(target) or not replace_whole(target, complete, check):
                replace_inside(target, complete, known, record.name, check)
    except OSError as error:
        raise _cannot(path, error) from None


def _cannot(path: Path, error: OSError) -> ArtefactError:
    return ArtefactError(f"{path}: cannot write: {error.strerror or error}")


@contextmanager
def _held(target: Path, record: Record, shown: Path) -> Iterator[None]:
    """Folder `target`, found to be replaceable, and kept from other runs meanwhile."""
    if not target.is_dir():
        raise ArtefactError(f"{shown}: cannot write a folder here: a file of that name exists")
    descriptor = _locked(target, shown)
    try:
        repair(target, record.name)
        check_ours(target, record, shown)
        _check_removable(target, shown)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(target: Path, shown: Path) -> int | None:
    """The open and locked folder; None without locks. Waits for another run to end."""
    if sys.platform == "win32":
        return None
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            descriptor = os.open(target, os.O_RDONLY)
        except FileNotFoundError:  # another run is between its renames
            time.sleep(_PAUSE_SECONDS)
            continue
        # once it is free it may be another folder than the one that was opened
        if lock(descriptor) is not False and is_open_as(target, descriptor):
            return descriptor
        os.close(descriptor)
        time.sleep(_PAUSE_SECONDS)
    raise ArtefactError(f"{shown}: another run is writing into this folder; wait for its end")


def _must_stay(target: Path) -> bool:
    """Whether the folder itself has to stay: a mount point, a shell in it, what others put in."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        here = Path(os.sep)
    return (
        os.path.ismount(target)
        or here.is_relative_to(target)
        or any((target / name).exists() for name in SYSTEM_FILES)
    )


def _check_removable(target: Path, shown: Path) -> None:
    """Raises ArtefactError if the permissions of a folder or a file in `target` keep a file."""
    for folder, folders, names in os.walk(target):
        folders[:] = [name for name in folders if name not in SYSTEM_FILES]
        place = Path(folder)
        if not os.access(place, os.W_OK | os.X_OK):
            raise ArtefactError(
                f"{shown}: files in {str(place)!r} cannot be replaced, it does not let you write; "
                "change its permissions or name another folder"
            )
        for name in names:
            if _is_immutable(place / name):
                raise ArtefactError(
                    f"{shown}: {str(place / name)!r} cannot be removed, it is marked as immutable; "
                    "take the mark away or name another folder"
                )


def _is_immutable(path: Path) -> bool:
    """Whether it bears the mark that keeps even its owner from changing or removing it."""
    try:
        os.close(os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)))
    except OSError as error:
        return error.errno == errno.EPERM
    return False
