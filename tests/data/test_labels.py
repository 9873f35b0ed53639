"""Folders and tables of labels; what is wrong is named with its line."""

from __future__ import annotations

import pytest

from etinynet.data.labels import (
    Dataset,
    Example,
    class_folders,
    list_folder,
    list_table,
    read_class_names,
)
from etinynet.data.split import BY_NAME, split_held_out
from etinynet.errors import DataError


def _folder(tmp_path, names: dict[str, list[str]]):
    for name, files in names.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes(b"")
    return tmp_path


def test_folder(tmp_path):
    _folder(tmp_path, {"b": ["2.JPG", "1.png", "note.txt", ".hidden.jpg"], "a": ["x.webp"]})
    (tmp_path / "LICENSE").write_text("")
    (tmp_path / ".git").mkdir()
    dataset = list_folder(tmp_path)
    assert dataset.class_names == ("a", "b")
    assert [(e.key, e.label) for e in dataset.examples] == [
        ("a/x.webp", 0), ("b/1.png", 1), ("b/2.JPG", 1)
    ]  # fmt: skip
    assert dataset.examples[1].path == tmp_path / "b" / "1.png"


def test_bad_folders(tmp_path):
    with pytest.raises(DataError, match="cannot read this folder: No such file"):
        list_folder(tmp_path / "absent")
    with pytest.raises(DataError, match="no class folders"):
        list_folder(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot read this folder: Not a directory"):
        list_folder(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no pictures; expected files ending in \.bmp"):
        list_folder(tmp_path)


@pytest.fixture
def table(tmp_path):
    _folder(tmp_path, {"p": ["0.jpg", "1.jpg"]})

    def write(text: str | bytes):
        path = tmp_path / "labels.tsv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_table(table, tmp_path):
    path = table("p/0.jpg\t2\r\n\np/1.jpg\t0\n")
    dataset = list_table(path)
    assert dataset.class_names == ("0", "1", "2")
    assert [(e.path, e.label) for e in dataset.examples] == [
        (tmp_path / "p/0.jpg", 2), (tmp_path / "p/1.jpg", 0)
    ]  # fmt: skip
    moved = table("0.jpg\t1\n")
    assert list_table(moved, tmp_path / "p").examples[0].path == tmp_path / "p" / "0.jpg"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no lines; expected path, tab, class index"),
        ("p/0.jpg\t0\np/1.jpg 1\n", "line 2: 'p/1.jpg 1'; expected path, tab"),
        ("p/0.jpg\t0\t1\n", "line 1: .* expected path, tab"),
        ("\t0\n", "line 1: .* expected path, tab"),
        ("p/0.jpg\tone\n", "line 1: class index 'one'; an integer 0 to 65535"),
        ("p/0.jpg\t-1\n", "class index '-1'"),
        ("p/0.jpg\t65536\n", "class index '65536'"),
        ("p/0.jpg\t" + "9" * 5000 + "\n", "class index '9999"),
        ("p/0.jpg\t\u0661\n", "class index"),
        ("p/9.jpg\t0\n", "line 1: no picture at '.*9.jpg'"),
        ("p/0\0.jpg\t0\n", "line 1: no picture at"),
        (b"p/0.jpg\t\xff\n", "not UTF-8 text: byte 8"),
    ],
)
def test_bad_table_is_refused_in_words(table, text, words):
    with pytest.raises(DataError, match=words):
        list_table(table(text))


def test_all_absent_pictures_of_a_table_are_told_at_once(table):
    path = table("".join(f"p/{number}.jpg\t0\n" for number in range(8)))
    words = r"line 3: no picture .*2.jpg'; line 4: .*; line 5: .*; and 3 lines more"
    with pytest.raises(DataError, match=words):
        list_table(path)


def test_train_and_val_beside_other_folders(tmp_path):
    for side in ("train", "val", "test"):
        (tmp_path / side).mkdir()
        _folder(tmp_path / side, {"ant": ["0.jpg"], "bee": ["0.jpg"]})
    _folder(tmp_path, {"notes": ["x.jpg", "y.txt"]})
    dataset = list_folder(tmp_path)
    assert dataset.class_names == ("ant", "bee")
    assert dataset.held_out_keys == {"val/ant/0.jpg", "val/bee/0.jpg"}
    assert dataset.passed_over == {"pictures in test": 2, "pictures in notes": 1, ".txt": 1}
    assert class_folders(tmp_path) == (tmp_path / "train", tmp_path / "val")
    for name in ("ant", "bee"):
        (tmp_path / "val" / name).rename(tmp_path / "val" / f"young {name}")
    assert list_folder(tmp_path).class_names == ("notes", "test", "train", "val")


def test_absent_table(tmp_path):
    with pytest.raises(DataError, match="cannot read this table: No such file"):
        list_table(tmp_path / "absent.tsv")


def test_class_names(tmp_path, table):
    path = tmp_path / "classes.tsv"
    path.write_text("index\twnid\tname\n0\tn1\ttench\n1\tn2\tgreat white shark\n")
    assert read_class_names(path) == ("tench", "great white shark")
    dataset = list_table(table("p/0.jpg\t1\n"), classes=path)
    assert dataset.class_names[1] == "great white shark"
    with pytest.raises(DataError, match=r"line 1: class index 2; .* names 0 to 1"):
        list_table(table("p/0.jpg\t2\n"), classes=path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "heading"),
        ("number\tname\n", r"line 1: heading .* expected columns 'index', 'name'"),
        ("index\tname\n", "no classes under the heading"),
        ("index\tname\n1\ta\n", "line 2: index 1; 0 is expected"),
        ("index\tname\n0\ta\n\n0\tb\n", "line 4: index 0; 1 is expected"),
        ("index\tname\n0\n", "line 2: 1 fields, 2 expected"),
        ("index\tname\n0\t\n", "line 2: the name is empty"),
        ("index\tname\nx\ta\n", "line 2: class index 'x'"),
    ],
)
def test_bad_class_names_are_refused_in_words(tmp_path, text, words):
    path = tmp_path / "classes.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_class_names(path)


def _dataset(tmp_path, keys):
    return Dataset(tuple(Example(tmp_path / key, 0, key) for key in keys), ("a",))


def test_split_refuses_an_empty_part(tmp_path):
    with pytest.raises(DataError, match=r"1 pictures leave the .* part empty"):
        split_held_out(_dataset(tmp_path, ["a/1.jpg"]))


def test_sign_digits(shared_data):
    dataset = list_folder(shared_data / "sign-digits")
    assert len(dataset.examples) == 2059
    assert dataset.class_names == tuple("0123456789")
    _, held_out = split_held_out(dataset)
    assert len(held_out.examples) == 420
    assert held_out == split_held_out(dataset, BY_NAME)[1]
