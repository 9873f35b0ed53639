"""Kills the writing of a folder before each call of the system, and looks at what is left.

`python kill_points.py MODE FOLDER` prints the number of kills; it runs alone, since it forks.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import etinynet.artefact.folders as folders
import etinynet.artefact.swap as swap
from etinynet.artefact import Record, check_replaceable, sha256, write_directory
from etinynet.artefact.record import with_record

RECORD = Record("report.json", "compile")
CALLS = ("open", "mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "chmod", "close")


def content(version: int) -> dict[str, bytes]:
    """Files of a folder: some are common to all versions, one is in this alone."""
    names = ("net.c", "net.h", "firmware/board.h", "examples/net/net.ino", f"v{version}/only.h")
    files = {name: f"{version} {name}".encode() for name in names}
    return files | {"report.json": json.dumps({"version": version}).encode()}


VERSIONS = {version: with_record(content(version), RECORD) for version in (1, 2, 3)}


def found(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` that is not in a temporary one."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    return {name: data for name, data in files.items() if "etinynet-tmp-" not in name}


def version_of(folder: Path) -> int | None:
    """Which version lies whole under the name `folder`; 0 if nothing does, None for a part."""
    files = found(folder)
    if not files:
        return 0
    return next((version for version, whole in VERSIONS.items() if files == whole), None)


def killed(number: int, work: Callable[[], None]) -> bool:
    """Does `work` in another process, killed before call `number` of the system; False if done."""
    child = os.fork()
    if child == 0:
        counter = itertools.count()

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(call)
            def wrapper(*arguments: Any, **others: Any) -> Any:
                if next(counter) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **others)

            return wrapper

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        swap.exchange = counted(swap.exchange)
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status != 0


def prepare(target: Path) -> None:
    """Version 1 in `target`, and nothing else there or beside it."""
    for path in target.parent.iterdir():
        if path != target:
            shutil.rmtree(path)
    target.mkdir(exist_ok=True)
    for path in target.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, data in VERSIONS[1].items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)


def nothing_lost(target: Path) -> None:
    """Each old file is somewhere, or the new version is whole under the name."""
    around = [path for path in target.parent.rglob("*") if path.is_file()]
    kept = {sha256(path.read_bytes()) for path in around}
    old = {sha256(data) for data in VERSIONS[1].values()}
    assert old <= kept or version_of(target) == 2


def try_kills(target: Path, mode: str, twice: bool) -> int:
    """Kills at every point, then, if `twice`, the repair at every point; how many kills."""
    kills = 0
    for number in itertools.count():
        prepare(target)
        if not killed(number, lambda: write_directory(target, content(2), RECORD)):
            break
        kills += 1
        left = version_of(target)
        assert left in ((1, 2) if mode == "exchange" else (0, 1, 2, None)), (number, left)
        if left is None:
            assert not (target / RECORD.name).exists(), number
        nothing_lost(target)
        again = 0
        while twice and killed(3 * again, lambda: check_replaceable("-o", target, RECORD)):
            nothing_lost(target)
            again += 1
        kills += again
        check_replaceable("-o", target, RECORD)
        assert version_of(target) in (1, 2), number
        assert [path.name for path in target.parent.iterdir()] == [target.name], number
        write_directory(target, content(3), RECORD)
        assert version_of(target) == 3, number
        assert not any("etinynet-tmp-" in str(path) for path in target.parent.rglob("*")), number
    assert version_of(target) == 2
    return kills


def main(mode: str, folder: Path, twice: bool) -> None:
    os.fsync = lambda descriptor: None  # a point to be killed at; the disk is not what is tested
    if mode == "portable":
        swap.exchange = lambda first, second: False
    if mode == "inside":
        folders._must_stay = lambda target: True
    target = folder / "library"
    target.mkdir(parents=True, exist_ok=True)
    print(try_kills(target, mode, twice))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), "twice" in sys.argv[3:])
