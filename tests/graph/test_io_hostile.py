"""Hostile `.etn` files: refused in words and in bounded memory, whatever is in them."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from etn_files import BASE, DATA, Arrays, container, rewrite, same
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load, save

from etinynet.errors import ArtefactError, GraphError
from etinynet.graph import MIXED, graph_from_bytes, graph_to_bytes
from etinynet.graph.io import FORMAT, MOST_TEXT, VERSION


def test_rewriting_nothing_gives_the_file() -> None:
    assert rewrite() == DATA


TEXT = zlib.decompress(load(DATA)["description"].tobytes())
NESTED = "[" * 100_000 + "]" * 100_000


def deep(depth: int) -> str:
    lists = "[" * depth + "]" * depth
    return TEXT.decode().replace('"metadata":{}', f'"metadata":{{"deep":{lists}}}')


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
    "no deflate": (rewrite(packed=TEXT), "incorrect header"),
    "deflate of nothing": (rewrite(packed=b""), "one whole deflate stream"),
    "deflate truncated": (rewrite(packed=zlib.compress(TEXT)[:-1]), "one whole deflate stream"),
    "deflate twice": (rewrite(packed=zlib.compress(TEXT) * 2), "one whole deflate stream"),
    "deflate damaged": (rewrite(packed=zlib.compress(TEXT)[:-1] + b"?"), "incorrect data check"),
    "no UTF-8 inside": (rewrite(packed=zlib.compress(b"\xff\xfe\xfd")), "codec"),
    "no checksum": (rewrite(sha256=None), "checksum differs"),
    "no number": (rewrite(text="1"), ""),
    "description": (rewrite(text="[]"), ""),
    "not JSON": (rewrite(text="{"), ""),
    "description nested": (rewrite(text=NESTED), "nested deeper than 64 levels"),
    "metadata 64 deep": (rewrite(text=deep(63)), "nested deeper than 64 levels"),
    "metadata 990 deep": (rewrite(text=deep(990)), "nested deeper than 64 levels"),
    "huge number": (rewrite(text='{"tensors": ' + "9" * 5000 + "}"), ""),
}


@pytest.mark.parametrize(("data", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers(data: bytes, words: str) -> None:
    with pytest.raises(ArtefactError, match=rf"^file: not an intact .etn graph: .*{words}"):
        graph_from_bytes(data, "file")


def test_a_description_that_explodes() -> None:
    """64 MiB of blanks in 64 KiB are refused before they are made."""
    stream = zlib.compressobj(9)
    packed = b"".join(stream.compress(b" " * 2**20) for _ in range(64)) + stream.flush()
    assert len(packed) < 2**17
    data = rewrite(packed=packed)
    tracemalloc.start()
    with pytest.raises(ArtefactError, match=f"inflates to more than {MOST_TEXT} bytes"):
        graph_from_bytes(data, "file")
    assert tracemalloc.get_traced_memory()[1] < 4 * MOST_TEXT
    tracemalloc.stop()


def test_the_longest_description_is_read() -> None:
    spare = MOST_TEXT - len(TEXT)
    assert same(graph_from_bytes(rewrite(text=TEXT.decode() + " " * spare), "file"), BASE)


@pytest.mark.parametrize("version", [VERSION + 1, 1, 0, "2", None])
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


def rule(index: int, **changes: Any) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda description, _: description["ops"][index]["requantization"].update(changes)


def store(name: str, value: NDArray[Any]) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda _, arrays: arrays.update({name: value})


def lost(*keys: Any) -> Callable[[dict[str, Any], Arrays], None]:
    def edit(description: dict[str, Any], arrays: Arrays) -> None:
        place: Any = description
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return edit


CLASSES = {"kind": "classification", "class_names": None}
ILLEGAL = {
    "shape negative": (tensor(0, shape=[12, -10, 3]), GraphError, "'input': shape is"),
    "shape huge": (tensor(0, shape=[10**30, 1, 1]), GraphError, "'input': shape is"),
    "shape of words": (tensor(0, shape="abc"), ArtefactError, "shape is 'abc', no list"),
    "scale infinite": (tensor(0, scale=float("inf")), GraphError, "scale is inf"),
    "scale an integer": (tensor(0, scale=1), GraphError, "scale is 1,"),
    "bits null": (tensor(0, bits=None), GraphError, "bits is None"),
    "kernel of words": (op(0, window={"kernel": "33"}), ArtefactError, "kernel is '33', no list"),
    "kernel of one side": (op(0, window={"kernel": [3]}), GraphError, r"kernel is \(3,\)"),
    "window a list": (op(0, window=[3]), ArtefactError, "not an intact"),
    "window with more": (op(0, window={"colour": [3, 3]}), ArtefactError, "colour"),
    "shift huge": (rule(0, shift=10**40), GraphError, "shift is 1000"),
    "relu null": (rule(0, relu=None), GraphError, "relu is None"),
    "input a list": (op(0, inputs=[["x"]]), GraphError, "name or reference is"),
    "inputs a word": (op(0, inputs="x"), ArtefactError, "inputs is 'x', no list"),
    "a loop": (op(0, inputs=["fc"]), GraphError, "made by an earlier operator"),
    "weight_bits 9": (op(0, weight_bits=9), GraphError, "weight_bits is 9"),
    "pool with bits": (op(1, weight_bits=4), GraphError, "8 for max_pool"),
    "name null": (top(name=None), GraphError, "name is None"),
    "metadata a list": (top(metadata=[]), GraphError, "metadata is 'list'"),
    "metadata infinite": (top(metadata={"x": float("inf")}), GraphError, "metadata is"),
    "outputs a word": (top(outputs="fc"), ArtefactError, "outputs is 'fc', no list"),
    "class names": (top(head=CLASSES | {"class_names": ["a"]}), GraphError, "class_names is 1"),
    "class names a word": (top(head=CLASSES | {"class_names": "abc"}), ArtefactError, "no list"),
    "head unknown": (top(head={"kind": "x"}), ArtefactError, "head is 'x', .* 'classification'"),
    "head a word": (top(head="x"), ArtefactError, "not an intact"),
    "head with more": (top(head=CLASSES | {"colour": 1}), ArtefactError, "colour"),
    "precision a word": (top(precision="mixed"), ArtefactError, "not an intact"),
    "precision of 1 bit": (
        top(precision=asdict(MIXED) | {"sum_bits": 1}), ArtefactError, "sum_bits is 1, .* 2 to 16"
    ),
    "precision unnamed": (top(precision=asdict(MIXED) | {"name": 3}), ArtefactError, "name is 3"),
    "weight of another shape": (
        op(0, weight=[4, 3, 9, 1]), GraphError, r"weight is 'int8 \(4, 3, 9, 1\)"
    ),
    "no operators": (top(ops=[]), ArtefactError, "values of .* belong to no operator"),
    "store lost": (lambda _, arrays: arrays.pop("int32"), ArtefactError, "'int32' is absent"),
    "another store": (store("x", np.zeros(3)), ArtefactError, "'x' is float64"),
    "store of another type": (
        store("int16", np.zeros(3, np.int32)), ArtefactError, r"'int16' is int32 \(3,\)"
    ),
    "store in rows": (
        store("short", np.zeros((1, 3), np.uint16)), ArtefactError, r"'short' is uint16 \(1, 3\)"
    ),
    "store short": (store("weights", np.zeros(50, np.uint8)), ArtefactError, "weights has 50 left"),
    "store long": (
        store("weights", np.zeros(9999, np.uint8)), ArtefactError, "values of weights belong to no"
    ),
    "weight negative": (op(8, weight=[-1]), ArtefactError, r"shape \[-1\]"),
    "weight infinite": (op(8, weight=[float("inf")]), ArtefactError, r"shape \[inf\]"),
    "weight huge": (op(8, weight=[2**70, 2**70]), ArtefactError, "'fc': weight has .* left"),
    "weight of one side 0": (op(8, weight=[2**70, 0]), ArtefactError, "shape"),
    "weight null": (op(8, weight=None), ArtefactError, "shape None"),
    "weight words": (op(8, weight=["a"]), ArtefactError, "shape"),
    "weight ragged": (op(8, weight=[[1, 2], [3]]), ArtefactError, "shape"),
    "weight a flat list": (op(8, weight=[]), ArtefactError, "not an intact|weight is"),
    "weight_bits words": (op(8, weight_bits="3"), ArtefactError, "not an intact"),
    "weight lost": (lost("ops", 8, "weight"), ArtefactError, "values of weights belong to no"),
    "base too large": (rule(2, multiplier=["short", 4, 7]), ArtefactError, "base of short is 7"),
    "base negative": (rule(2, multiplier=["short", 4, -1]), ArtefactError, "base of short is -1"),
    "base true": (rule(2, multiplier=["short", 4, True]), ArtefactError, "base of short is True"),
    "short float beyond int32": (
        rule(2, multiplier=["short", 4, 6]), ArtefactError, "short float -4293918720 is beyond"
    ),
    "base of int16": (op(4, bias=["int16", 1, 1]), ArtefactError, "base of int16 is 1, .* 0 to 0"),
    "count 0": (op(4, bias=["int16", 0, 0]), ArtefactError, "'dw2': bias has 0 values"),
    "count true": (op(4, bias=["int16", True, 0]), ArtefactError, "bias has True values"),
    "count large": (op(4, bias=["int16", 10**9, 0]), ArtefactError, "1000000000 values, int16 has"),
    "coding unknown": (op(4, bias=["int8", 4, 0]), ArtefactError, "bias lies in 'int8'"),
    "coding weights": (op(4, bias=["weights", 4, 0]), ArtefactError, "bias lies in 'weights'"),
    "coding description": (op(4, bias=["description", 4, 0]), ArtefactError, "lies in 'descr"),
    "coding a list": (op(4, bias=[[], 4, 0]), ArtefactError, "not an intact"),
    "coding of two parts": (op(4, bias=["int16", 4]), ArtefactError, "not enough values"),
    "multiplier lost": (lost("ops", 0, "requantization", "multiplier"), ArtefactError, "multipl"),
    "rule a list": (op(0, requantization=[]), ArtefactError, "not an intact"),
    "rule null": (op(0, requantization=None), ArtefactError, "not an intact"),
    "rule with more": (rule(0, colour="red"), ArtefactError, "colour"),
    "unknown field": (op(0, colour="red"), ArtefactError, "colour"),
    "smuggled array": (op(0, bias=[1, 2, 3]), ArtefactError, "bias lies in 1"),
    "operator null": (top(ops=[None]), ArtefactError, "not an intact"),
    "tensors an object": (top(tensors={"a": 1}), ArtefactError, "not an intact"),
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


@pytest.mark.parametrize("dtype", ["F64", "BF16", "F8_E4M3", "I64", "X9", "I8", "BOOL"])
def test_arrays_declared_as_another_type(dtype: str) -> None:
    length = int.from_bytes(DATA[:8], "little")
    header = json.loads(DATA[8 : 8 + length])
    header["weights"]["dtype"] = dtype
    with pytest.raises(ArtefactError, match="not an intact"):
        graph_from_bytes(container(header, DATA[8 + length :]), "file")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        [
            *("name", "tensors", "ops", "input", "outputs", "head", "precision", "metadata"),
            *("op", "tensor", "rule", "window"),
        ]
    ),
    st.data(),
    JSON,
)
def test_any_json_in_any_field(field: str, data: st.DataObject, value: object) -> None:
    def edit(description: dict[str, Any], arrays: Arrays) -> None:
        place = description
        if field in ("op", "tensor"):
            place = data.draw(st.sampled_from(description[f"{field}s"]))
        if field in ("head", "precision") and data.draw(st.booleans()):
            place = description[field]
        if field == "window":
            place = description["ops"][0]["window"]
        if field == "rule":
            place = data.draw(st.sampled_from(description["ops"][2:]))["requantization"]
        key = data.draw(st.sampled_from(sorted(place))) if place is not description else field
        place[key] = value

    try:
        graph = graph_from_bytes(rewrite(edit), "file")
    except (ArtefactError, GraphError):
        return
    assert same(graph_from_bytes(graph_to_bytes(graph), "again"), graph)
