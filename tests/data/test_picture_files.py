"""The one rule for which files are pictures: what cameras, phones and systems leave in folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from etinynet.data.collect import find_pictures, training_pictures
from etinynet.data.files import find_files, words_of
from etinynet.data.labels import list_folder
from etinynet.errors import DataError

PICTURES = ["a/1.jpg", "a/2.JFIF", "a/3.jpe", "a/roll/deep/4.png", "b/5.jpeg"]
OTHERS = {
    "a/._1.jpg": "hidden", "a/.DS_Store": "hidden", "b/Thumbs.db": "hidden",
    "b/desktop.ini": "hidden", "a/IMG_1.HEIC": ".heic", "b/IMG_2.heic": ".heic",
    "b/x.avif": ".avif", "b/notes.txt": ".txt", "b/README": "others",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in [*PICTURES, *OTHERS, "__MACOSX/a/._1.jpg", ".git/x.jpg"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def keys(paths: list[Path], folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_every_verb_sees_the_same_pictures(folder: Path) -> None:
    dataset = list_folder(folder)
    assert [example.key for example in dataset.examples] == PICTURES
    assert dataset.class_names == ("a", "b")
    assert keys(find_pictures(folder, 99), folder) == PICTURES
    assert keys([e.path for e in training_pictures([folder], 99, None)[0].examples], folder) == (
        PICTURES
    )
    assert dataset.passed_over == {"hidden": 4, ".heic": 2, ".avif": 1, ".txt": 1, "others": 1}


def test_what_was_passed_over_in_words(folder: Path) -> None:
    assert words_of(list_folder(folder).passed_over) == (
        "4 hidden, 2 .heic, 1 .avif, 1 .txt, 1 others; convert them to JPEG, for instance by "
        "'magick mogrify -format jpg *.heic *.avif'"
    )
    (folder / "c").mkdir()
    (folder / "c" / "1.heic").touch()
    with pytest.raises(DataError, match=r"c: no pictures; .* passed over: 1 \.heic; convert them"):
        list_folder(folder)


def test_pictures_outside_class_folders_are_counted(folder: Path) -> None:
    (folder / "loose.jpg").touch()
    (folder / "labels.tsv").touch()
    dataset = list_folder(folder)
    assert [example.key for example in dataset.examples] == PICTURES
    assert dataset.passed_over["pictures outside class folders"] == 1


def test_many_kinds_are_few_words() -> None:
    kinds = {f".{i}": 2 for i in range(40)}
    assert words_of(kinds) == "2 .0, 2 .1, 2 .10, 2 .11, 2 .12, 2 .13, 68 of other kinds"


def test_links_are_followed_once(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "6.png").touch()
    (elsewhere / "up").symlink_to(folder)
    (elsewhere / "round").symlink_to(elsewhere)
    (folder / "c").symlink_to(elsewhere)
    (folder / "a" / "gone.jpg").symlink_to(tmp_path / "absent")
    dataset = list_folder(folder)
    assert [example.key for example in dataset.examples] == [*PICTURES, "c/6.png"]
    assert dataset.passed_over["broken links"] == 1
    assert keys(find_pictures(folder, 99), folder) == [*PICTURES, "c/6.png"]
    assert len(find_files(elsewhere / "round").paths) == 6


def test_a_folder_deeper_than_the_stack(tmp_path: Path) -> None:
    current = tmp_path
    for _ in range(1200):
        current = current / "d"
        current.mkdir()
    (current / "x.jpg").touch()
    try:
        assert find_files(tmp_path).paths == [current / "x.jpg"]
    finally:  # pytest would delete it by recursion
        (current / "x.jpg").unlink()
        while current != tmp_path:
            current.rmdir()
            current = current.parent


def test_many_folders_that_link_to_one_another(tmp_path: Path) -> None:
    names = [f"{number:02}" for number in range(12)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").touch()
        for other in names:
            (tmp_path / name / f"to {other}").symlink_to(tmp_path / other)
    found = find_files(tmp_path)
    assert len(found.paths) == 12 * 12
    assert found.paths == sorted(found.paths)
