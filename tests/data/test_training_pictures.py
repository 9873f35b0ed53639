"""Pictures to train on: with labels where the class folders are the model's, else without."""

from __future__ import annotations

from pathlib import Path

import pytest

from etinynet.data.collect import find_pictures, training_pictures
from etinynet.errors import DataError

CLASSES = ("ant", "bee", "cat", "dog")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 pictures of bees and 30 of dogs: two of the four classes."""
    for name in ("dog", "bee"):
        (tmp_path / "animals" / name).mkdir(parents=True)
        for number in range(30):
            (tmp_path / "animals" / name / f"{number}.png").touch()
    return tmp_path / "animals"


def test_class_folders_of_the_model_are_labels(folder: Path) -> None:
    found, labelled = training_pictures([folder], 1000, CLASSES)
    assert labelled
    assert found.class_names == CLASSES
    assert len(found.examples) == 60
    for example in found.examples:
        assert CLASSES[example.label] == example.path.parent.name
        assert example.key == f"{example.path.parent.name}/{example.path.name}"


def test_fewer_are_of_all_classes(folder: Path) -> None:
    found, labelled = training_pictures([folder], 20, CLASSES)
    assert labelled
    assert len(found.examples) == 20
    assert {example.label for example in found.examples} == {1, 3}
    every, _ = training_pictures([folder], 1000, CLASSES)
    assert found.examples == every.examples[:20]


def test_hidden_folders_are_passed_over(folder: Path) -> None:
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "0.png").touch()
    found, labelled = training_pictures([folder], 1000, CLASSES)
    assert labelled
    assert len(found.examples) == 60


@pytest.mark.parametrize(
    "classes",
    [None, (), ("ant", "bee"), ("Bee", "Dog"), ("bee", "dog", "bee")],
    ids=["none", "empty", "unknown-folder", "case", "a-name-twice"],
)
def test_other_classes_give_no_labels(folder: Path, classes: tuple[str, ...] | None) -> None:
    found, labelled = training_pictures([folder], 1000, classes)
    assert not labelled
    assert found.class_names == ("unlabelled",)
    assert {example.label for example in found.examples} == {0}
    assert [example.path for example in found.examples] == find_pictures(folder, 1000)


def test_pictures_without_folders_have_no_labels(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    found, labelled = training_pictures([tmp_path], 5, CLASSES)
    assert not labelled
    assert [example.key for example in found.examples] == ["0/a.png"]


def test_several_folders_have_no_labels(folder: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "a.png").touch()
    found, labelled = training_pictures([folder, more, folder], 7, CLASSES)
    assert not labelled
    assert len(found.examples) == 7 + 1 + 7
    keys = [example.key for example in found.examples]
    assert len(set(keys)) == len(keys)
    assert keys[7] == "1/a.png"
    first = find_pictures(folder, 7)
    assert [example.path for example in found.examples] == [*first, more / "a.png", *first]


def test_what_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    for absent in (tmp_path / "absent", folder / "dog" / "0.png"):
        for folders in ([absent], [folder, absent]):
            with pytest.raises(DataError, match=f"{absent.name}: not a folder of pictures"):
                training_pictures(folders, 5, CLASSES)
    (folder / "ant").mkdir()
    with pytest.raises(DataError, match="ant: no pictures; expected files ending in"):
        training_pictures([folder], 5, CLASSES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no pictures; expected files ending in"):
        training_pictures([tmp_path / "empty"], 5, CLASSES)
