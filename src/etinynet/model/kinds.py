"""What a file is by its first bytes, for messages about files of another kind."""

from __future__ import annotations

__all__ = ["kind_of"]

# By what they begin with; a zip archive is looked into.
_MAGICS = (
    (b"\x80\x02\x8a\x0a", "an old PyTorch file"),
    (b"\x80", "a Python pickle"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as Keras writes"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"GGUF", "a GGUF file"),
    (b"\x7fELF", "an ELF program"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"%PDF", "a PDF document"),
    (b"\x12\x01\x00\x00\x00\x00\x00\x00", "an MXNet .params file"),
)
_ONNX_FIELDS = b"\x12\x1a\x2a\x32\x3a\x42"
_SAFETENSORS = {
    b'"etinynet-graph"': "an integer graph of etinynet (.etn)",
    b'"etinynet"': "float weights of etinynet (.safetensors)",
}


def kind_of(data: bytes) -> str:
    """What `data` are, with an article, as well as their beginning tells."""
    if not data:
        return "an empty file"
    for magic, kind in _MAGICS:
        if data.startswith(magic):
            return kind
    if data[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if data[257:262] == b"ustar":
        return "a tar archive"
    if data.startswith(b"PK\x03\x04"):
        is_torch = b"data.pkl" in data[:4096]
        return "a PyTorch file" if is_torch else "a zip archive, such as .npz, .keras or .mlmodel"
    return _by_structure(data)


def _by_structure(data: bytes) -> str:
    size = int.from_bytes(data[:8], "little")
    if 2 <= size <= len(data) - 8 and data[8:9] == b"{":
        head = data[8 : 8 + min(size, 4096)]
        found = (kind for key, kind in _SAFETENSORS.items() if key in head)
        return next(found, "a safetensors file of another program")
    # field 1, the version of the format, and then field 2, 3, 5, 6, 7 or 8 of the same message
    if len(data) > 2 and data[0] == 0x08 and data[1:2] < b"@" and data[2] in _ONNX_FIELDS:
        return "an ONNX model"
    return _by_text(data[:4096])


def _by_text(head: bytes) -> str:
    try:
        text = head.decode("utf-8").lstrip()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return "a file of unknown kind"
        text = head[: error.start].decode("utf-8").lstrip()
    if "\0" in text:
        return "a file of unknown kind"
    if text[:1] in ("{", "["):
        return "JSON text" + (", such as MXNet's -symbol.json" if '"nodes"' in text else "")
    return "a text file"
