"""The held-out part: of every class, the same for all verbs, without copies on the other side."""

from __future__ import annotations

from pathlib import Path

import pytest

from etinynet.data.collect import list_pictures, training_pictures
from etinynet.data.labels import Dataset, list_folder
from etinynet.data.split import BY_CLASS, BY_FOLDER, BY_NAME, recorded_rule, split_held_out
from etinynet.errors import DataError


def folder_of(root: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / name / f"{number}.png").write_text(f"{name} {number}")
    return root


def held_out(dataset: Dataset, rule: str | None = None) -> set[str]:
    train, rest = split_held_out(dataset, rule)
    found = {example.key for example in rest.examples}
    assert not found & {example.key for example in train.examples}
    return found


def test_every_class_is_on_both_sides(tmp_path: Path) -> None:
    counts = {"many": 300, "few": 3, "two": 2, "one": 1, **{f"c{i}": 3 for i in range(100)}}
    dataset = list_folder(folder_of(tmp_path, counts))
    found = held_out(dataset)
    of_class = {name: sum(key.startswith(f"{name}/") for key in found) for name in counts}
    assert of_class["one"] == 0
    assert all(count == 1 for name, count in of_class.items() if name not in ("many", "one"))
    assert 40 <= of_class["many"] <= 80


def test_large_classes_keep_their_sides_when_pictures_come(tmp_path: Path) -> None:
    before = list_folder(folder_of(tmp_path, {"a": 200, "b": 200}))
    first = held_out(before)
    assert first == held_out(before, BY_NAME)
    after = held_out(list_folder(folder_of(tmp_path, {"a": 250, "b": 300, "c": 3})))
    assert after & {example.key for example in before.examples} == first


def test_small_classes_move_few_when_pictures_come(tmp_path: Path) -> None:
    before = held_out(list_folder(folder_of(tmp_path, {"a": 3})))
    for count in range(4, 60):
        after = held_out(list_folder(folder_of(tmp_path, {"a": count})))
        assert max(1, count // 10) <= len(after) <= max(1, count // 3)
        assert len(before ^ after) <= 2
        before = after


def test_copies_are_on_one_side(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a": 50, "b": 50})
    for path in sorted(folder.rglob("*.png")):
        for copy in ("copy of ", "second copy of "):
            (path.parent / f"{copy}{path.name}").write_bytes(path.read_bytes())
    train, rest = split_held_out(list_folder(folder))
    assert not {e.path.read_bytes() for e in train.examples} & {
        e.path.read_bytes() for e in rest.examples
    }
    assert len(train.examples) + len(rest.examples) == 300
    assert 30 <= len(rest.examples) <= 100


def test_train_and_val_folders(tmp_path: Path) -> None:
    for held, name in (("val", "x"), ("valid", "y"), ("validation", "z"), ("test", "w")):
        root = tmp_path / name
        folder_of(root / "train", {"a": 4, "b": 4})
        folder_of(root / held, {"b": 2})
        (root / held / "b" / "0.png").write_text("new")
        dataset = list_folder(root)
        assert dataset.class_names == ("a", "b")
        train, rest = split_held_out(dataset)
        assert {e.key for e in rest.examples} == {f"{held}/b/0.png", f"{held}/b/1.png"}
        assert {e.label for e in rest.examples} == {1}
        # train/b/1.png is a copy of a held-out picture
        assert {e.key for e in train.examples} == {
            *(f"train/a/{i}.png" for i in range(4)), "train/b/0.png", "train/b/2.png",
            "train/b/3.png",
        }  # fmt: skip
        calibration = list_pictures(root, ("a", "b"), BY_FOLDER)
        assert {e.key for e in calibration.examples} == {e.key for e in train.examples}
    folder_of(tmp_path / "x" / "val", {"c": 1})
    with pytest.raises(DataError, match="val/c: train has no class of that name"):
        list_folder(tmp_path / "x")


def test_classes_called_train_and_test(tmp_path: Path) -> None:
    assert list_folder(folder_of(tmp_path, {"train": 3, "test": 3})).class_names == (
        *("test", "train"),
    )


@pytest.mark.parametrize("rule", [BY_NAME, BY_CLASS])
def test_calibration_leaves_out_what_is_held_out(tmp_path: Path, rule: str) -> None:
    folder = folder_of(tmp_path, {"a": 40, "b": 40})
    rest = held_out(list_folder(folder), rule)
    found = list_pictures(folder, ("a", "b", "c"), rule)
    assert len(found.examples) == 80 - len(rest)
    assert not rest & {example.key for example in found.examples}
    assert found.passed_over == {"held-out pictures": len(rest)}
    for names, other in ((("a", "b"), None), (("a", "c"), rule), (None, rule)):
        assert len(list_pictures(folder, names, other).examples) == 80
    dataset, labelled = training_pictures([folder], 999, ("a", "b"), rule)
    assert labelled
    assert held_out(dataset) == rest
    # an unlabelled folder beside others: what the model held out is not trained on
    several, labelled = training_pictures([folder, folder / "a"], 999, ("a", "b"), rule)
    assert not labelled
    assert len(several.examples) == 80 - len(rest) + 40


def test_tiny_calibration_folders_are_used_whole(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a": 1, "b": 1})
    assert len(list_pictures(folder, ("a", "b"), BY_CLASS).examples) == 2


def test_what_weights_record() -> None:
    data = {"train": 4, "held_out": 1}
    assert recorded_rule({"data": data}) == BY_NAME
    assert recorded_rule({"data": {**data, "split": BY_CLASS}}) == BY_CLASS
    assert recorded_rule({"command": "import"}) is None


def test_rules_that_do_not_fit(tmp_path: Path) -> None:
    dataset = list_folder(folder_of(tmp_path, {"a": 4}))
    with pytest.raises(DataError, match="the rule 'by-moon' of these weights is unknown"):
        split_held_out(dataset, "by-moon")
    with pytest.raises(DataError, match="trained on a folder with train and val in it"):
        split_held_out(dataset, BY_FOLDER)
