"""profile: what each layer of a graph costs on a part, as JSON, a table or a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from etinynet.artefact import check_file, write_file
from etinynet.commands.building import memory_json
from etinynet.commands.profile_page import profile_page
from etinynet.errors import UnsupportedError
from etinynet.opened import graph_of, open_graph
from etinynet.show import print_lines, print_table
from etinynet.target.base import get_target
from etinynet.target.cycles import VALIDATION
from etinynet.target.mcu import McuTarget
from etinynet.target.parts import Clock, get_part
from etinynet.target.profile import OUTSIDE, Cost, Layer, Profile, profile

__all__ = ["print_profile", "profile_model"]

_HEADING = (
    *("layer", "kind", "output", "MACs", "flash", "read", "written"),
    *("instructions", "per MAC", "modelled cycles", "modelled ms", "limit MACs", "limit bytes"),
)


def profile_model(model: str, on: str, plan: str | None, html: Path | None) -> dict[str, Any]:
    """Runs a grey picture and gives the costs of each layer; writes the page `html` if asked.

    What a picture shows does not change the counts but by a few instructions.
    """
    get_target(on, mode=plan)  # refuses an unknown name before anything is read
    if on in ("reference", "host"):
        raise UnsupportedError(f"target {on!r} counts no instructions; allowed are the parts")
    if html is not None:
        check_file("--html", html, ".html", ".htm")
    graph = graph_of(open_graph(model))
    target = McuTarget(get_part(on), mode=plan, command=f"profile {Path(model).name} --on {on}")
    with target.load(graph) as program:
        grey = np.zeros(graph.tensors[graph.input].shape, np.int8)
        found = _to_json(model, profile(graph, program, grey))
    if html is not None:
        write_file(html, profile_page(found).encode())
    return found


def _to_json(model: str, found: Profile) -> dict[str, Any]:
    """A profile as plain JSON; what is modelled lies apart from what was measured."""
    return {
        "model": model,
        "graph": found.graph,
        "target": found.part,
        "plan": found.plan,
        "tools": found.tools,
        "macs": found.macs,
        "instructions": found.instructions,
        "instructions_per_mac": _per_mac(found.instructions, found.macs),
        "memory": memory_json(found.memory),
        "modelled": {
            "cpu": found.cpu,
            "validation": VALIDATION[found.cpu],
            "cycles": found.cycles,
            "milliseconds": found.clock.milliseconds(found.cycles),
            "clock_hz": found.clock.hz,
            "clock_condition": found.clock.condition,
            "cycles_per_mac": _per_mac(found.cycles, found.macs),
        },
        "layers": [_layer(layer, found.clock) for layer in found.layers],
        "outside": {"name": OUTSIDE, **_cost(found.outside, 0, found.clock)},
    }


def _per_mac(count: int, macs: int) -> float | None:
    return round(count / macs, 4) if macs else None


def _cost(cost: Cost, macs: int, clock: Clock) -> dict[str, Any]:
    return {
        "instructions": cost.instructions,
        "instructions_per_mac": _per_mac(cost.instructions, macs),
        "instruction_kinds": dict(sorted(cost.kinds.items())),
        "modelled": {
            "cycles": cost.cycles,
            "milliseconds": clock.milliseconds(cost.cycles),
        },
    }


def _layer(layer: Layer, clock: Clock) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "shape": list(layer.shape),
        "macs": layer.macs,
        "weight_bytes": layer.weight_bytes,
        "constant_bytes": layer.constant_bytes,
        "read_bytes": layer.read_bytes,
        "written_bytes": layer.written_bytes,
        **_cost(layer.cost, layer.macs, clock),
        "limits": {"arithmetic_cycles": layer.arithmetic_limit, "bytes_cycles": layer.bytes_limit},
    }


def print_profile(found: Mapping[str, Any]) -> None:
    """The table of what `profile_model` gave."""
    rows: list[tuple[object, ...]] = [
        (
            layer["name"],
            layer["kind"],
            "x".join(str(side) for side in layer["shape"]),
            layer["macs"],
            layer["weight_bytes"] + layer["constant_bytes"],
            layer["read_bytes"],
            layer["written_bytes"],
            layer["instructions"],
            _ratio(layer["instructions_per_mac"]),
            layer["modelled"]["cycles"],
            _milliseconds(layer["modelled"]),
            layer["limits"]["arithmetic_cycles"],
            layer["limits"]["bytes_cycles"],
        )
        for layer in found["layers"]
    ]
    outside, modelled, memory = found["outside"], found["modelled"], found["memory"]
    own = outside["modelled"]
    costs = outside["instructions"], "", own["cycles"], _milliseconds(own)
    rows.append((outside["name"], *("",) * 6, *costs, "", ""))
    ratio = _ratio(found["instructions_per_mac"])
    costs = found["instructions"], ratio, modelled["cycles"], _milliseconds(modelled)
    rows.append(("in all", "", "", found["macs"], "", "", "", *costs, "", ""))
    print_table(_HEADING, rows)
    print_lines(
        f"{found['target']}, memory plan {found['plan']}: flash {memory['flash total']:,} bytes, "
        f"RAM {memory['RAM total']:,} bytes",
        f"modelled, not measured: {_milliseconds(modelled)} ms a picture at the part's highest "
        f"clock, {modelled['clock_hz'] // 1_000_000} MHz ({modelled['clock_condition']}), memory "
        "without wait states",
        f"cycles and limits are modelled for {modelled['cpu']}, not measured: the model is "
        f"{modelled['validation']}; see docs/cycle-model.md",
    )


def _milliseconds(modelled: Mapping[str, Any]) -> str:
    return f"{modelled['milliseconds']:.3f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
