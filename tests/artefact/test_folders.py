"""A folder is replaced whole or not at all, and only where all in it is ours and unchanged."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from etinynet.artefact import Record, check_replaceable, sha256, write_directory
from etinynet.errors import ArtefactError

RECORD = Record("report.json", "compile")


def content(version: int = 1, **more: bytes) -> dict[str, bytes]:
    files = {"net.c": b"%d" % version, "firmware/board.h": b"board", "report.json": b"{}"}
    return files | more


def write(path: Path, version: int = 1, **more: bytes) -> None:
    write_directory(path, content(version, **more), RECORD)


def tree(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def refused(path: Path, words: str) -> None:
    """Both the early check and the write refuse; nothing changes."""
    before = tree(path.parent)
    with pytest.raises(ArtefactError, match=words):
        check_replaceable("-o", path, RECORD)
    with pytest.raises(ArtefactError, match=words):
        write(path, 2)
    assert tree(path.parent) == before


def fail(*args: object, **kwargs: object) -> None:
    raise OSError(28, "No space left on device")


def test_the_record_lists_every_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lib"
    write(path)
    data = (path / "report.json").read_bytes()
    report = json.loads(data)
    assert report["files"] == {"firmware/board.h": sha256(b"board"), "net.c": sha256(b"1")}
    own = report["own_sha256"]
    assert sha256(data.replace(own.encode(), 64 * b"0")) == own
    assert sorted(tree(tmp_path)) == [
        f"deep/lib/{name}" for name in ("firmware/board.h", "net.c", "report.json")
    ]


def test_replaces_what_is_ours(tmp_path: Path) -> None:
    path = tmp_path / "lib"
    write(path, 1, old=b"")
    (path / "net.c").unlink()  # what is missing is no reason to refuse
    path.chmod(0o750)
    write(path, 2, new=b"")
    found = tree(path)
    assert set(found) == {"firmware/board.h", "net.c", "new", "report.json"}
    assert found["net.c"] == b"2"
    assert path.stat().st_mode & 0o777 == 0o750
    assert [entry.name for entry in tmp_path.iterdir()] == ["lib"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    write(tmp_path / "lib")
    assert len(tree(tmp_path)) == 3


def test_edited_files_stay(tmp_path: Path) -> None:
    path = tmp_path / "lib"
    write(path)
    (path / "firmware" / "board.h").write_text("mine")
    words = "lib: firmware/board.h was edited after compile wrote it: move it or name another fold"
    refused(path, words)
    (path / "net.c").write_text("mine")
    refused(path, "lib: firmware/board.h, net.c were edited after compile wrote them: move them")


@pytest.mark.parametrize("name", ["notes.txt", "firmware/build/a.o", "empty/"])
def test_foreign_files_stay(tmp_path: Path, name: str) -> None:
    path = tmp_path / "lib"
    write(path)
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).mkdir() if name.endswith("/") else (path / name).write_text("mine")
    first = "firmware/build/" if "build" in name else name
    refused(path, f"lib: {first} was not among what compile wrote: move it or name another folder")


def test_a_link_is_not_the_file_it_points_to(tmp_path: Path) -> None:
    path = tmp_path / "lib"
    write(path)
    (path / "net.c").rename(tmp_path / "mine.c")
    (path / "net.c").symlink_to(tmp_path / "mine.c")
    refused(path, "net.c was edited")


def test_only_some_are_named(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for number in range(9):
        (tmp_path / "lib" / f"{number}.txt").write_text("mine")
    refused(tmp_path / "lib", r"lib: 0.txt, 1.txt, 2.txt were not among .* \(and more\): move them")


@pytest.mark.parametrize(
    "data", [b"{}", b"[", b"[]", b'{"files": 1, "own_sha256": ""}', b"[" * 990 + b"]" * 990, None]
)
def test_a_record_that_proves_nothing(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "lib"
    write(path)
    if data is None:  # a hash edited to fit an edited file
        (path / "net.c").write_bytes(b"mine")
        data = (path / "report.json").read_bytes()
        data = data.replace(sha256(b"1").encode(), sha256(b"mine").encode())
    (path / "report.json").write_bytes(data)
    refused(path, "lib: report.json does not prove what compile wrote here")


def test_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtefactError, match="a file of that name exists"):
        write(tmp_path / "file")


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/a", "a\\b", "c:a", ".", "", "a//b"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtefactError, match="is not one inside the folder"):
        write_directory(tmp_path / "lib", content() | {name: b""}, RECORD)
    assert tree(tmp_path) == {}


def test_from_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lib"
    write(path)
    for place, name in ((path, "."), (path / "firmware", ".."), (path / "firmware", "../../lib")):
        monkeypatch.chdir(place)
        before = path.stat().st_ino
        write(Path(name), 2, new=b"")
        assert tree(path)["net.c"] == b"2"
        assert (path.stat().st_ino, Path.cwd()) == (before, place)
        write(Path(name), 1)
        assert len(tree(tmp_path)) == 3


def test_links_stay(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "lib")
    for version in (1, 2):
        write(tmp_path / "link", version)
        assert tree(tmp_path / "far" / "lib")["net.c"] == b"%d" % version
    assert (tmp_path / "link").is_symlink()
    assert [entry.name for entry in (tmp_path / "far").iterdir()] == ["lib"]


def test_what_a_file_manager_left_stays(tmp_path: Path) -> None:
    write(tmp_path / "lib")
    (tmp_path / "lib" / ".DS_Store").write_text("")
    write(tmp_path / "lib", 2)
    assert tree(tmp_path / "lib").keys() == {".DS_Store", *content()}


@pytest.fixture(params=["bind", "tmpfs"])
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder that is a mount point, as a container's volume is."""
    path, source = tmp_path / "volume", tmp_path / "source"
    path.mkdir()
    source.mkdir()
    kind = ["--bind", source] if request.param == "bind" else ["-t", "tmpfs", "none"]
    try:
        done = subprocess.run(["mount", *kind, path], capture_output=True, check=False).returncode
    except OSError:
        done = 1
    if done:
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_mount_point(mounted: Path) -> None:
    (mounted / "lost+found").mkdir()
    write(mounted)
    write(mounted, 2, new=b"")
    assert tree(mounted) == tree(mounted) | content(2, new=b"") | {
        "report.json": (mounted / "report.json").read_bytes()
    }
    assert sorted(path.name for path in mounted.iterdir()) == [
        *("firmware", "lost+found", "net.c", "new", "report.json")
    ]
    (mounted / "net.c").write_text("mine")
    refused(mounted, "net.c was edited")


def test_an_immutable_file(tmp_path: Path) -> None:
    write(tmp_path / "lib")
    path = tmp_path / "lib" / "firmware" / "board.h"
    try:
        done = subprocess.run(["chattr", "+i", path], capture_output=True, check=False).returncode
    except OSError:
        done = 1
    if done:
        pytest.skip("no file can be marked as immutable here")
    try:
        refused(tmp_path / "lib", "board.h' cannot be removed, it is marked as immutable")
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    write(tmp_path / "lib", 2)


@pytest.mark.parametrize("owned", ["inner", "parent"])
def test_folders_of_another_user(tmp_path: Path, owned: str) -> None:
    """A folder inside that cannot be written is refused; one outside that cannot is no matter."""
    path = tmp_path / "outer" / "lib"
    write(path)
    if os.geteuid() != 0:
        pytest.skip("needs another user")
    for place in (path, *path.rglob("*")):
        os.chown(place, 65534, 65534)
    if owned == "inner":
        os.chown(path / "firmware", 0, 0)
    for place in (tmp_path, *tmp_path.parents[:-2]):
        place.chmod(place.stat().st_mode | 0o011)
    before = tree(tmp_path)
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            write(path, 2)
            os._exit(0)
        except ArtefactError as error:
            os._exit(7 if "firmware' cannot be replaced, it does not let you" in str(error) else 8)
        finally:
            os._exit(9)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if owned == "inner":
        assert status == 7
        assert tree(tmp_path) == before
    else:
        assert status == 0
        assert tree(path)["net.c"] == b"2"


@pytest.mark.parametrize("step", ["pathlib.Path.rename", "os.fsync", "pathlib.Path.mkdir"])
@pytest.mark.parametrize("inside", [False, True])
def test_fails_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, inside: bool
) -> None:
    path = tmp_path / "lib"
    write(path)
    before = tree(tmp_path)
    monkeypatch.setattr("etinynet.artefact.swap.exchange", lambda first, second: False)
    if inside:
        monkeypatch.chdir(path)
    with monkeypatch.context() as patched:
        patched.setattr(step, fail)
        with pytest.raises(ArtefactError, match=r"lib: cannot write: No space left on device"):
            write(path, 2)
    assert tree(tmp_path) == before
    write(path, 2)
    assert tree(path)["net.c"] == b"2"


@pytest.mark.parametrize("exchanged", [True, False])
@pytest.mark.parametrize("inside", [False, True])
def test_edited_while_the_new_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanged: bool, inside: bool
) -> None:
    path = tmp_path / "lib"
    write(path)
    if not exchanged:
        monkeypatch.setattr("etinynet.artefact.swap.exchange", lambda first, second: False)
    if inside:
        monkeypatch.chdir(path)
    plain = os.fsync

    def edit(descriptor: int) -> None:
        plain(descriptor)
        (path / "net.c").write_text("mine")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", edit)
        with pytest.raises(ArtefactError, match=r"net.c was edited after compile wrote it"):
            write(path, 2)
    assert tree(path)["net.c"] == b"mine"
    assert len(tree(tmp_path)) == 3


@pytest.mark.parametrize("inside", [False, True])
def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    path = tmp_path / "lib"
    write(path)
    if inside:
        monkeypatch.chdir(path)
    failed: list[BaseException] = []

    def work(version: int) -> None:
        try:
            for _ in range(5):
                write(path, version)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(version,)) for version in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert tree(tmp_path)["lib/net.c"] in (b"0", b"1", b"2", b"3")
    assert len(tree(tmp_path)) == 3


@pytest.mark.parametrize("mode", ["exchange", "portable", "inside"])
def test_kills(tmp_path: Path, mode: str) -> None:
    if mode == "exchange" and not hasattr(ctypes.CDLL(None), "renameat2"):
        pytest.skip("no renameat2")
    script = Path(__file__).with_name("kill_points.py")
    memory = Path("/dev/shm")  # a file system without a disk, where there is one, is quicker
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as at:
        done = subprocess.run([sys.executable, script, mode, at], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60
