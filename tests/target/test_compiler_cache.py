"""The compiler's cache is the user's own and closed to others, or a fresh one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etinynet.target import compiler_cache as module
from etinynet.target.compiler_cache import compiler_cache
from etinynet.target.toolchain import compile_sources, device_compiler

NOBODY = 65534


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """XDG_CACHE_HOME, with the folder for temporary files beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    module._fresh.cache_clear()
    yield tmp_path / "caches"
    module._fresh.cache_clear()


def is_fresh(folder: Path, caches: Path) -> bool:
    """A closed folder of our own whose name nobody could know, and the same the next time."""
    found = folder.stat()
    assert (found.st_uid, found.st_mode & 0o777) == (os.geteuid(), 0o700)
    assert compiler_cache() == folder
    return folder.parent == caches.parent / "temporary"


def test_the_users_own(caches: Path) -> None:
    assert compiler_cache() == caches / "etinynet" / "zig"
    assert compiler_cache().stat().st_mode & 0o777 == 0o700
    assert compiler_cache() == caches / "etinynet" / "zig"


def test_where_the_system_wants_it(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = caches.parent / "home"
    monkeypatch.setenv("HOME", str(home))
    for given in (None, "", "relative"):
        if given is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert compiler_cache() == home / ".cache" / "etinynet" / "zig"


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("caches/etinynet/zig", lambda path: os.chown(path, NOBODY, NOBODY)),
        ("caches/etinynet/zig", lambda path: path.chmod(0o777)),
        ("caches/etinynet/zig", lambda path: path.chmod(0o1777)),
        ("caches/etinynet/zig", lambda path: path.chmod(0o770)),
        ("caches/etinynet", lambda path: os.chown(path, NOBODY, NOBODY)),
        ("caches/etinynet", lambda path: path.chmod(0o777)),
        ("caches", lambda path: path.chmod(0o777)),
        ("caches", lambda path: (os.chown(path, -1, NOBODY), path.chmod(0o770))),
    ],
    ids=[
        "other-owner",
        "open",
        "open-sticky",
        "open-to-group",
        "above-other",
        "above",
        "top",
        "top-to-group",
    ],
)
def test_planted(caches: Path, place: str, change: Callable[[Path], object]) -> None:
    (caches / "etinynet" / "zig").mkdir(parents=True)
    try:
        change(caches.parent / place)
    except PermissionError:
        pytest.skip("only root gives folders away")
    assert is_fresh(compiler_cache(), caches)


def test_planted_links(caches: Path) -> None:
    """A link is what it points to: to an open folder, or to one of another."""
    (caches / "etinynet").mkdir(parents=True)
    (caches.parent / "open").mkdir()
    (caches / "etinynet" / "zig").symlink_to(caches.parent / "open")
    assert compiler_cache() == caches / "etinynet" / "zig"
    (caches.parent / "open").chmod(0o777)
    assert is_fresh(compiler_cache(), caches)


def test_a_shared_folder_like_tmp_above(caches: Path) -> None:
    caches.mkdir()
    caches.chmod(0o1777)
    assert compiler_cache() == caches / "etinynet" / "zig"


def test_no_home(caches: Path) -> None:
    caches.write_text("")
    folder = compiler_cache()
    assert is_fresh(folder, caches)
    (caches.parent / "a.c").write_text("int a(int x); int a(int x) { return x + 1; }\n")
    assert compile_sources(device_compiler("cortex_m4"), ["a.c"], caches.parent) == ["a.o"]
    assert list(folder.iterdir()) != []


def test_the_fresh_one_goes_with_the_process(caches: Path) -> None:
    caches.write_text("")
    code = "from etinynet.target.compiler_cache import compiler_cache as c; print(c())"
    environment = {**os.environ, "TMPDIR": str(caches.parent / "temporary")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    folder = Path(done.stdout.strip())
    assert folder.parent == caches.parent / "temporary"
    assert not folder.exists()


def test_what_the_user_says_is_taken(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = caches.parent / "own"
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(own))
    (caches.parent / "a.c").write_text("int a(int x); int a(int x) { return x + 1; }\n")
    compile_sources(device_compiler("cortex_m4"), ["a.c"], caches.parent)
    assert own.is_dir()
    assert not caches.exists()
