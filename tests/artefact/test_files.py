"""A written file is whole or absent; what a killed run left beside it goes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from etinynet.artefact import write_file
from etinynet.artefact.temporary import abandoned, new_file
from etinynet.errors import ArtefactError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail(*args: object, **kwargs: object) -> None:
    raise OSError(28, "No space left on device")


def test_replaces(tmp_path: Path) -> None:
    path = tmp_path / "net.etn"
    for content in (b"first", b"second"):
        write_file(path, content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["net.etn"]


def test_makes_the_folder(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "b" / "net.etn", b"x")
    assert (tmp_path / "a" / "b" / "net.etn").read_bytes() == b"x"


def test_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_file(tmp_path / "x", b"")
    finally:
        os.umask(mask)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    (tmp_path / "x").chmod(0o600)
    write_file(tmp_path / "x", b"new")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_the_mask_of_the_process_is_never_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "umask", fail)
    write_file(tmp_path / "x", b"")


def test_links_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "x")
    for content in (b"first", b"second"):
        write_file(tmp_path / "link", content)
        assert (tmp_path / "real" / "x").read_bytes() == content
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_only_a_file_is_replaced(tmp_path: Path, make: object) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(ArtefactError, match="x: cannot write: a folder, device or pipe of that"):
        write_file(tmp_path / "x", b"")
    assert names(tmp_path) == ["x"]


def test_fails_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_file(path, b"old")
    for step in ("pathlib.Path.replace", "os.fsync"):
        with monkeypatch.context() as patched:
            patched.setattr(step, fail)
            with pytest.raises(ArtefactError, match=r"x: cannot write: No space left on device"):
                write_file(path, b"new")
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["x"]


def test_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArtefactError, match=r"cannot write: (Not a directory|File exists)"):
        write_file(tmp_path / "file" / "x", b"")


def test_the_longest_name(tmp_path: Path) -> None:
    path = tmp_path / (251 * "n" + ".etn")
    write_file(path, b"x")
    assert names(tmp_path) == [path.name]


KILLED = """
import os, signal, sys
from pathlib import Path
from etinynet.artefact import write_file
Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
write_file(Path(sys.argv[1]), b"new")
"""


def test_what_a_killed_run_left_goes(tmp_path: Path) -> None:
    path = tmp_path / "net.etn"
    write_file(path, b"old")
    assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == -9
    assert path.read_bytes() == b"old"
    left = [name for name in names(tmp_path) if name.startswith(".net.etn.etinynet-tmp-")]
    assert len(left) == 1
    write_file(tmp_path / "other.etn", b"")
    assert set(left) < set(names(tmp_path))
    write_file(path, b"newer")
    assert names(tmp_path) == ["net.etn", "other.etn"]


def test_a_run_that_lives_keeps_its_file(tmp_path: Path) -> None:
    temporary, descriptor = new_file(tmp_path, "net.etn")
    write_file(tmp_path / "net.etn", b"mine")
    assert temporary.exists()
    os.close(descriptor)
    assert list(abandoned(tmp_path, "net.etn")) == [temporary]
    write_file(tmp_path / "net.etn", b"mine")
    assert names(tmp_path) == ["net.etn"]


def test_without_locks_only_the_old_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", fail)
    temporary, descriptor = new_file(tmp_path, "net.etn")
    os.close(descriptor)
    assert list(abandoned(tmp_path, "net.etn")) == []
    os.utime(temporary, (0, 0))
    assert list(abandoned(tmp_path, "net.etn")) == [temporary]


def test_many_at_once(tmp_path: Path) -> None:
    contents = [bytes([number]) * 10_000 for number in range(8)]
    failed: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            for _ in range(30):
                write_file(tmp_path / "net.etn", content)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert (tmp_path / "net.etn").read_bytes() in contents
    assert names(tmp_path) == ["net.etn"]
