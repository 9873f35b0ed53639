"""A student learns what its teacher says, without a label."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from etinynet.data.images import Preprocess
from etinynet.data.labels import Dataset
from etinynet.errors import ConfigError
from etinynet.model.config import Block, EtinyNetConfig
from etinynet.model.weights import LoadedModel, load_weights
from etinynet.train.classify import train_classifier
from etinynet.train.distil import first_classes, scores_error, student_recipe, train_student
from etinynet.train.pictures import Pictures, TrainingData, load_unlabelled
from etinynet.train.recipe import Recipe

NARROW = EtinyNetConfig(
    "narrow",
    6,
    ((Block("lb", 6, 8),), (Block("dlb", 8, 12, 2), Block("dlb", 12, 12))),
    classes=2,
    size=32,
)


@pytest.fixture
def teacher(bars: Dataset, config: EtinyNetConfig, recipe: Recipe, tmp_path: Path) -> LoadedModel:
    recipe = dataclasses.replace(recipe, epochs=10)
    done = train_classifier(bars, config, recipe, tmp_path / "teacher", command="train")
    return load_weights(done.weights)


@pytest.fixture
def unlabelled(bars: Dataset) -> TrainingData:
    examples = tuple(dataclasses.replace(one, label=0) for one in bars.examples)
    return load_unlabelled(Dataset(examples, ("unlabelled",)), Preprocess.for_size(32))


Teach = Callable[..., float]


@pytest.fixture
def teach(teacher: LoadedModel, unlabelled: TrainingData, tmp_path: Path) -> Teach:
    def run(*, epochs: int, folder: str, **others: object) -> float:
        recipe = dataclasses.replace(student_recipe(epochs, 0), batch_size=8)
        path = tmp_path / folder
        _, done = train_student(
            teacher, NARROW, unlabelled, recipe, path, command="train", **others
        )
        return done.history[-1].top1

    return run


def test_student_learns_its_teacher(teach: Teach, teacher: LoadedModel, tmp_path: Path) -> None:
    assert teach(epochs=12, folder="student") >= 0.9
    student = load_weights(tmp_path / "student" / "model.safetensors")
    assert student.config == NARROW
    assert student.class_names == teacher.class_names == ("level", "upright")
    assert student.provenance["teacher"] == teacher.provenance
    assert student.provenance["agreement"] >= 0.9


def test_resumed_student_equals_uninterrupted(teach: Teach, tmp_path: Path) -> None:
    teach(epochs=3, folder="whole")

    def stop(at: object) -> None:
        if (at.epoch, at.batch) == (2, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(epochs=3, folder="broken", progress=stop)
    stopped = load_weights(tmp_path / "broken" / "model.safetensors")
    assert 0 <= stopped.provenance["agreement"] <= 1
    teach(epochs=3, folder="broken", resume=True)
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_student_that_is_no_twin(
    teacher: LoadedModel, unlabelled: TrainingData, made: Path
) -> None:
    other = dataclasses.replace(NARROW, classes=5)
    with pytest.raises(ConfigError, match="classes is 5"):
        train_student(teacher, other, unlabelled, student_recipe(1, 0), made, command="train")
    assert not made.exists()


def test_scores_error_is_its_formula() -> None:
    torch.manual_seed(0)
    scores, aim = torch.randn(4, 5).double(), torch.randn(4, 5).double()
    p, q = (x - x.mean(1, keepdim=True) for x in (scores, aim))
    wanted = ((p - q) ** 2).sum() / (q**2).sum()
    assert torch.isclose(scores_error(scores, aim), wanted)
    assert torch.isclose(scores_error(scores + 3, aim - 2), wanted)
    assert scores_error(aim, aim + 3).abs() < 1e-12


def test_first_classes_label_pictures() -> None:
    pixels = torch.zeros(3, 2, 2, 3, dtype=torch.uint8)
    pixels[1] = 255
    found = first_classes(
        Pictures(pixels, torch.zeros(3, dtype=torch.int64)),
        lambda x: torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], 1),
    )
    assert found.labels.tolist() == [1, 0, 1]
