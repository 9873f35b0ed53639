"""The authors' files: right numbers from right files, one-line errors from any other bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from params_bytes import params_bytes, small_arrays, small_config

from etinynet.data.images import Preprocess, load_picture, to_input
from etinynet.data.labels import list_table
from etinynet.errors import ArtefactError
from etinynet.model.config import etinynet_1_0
from etinynet.model.mxnet_params import import_params, read_params
from etinynet.model.shapes import state_shapes
from etinynet.model.weights import build_model


@pytest.fixture(scope="module")
def small() -> bytes:
    return params_bytes(small_arrays())


@pytest.mark.parametrize("clipped", [False, True])
def test_small_network_is_imported(clipped):
    arrays = small_arrays(clipped)
    config, state, ignored = import_params(params_bytes(arrays), "x")
    assert config.stages == small_config().stages
    assert config.classes == 3
    assert config.normalization == "conv_relu_bn"
    assert config.activation_clip == (12.0 if clipped else None)
    assert ignored == ()
    assert {name: a.shape for name, a in state.items()} == state_shapes(config)
    last = f"features3.2.out1.{5 if clipped else 4}.beta"
    assert np.array_equal(state["blocks.13.pw.norm.bias"], arrays[last])
    build_model(config, state, "x")


def _import_or_complaint(data: bytes) -> dict[str, np.ndarray] | str:
    try:
        return import_params(data, "file")[1]
    except ArtefactError as error:
        return str(error)


def test_every_tenth_byte_flipped(small):
    legal = 0
    for position in range(0, len(small), 10):
        damaged = bytearray(small)
        damaged[position] ^= 1 << (position // 10 % 8)
        result = _import_or_complaint(bytes(damaged))
        if isinstance(result, str):
            assert result.startswith("file: ")
            assert "\n" not in result
        else:
            legal += 1
            assert all(np.isfinite(array).all() for array in result.values())
    assert 0 < legal < len(small) // 10


def test_truncated_anywhere(small):
    for length in range(0, len(small), 97):
        with pytest.raises(ArtefactError, match=r"truncated|is 0x0|this is a"):
            import_params(small[:length], "file")


@given(st.binary(max_size=200))
def test_any_bytes(junk):
    with pytest.raises(ArtefactError):
        read_params(junk, "file")


@given(st.binary(max_size=120))
def test_any_bytes_after_a_right_beginning(junk):
    with pytest.raises(ArtefactError):
        read_params(struct.pack("<QQQIi", 0x112, 0, 2, 0xF993FAC9, 0) + junk, "file")


def _header(count: int, dimensions: tuple[int, ...], ndim: int | None = None) -> bytes:
    ndim = len(dimensions) if ndim is None else ndim
    start = struct.pack("<QQQIiI", 0x112, 0, count, 0xF993FAC9, 0, ndim)
    return start + struct.pack(f"<{len(dimensions)}q", *dimensions) + bytes(64)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_header(2**63, (1,)), "number of arrays is 9223372036854775808; 1 to 4096"),
        (_header(1, (), 2**32 - 1), "number of dimensions is 4294967295; 1 to 8"),
        (_header(1, (2**62, 2**62)), "dimension 0 is 4611686018427387904"),
        (_header(1, (100,) * 8), "takes 40000000000000000 bytes"),
        (_header(1, (-1,)), "dimension 0 is -1"),
        (_header(1, (0,)), "dimension 0 is 0"),
        (
            b"PK\x03\x04" + bytes(60),
            "this is a zip archive, .*; import takes the MXNet .params file",
        ),
    ],
)
def test_huge_and_negative_sizes(data, words):
    with pytest.raises(ArtefactError, match=words):
        read_params(data, "file")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("features3.2.out2.2.gamma"), "'features3.2.out2.2.gamma' is missing"),
        (lambda a: a.pop("output.0.bias"), "'output.0.bias' is missing"),
        (lambda a: a.pop("features1.0.weight"), "not an EtinyNet"),
        (lambda a: a.update(dense0_weight=np.ones(3)), "'dense0_weight' belongs to no layer"),
        (lambda a: a["features1.2.gamma"].fill(np.inf), "'features1.2.gamma' holds .* not finite"),
        (lambda a: a["features1.2.running_var"].fill(-1), "negative variance"),
        (
            lambda a: a.update({"features1.2.beta": np.ones((8, 1))}),
            r"shape \(8, 1\); expected \(8,\)",
        ),
        (
            lambda a: a.update({"features2.0.out1.2.weight": np.ones((9, 8, 1, 1))}),
            r"blocks\[9\].in_channels is 8; the layer before it gives 9",
        ),
    ],
)
def test_other_networks_are_refused_in_words(change, words):
    arrays = small_arrays()
    change(arrays)
    with pytest.raises(ArtefactError, match=words):
        import_params(params_bytes(arrays), "file")


def test_names_must_be_plain_and_unique(small):
    for name in (b"\xff\xfe", b"a b"):
        data = _header(1, (1,))[:-64] + struct.pack("<iiifQQ", 1, 0, 0, 1.0, 1, len(name)) + name
        with pytest.raises(ArtefactError, match="ASCII is allowed"):
            read_params(data, "file")
    with pytest.raises(ArtefactError, match="1 bytes after the last name"):
        read_params(small + b"\0", "file")


def test_classifier_of_the_authors(shared_data):
    path = next((shared_data / "weights").glob("0.6553*.params"))
    config, state, ignored = import_params(path.read_bytes(), path.name)
    assert config == etinynet_1_0(1000, normalization="conv_relu_bn")
    assert sum(array.size for array in state.values()) == 976_360
    assert ignored == ()
    examples = list_table(shared_data / "imagenet-sample" / "labels.tsv").examples[::25]
    preprocess = Preprocess.for_size(224)
    pixels = [to_input(preprocess.apply(load_picture(e.path))) for e in examples]
    with torch.no_grad():
        scores = build_model(config, state, path.name)(
            torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
        )
    right = sum(int(s.argmax()) == e.label for s, e in zip(scores, examples, strict=True))
    assert right >= 0.65 * len(examples)


def test_backbone_of_the_authors(shared_data):
    path = next((shared_data / "weights").glob("0.6662*.params"))
    config, state, ignored = import_params(path.read_bytes(), path.name)
    assert config == etinynet_1_0(0, normalization="conv_relu_bn", activation_clip=12.0)
    assert sum(array.size for array in state.values()) == 463_360
    assert [name.split(".")[0] for name in ignored] == (
        ["class_predictors"] * 2 + ["box_predictors"] * 2 + ["anchor_generators"] * 2
    )
    model = build_model(config, state, path.name)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 512)
