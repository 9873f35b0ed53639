"""Whether an output can be written where the user wants it, asked before any work is done."""

from __future__ import annotations

import os
from pathlib import Path

from etinynet.errors import ConfigError

__all__ = ["check_file", "check_folder", "check_run_folder"]


def check_file(option: str, path: Path, *suffixes: str) -> None:
    """Raises ConfigError unless a file can be written as `path`, named by `option`.

    Allowed is a new or a regular file, with one of `suffixes` if there are any, in a folder that
    exists or can be made.
    """
    if suffixes and path.suffix not in suffixes:
        endings = " or ".join(suffixes)
        raise ConfigError(f"{option} is {str(path)!r}; allowed is a name that ends in {endings}")
    allowed = "allowed is a file in a folder that exists or can be made"
    try:
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise ConfigError(f"{option} is {str(path)!r}, a folder; allowed is the name of a file")
        if _exists(target) and not target.is_file():
            raise ConfigError(f"{option} is {str(path)!r}, a device or pipe; {allowed}")
        if _exists(target) and not os.access(target, os.W_OK):
            raise ConfigError(f"{option} is {str(path)!r}, which is read-only; {allowed}")
        _check_above(option, path, target.parent, allowed)
    except OSError as error:
        raise _refused(option, path, error, allowed) from None


def check_folder(option: str, path: Path) -> None:
    """Raises ConfigError unless `path`, named by `option`, is a folder, or can be made."""
    allowed = "allowed is a folder that exists or can be made"
    try:
        target = Path(os.path.realpath(path))
        if _exists(target) and not target.is_dir():
            raise ConfigError(f"{option} is {str(path)!r}, a file of that name exists; {allowed}")
        _check_above(option, path, target, allowed)
    except OSError as error:
        raise _refused(option, path, error, allowed) from None


def check_run_folder(option: str, path: Path, state: str, resume: bool) -> None:
    """As `check_folder`, for a training whose state lies in files that fit the pattern `state`.

    Without `resume` there must be none, with it there must be one.
    """
    check_folder(option, path)
    found = next(path.glob(state), None)
    if found is not None and not resume:
        raise ConfigError(f"{path}: holds a run already ({found.name}); resume it, or name another")
    if resume and found is None:
        raise ConfigError(
            f"{path}: holds no run to resume, there is no {Path(state).name}; leave out --resume"
        )


def _exists(target: Path) -> bool:
    """As Path.exists, which hides links in a circle and names that are too long."""
    try:
        target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _refused(option: str, path: Path, error: OSError, allowed: str) -> ConfigError:
    reason = error.strerror or str(error)
    return ConfigError(f"{option} is {str(path)!r}: {reason}; {allowed}")


def _check_above(option: str, path: Path, folder: Path, allowed: str) -> None:
    """Raises ConfigError unless `folder`, or the first above it that exists, can be written."""
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise ConfigError(f"{option} is {str(path)!r}, {str(folder)!r} is not a folder; {allowed}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{option} is {str(path)!r}, folder {str(folder)!r} cannot be written; {allowed}"
        )
