"""Text from outside: what is escaped, one line an error, JSON that reads back, bounded depth."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etinynet.errors import ArtefactError, EtinynetError, MismatchError
from etinynet.text import MOST_NESTING, json_text, one_line, parse_json, require_shallow, shown

ANY = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("leaf 1.jpg", "leaf 1.jpg"),
        ("Ré猫🐈.jpg", "Ré猫🐈.jpg"),
        ("a\x1b[31m\a", r"a\u001b[31m\u0007"),
        ("\x7f\x9b", r"\u007f\u009b"),
        ("\u202e\u2028\u200b\xa0", r"\u202e\u2028\u200b\u00a0"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
        ("a\nb", r"a\u000ab"),
    ],
)
def test_shown(text: str, words: str) -> None:
    assert shown(text) == words


@given(ANY)
def test_nothing_that_is_shown_steers_or_fails(text: str) -> None:
    for made in (shown(text), one_line(text), str(EtinynetError(text))):
        assert made.isprintable()
        assert len(made.splitlines()) <= 1
        made.encode()


@given(st.dictionaries(ANY, ANY))
def test_json_is_plain_and_reads_back(value: dict[str, str]) -> None:
    text = json_text(value)
    assert text.replace("\n", "").isprintable()
    text.encode()
    assert json.loads(text) == value


def test_errors_are_one_line_by_construction() -> None:
    words = "cc: a.c:1:2: error\r\n   int x;\n\n     ^ here\n"
    assert str(ArtefactError(words)) == "cc: a.c:1:2: error int x; ^ here"
    assert str(ArtefactError("two  blanks.jpg: damaged")) == "two  blanks.jpg: damaged"
    long = str(MismatchError(5000 * "a" + 5000 * "b"))
    assert len(long) < 2100
    assert long.startswith("aaa")
    assert long.endswith("bbb")


def nested(depth: int, kind: type = list) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


@pytest.mark.parametrize("kind", [list, dict])
def test_depth(kind: type) -> None:
    assert parse_json(json.dumps(nested(MOST_NESTING, kind))) == nested(MOST_NESTING, kind)
    for depth in (MOST_NESTING + 1, 900):
        with pytest.raises(ValueError, match="JSON is nested deeper than 64 levels"):
            parse_json(json.dumps(nested(depth, kind)))
    with pytest.raises(ValueError, match="JSON is nested deeper than 64 levels"):
        parse_json("[" * 100_000)


def test_depth_of_what_never_ends() -> None:
    value: list[Any] = []
    value += [value, value]
    with pytest.raises(ValueError, match="deeper"):
        require_shallow(value)
