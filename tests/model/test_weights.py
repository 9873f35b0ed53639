"""Weights files: equal after a round trip, every changed bit noticed, forged files refused."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from params_bytes import small_config
from safetensors.numpy import save

from etinynet.data.images import Preprocess
from etinynet.errors import ArtefactError
from etinynet.model.config import etinynet
from etinynet.model.etinynet import EtinyNet
from etinynet.model.weights import (
    build_model,
    load_weights,
    save_weights,
    weights_from_bytes,
    weights_to_bytes,
)

PROVENANCE = {"command": "test", "version": "0", "inputs": {}}
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def model() -> EtinyNet:
    torch.manual_seed(1)
    return EtinyNet(small_config()).eval()


@pytest.fixture(scope="module")
def data(model) -> bytes:
    return weights_to_bytes(model, provenance=PROVENANCE, class_names=NAMES)


def _forge(data: bytes, change) -> bytes:
    """A file with a right checksum whose description or arrays `change` has altered."""
    size = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + size])["__metadata__"]["etinynet"]
    loaded = weights_from_bytes(data, "x").model.state_dict()
    arrays = {k: v.numpy() for k, v in loaded.items() if "num_batches" not in k}
    info = json.loads(entry[65:])
    change(info, arrays)
    blank = save(arrays, {"etinynet": "0" * 64 + " " + json.dumps(info)})
    return blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1)


def test_round_trip(model, data, tmp_path):
    path = tmp_path / "net.safetensors"
    preprocess = Preprocess(32, 40)
    save_weights(path, model, provenance=PROVENANCE, class_names=NAMES, preprocess=preprocess)
    loaded = load_weights(path)
    assert loaded.config == model.config
    assert loaded.class_names == tuple(NAMES)
    assert loaded.preprocess == preprocess
    assert loaded.provenance == PROVENANCE
    assert not loaded.model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name


def test_the_same_network_gives_the_same_bytes(model, data):
    for _ in range(5):
        assert weights_to_bytes(model, provenance=PROVENANCE, class_names=NAMES) == data


def test_every_tenth_byte_flipped_is_noticed(data):
    for position in range(0, len(data), 10):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position // 10 % 8)
        with pytest.raises(ArtefactError) as caught:
            weights_from_bytes(bytes(damaged), "net")
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("net: ")


def test_every_bit_of_the_header_is_covered(data):
    for position in (*range(16), *range(16, 8 + int.from_bytes(data[:8], "little"), 61)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(ArtefactError):
                weights_from_bytes(bytes(damaged), "net")


@pytest.mark.parametrize("part", [0.0, 0.0001, 0.1, 0.5, 0.9999])
def test_truncated(data, part):
    with pytest.raises(ArtefactError, match=r"truncated|damaged|SHA-256"):
        weights_from_bytes(data[: int(len(data) * part)], "net")


@pytest.mark.parametrize(
    "junk", [b"", b"\0" * 100, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 64]
)
def test_other_content(junk):
    with pytest.raises(ArtefactError, match=r"not a|damaged"):
        weights_from_bytes(junk, "net")


def test_missing_file(tmp_path):
    with pytest.raises(ArtefactError, match="cannot read this weights file"):
        load_weights(tmp_path / "absent")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i, a: i.update(format="other"), "not an etinynet weights file"),
        (lambda i, a: i.update(version=2), "version 2; 1 is allowed"),
        (lambda i, a: i.update(class_names=["a"]), "1 class names for 3 classes"),
        (lambda i, a: i.update(class_names=[1, 2, 3]), "null or strings are allowed"),
        (lambda i, a: i.update(provenance=None), "provenance is None"),
        (lambda i, a: i.update(preprocess={"size": 32}), "preprocess: .* exactly size"),
        (lambda i, a: i["config"].update(size=-1), "size is -1"),
        (lambda i, a: i["config"].update(extra=1), "unknown field 'extra'"),
        (lambda i, a: a.pop("classifier.bias"), "array 'classifier.bias' is missing"),
        (lambda i, a: a.update(more=np.zeros(1, np.float32)), "'more' belongs to no layer"),
        (
            lambda i, a: a.update({"classifier.bias": np.zeros(4, np.float32)}),
            r"shape \(4,\); expected \(3,\)",
        ),
        (
            lambda i, a: a.update({"classifier.bias": np.zeros(3, np.float64)}),
            "is F64; expected F32",
        ),
        (
            lambda i, a: a.update({"classifier.bias": np.full(3, np.nan, np.float32)}),
            "values that are not finite",
        ),
        (
            lambda i, a: a.update({"stem.norm.running_var": np.full(8, -1, np.float32)}),
            "negative variance",
        ),
    ],
)
def test_forged_files_are_refused_in_words(data, change, words):
    with pytest.raises(ArtefactError, match=words):
        weights_from_bytes(_forge(data, change), "net")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [64, 500])
def test_depth_of_the_description(data, depth):
    forged = _forge(data, lambda info, arrays: info["provenance"].update(a=nested(depth)))
    with pytest.raises(ArtefactError, match="JSON is nested deeper than 64 levels"):
        weights_from_bytes(forged, "net")
    assert weights_from_bytes(
        _forge(data, lambda info, arrays: info["provenance"].update(a=nested(50))), "net"
    )


def test_writing_refuses_what_reading_refuses(model):
    with pytest.raises(ArtefactError, match="JSON is nested deeper than 64 levels"):
        weights_to_bytes(model, provenance={"a": nested(990)})
    with pytest.raises(ArtefactError, match="2 class names for 3 classes"):
        weights_to_bytes(model, provenance=PROVENANCE, class_names=["a", "b"])
    broken = EtinyNet(model.config)
    broken.classifier.bias.data[0] = torch.inf
    with pytest.raises(ArtefactError, match="not finite"):
        weights_to_bytes(broken, provenance=PROVENANCE)


def test_build_model_names_a_wrong_type():
    config = etinynet(0.03, 3, 32)
    arrays = {
        k: v.numpy()
        for k, v in EtinyNet(config).state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    arrays["stem.conv.weight"] = arrays["stem.conv.weight"].astype(np.float16)
    with pytest.raises(ArtefactError, match=r"'stem\.conv\.weight' is float16; expected float32"):
        build_model(config, arrays, "here")
