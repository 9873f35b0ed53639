"""Closing lines of train and evaluate: which classes are hardest."""

from __future__ import annotations

from typing import Any

__all__ = ["closing_lines"]

_SHOWN = 5
# Classes are unbalanced where one has so many times the pictures of another.
_UNBALANCED = 2


def closing_lines(result: dict[str, Any]) -> list[str]:
    """The worst classes of a `result` with data.recall's fields; balanced accuracy too."""
    rows = [row for row in result["per_class"] if row["n"]]
    lines = []
    if len({row["n"] for row in rows}) > 1:
        few, many = min(rows, key=_count), max(rows, key=_count)
        if many["n"] >= _UNBALANCED * few["n"]:
            lines.append(
                f"balanced accuracy {result['balanced']:.2f} %, each class counting alike: "
                f"{few['name']} has {few['n']:,}, {many['name']} {many['n']:,} pictures"
            )
    worst = sorted(rows, key=lambda row: (row["recall"], -row["n"]))
    shown = ", ".join(f"{w['name']} {w['correct']:,} of {w['n']:,}" for w in worst[:_SHOWN])
    more = f"; {len(rows) - _SHOWN:,} others" if len(rows) > _SHOWN else ""
    lines.append(f"fewest correct: {shown}{more}")
    absent = [row["name"] for row in result["per_class"] if not row["n"]]
    if absent:
        names = ", ".join(absent[:_SHOWN]) + (", ..." if len(absent) > _SHOWN else "")
        classes = "class" if len(absent) == 1 else "classes"
        lines.append(f"not measured, for want of pictures: {len(absent):,} {classes}: {names}")
    return lines


def _count(row: dict[str, Any]) -> int:
    return int(row["n"])
