"""Text from outside made fit to be shown, and JSON of bounded depth."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["MOST_NESTING", "json_text", "one_line", "parse_json", "require_shallow", "shown"]

#: How deep lists and objects of a JSON document may lie in each other.
MOST_NESTING = 64

_MOST_CHARACTERS = 2000
_UNUSUAL = re.compile(r"[^ -~]")
_UNUSUAL_IN_LINES = re.compile(r"[^\n -~]")
_BREAKS = re.compile(r"[ \t]*[\n\r][ \t\n\r]*")


def _escaped(character: str) -> str:
    """\\uXXXX, or \\UXXXXXXXX, for what str.isprintable refuses: control characters, marks that
    turn or hide text, line separators, and bytes of file names that are not UTF-8 (\\udcXX)."""
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped_in_json(character: str) -> str:
    if ord(character) < 0x10000 or character.isprintable():
        return _escaped(character)
    return json.dumps(character)[1:-1]  # two escapes


def shown(text: str) -> str:
    """`text` with escapes for all that would steer a terminal, hide text or be no character.

    For everything that people read: terminals, comments of generated C, provenance.
    """
    return _UNUSUAL.sub(lambda found: _escaped(found[0]), text)


def one_line(text: str) -> str:
    """`text` as `shown`, its lines joined by a blank; the middle of a very long one is left out."""
    line = shown(_BREAKS.sub(" ", text.strip(" \t\n\r")))
    half = _MOST_CHARACTERS // 2
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:half]} ... {line[-half:]}"


def json_text(value: object) -> str:
    """`value` as indented JSON with the escapes of `shown`, which readers of JSON turn back."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _UNUSUAL_IN_LINES.sub(lambda found: _escaped_in_json(found[0]), text)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON document; ValueError if it is none or nests deeper than MOST_NESTING."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    require_shallow(value)
    return value


def require_shallow(value: object) -> None:
    """Raises ValueError where lists and objects lie more than MOST_NESTING deep in each other."""
    layer, depth = [value], 0
    while layer:
        inner: list[object] = []
        for entry in layer:
            if isinstance(entry, dict):
                inner += entry.values()
            elif isinstance(entry, list | tuple):
                inner += entry
        # one by one: what lies in several places is looked at once
        layer = list({id(x): x for x in inner if isinstance(x, dict | list | tuple)}.values())
        depth += 1
        if depth > MOST_NESTING:
            raise ValueError(_too_deep())


def _too_deep() -> str:
    return f"JSON is nested deeper than {MOST_NESTING} levels"
