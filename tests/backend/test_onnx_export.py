"""Exported ONNX models: legal, packed, and in ONNX Runtime the same integers as the reference."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

import etinynet
from etinynet.artefact import provenance
from etinynet.backend.onnx import OPSET, export_onnx, inexact_layers
from etinynet.data.collect import find_pictures
from etinynet.data.images import to_input
from etinynet.data.reading import prepared
from etinynet.errors import GraphError, UnsupportedError
from etinynet.graph import (
    Classification,
    Graph,
    check,
    execute,
    execute_all,
    read_graph,
)
from etinynet.graph.io import graph_digest
from etinynet.opened import graph_preprocess
from graph_cases import (
    ETINYNET_0_75,
    ETINYNET_1_0,
    WIDE,
    GraphBuilder,
    etinynet_graph,
    inverted_graph,
    random_graph,
    random_image,
    siblings_graph,
)

ASSETS = Path(etinynet.__file__).parent / "assets"
OPTIMIZATIONS = {
    "optimized": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "as written": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def session(data: bytes, optimization: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = OPTIMIZATIONS[optimization]
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def pixels(images: list[NDArray[np.int8]]) -> NDArray[np.float32]:
    """The graph's inputs as the model wants them: (batch, 3, height, width), 0 to 255."""
    return np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) + 128


def expected_scores(graph: Graph, images: list[NDArray[np.int8]]) -> NDArray[np.float32]:
    tensor = graph.tensors[graph.outputs[0]]
    integers = np.stack([execute(graph, image) for image in images]).astype(np.int32)
    return (integers - tensor.zero_point).astype(np.float32) * np.float32(tensor.scale)


def with_tensors(graph: Graph) -> bytes:
    """The exported model with every integer tensor among its outputs."""
    model = onnx.load_from_string(export_onnx(graph))
    for tensor in graph.tensors.values():
        kind = onnx.TensorProto.INT8 if tensor.bits <= 8 else onnx.TensorProto.INT16
        info = onnx.helper.make_tensor_value_info(f"{tensor.name}/integer", kind, None)
        model.graph.output.append(info)
    return model.SerializeToString()


def differences(graph: Graph, image: NDArray[np.int8], optimization: str) -> dict[str, int]:
    """Largest difference of each tensor from the reference, where there is one."""
    runtime = session(with_tensors(graph), optimization)
    names = [f"{name}/integer" for name in graph.tensors]
    made = runtime.run(names, {"image": pixels([image])})
    expected = execute_all(graph, image)
    found = {}
    for name, values in zip(graph.tensors, made, strict=True):
        assert values.dtype == expected[name].dtype
        apart = values[0].transpose(1, 2, 0).astype(np.int64) - expected[name]
        found[name] = int(np.abs(apart).max())
    return {name: apart for name, apart in found.items() if apart}


def options_graph() -> Graph:
    """What random graphs have not: shortcuts of every kind of operator that may have one, ReLU on
    a mean, few bits, wide pooling, an input with zero point, constants for all channels, zeros."""
    rng = np.random.default_rng(5)
    builder = GraphBuilder(rng, "options", (15, 12, 3))
    builder.tensors["input"] = dataclasses.replace(builder.tensors["input"], zero_point=-17)
    stem = builder.add(
        "conv2d", "stem", "input", channels=6, kernel=5, padding=4, bits=5, weight_bits=3, bias=True
    )
    again = builder.add(
        "conv2d", "again", stem, channels=6, kernel=3, padding=1, bits=7, weight_bits=6, relu=True,
        residual=stem,
    )  # fmt: skip
    across = builder.add(
        "depthwise", "across", again, kernel=3, padding=1, weight_bits=2, residual=again, bias=True
    )
    wide = builder.add("depthwise", "wide", across, kernel=3, stride=2, padding=1, bits=16)
    pool = builder.add("max_pool", "pool", wide, kernel=3, stride=2)
    mixed = builder.add(
        "pointwise", "mixed", pool, channels=9, bits=4, weight_bits=5, relu=True, bias=True
    )
    linear = builder.add("pointwise", "linear", mixed, channels=9, bits=4, residual=mixed)
    mean = builder.add("global_avg_pool", "mean", linear, bits=11, relu=True)
    builder.add("dense", "fc", mean, channels=5, bits=13, weight_bits=4, relu=True, bias=True)
    for op in builder.ops:
        if op.name in ("stem", "mixed") and op.requantization is not None:
            op.requantization.multiplier[0] = 0
    ops, head = tuple(builder.ops), Classification()
    graph = Graph("options", builder.tensors, ops, "input", ("fc",), head, WIDE)
    check(graph)
    return graph


def pool_graph(bits: int) -> Graph:
    """A pool of `bits`, one behind it and a shortcut around a layer that reads it."""
    builder = GraphBuilder(np.random.default_rng(bits), "pools", (13, 12, 3))
    stem = builder.add("conv2d", "stem", "input", channels=5, kernel=3, padding=1, bits=bits)
    first = builder.add("max_pool", "first", stem, kernel=3, stride=1)
    second = builder.add("max_pool", "second", first, kernel=2, stride=2)
    last = builder.add("depthwise", "last", second, kernel=3, padding=1, bits=bits, residual=second)
    mean = builder.add("global_avg_pool", "mean", last, bits=11)
    builder.add("dense", "fc", mean, channels=5, bits=13)
    ops, head = tuple(builder.ops), Classification()
    graph = Graph("pools", builder.tensors, ops, "input", ("fc",), head, WIDE)
    check(graph)
    return graph


def network(weight_bits: int) -> Graph:
    blocks = ETINYNET_0_75 if weight_bits == 8 else ETINYNET_1_0
    rng = np.random.default_rng(weight_bits)
    return etinynet_graph(rng, blocks, side=64, classes=10, weight_bits=weight_bits)


CASES = {
    **{f"random {seed}": random_graph(np.random.default_rng(seed)) for seed in range(8)},
    **{f"inverted {seed}": inverted_graph(np.random.default_rng(seed)) for seed in (0, 1, 2, 5)},
    "siblings": siblings_graph(np.random.default_rng(0)),
    "options": options_graph(),
    "network of 4 bits": network(4),
    "network of 8 bits": network(8),
}


# The allowed difference is none. Sums up to 2^24 are exact in float32 whatever their order, and
# what follows is exact in float64; larger sums are tested below.
@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_the_reference(name: str, optimization: str) -> None:
    graph = CASES[name]
    rng = np.random.default_rng(1)
    for _ in range(2):
        assert differences(graph, random_image(rng, graph), optimization) == {}


@pytest.mark.parametrize("name", CASES)
def test_the_cases_are_not_all_saturated(name: str) -> None:
    graph = CASES[name]
    values = execute_all(graph, random_image(np.random.default_rng(1), graph))
    assert all(len(np.unique(value)) > 2 for value in values.values())


@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
def test_scores_of_a_batch(optimization: str) -> None:
    graph = CASES["random 0"]
    rng = np.random.default_rng(2)
    images = [random_image(rng, graph) for _ in range(3)]
    runtime = session(export_onnx(graph), optimization)
    assert [node.name for node in runtime.get_inputs()] == ["image"]
    assert [node.name for node in runtime.get_outputs()] == ["scores"]
    for count in (1, 3):
        (scores,) = runtime.run(None, {"image": pixels(images[:count])})
        np.testing.assert_array_equal(scores, expected_scores(graph, images[:count]))


def test_sums_beyond_what_float32_holds_are_one_step_away_at_most() -> None:
    """The largest sums there can be: 512 channels of 16 bits. Float32 then rounds the sum, by
    less than 512 units of its last place, which is far below a step of the output."""
    rng = np.random.default_rng(3)
    builder = GraphBuilder(rng, "large", (24, 24, 3))
    stem = builder.add("conv2d", "stem", "input", channels=512, kernel=1)
    wide = builder.add("depthwise", "wide", stem, kernel=3, padding=1, bits=16)
    builder.add("pointwise", "sums", wide, channels=64)
    graph = builder.finish("sums", 4)
    image = random_image(rng, graph)
    values = execute_all(graph, image)["wide"].astype(np.int64)
    weight = graph.ops[2].weight
    assert weight is not None
    assert np.abs(values @ weight.T.astype(np.int64)).max() > 2**24
    found = differences(graph, image, "optimized")
    assert set(found) <= {"sums", "pool_all", "fc"}
    assert found.get("sums", 0) <= 1


def test_model_is_legal_and_says_what_it_is() -> None:
    graph = dataclasses.replace(
        CASES["random 0"],
        head=Classification(
            tuple(f"é{i}" for i in range(CASES["random 0"].tensors["fc"].shape[2]))
        ),
        metadata={"preprocess": {"size": 32, "resize_short": 36, "crop": "center"}},
    )
    data = export_onnx(graph, command="export a.etn --to onnx")
    assert data == export_onnx(graph, command="export a.etn --to onnx")
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    made = provenance("export a.etn --to onnx", {})
    assert model.producer_name == "etinynet"
    assert model.producer_version == made["version"]
    assert "pixels 0 to 255" in model.doc_string
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
    assert model.graph.name == graph.name
    properties = {one.key: json.loads(one.value) for one in model.metadata_props}
    assert properties == {
        **graph.metadata,
        "class_names": list(graph.head.class_names),
        "scales": {name: tensor.scale for name, tensor in graph.tensors.items()},
        "provenance": {**made, "graph_sha256": graph_digest(graph)},
    }


@pytest.mark.parametrize("name", CASES)
def test_other_cases_are_legal(name: str) -> None:
    model = onnx.load_from_string(export_onnx(CASES[name]))
    onnx.checker.check_model(model, full_check=True)
    assert "class_names" not in {one.key for one in model.metadata_props}


def test_weights_of_four_bits_lie_two_to_a_byte() -> None:
    graph = CASES["options"]
    model = onnx.load_from_string(export_onnx(graph))
    constants = {one.name: one for one in model.graph.initializer}
    kinds = set()
    for op in graph.ops:
        if op.weight is None:
            continue
        stored = constants[f"{op.name}/weight"]
        four = op.weight_bits <= 4
        kinds.add(four)
        assert stored.data_type == (onnx.TensorProto.INT4 if four else onnx.TensorProto.INT8)
        assert len(stored.raw_data) == ((op.weight.size + 1) // 2 if four else op.weight.size)
        values = onnx.numpy_helper.to_array(stored).astype(np.int8)
        if op.kind == "conv2d":
            values = values.transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(values.reshape(op.weight.shape), op.weight)
    assert kinds == {True, False}


@pytest.mark.parametrize("weight_bits", [4, 8])
def test_file_is_little_more_than_weights(weight_bits: int) -> None:
    """Of EtinyNet-1.0; beside the weights are two or three numbers a channel, and the nodes."""
    graph = etinynet_graph(np.random.default_rng(0), weight_bits=weight_bits)
    weights = sum(op.weight.size * weight_bits // 8 for op in graph.ops if op.weight is not None)
    assert weights < len(export_onnx(graph)) < weights + 200_000


def test_refusals() -> None:
    graph = CASES["random 0"]
    small = dataclasses.replace(graph.tensors["fc"], scale=1e-60)
    beyond = dataclasses.replace(graph, tensors={**graph.tensors, "fc": small})
    with pytest.raises(UnsupportedError, match=r"scale of tensor 'fc' is 1e-60, allowed is what"):
        export_onnx(beyond)
    with pytest.raises(GraphError, match="name is '1a', allowed is a C identifier"):
        export_onnx(dataclasses.replace(graph, name="1a"))


@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
def test_packaged_network_on_its_pictures(optimization: str) -> None:
    path = ASSETS / "sign-digits.etn"
    graph = read_graph(path)
    data = export_onnx(graph)
    assert len(data) < path.stat().st_size + 110_000
    pictures = prepared(sorted(ASSETS.glob("*.jpg")), graph_preprocess(graph, "asset"))
    images = [to_input(picture) for picture in pictures]
    assert len(images) == 3
    (scores,) = session(data, optimization).run(None, {"image": pixels(images)})
    np.testing.assert_array_equal(scores, expected_scores(graph, images))


def test_sixty_pictures_of_hand_signs(shared_data: Path) -> None:
    graph = read_graph(ASSETS / "sign-digits.etn")
    paths = find_pictures(shared_data / "sign-digits", 60)
    pictures = prepared(paths, graph_preprocess(graph, "asset"))
    images = [to_input(picture) for picture in pictures]
    assert len(images) == 60
    (scores,) = session(export_onnx(graph), "optimized").run(None, {"image": pixels(images)})
    np.testing.assert_array_equal(scores, expected_scores(graph, images))


def _pointwise(channels: int, weight: int, zero_point: int) -> Graph:
    """A pointwise layer whose weights are all `weight`, on values of 8 bits."""
    builder = GraphBuilder(np.random.default_rng(0), "net", (4, 4, 3))
    last = builder.add("conv2d", "stem", "input", channels=channels, kernel=3, padding=1)
    builder.tensors[last] = dataclasses.replace(builder.tensors[last], zero_point=zero_point)
    last = builder.add("pointwise", "pw", last, channels=3)
    weights = builder.ops[-1].weight
    assert weights is not None
    weights[:] = weight
    return builder.finish(last, 2)


@pytest.mark.parametrize(
    ("channels", "weight", "zero_point", "largest"),
    [
        (1032, -128, 0, 1032 * 128 * 128),
        (1024, -128, 0, None),  # 2^24 itself is exact
        (1040, 127, -1, 1040 * 127 * 128),
        (520, -128, 127, 520 * 128 * 255),
        (512, 127, 127, None),
    ],
)
def test_sums_that_float32_does_not_hold(
    channels: int, weight: int, zero_point: int, largest: int | None
) -> None:
    graph = _pointwise(channels, weight, zero_point)
    assert inexact_layers(graph) == ({} if largest is None else {"pw": largest})


def test_sums_of_small_networks_are_exact() -> None:
    assert inexact_layers(siblings_graph(np.random.default_rng(0))) == {}


@pytest.mark.parametrize("optimization", OPTIMIZATIONS)
@pytest.mark.parametrize("bits", range(2, 17))
def test_pools_of_any_width(bits: int, optimization: str) -> None:
    graph = pool_graph(bits)
    image = random_image(np.random.default_rng(1), graph)
    assert differences(graph, image, optimization) == {}


def test_names_that_are_no_unicode() -> None:
    """Lone surrogates, as names of folders that are not UTF-8 have them, stay apart."""
    names = ["\udcff", r"\udcff", "crane", "crane", "\u732b\ud800"]
    head = Classification(tuple(names))
    graph = dataclasses.replace(pool_graph(8), head=head, metadata={"note": "\udcff"})
    model = onnx.load_from_string(export_onnx(graph, command="export \udcff.etn"))
    found = {one.key: json.loads(one.value) for one in model.metadata_props}
    assert found["class_names"] == [r"\udcff_", r"\udcff", "crane", "crane", "\u732b" + r"\ud800"]
    assert found["provenance"]["command"] == r"export \udcff.etn"
    session(export_onnx(graph), "optimized")
