"""The host target: streaming, sanitizers, programs and compilers that fail."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from etinynet.errors import DeviceFault
from etinynet.graph import Graph, execute
from etinynet.target import host
from etinynet.target.host import HostTarget
from etinynet.target.verify import verify
from graph_cases import random_graph, random_image


@pytest.fixture(scope="module")
def graph() -> Graph:
    return random_graph(np.random.default_rng(5))


@pytest.fixture
def gcc(tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sanitizers need a compiler that has them."""
    monkeypatch.setenv("ETINYNET_CC", tool("gcc"))


def test_many_pictures_through_one_process(graph: Graph) -> None:
    rng = np.random.default_rng(0)
    images = [random_image(rng, graph) for _ in range(20)]
    with HostTarget().load(graph) as program:
        scores = list(program.run_many(iter(images)))
    for image, got in zip(images, scores, strict=True):
        np.testing.assert_array_equal(got, execute(graph, image))


@pytest.mark.usefixtures("gcc")
@pytest.mark.parametrize("seed", [5, 6])
def test_sanitizers_find_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    images = [random_image(rng, graph) for _ in range(2)]
    with HostTarget(sanitize=True).load(graph) as program:
        assert verify(graph, program, images).passed
        assert verify(graph, program, images, tensors=True).passed
        assert "gcc" in program.run(images[0]).tools


@pytest.mark.usefixtures("gcc")
def test_sanitizers_find_an_arena_that_is_too_small(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = host.compile_graph

    def wrong(graph: Graph, **options: str | None) -> dict[str, bytes]:
        files = right(graph, **options)
        header = files["net.h"].decode()
        size = header.split("NET_ARENA_BYTES ", 1)[1].split("\n", 1)[0]
        smaller = header.replace(f"ARENA_BYTES {size}", f"ARENA_BYTES {int(size) - 64}")
        checks = files["etn_schedule.h"].replace(b"(condition) ? 1 : -1", b"1")
        return {**files, "net.h": smaller.encode(), "etn_schedule.h": checks}

    monkeypatch.setattr(host, "compile_graph", wrong)
    image = random_image(np.random.default_rng(0), graph)
    with HostTarget(sanitize=True).load(graph) as program:
        with pytest.raises(DeviceFault, match=r"host: the program ended with .*buffer-overflow"):
            program.run(image)
        with pytest.raises(DeviceFault, match=r"host: the program ended"):
            program.run(image)


def test_nothing_is_left_behind(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    program = HostTarget().load(graph)
    program.close()
    program.close()
    forgotten = HostTarget().load(graph)
    del program, forgotten
    gc.collect()
    assert list(tmp_path.iterdir()) == []
