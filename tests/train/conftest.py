"""A synthetic data set of coloured bars, and a network small enough to train in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from etinynet.data.labels import Dataset, list_folder
from etinynet.model.config import Block, EtinyNetConfig
from etinynet.train.recipe import Recipe

SIZE = 32


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 pictures of two classes: a level and an upright bar, on noise."""
    folder = tmp_path_factory.mktemp("bars")
    random = np.random.default_rng(0)
    for name in ("level", "upright"):
        (folder / name).mkdir()
        for index in range(30):
            pixels = random.integers(0, 90, (40, 40, 3), dtype=np.uint8)
            at = int(random.integers(8, 28))
            pixels[at : at + 6] = 220
            if name == "upright":
                pixels = pixels.transpose(1, 0, 2)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return list_folder(folder)


@pytest.fixture
def config() -> EtinyNetConfig:
    stages = ((Block("lb", 8, 8),), (Block("dlb", 8, 16, 2), Block("dlb", 16, 16)))
    return EtinyNetConfig("tiny", 8, stages, classes=2, size=SIZE)


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        epochs=6, batch_size=8, learning_rate=0.02, warmup_epochs=1, flip=False, rotation_degrees=0
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return tmp_path / "run"
