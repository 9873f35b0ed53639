"""The packaged sign-digits graph: its own pictures, and a sample of the held-out part."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from etinynet.artefact import read_file, sha256
from etinynet.data.images import Preprocess, load_picture, to_input
from etinynet.data.labels import list_folder
from etinynet.data.split import split_held_out
from etinynet.graph import Graph, execute, graph_from_bytes
from etinynet.model.registry import packaged

ASSETS = resources.files("etinynet") / "assets"
PICTURES = sorted(Path(str(ASSETS)).glob("sign-digits-*.jpg"))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_from_bytes(packaged("sign-digits"), "sign-digits")


def _class(graph: Graph, path: Path) -> str:
    preprocess = Preprocess.from_json(graph.metadata["preprocess"])
    scores = execute(graph, to_input(preprocess.apply(load_picture(path))))
    return graph.head.class_names[int(np.argmax(scores))]


def test_what_it_says_about_itself(graph: Graph) -> None:
    assert graph.name == "sign_digits"
    assert graph.tensors[graph.input].shape == (96, 96, 3)
    assert graph.head.class_names == tuple("0123456789")
    assert graph.metadata["weights"]["command"].startswith("train sign-digits")
    assert graph.metadata["weights"]["recipe"]["seed"] == 0
    assert all(op.weight_bits == 8 for op in graph.ops)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_packaged_pictures(graph: Graph, path: Path) -> None:
    assert path.stem == f"sign-digits-{_class(graph, path)}"


def test_packaged_pictures_are_three_held_out_ones(shared_data: Path) -> None:
    _, held_out = split_held_out(list_folder(shared_data / "sign-digits"))
    known = {sha256(read_file(e.path, "picture")): e.label for e in held_out.examples}
    labels = [known[sha256(read_file(path, "picture"))] for path in PICTURES]
    assert [path.stem for path in PICTURES] == [f"sign-digits-{label}" for label in labels]
    assert len(set(labels)) == 3


def test_sample_of_the_held_out_part(graph: Graph, shared_data: Path) -> None:
    dataset = list_folder(shared_data / "sign-digits")
    sample = split_held_out(dataset)[1].examples[::7]
    right = sum(_class(graph, e.path) == dataset.class_names[e.label] for e in sample)
    assert right >= 0.95 * len(sample)
