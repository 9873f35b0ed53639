"""The plan as tables of the generated C: places, tensors, operators, and assertions of sizes."""

from __future__ import annotations

from typing import Any

from etinynet.backend.c.constants import OpConstants, identifier
from etinynet.backend.c.place import ALIGNMENT
from etinynet.backend.c.plan import Plan
from etinynet.backend.c.rows import STRIP_PIXELS
from etinynet.backend.c.widths import is_wide, width_checks
from etinynet.graph.ir import Graph

__all__ = ["ARENA_ALIGNMENT", "most_rows", "plan_table", "shape_text", "tables"]

#: Alignment of the arena itself, which the caller provides.
ARENA_ALIGNMENT = 8
_NOWHERE = "ETN_NOWHERE"
_PLACES_A_LINE = 16


def shape_text(shape: tuple[int, int, int]) -> str:
    """As in 28x28x128."""
    return "x".join(str(side) for side in shape)


def _place(offsets: dict[int, int], index: int) -> int | str:
    return offsets[index] // ALIGNMENT if index in offsets else _NOWHERE


def _operators(
    graph: Graph, plan: Plan, constants: list[OpConstants], kernels: list[str]
) -> list[dict[str, Any]]:
    numbers = {name: number for number, name in enumerate(graph.tensors)}
    rows = []
    for op, step, values, kernel in zip(graph.ops, plan.steps, constants, kernels, strict=True):
        source, result = graph.tensors[op.input].shape, graph.tensors[op.output].shape
        added = f" + {op.residual}" if op.residual else ""
        gathers = plan.choice.gathers(graph, step.index)
        rows.append(
            {
                "name": op.name,
                "symbol": f"op_{step.index}_{op.kind}",
                "comment": f"{op.name}: {shape_text(source)} -> {shape_text(result)}{added}",
                "kernel": kernel,
                "weight": values.weight,
                "bias": values.bias,
                "multiplier": values.multiplier,
                "offset": values.offset,
                "residual_multiplier": values.residual_multiplier,
                "shift": 0 if op.requantization is None else max(op.requantization.shift, 0),
                "scratch": _place(plan.scratch, step.index),
                "pad": _place(plan.pads, step.index),
                "input": numbers[step.input],
                "output": numbers[op.output],
                "residual": -1 if op.residual is None else numbers[op.residual],
                "last": step.last,
                "before": step.before,
                "handed": _place(plan.strips, step.index),
                "width": result[1],
                "strip": STRIP_PIXELS if step.before >= 0 else 0,
                "rows_needed": step.kernel,
                "rows": step.rows,
                "window": step.rows if gathers else _window(graph, plan, step.index),
                "stride": step.stride,
                "padding": step.padding,
                "barrier": int(step.barrier),
            }
        )
    return rows


def _window(graph: Graph, plan: Plan, index: int) -> int:
    """Rows that the kernel called first gets a pointer to."""
    return graph.ops[plan.choice.strips.get(index, index)].kernel


def _period(places: tuple[int, ...]) -> int:
    """Fewest places that repeat: those of a ring."""
    return next(
        period
        for period in range(1, len(places) + 1)
        if all(place == places[row % period] for row, place in enumerate(places))
    )


def _tensors(graph: Graph, plan: Plan) -> tuple[list[dict[str, Any]], list[int]]:
    """Tensors, and the places of their rows in units of `ALIGNMENT`."""
    rows: list[dict[str, Any]] = []
    places: list[int] = []
    for name, tensor in graph.tensors.items():
        layout, own = plan.layouts[name], plan.places.get(name, (0,))
        period = _period(own)
        rows.append(
            {
                "name": name,
                "row_bytes": layout.row_bytes,
                "first": len(places),
                "period": period,
                "height": tensor.shape[0],
                "fill": layout.fill,
                "start": layout.pad * layout.element_bytes,
            }
        )
        places += [place // ALIGNMENT for place in own[:period]]
    return rows, places


def _row_check(graph: Graph, plan: Plan, name: str) -> str:
    layout = plan.layouts[name]
    _, width, channels = graph.tensors[name].shape
    if layout.order == "hwc":
        return f"{width} * {channels} * {layout.element_bytes} <= {layout.row_bytes}"
    line = layout.line_stride * layout.element_bytes
    return (
        f"({width} + {layout.pad}) * {layout.element_bytes} <= {line} && "
        f"{channels} * {line} + {4 * layout.pad} <= {layout.row_bytes}"
    )


def _scratch_need(graph: Graph, plan: Plan, index: int) -> str:
    """What the kernel of operator `index` needs of scratch, as its header says it."""
    op = graph.ops[index]
    _, width, channels = graph.tensors[op.input].shape
    if op.kind == "conv2d":
        return f"ETN_CONV2D_SCRATCH({op.kernel}, {channels})"
    if op.kind == "depthwise":
        wide = graph.tensors[op.output].shape[1]
        most = STRIP_PIXELS if index in plan.choice.strips.values() else wide
        column = channels if most < wide else 0
        span = f"ETN_TIGHT_SPAN({op.stride}, {most}, {wide}, {width})"
        return f"3 * ETN_TIGHT_LINE({span}) + {column}"
    need = f"ETN_POINTWISE_SCRATCH({channels})"
    if plan.choice.gathers(graph, index):
        need += f" + {plan.steps[index].rows} * {width} * {channels} * 2"
    return need


def _checks(graph: Graph, plan: Plan) -> list[dict[str, str]]:
    """Static assertions: every buffer ends inside the arena and holds what kernels write to it."""
    arena = plan.arena_bytes
    checks = []
    for number, name in enumerate(graph.tensors):
        label = f"{number}_{identifier(name)}"
        checks.append({"name": f"row_{label}", "condition": _row_check(graph, plan, name)})
        if name in plan.places:
            fits = f"{max(plan.places[name])} + {plan.layouts[name].row_bytes} <= {arena}"
            checks.append({"name": f"place_{label}", "condition": fits})
    for index, offset in plan.scratch.items():
        size = plan.scratch_bytes[index]
        checks.append({"name": f"scratch_{index}", "condition": f"{offset} + {size} <= {arena}"})
        need = _scratch_need(graph, plan, index)
        checks.append({"name": f"scratch_size_{index}", "condition": f"{need} <= {size}"})
    for index, offset in plan.pads.items():
        row_bytes = plan.layouts[graph.ops[index].input].row_bytes
        fits = f"{offset} + {row_bytes} <= {arena}"
        checks.append({"name": f"pad_{index}", "condition": fits})
    return checks


def plan_table(graph: Graph, plan: Plan) -> str:
    """The plan in words, a line for each tensor in order of their lives."""
    lines = [" *       rows x bytes   life          tensor"]
    lives = {
        name: (min(first for first, _ in spans) // 2, max(last for _, last in spans) // 2)
        for name, spans in plan.spans.items()
    }
    for name, (first, last) in sorted(lives.items(), key=lambda pair: pair[1]):
        size = f"{most_rows(plan, name)} x {plan.layouts[name].row_bytes}"
        life = f"{first}..{last}"
        lines.append(f" * {size:>18s}   {life:13s} {name} {shape_text(graph.tensors[name].shape)}")
    return "\n".join(lines)


def most_rows(plan: Plan, name: str) -> int:
    """Most rows of tensor `name` that are in memory at one time."""
    change: dict[int, int] = {}
    for first, last in plan.spans[name]:
        change[first] = change.get(first, 0) + 1
        change[last + 1] = change.get(last + 1, 0) - 1
    rows = most = 0
    for time in sorted(change):
        rows += change[time]
        most = max(most, rows)
    return most


def _region_starts(plan: Plan) -> list[int]:
    """Places where the regions in use begin."""
    starts = [0]
    for used, size in zip(plan.region_bytes, plan.regions, strict=False):
        if used == size:
            starts.append(starts[-1] + size // ALIGNMENT)
    return starts


def tables(
    graph: Graph, plan: Plan, constants: list[OpConstants], kernels: list[str]
) -> dict[str, Any]:
    """Values of the templates that come from the plan."""
    tensors, places = _tensors(graph, plan)
    lines = [
        ", ".join(str(place) for place in places[start : start + _PLACES_A_LINE])
        for start in range(0, len(places), _PLACES_A_LINE)
    ]
    regions = [used for used in plan.region_bytes if used]
    region_starts = _region_starts(plan)[: len(regions)]
    operators = _operators(graph, plan, constants, kernels)
    apart = (plan.scratch, plan.pads, plan.strips)
    all_places = [*places, *region_starts]
    all_places += [offset // ALIGNMENT for offsets in apart for offset in offsets.values()]
    return {
        "tensors": tensors,
        "places": places,
        "places_text": "\n".join(f"    {line}," for line in lines),
        "ops": operators,
        "checks": [*_checks(graph, plan), *width_checks(tensors, operators, all_places)],
        "wide_places": int(is_wide(all_places)),
        "wide_rows": int(is_wide([len(places)])),
        "window": max(op["window"] for op in operators),
        "regions": regions,
        "region_starts": region_starts,
        "arena_type": "void *const *" if len(regions) > 1 else "void *",
        "scores_offset": plan.places[graph.output][0],
    }
