"""Files of other kinds are called by their names."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

import etinynet
from etinynet.backend.onnx import export_onnx
from etinynet.errors import ArtefactError
from etinynet.graph import read_graph
from etinynet.model.config import etinynet as network
from etinynet.model.etinynet import EtinyNet
from etinynet.model.kinds import kind_of
from etinynet.model.mxnet_params import read_params
from etinynet.model.weights import weights_from_bytes, weights_to_bytes

ASSETS = Path(etinynet.__file__).parent / "assets"


def by_torch(**options: object) -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, file, **options)
    return file.getvalue()


def other_onnx() -> bytes:
    info = onnx.helper.make_tensor_value_info("a", 1, [1])
    graph = onnx.helper.make_graph([], "g", [info], [info])
    return onnx.helper.make_model(graph).SerializeToString()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model.json", "{}")
    return file.getvalue()


def floats() -> bytes:
    return weights_to_bytes(EtinyNet(network(0.03, classes=2, size=32)), provenance={})


KINDS = {
    "an ONNX model": (export_onnx(read_graph(ASSETS / "sign-digits.etn")), other_onnx()),
    "a PyTorch file": (by_torch(),),
    "an old PyTorch file": (by_torch(_use_new_zipfile_serialization=False),),
    "a Python pickle": (pickle.dumps([1]),),
    "a zip archive, such as .npz, .keras or .mlmodel": (zipped(),),
    "an integer graph of etinynet (.etn)": ((ASSETS / "sign-digits.etn").read_bytes(),),
    "float weights of etinynet (.safetensors)": (floats(),),
    "a safetensors file of another program": (save({"a": np.zeros(3, np.float32)}),),
    "a TensorFlow Lite model": (b"\x1c\0\0\0TFL3" + bytes(40),),
    "a JPEG picture": ((ASSETS / "sign-digits-2.jpg").read_bytes(),),
    "JSON text, such as MXNet's -symbol.json": (b'{\n  "nodes": []}',),
    "JSON text": (b"[1]",),
    "a text file": (b"index\tname\n", "Katze \u732b".encode()),
    "an empty file": (b"",),
    "a file of unknown kind": (bytes(50), b"\xfe\xfe\xfe\xfe\xfe\xfe"),
}


@pytest.mark.parametrize(("kind", "files"), KINDS.items(), ids=KINDS)
def test_kinds(kind: str, files: tuple[bytes, ...]) -> None:
    for data in files:
        assert kind_of(data) == kind
        with pytest.raises(ArtefactError) as refused:
            read_params(data, "file")
        assert str(refused.value) == (
            f"file: this is {kind}; import takes the MXNet .params file of the paper's authors"
        )
        if kind != "float weights of etinynet (.safetensors)":
            with pytest.raises(ArtefactError, match=r"^file: not an? .*weights file"):
                weights_from_bytes(data, "file")


@given(st.binary(max_size=60))
def test_any_bytes_are_of_some_kind(data: bytes) -> None:
    assert kind_of(data)
