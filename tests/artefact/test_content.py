"""Reading, hashes and provenance."""

from __future__ import annotations

from pathlib import Path

import pytest

from etinynet.artefact import provenance, read_file, sha256
from etinynet.errors import ArtefactError


def test_sha256() -> None:
    assert sha256(b"abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_read_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    assert read_file(tmp_path / "x", "weights") == b"content"
    with pytest.raises(ArtefactError, match=r"absent: cannot read this weights file: No such file"):
        read_file(tmp_path / "absent", "weights")
    with pytest.raises(ArtefactError, match="cannot read this graph file: Is a directory"):
        read_file(tmp_path, "graph")


def test_provenance() -> None:
    made = provenance("compile x", {"b": b"2", "a": b"1"})
    assert made["command"] == "compile x"
    assert made["inputs"] == {"a": sha256(b"1"), "b": sha256(b"2")}
    assert isinstance(made["version"], str)
