"""A profile as one page of HTML that needs nothing else: bars and a table, no scripts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from etinynet.extras import not_installed

__all__ = ["profile_page"]

#: Kinds of instructions (target/decode.py) that are drawn as one.
_GROUPS = {
    "multiply": ("multiply",),
    "load and store": ("load", "store", "multiple"),
    "arithmetic": ("add", "shift", "logic", "shifted", "extract", "dsp", "divide"),
    "control": ("branch", "it", "other"),
}
_BYTES = {
    "weights": "weight_bytes",
    "constants": "constant_bytes",
    "read": "read_bytes",
    "written": "written_bytes",
}


def profile_page(found: Mapping[str, Any]) -> str:
    """The page of a profile in JSON (`profile_model`); raises ToolError without jinja2."""
    try:
        import jinja2
    except ModuleNotFoundError:
        raise not_installed("jinja2") from None
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("etinynet.commands").joinpath("profile.html.jinja")
    layers = [*found["layers"], found["outside"]]
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        found=found,
        charts=(
            _chart(layers, "instructions", _instructions),
            _chart(layers, "modelled cycles", _cycles),
            _chart(found["layers"], "bytes", _bytes),
        ),
    )


def _instructions(layer: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    counts = layer["instruction_kinds"]
    return {name: sum(counts.get(kind, 0) for kind in kinds) for name, kinds in _GROUPS.items()}, {}


def _cycles(layer: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    limits = layer.get("limits", {})
    marks = {"limit MACs": "arithmetic_cycles", "limit bytes": "bytes_cycles"}
    return (
        {"modelled cycles": layer["modelled"]["cycles"]},
        {name: limits[key] for name, key in marks.items() if key in limits},
    )


def _bytes(layer: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    return {name: layer[key] for name, key in _BYTES.items()}, {}


def _chart(layers: list[Mapping[str, Any]], unit: str, parts_of: Any) -> dict[str, Any]:
    """Bars of `layers`: parts and marks with their share of the longest bar, in percent."""
    split = [(layer, *parts_of(layer)) for layer in layers]
    most = max(1, *(max([sum(parts.values()), *marks.values()]) for _, parts, marks in split))
    whole = sum(sum(parts.values()) for _, parts, _ in split)
    bars = [
        {
            "name": layer["name"],
            "total": sum(parts.values()),
            "share": 100 * sum(parts.values()) / max(1, whole),
            "parts": [(name, value, 100 * value / most) for name, value in parts.items()],
            "marks": [(name, value, 100 * value / most) for name, value in marks.items()],
        }
        for layer, parts, marks in split
    ]
    first = split[0]
    return {"unit": unit, "bars": bars, "legend": list(first[1]), "marks": list(first[2])}
