"""The steps by which a folder gets new content, what a kill leaves at each, and its repair.

As a whole, where the folder can be renamed. WORK is a temporary folder beside it:
1. the new files are written to WORK/new;
2. WORK/new and the folder change names in one step, or, where the system has none, the folder
   becomes WORK/old and WORK/new the folder;
3. WORK is removed.
A kill leaves the old folder (1) or the new one (3) under the name, and WORK. Only between the two
renames of 2 there is none: then the next run makes WORK/old the folder again.

Inside, where it cannot (a mount point) or should not be renamed (somebody works in it). WORK is a
temporary folder in it:
1. the new files are written to WORK/new;
2. the old ones move to WORK/old, the record first;
3. WORK/new becomes WORK/in, and its files move to their places, the record last;
4. WORK is removed.
A kill leaves all old files (1), all new ones (4), or a part of either without a record, the others
in WORK: the next run moves the old ones back (2) or the new ones in (3). No move replaces a file.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from etinynet.artefact.files import write_all
from etinynet.artefact.record import folders_of
from etinynet.artefact.temporary import abandoned, new_folder, sync_folder

__all__ = ["create", "exchange", "repair", "replace_inside", "replace_whole"]

_NEW, _OLD, _IN = "new", "old", "in"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
#: The system has no such step, or this file system does not.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
#: A folder that cannot be renamed, or whose parent cannot be written.
_NOT_RENAMED = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL)

Check = Callable[[Path], None]


def exchange(first: Path, second: Path) -> bool:
    """Swaps two names in one step (renameat2 of Linux); False where the system cannot."""
    if sys.platform != "linux":
        return False
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    if not function(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(second))


def create(target: Path, files: Mapping[str, bytes]) -> bool:
    """Makes folder `target` of `files`; False if another run has made it meanwhile."""
    with _work(target.parent, target.name, lambda work: _settle_whole(work, target)) as work:
        _write(work / _NEW, files)
        try:
            (work / _NEW).rename(target)
        except OSError:
            if os.path.lexists(target):
                return False
            raise
        sync_folder(target.parent)
    return True


def replace_whole(target: Path, files: Mapping[str, bytes], check: Check) -> bool:
    """Replaces folder `target` by one of `files`; False, and as before, if it cannot be renamed.

    `check` is asked whether the old folder may go, once it is out of the way: what it raises is
    raised when the old folder is back in place.
    """
    found = target.stat()
    try:
        with _work(target.parent, target.name, lambda work: _settle_whole(work, target)) as work:
            _write(work / _NEW, files)
            made = (work / _NEW).stat()
            if (made.st_uid, made.st_gid) != (found.st_uid, found.st_gid):
                return False
            (work / _NEW).chmod(stat.S_IMODE(found.st_mode))
            _change_names(work, target, check)
    except OSError as error:
        if error.errno in _NOT_RENAMED:
            return False
        raise
    return True


def _change_names(work: Path, target: Path, check: Check) -> None:
    if exchange(work / _NEW, target):
        try:
            check(work / _NEW)
        except BaseException:
            exchange(work / _NEW, target)
            raise
    else:
        target.rename(work / _OLD)
        check(work / _OLD)  # if it refuses, the end of the work puts the old folder back
        (work / _NEW).rename(target)
    sync_folder(target.parent)


def replace_inside(
    target: Path, files: Mapping[str, bytes], old: Mapping[str, str], record: str, check: Check
) -> None:
    """Replaces the files `old` of folder `target` by `files`; the folder itself stays.

    Both hold the file `record`. `check` as for `replace_whole`.
    """
    with _work(target, "", lambda work: _settle_inside(work, target, record)) as work:
        _write(work / _NEW, files)
        (work / _OLD).mkdir()
        _move(target, work / _OLD, _ordered(old, record)[::-1])
        check(work / _OLD)
        _sync_all(target)
        (work / _NEW).rename(work / _IN)
        try:
            _move(work / _IN, target, _ordered(files, record))
        except OSError:
            moved = [name for name in files if not (work / _IN / name).exists()]
            _move(target, work / _IN, moved)
            (work / _IN).rename(work / _NEW)
            raise


def repair(target: Path, record: str) -> None:
    """Ends what a killed run has left of a replacement: all old or all new is under the name.

    `record` as for `replace_inside`.
    """
    for work in abandoned(target.parent, target.name):
        _settle_whole(work, target)
    for work in abandoned(target, ""):
        _settle_inside(work, target, record)


@contextmanager
def _work(folder: Path, name: str, settle: Callable[[Path], None]) -> Iterator[Path]:
    """A temporary folder of this run; `settle` ends what was begun in it and removes it."""
    work, held = new_folder(folder, name)
    try:
        try:
            yield work
        finally:
            settle(work)
    finally:
        if held is not None:
            os.close(held)


def _settle_whole(work: Path, target: Path) -> None:
    if (work / _OLD).is_dir() and not os.path.lexists(target):
        (work / _OLD).rename(target)
        sync_folder(target.parent)
    _remove(work)


def _settle_inside(work: Path, target: Path, record: str) -> None:
    back = (work / _NEW).is_dir()
    source, other = (work / _OLD, work / _NEW) if back else (work / _IN, work / _OLD)
    # where a file is in the way, it has been put there since, and stays
    names = [n for n in _ordered(_files(source), record) if not os.path.lexists(target / n)]
    _move(source, target, names)
    _remove_empty(target, _files(other))
    _sync_all(target)
    _remove(work)


def _files(folder: Path) -> list[str]:
    """Relative names of all files below `folder`; none if it does not exist."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()]


def _remove(work: Path) -> None:
    if work.is_dir():
        shutil.rmtree(work, ignore_errors=True)
    else:
        work.unlink(missing_ok=True)


def _ordered(names: Iterable[str], record: str) -> list[str]:
    """`names`, the record last."""
    return sorted(names, key=lambda name: (name == record, name))


def _move(source: Path, target: Path, names: Sequence[str]) -> None:
    """Renames those of the files `names` that are in folder `source` into folder `target`.

    Raises FileExistsError where one is there: nothing is replaced.
    """
    for name in names:
        if os.path.lexists(target / name):
            raise FileExistsError(errno.EEXIST, f"{name} has been put there meanwhile")
        if os.path.lexists(source / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).rename(target / name)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes `folder` of `files`, on the disk when it returns."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_all(os.open(folder / name, flags, 0o666), data)
    _sync_all(folder)


def _sync_all(folder: Path) -> None:
    for inner, _, _ in os.walk(folder):
        sync_folder(Path(inner))


def _remove_empty(target: Path, names: Iterable[str]) -> None:
    """Removes the folders in which the files `names` were, where they hold nothing now."""
    for name in sorted(folders_of(names), key=len, reverse=True):
        with suppress(OSError):  # it holds something, or is a mount point
            (target / name).rmdir()
