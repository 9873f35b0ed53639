"""Artefact files are whole or absent, and the user's files stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from etinynet.artefact import provenance, read_file, sha256, write_directory, write_file
from etinynet.errors import ArtefactError


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def fail(*args: object, **kwargs: object) -> None:
    raise OSError(28, "No space left on device")


def test_sha256() -> None:
    assert sha256(b"abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_read_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    assert read_file(tmp_path / "x", "weights") == b"content"
    with pytest.raises(ArtefactError, match=r"absent: cannot read this weights file: No such file"):
        read_file(tmp_path / "absent", "weights")
    with pytest.raises(ArtefactError, match="cannot read this graph file: Is a directory"):
        read_file(tmp_path, "graph")


def test_provenance() -> None:
    made = provenance("compile x", {"b": b"2", "a": b"1"})
    assert made["command"] == "compile x"
    assert made["inputs"] == {"a": sha256(b"1"), "b": sha256(b"2")}
    assert isinstance(made["version"], str)


def test_write_file_replaces(tmp_path: Path) -> None:
    path = tmp_path / "net.etn"
    for content in (b"first", b"second"):
        write_file(path, content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["net.etn"]


def test_write_file_has_the_usual_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_file(tmp_path / "x", b"")
    finally:
        os.umask(mask)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_write_file_fails_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_file(path, b"old")
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ArtefactError, match=r"x: cannot write: No space left on device"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_write_file_where_no_folder_is(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="cannot write: No such file or directory"):
        write_file(tmp_path / "no" / "x", b"")


def test_write_directory(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lib"
    write_directory(path, {"a.c": b"1", "sub/b.h": b"2"})
    assert names(path) == ["a.c", "sub/b.h"]
    write_directory(path, {"a.c": b"3", "sub/b.h": b"2", "c": b""})
    assert (path / "a.c").read_bytes() == b"3"
    assert path.stat().st_mode & 0o777 == 0o755
    assert names(tmp_path) == ["deep/lib/a.c", "deep/lib/c", "deep/lib/sub/b.h"]


def test_the_users_files_are_kept(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match=r"lib: folder holds 'notes.txt', which this command"):
        write_directory(tmp_path / "lib", {"a.c": b"1"})
    assert names(tmp_path) == ["lib/notes.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match="a file of that name exists"):
        write_directory(tmp_path / "file", {"a.c": b"1"})


def test_write_directory_fails_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lib"
    write_directory(path, {"a.c": b"old"})
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ArtefactError, match=r"lib: cannot write: No space left on device"):
        write_directory(path, {"a.c": b"new"})
    assert (path / "a.c").read_bytes() == b"old"
    assert names(tmp_path) == ["lib/a.c"]
