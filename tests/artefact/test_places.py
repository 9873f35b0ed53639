"""Places of outputs: what is wrong is said with option, path and what is allowed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from etinynet.artefact import check_file, check_folder, check_run_folder
from etinynet.errors import ConfigError

FILE = "allowed is a file in a folder that exists or can be made"
FOLDER = "allowed is a folder that exists or can be made"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "net.etn").write_text("old")
    (tmp_path / "folder.etn").mkdir()
    (tmp_path / "link.etn").symlink_to("net.etn")
    (tmp_path / "nowhere.etn").symlink_to("absent/net.etn")
    (tmp_path / "circle.etn").symlink_to("circle.etn")
    os.mkfifo(tmp_path / "pipe.etn")
    return tmp_path


@pytest.mark.parametrize("name", ["new.etn", "net.etn", "a/b/new.etn", "link.etn", "nowhere.etn"])
def test_files_that_can_be_written(place: Path, name: str) -> None:
    before = sorted(place.rglob("*"))
    check_file("-o", place / name, ".etn")
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("new", "new'; allowed is a name that ends in .etn or .eto"),
        ("net.etn/", None),
        ("file/new.etn", f"file' is not a folder; {FILE}"),
        ("file/a/new.etn", f"file' is not a folder; {FILE}"),
        ("folder.etn", "folder.etn', a folder; allowed is the name of a file"),
        ("pipe.etn", f"pipe.etn', a device or pipe; {FILE}"),
        ("circle.etn", f"circle.etn': Too many levels of symbolic links; {FILE}"),
        (300 * "a" + ".etn", f".etn': File name too long; {FILE}"),
        (300 * "a" + "/new.etn", f"new.etn': File name too long; {FILE}"),
    ],
)
def test_files_that_cannot(place: Path, name: str, words: str | None) -> None:
    if words is None:
        check_file("-o", place / name, ".etn", ".eto")
        return
    with pytest.raises(ConfigError) as error:
        check_file("-o", place / name, ".etn", ".eto")
    assert str(error.value).startswith(f"-o is '{place}/")
    assert str(error.value).endswith(words)


def test_folders(place: Path) -> None:
    for name in ("new", "a/b/new", "folder.etn", "."):
        check_folder("-o", place / name)
    for name, words in (
        ("file", "file', a file of that name exists"),
        ("file/new", "file' is not a folder"),
        ("link.etn", "link.etn', a file of that name exists"),
        ("circle.etn", "circle.etn': Too many levels"),
        (300 * "a", "': File name too long"),
    ):
        with pytest.raises(ConfigError) as error:
            check_folder("-o", place / name)
        assert str(error.value).startswith(f"-o is '{place}/")
        assert words in str(error.value)
        assert str(error.value).endswith(FOLDER)


@pytest.mark.parametrize("check", [check_file, check_folder])
def test_permissions(
    place: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[str, Path], None]
) -> None:
    """As a user other than root would find them."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place / "folder.etn")
    with pytest.raises(ConfigError, match=r"folder '.*folder.etn' cannot be written; allowed is a"):
        check("--html", place / "folder.etn" / "a" / "new")
    check("--html", place / "new")


def test_a_file_that_is_read_only(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place / "net.etn")
    with pytest.raises(ConfigError, match=r"link.etn', which is read-only; allowed is a file"):
        check_file("-o", place / "link.etn")


def test_run_folders(tmp_path: Path) -> None:
    run = tmp_path / "run"
    check_run_folder("-o", run, "last.safetensors", resume=False)
    with pytest.raises(ConfigError, match=r"holds no run to resume, there is no last.safetensors;"):
        check_run_folder("-o", run, "*/last.safetensors", resume=True)
    run.mkdir()
    (run / "last.safetensors").write_bytes(b"")
    check_run_folder("-o", run, "last.safetensors", resume=True)
    with pytest.raises(ConfigError, match=r"holds a run already \(last.safetensors\); resume it"):
        check_run_folder("-o", run, "last.safetensors", resume=False)
    check_run_folder("-o", run, "*/last.safetensors", resume=False)
