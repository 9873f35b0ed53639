"""The `.etn` file: round trips, equal bytes, and refusal in words of all that is not intact."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_edits import edit_op, edit_tensor, every_kind
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load, save

from etinynet.errors import ArtefactError, GraphError
from etinynet.graph import Graph, graph_from_bytes, graph_to_bytes, read_graph
from etinynet.graph.io import FORMAT, VERSION, graph_digest, pack_nibbles
from etinynet.graph.ir import Op, Requantization
from graph_cases import random_graph

BASE = every_kind()
DATA = graph_to_bytes(BASE)
Arrays = dict[str, NDArray[Any]]


def same(one: object, other: object) -> bool:
    """Equality of parts of graphs, arrays by dtype, shape and value."""
    if isinstance(one, np.ndarray):
        alike = isinstance(other, np.ndarray) and one.dtype == other.dtype
        return alike and np.array_equal(one, other)
    if isinstance(one, (Graph, Op, Requantization)):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


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
    metadata = {"class_names": ["ä", "\ud800", "c"], "deep": [{"x": [1, 2.5, None, True]}]}
    graph = replace(BASE, metadata=metadata)
    assert graph_from_bytes(graph_to_bytes(graph), "file").metadata == metadata


def test_equal_graphs_give_equal_bytes() -> None:
    assert graph_to_bytes(every_kind()) == DATA
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


@given(st.lists(st.integers(-8, 7)))
def test_nibbles(values: list[int]) -> None:
    packed = pack_nibbles(np.array(values, np.int8))
    assert packed.dtype == np.uint8
    assert len(packed) == (len(values) + 1) // 2
    for index, value in enumerate(values):
        assert packed[index // 2] >> 4 * (index % 2) & 15 == value & 15
    if len(values) % 2:
        assert packed[-1] >> 4 == 0


def test_small_weights_take_half_a_byte_and_small_constants_two() -> None:
    arrays = load(DATA)
    assert {name: array.dtype.name for name, array in arrays.items() if "weight" in name} == {
        "stem.weight": "int8",
        "dw.weight": "int8",
        "pw.weight": "uint8",
        "dw2.weight": "int8",
        "fc.weight": "uint8",
    }
    assert arrays["fc.weight"].shape == (8,)
    assert arrays["dw2.bias"].dtype == np.int16
    assert arrays["dw2.multiplier"].dtype == np.int32


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


def header_of(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"][FORMAT])


def rewrite(
    edit: Callable[[dict[str, Any], Arrays], None] = lambda description, arrays: None,
    text: str | None = None,
    **header: Any,
) -> bytes:
    """The file of `BASE`, its description and arrays edited, with the checksum made right."""
    from etinynet.graph.io import _digest

    arrays = {name: array.copy() for name, array in load(DATA).items()}
    description = json.loads(header_of(DATA)["graph"])
    edit(description, arrays)
    text = json.dumps(description, sort_keys=True) if text is None else text
    whole = {
        "format": FORMAT, "version": VERSION, "sha256": _digest(text, arrays), "graph": text,
    } | header  # fmt: skip
    return save(arrays, metadata={FORMAT: json.dumps(whole)})


def container(header: object, rest: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def test_rewriting_nothing_gives_the_file() -> None:
    assert rewrite() == DATA


NESTED = "[" * 100_000 + "]" * 100_000


HOSTILE = {
    "empty": (b"", "truncated"),
    "length": (b"\xff" * 8 + DATA[8:], "truncated"),
    "length of half": ((2**62).to_bytes(8, "little") + DATA[8:], "truncated"),
    "length 0": (bytes(8) + DATA[8:], ""),
    "no JSON": (container(b"{"), ""),
    "no UTF-8": (container(b"\xff\xfe\xfd{}"), ""),
    "null": (container(None), ""),
    "list": (container([]), ""),
    "nested": (container(NESTED.encode()), ""),
    "no metadata": (container({}), "__metadata__"),
    "metadata null": (container({"__metadata__": None}), ""),
    "metadata number": (container({"__metadata__": {FORMAT: 3}}), ""),
    "metadata word": (container({"__metadata__": {FORMAT: '"x"'}}), ""),
    "two entries": (container({"__metadata__": {FORMAT: "", "x": ""}}), "header keys"),
    "weights": (save({"x": np.zeros(3)}, {"etinynet-weights": "{}"}), "header keys"),
    "plain safetensors": (save({"x": np.zeros(3)}), "__metadata__"),
    "other format": (rewrite(format="x"), "format 'x'"),
    "no graph": (rewrite(graph=None), ""),
    "no checksum": (rewrite(sha256=None), "checksum differs"),
    "no number": (rewrite(text="1"), ""),
    "description": (rewrite(text="[]"), ""),
    "not JSON": (rewrite(text="{"), ""),
    "description nested": (rewrite(text=NESTED), "recursion"),
    "huge number": (rewrite(text='{"tensors": ' + "9" * 5000 + "}"), ""),
}


@pytest.mark.parametrize(("data", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers(data: bytes, words: str) -> None:
    with pytest.raises(ArtefactError, match=rf"^file: not an intact .etn graph: .*{words}"):
        graph_from_bytes(data, "file")


@pytest.mark.parametrize("version", [VERSION + 1, 0, "2", None])
def test_another_version_is_refused_in_words(version: object) -> None:
    expected = rf"^file: graph format version {version!r}, this release reads {VERSION}$"
    with pytest.raises(ArtefactError, match=expected):
        graph_from_bytes(rewrite(version=version), "file")


def tensor(index: int, **changes: Any) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda description, _: description["tensors"][index].update(changes)


def op(index: int, **changes: Any) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda description, _: description["ops"][index].update(changes)


def top(**changes: Any) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda description, _: description.update(changes)


def array(name: str, value: NDArray[Any]) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda _, arrays: arrays.update({name: value})


def lost(name: str) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda _, arrays: arrays.__delitem__(name)


ILLEGAL = {
    "shape negative": (tensor(0, shape=[12, -10, 3]), GraphError, "'input': shape is"),
    "shape huge": (tensor(0, shape=[10**30, 1, 1]), GraphError, "'input': shape is"),
    "shape of words": (tensor(0, shape="abc"), GraphError, "'input': shape is"),
    "scale infinite": (tensor(0, scale=float("inf")), GraphError, "scale is inf"),
    "scale an integer": (tensor(0, scale=1), GraphError, "scale is 1,"),
    "bits null": (tensor(0, bits=None), GraphError, "bits is None"),
    "kernel of words": (op(0, kernel="3"), GraphError, "kernel is '3'"),
    "kernel a list": (op(0, kernel=[3]), GraphError, r"kernel is \[3\]"),
    "shift huge": (op(0, shift=10**40), GraphError, "shift is 1000"),
    "relu null": (op(0, relu=None), GraphError, "relu is None"),
    "input a list": (op(0, input=["x"]), GraphError, "name or reference is"),
    "a loop": (op(0, input="fc"), GraphError, "made by an earlier operator"),
    "weight_bits 9": (op(0, weight_bits=9), GraphError, "weight_bits is 9"),
    "pool with bits": (op(1, weight_bits=4), GraphError, "8 for a pool"),
    "name null": (top(name=None), GraphError, "name is None"),
    "metadata a list": (top(metadata=[]), GraphError, "metadata is 'list'"),
    "metadata infinite": (top(metadata={"x": float("inf")}), GraphError, "metadata is"),
    "class names": (top(metadata={"class_names": ["a"]}), GraphError, "class_names is 1"),
    "no operators": (top(ops=[]), ArtefactError, "belongs to no operator"),
    "weight float": (
        array("stem.weight", np.zeros((4, 3, 3, 3), np.float32)), GraphError, "weight is 'float32"
    ),
    "weight int64": (
        array("stem.weight", np.zeros((4, 3, 3, 3), np.int64)), GraphError, "weight is 'int64"
    ),
    "weight of another shape": (
        array("stem.weight", np.zeros((4, 3, 3, 1), np.int8)), GraphError, "weight is 'int8"
    ),
    "packed int8": (array("fc.weight", np.zeros(8, np.int8)), ArtefactError, "packed weight is"),
    "packed long": (array("fc.weight", np.zeros(9, np.uint8)), ArtefactError, "packed weight is"),
    "weight_shape negative": (op(6, weight_shape=[-1]), ArtefactError, "packed weight"),
    "weight_shape infinite": (op(6, weight_shape=[float("inf")]), ArtefactError, "not an intact"),
    "weight_shape overflow": (op(6, weight_shape=[2**70, 0]), ArtefactError, "packed weight"),
    "weight_shape null": (op(6, weight_shape=None), ArtefactError, "not an intact"),
    "weight_shape words": (op(6, weight_shape=["a"]), ArtefactError, "not an intact"),
    "weight_shape ragged": (op(6, weight_shape=[[1, 2], [3]]), ArtefactError, "not an intact"),
    "weight_bits words": (op(6, weight_bits="3"), ArtefactError, "not an intact"),
    "unknown field": (op(0, colour="red"), ArtefactError, "colour"),
    "smuggled array": (op(0, bias=[1]), ArtefactError, "not an intact"),
    "operator null": (top(ops=[None]), ArtefactError, "not an intact"),
    "tensors an object": (top(tensors={"a": 1}), ArtefactError, "not an intact"),
    "multiplier lost": (lost("stem.multiplier"), ArtefactError, "'stem' lacks multiplier or"),
    "multiplier float": (
        array("stem.multiplier", np.ones(4)), ArtefactError, "'stem.multiplier' is float64"
    ),
    "weight lost": (lost("stem.weight"), ArtefactError, "stem.weight"),
    "another array": (array("x", np.zeros(3)), ArtefactError, "'x' belongs to no operator"),
    "tensor twice": (
        lambda description, _: description["tensors"].append(description["tensors"][0]),
        ArtefactError,
        "two tensors 'input'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "error", "words"), ILLEGAL.values(), ids=ILLEGAL)
def test_illegal_content_under_a_right_checksum(
    edit: Callable[[dict[str, Any], Arrays], None], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f"^file: .*{words}"):
        graph_from_bytes(rewrite(edit), "file")


@pytest.mark.parametrize("dtype", ["F64", "BF16", "F8_E4M3", "I64", "X9"])
def test_arrays_declared_as_another_type(dtype: str) -> None:
    length = int.from_bytes(DATA[:8], "little")
    header = json.loads(DATA[8 : 8 + length])
    header["stem.weight"]["dtype"] = dtype
    with pytest.raises(ArtefactError, match="not an intact"):
        graph_from_bytes(container(header, DATA[8 + length :]), "file")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["name", "tensors", "ops", "input", "output", "metadata", "op", "tensor"]),
    st.data(),
    JSON,
)
def test_any_json_in_any_field(field: str, data: st.DataObject, value: object) -> None:
    def edit(description: dict[str, Any], arrays: Arrays) -> None:
        place = description
        if field in ("op", "tensor"):
            place = data.draw(st.sampled_from(description[f"{field}s"]))
        key = data.draw(st.sampled_from(sorted(place))) if place is not description else field
        place[key] = value

    try:
        graph = graph_from_bytes(rewrite(edit), "file")
    except (ArtefactError, GraphError):
        return
    assert same(graph_from_bytes(graph_to_bytes(graph), "again"), graph)


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
