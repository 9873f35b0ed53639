"""Fixtures of the command line's tests: the command, a small float model, a small folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import Run, etinynet
from PIL import Image

from etinynet.artefact import provenance
from etinynet.model.config import etinynet as config_of
from etinynet.model.etinynet import EtinyNet
from etinynet.model.weights import save_weights


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run("predict", ...): the command's outcome."""
    return lambda *arguments: etinynet(monkeypatch, capsys, *arguments)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network of width 0.25 for 64 pixels and the classes "left" and "right"."""
    torch.manual_seed(0)
    model = EtinyNet(config_of(0.25, classes=2, size=64)).eval()
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    names = ("left", "right")
    save_weights(path, model, provenance=provenance("test", {}), class_names=names)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders left and right of 20 pictures each, bright on that side."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for side, name in enumerate(("left", "right")):
        (folder / name).mkdir()
        for number in range(20):
            pixels = random.integers(0, 90, (40, 48, 3)).astype(np.uint8)
            pixels[:, 24 * side : 24 * side + 24] += 120
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder
