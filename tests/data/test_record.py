"""Records of held-out pictures: the same pictures wherever they lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from etinynet.data.collect import training_pictures
from etinynet.data.record import HeldOut, mark
from etinynet.data.split import split_held_out
from etinynet.errors import ArtefactError, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 different files in each of two class folders."""
    for name in ("bee", "dog"):
        (tmp_path / "animals" / name).mkdir(parents=True)
        for number in range(30):
            (tmp_path / "animals" / name / f"{number}.png").write_text(f"{name} {number}")
    return tmp_path / "animals"


def test_written_and_read(folder: Path) -> None:
    paths = sorted(folder.rglob("*.png"))[::5]
    record = HeldOut.of(paths)
    text = record.to_json()
    assert len(text) == 8 * len(paths)
    assert HeldOut.from_json(text, "x.etn") == record
    assert [path for path in sorted(folder.rglob("*.png")) if record.has(path)] == paths


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0\.jpg: cannot read this picture: No such file"):
        mark(tmp_path / "0.jpg")
    assert not HeldOut(frozenset({"AAAAAAAA"})).has(tmp_path / "0.jpg")


@pytest.mark.parametrize("value", [None, 3, "", "abc", "a" * 9, "é" * 8, ["abcdefgh"], {}])
def test_a_damaged_record(value: object) -> None:
    with pytest.raises(ArtefactError, match=r"x\.etn: held_out_pictures is not text of 8 char"):
        HeldOut.from_json(value, "x.etn")


@pytest.mark.parametrize("names", [None, ("ant", "bee", "dog")], ids=["unlabelled", "labelled"])
def test_trained_pictures_are_held_out_again(
    folder: Path, tmp_path: Path, names: tuple[str, ...] | None
) -> None:
    chosen = sorted(folder.rglob("*.png"))[::7]
    record = HeldOut.of(chosen)
    shutil.copytree(folder, tmp_path / "moved")
    for path in list((tmp_path / "moved").rglob("*.png")):
        path.rename(path.with_name(f"other {path.name}"))
    dataset, labelled = training_pictures([tmp_path / "moved"], 1000, names, record=record)
    assert labelled is (names is not None)
    train, held_out = split_held_out(dataset)
    assert {one.path.read_text() for one in held_out.examples} == {
        path.read_text() for path in chosen
    }
    assert len(train.examples) == 60 - len(chosen)
    some, _ = training_pictures([folder], 20, names, record=record)
    _, few = split_held_out(some)
    assert len(some.examples) == 20
    assert {one.path for one in few.examples} == {one.path for one in some.examples} & set(chosen)


def test_a_record_of_other_pictures(folder: Path) -> None:
    record = HeldOut(frozenset({"AAAAAAAA"}))
    for names in (None, ("bee", "dog")):
        expected = training_pictures([folder], 1000, names)
        assert training_pictures([folder], 1000, names, record=record) == expected
