"""What the public header says of the picture, the scores and the classes."""

from __future__ import annotations

import math
from typing import Any

from etinynet.graph.ir import Graph

__all__ = ["MARGINS", "c_string", "class_names", "interface_values"]

#: How many times as probable as any other the best class is at NAME_MARGIN_... and more.
MARGINS = (2, 10, 100)
#: More than two scores can differ by.
_UNREACHABLE = 65536
_PLAIN = frozenset(range(0x20, 0x7F)) - set(b'"\\?')


def c_string(text: str) -> str:
    """`text` in UTF-8 as a string of C in plain ASCII, whatever signs are in it.

    Octal escapes have three digits at most, so that what follows stays outside them; "?" could
    begin a trigraph. U+0000, which would end the string, becomes its picture U+2400, and half a
    surrogate pair U+FFFD.
    """
    clean = "".join("�" if 0xD800 <= ord(sign) < 0xE000 else sign for sign in text)
    data = clean.replace("\0", "␀").encode()
    return '"' + "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in data) + '"'


def class_names(graph: Graph) -> tuple[str, ...]:
    """Names of the classes in order of the scores; none where the graph has none."""
    return () if graph.head is None else graph.head.class_names or ()


def _resize_short(graph: Graph) -> int | None:
    """The short side that a photograph is resized to, None where the graph does not say."""
    height, width, channels = graph.tensors[graph.input].shape
    stored = graph.metadata.get("preprocess")
    if not isinstance(stored, dict) or (stored.get("size"), channels) != (height, 3):
        return None
    short = stored.get("resize_short")
    return short if type(short) is int and short >= height == width else None


def _margin(scale: float, times: int) -> int:
    """The least difference of scores that makes one class `times` as probable as the other."""
    return int(min(math.ceil(math.log(times) / scale), _UNREACHABLE))


def interface_values(graph: Graph) -> dict[str, Any]:
    """Values of the templates that a program around the library needs."""
    result = graph.tensors[graph.outputs[0]]
    return {
        "class_names": [c_string(name) for name in class_names(graph)],
        "resize_short": _resize_short(graph),
        "score_scale": repr(float(result.scale)),
        "score_zero_point": result.zero_point,
        "margins": {times: _margin(result.scale, times) for times in MARGINS},
    }
