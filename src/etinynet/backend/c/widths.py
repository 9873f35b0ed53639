"""How wide the numbers of the generated tables are, and assertions that each type holds its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["is_wide", "width_checks"]

#: Fields of etn_tensor and etn_operator that are never below 0, by the name of the C field; the
#: table has most under the same name.
_TENSOR_FIELDS = ("row_bytes", "first", "period", "height", "start")
_OPERATOR_FIELDS = (
    *("scratch", "pad", "handed", "kernel", "rows", "width"),
    *("strip", "window", "stride", "padding", "barrier"),
)
#: Those of etn_operator that may be -1: numbers of operators and tensors.
_NUMBERS = ("input", "output", "residual", "last", "before")
_KEYS = {"kernel": "rows_needed"}

_Rows = Sequence[Mapping[str, Any]]


def is_wide(values: Iterable[int]) -> bool:
    """Whether a table of `values`, none below 0, needs 32 bits; the last of 16 is kept for
    "nowhere"."""
    return max(values, default=0) >= 0xFFFF


def _numbers(rows: _Rows, field: str) -> list[int]:
    """Values of a column; what is nowhere has a constant of C instead."""
    values = (row[_KEYS.get(field, field)] for row in rows)
    return [value for value in values if isinstance(value, int)] or [0]


def _unsigned(struct: str, rows: _Rows, fields: Sequence[str]) -> list[dict[str, str]]:
    return [
        {
            "name": f"{struct}_{field}",
            "condition": f"ETN_HOLDS({struct}, {field}, {max(_numbers(rows, field))}u)",
        }
        for field in fields
    ]


def _signed(struct: str, rows: _Rows, fields: Sequence[str]) -> list[dict[str, str]]:
    checks = []
    for field in fields:
        values = _numbers(rows, field)
        limits = f"{min(values)}, {max(values)}"
        condition = f"ETN_HOLDS_SIGNED({struct}, {field}, {limits})"
        checks.append({"name": f"{struct}_{field}", "condition": condition})
    return checks


def width_checks(tensors: _Rows, operators: _Rows, places: Sequence[int]) -> list[dict[str, str]]:
    """Static assertions that the C types hold every number of the tables.

    `tensors` and `operators` are the rows of the templates, `places` all places that are written
    to a table, those of regions too.
    """
    most = {"name": "places", "condition": f"{max(places)}u < ETN_NOWHERE"}
    return [
        most,
        *_unsigned("etn_tensor", tensors, _TENSOR_FIELDS),
        *_signed("etn_tensor", tensors, ("fill",)),
        *_unsigned("etn_operator", operators, _OPERATOR_FIELDS),
        *_signed("etn_operator", operators, _NUMBERS),
    ]
