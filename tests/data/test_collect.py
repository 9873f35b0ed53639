"""Pictures without labels: which files count, in which order, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from etinynet.data.collect import find_pictures
from etinynet.data.images import Preprocess
from etinynet.data.reading import Reading, prepared
from etinynet.errors import DataError

NAMES = ["a.jpg", "b.PNG", "deep/er/c.webp", "deep/d.bmp", "\xe9.tiff", "\udcff.gif"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in [*NAMES, "notes.txt", "deep/labels.tsv", "jpg"]:
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "pictures" / "folder.jpg").mkdir()
    return tmp_path / "pictures"


def digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def test_pictures_by_the_hash_of_their_path(folder: Path) -> None:
    found = [path.relative_to(folder).as_posix() for path in find_pictures(folder, 100)]
    assert found == sorted(NAMES, key=digest)


@pytest.mark.parametrize("most", [1, 3, 6])
def test_fewer_are_the_first_of_all(folder: Path, most: int) -> None:
    assert find_pictures(folder, most) == find_pictures(folder, 100)[:most]


def test_the_order_is_the_same_wherever_the_folder_lies(folder: Path, tmp_path: Path) -> None:
    before = [path.relative_to(folder) for path in find_pictures(folder, 100)]
    moved = folder.rename(tmp_path / "elsewhere")
    assert [path.relative_to(moved) for path in find_pictures(moved, 100)] == before


def test_the_order_mixes_class_folders(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(50):
            (tmp_path / name / f"{index}.png").touch()
    first = [path.parent.name for path in find_pictures(tmp_path, 40)]
    assert 10 <= first.count("cat") <= 30


def test_folders_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no pictures; expected files ending in \.bmp, \.gif"):
        find_pictures(tmp_path, 5)
    for absent in (tmp_path / "absent", tmp_path / "notes.txt"):
        with pytest.raises(DataError, match=f"{absent.name}: not a folder of pictures"):
            find_pictures(absent, 5)


def test_prepared_pictures(tmp_path: Path) -> None:
    paths = [tmp_path / "wide.png", tmp_path / "tall.png"]
    Image.new("RGB", (60, 30), (10, 20, 30)).save(paths[0])
    Image.new("L", (30, 70), 40).save(paths[1])
    wide, tall = prepared(paths, Preprocess.for_size(16))
    assert wide.shape == tall.shape == (16, 16, 3)
    assert wide.dtype == np.uint8
    assert wide.reshape(-1, 3).tolist() == [[10, 20, 30]] * 256
    assert tall.reshape(-1, 3).tolist() == [[40, 40, 40]] * 256


def test_prepared_leaves_out_a_few_damaged_ones(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 8), (number,) * 3).save(path)
    for number in (0, 7):
        paths[number].write_bytes(b"no picture")
    reading = Reading(40)
    found = list(prepared(paths, Preprocess.for_size(8), reading, most=10))
    assert (
        [int(picture.max()) for picture in found] == reading.kept == [*range(1, 7), *range(8, 12)]
    )
    assert [path for path, _ in reading.damaged] == [paths[0], paths[7]]
    paths[30].write_bytes(b"no picture")
    with pytest.raises(DataError, match="3 of 40 pictures cannot be read, and at most 5% are"):
        list(prepared(paths, Preprocess.for_size(8)))
    words = r"^[^;]*/0\.png: not a picture of a known format$"
    with pytest.raises(DataError, match=words):
        list(prepared(paths[:2], Preprocess.for_size(8)))
