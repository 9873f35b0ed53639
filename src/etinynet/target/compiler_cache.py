"""Where zig keeps what it has compiled: a folder that nobody but its user can write."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

__all__ = ["compiler_cache"]


def compiler_cache() -> Path:
    """`etinynet/zig` in the user's cache folder, made if absent; a fresh one where that is unsafe.

    Whoever can write there decides what the next program is made of. So the folder has to be the
    user's own and closed to others, and those above it must not let others put one in its place.
    The fresh one lasts as long as this process.
    """
    folder = _caches() / "etinynet" / "zig"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_safe(folder):
            return folder
    except OSError:
        pass  # no home, or one that cannot be written
    return _fresh()


def _caches() -> Path:
    """The folder for caches of this user: XDG_CACHE_HOME, or the system's."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _is_safe(folder: Path) -> bool:
    """Whether only this user, and root, can write into `folder` or put another in its place."""
    if sys.platform == "win32":  # a user's own folders are closed there, and have no such bits
        return os.access(folder, os.W_OK)
    user = os.geteuid()
    real = folder.resolve()
    found = real.stat()
    if found.st_uid != user or found.st_mode & 0o022 or not os.access(real, os.W_OK | os.X_OK):
        return False
    return all(_is_closed(parent.stat()) for parent in real.parents)


def _is_closed(above: os.stat_result) -> bool:
    """Whether no other user can rename what is in a folder; a group of one's own is no other."""
    writers = above.st_mode & (0o002 if above.st_gid in (0, os.getegid()) else 0o022)
    sticky = above.st_mode & stat.S_ISVTX  # as /tmp: only owners rename
    return above.st_uid in (0, os.geteuid()) and not (writers and not sticky)


@functools.cache
def _fresh() -> Path:
    folder = tempfile.mkdtemp(prefix="etinynet-zig-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
