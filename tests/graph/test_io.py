"""The `.etn` file: round trips, equal bytes, and refusal of what is not whole."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from etn_files import BASE, DATA, base_graph, same
from graph_edits import edit_op, edit_tensor, edit_window
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from etinynet.errors import ArtefactError, GraphError
from etinynet.graph import (
    MIXED,
    Classification,
    Graph,
    graph_from_bytes,
    graph_to_bytes,
    read_graph,
)
from etinynet.graph.io import MOST_TEXT, graph_digest
from graph_cases import random_graph


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_round_trip(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed))
    data = graph_to_bytes(graph)
    again = graph_from_bytes(data, "file")
    assert same(again, graph)
    assert list(again.tensors) == list(graph.tensors)
    assert graph_to_bytes(again) == data
    assert graph_digest(again) == graph_digest(graph)


def test_metadata_survive() -> None:
    metadata = {"words": ["ä", "\ud800", "c"], "deep": [{"x": [1, 2.5, None, True]}]}
    graph = replace(BASE, metadata=metadata)
    assert graph_from_bytes(graph_to_bytes(graph), "file").metadata == metadata


@pytest.mark.parametrize("head", [None, Classification(), Classification(("ä", "\ud800", "c"))])
def test_head_survives(head: Classification | None) -> None:
    graph = replace(BASE, head=head)
    assert graph_from_bytes(graph_to_bytes(graph), "file").head == head


def test_outputs_precision_and_windows_survive() -> None:
    graph = edit_window(BASE, "dw", padding=(1, 1, 1, 1), stride=(1, 1))
    graph = replace(graph, head=None, outputs=("pw", "fc"), precision=replace(MIXED, name="x"))
    again = graph_from_bytes(graph_to_bytes(graph), "file")
    assert (again.outputs, again.precision) == (graph.outputs, graph.precision)
    assert [op.window for op in again.ops] == [op.window for op in graph.ops]


def test_equal_graphs_give_equal_bytes() -> None:
    assert graph_to_bytes(base_graph()) == DATA
    reordered = replace(BASE, metadata={"b": 1, "a": 2}), replace(BASE, metadata={"a": 2, "b": 1})
    assert graph_to_bytes(reordered[0]) == graph_to_bytes(reordered[1])


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, name="other"),
        replace(BASE, metadata={"x": 1}),
        edit_tensor(BASE, "pw", scale=0.5),
        edit_op(BASE, "dw2", bias=BASE.ops[4].bias + np.int32(1)),
        edit_op(BASE, "fc", weight_bits=4),
    ],
)
def test_any_change_changes_the_digest(other: Graph) -> None:
    assert graph_digest(other) != graph_digest(BASE)


def test_an_illegal_graph_is_not_written() -> None:
    with pytest.raises(GraphError, match="a C identifier"):
        graph_to_bytes(replace(BASE, name="two words"))


def test_what_the_file_holds() -> None:
    arrays = load(DATA)
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "description": "uint8",
        "weights": "uint8",
        "int16": "int16",
        "short": "uint16",
        "int32": "int32",
    }
    text = zlib.decompress(arrays["description"].tobytes())
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode()
    ops = {entry["name"]: entry for entry in json.loads(text)["ops"]}
    assert ops["pool"] == {
        "kind": "max_pool", "name": "pool", "inputs": ["stem"], "output": "pool",
        "window": {"kernel": [2, 2], "stride": [2, 2]},
    }  # fmt: skip
    assert ops["fc"]["weight"] == [3, 5]
    assert ops["dw"]["requantization"]["multiplier"] == ["short", 4, 5]
    assert ops["dw2"]["bias"] == ["int16", 5, 0]
    assert len(arrays["weights"]) == 4 * 27 + 4 * 9 + (5 * 4) // 2 + 5 * 9 + (5 * 3 + 1) // 2


def test_too_long_a_description_is_not_written() -> None:
    graph = replace(BASE, metadata={"note": "x" * MOST_TEXT})
    with pytest.raises(GraphError, match=rf"JSON, allowed is at most {MOST_TEXT}"):
        graph_to_bytes(graph)


@pytest.mark.parametrize("size", range(0, len(DATA), 10))
def test_truncated(size: int) -> None:
    with pytest.raises(ArtefactError, match=r"^file: not an intact .etn graph: "):
        graph_from_bytes(DATA[:size], "file")


@pytest.mark.parametrize("position", range(0, len(DATA), 10))
def test_one_flipped_bit(position: int) -> None:
    for bit in range(8):
        damaged = bytearray(DATA)
        damaged[position] ^= 1 << bit
        with pytest.raises((ArtefactError, GraphError), match=r"^file: "):
            graph_from_bytes(bytes(damaged), "file")


def test_something_appended() -> None:
    with pytest.raises(ArtefactError, match="not an intact"):
        graph_from_bytes(DATA + b"\0", "file")


def test_read_graph(tmp_path: Path) -> None:
    path = tmp_path / "net.etn"
    path.write_bytes(DATA)
    assert same(read_graph(path), BASE)
    path.write_bytes(DATA[:-1])
    with pytest.raises(ArtefactError, match=r"net\.etn: not an intact .etn graph: "):
        read_graph(path)
    with pytest.raises(ArtefactError, match=r"absent\.etn: cannot read this graph file: No such"):
        read_graph(tmp_path / "absent.etn")
    with pytest.raises(ArtefactError, match="cannot read this graph file: Is a directory"):
        read_graph(tmp_path)
