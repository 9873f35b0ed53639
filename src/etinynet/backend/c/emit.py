"""The generated C library: one folder of files for one graph."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from etinynet.artefact import provenance
from etinynet.backend.c.constants import Array, OpConstants, constants_of
from etinynet.backend.c.drawing import memory_svg
from etinynet.backend.c.fit import check_count, check_fit
from etinynet.backend.c.interface import interface_values
from etinynet.backend.c.layout import Layout
from etinynet.backend.c.names import name_fault
from etinynet.backend.c.pack import is_3x3
from etinynet.backend.c.plan import Plan, make_plan
from etinynet.backend.c.report import report_bytes
from etinynet.backend.c.rows import STRIP_PIXELS
from etinynet.backend.c.tables import ARENA_ALIGNMENT, plan_table, tables
from etinynet.errors import UnsupportedError
from etinynet.extras import not_installed
from etinynet.graph.check import check
from etinynet.graph.io import graph_digest
from etinynet.graph.ir import Graph, Op

__all__ = ["compile_graph", "render"]

_PACKAGE = resources.files("etinynet.backend.c")


@dataclass(frozen=True)
class _Kernel:
    """A kernel with its shapes as constants, used by one or more operators."""

    symbol: str
    comment: str
    body: str
    users: int


@functools.cache
def _template(name: str) -> Any:
    try:
        import jinja2
    except ModuleNotFoundError:
        raise not_installed("jinja2") from None
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    source = (_PACKAGE / "templates" / name).read_text(encoding="utf-8")
    return environment.from_string(source)


def render(template: str, **values: object) -> str:
    """A template of the backend with its `values`; raises ToolError without jinja2."""
    return str(_template(template).render(**values))


def _view(layout: Layout, data: str) -> str:
    row_stride = layout.row_bytes // layout.element_bytes
    wide = int(layout.element_bytes == 2)
    strides = f"{row_stride}, {layout.pixel_stride}, {layout.channel_stride}"
    return f"{{{data}, {strides}, {wide}}}"


def _rule(op: Op, bits: int, values: OpConstants, shift: str) -> str:
    rule = op.requantization
    if rule is None:
        return ""
    flags = rule.relu, values.per_tensor, values.narrow_offset, values.narrow_bias
    numbers = shift or max(rule.shift, 0), bits, *map(int, flags), max(-rule.shift, 0)
    return "{" + ", ".join(map(str, numbers)) + "}"


def _row_stride(graph: Graph, plan: Plan, index: int) -> int:
    """Elements from row to row of the input as the kernel sees it."""
    source = graph.tensors[graph.ops[index].input]
    layout = plan.layouts[source.name]
    if plan.choice.gathers(graph, index):
        return source.shape[1] * source.shape[2]
    return layout.row_bytes // layout.element_bytes


def _form(graph: Graph, plan: Plan, index: int) -> dict[str, object]:
    """How the kernel works: whole rows, or strips after or before another operator, or gathered."""
    op = graph.ops[index]
    width = graph.tensors[op.output].shape[1]
    strip = {"pixels": "call->pixels", "first": "call->first", "most": STRIP_PIXELS}
    if index in plan.choice.strips:
        return strip | {"form": "after"}
    if index in plan.choice.strips.values():
        return strip | {"form": "before"}
    form = "whole"
    if op.kind == "depthwise" and not is_3x3(op.window):
        form = "any"
    elif plan.choice.tight and op.kind == "depthwise":
        form = "tight"
    elif plan.choice.gathers(graph, index):
        form = "gather"
    return {"form": form, "pixels": width, "first": 0, "most": width}


def _kernel_body(graph: Graph, plan: Plan, index: int, values: OpConstants, shift: str = "") -> str:
    """C statements calling the kernel of `op`; equal text means that operators can share it.

    `shift` is a C expression for the shift, by default its number.
    """
    op = graph.ops[index]
    source, result = graph.tensors[op.input], graph.tensors[op.output]
    layout, out = plan.layouts[op.input], plan.layouts[op.output]
    shortcut = None if op.residual is None else plan.layouts[op.residual]
    return render(
        "kernel.jinja",
        kind=op.kind,
        out=_view(out, "call->out"),
        residual="" if shortcut is None else _view(shortcut, "call->residual"),
        rule=_rule(op, result.bits, values, shift),
        input=_view(layout, f"(int8_t *)call->in[0] + {layout.pad * layout.element_bytes}"),
        line_stride=layout.line_stride,
        in_row_stride=_row_stride(graph, plan, index),
        height_in=source.shape[0],
        width_in=source.shape[1],
        channels_in=source.shape[2],
        width_out=result.shape[1],
        channels_out=result.shape[2],
        kernel="{}, {}".format(*op.window.kernel),
        stride=op.window.stride[1],
        padding=op.window.padding[1],
        in_wide=int(layout.element_bytes == 2),
        zero_point=source.zero_point,
        weight_bits=8 if op.weight_bits > 4 else 4,
        rows=1 if plan.steps[index].rows <= 1 else "call->rows",
        **_form(graph, plan, index),
    ).rstrip("\n")


def _kernel_bodies(graph: Graph, plan: Plan, constants: list[OpConstants]) -> list[str]:
    """`_kernel_body` of each operator.

    Depthwise and pointwise kernels that differ in nothing but the shift become one that reads it:
    a half to one and a half kilobytes of code each, for one instruction more in about twenty.
    """
    bodies = [_kernel_body(graph, plan, index, values) for index, values in enumerate(constants)]
    users: dict[str, list[int]] = {}
    for index, op in enumerate(graph.ops):
        if op.kind in ("depthwise", "pointwise"):
            body = _kernel_body(graph, plan, index, constants[index], "values->shift")
            users.setdefault(body, []).append(index)
    for body, indices in users.items():
        if len({bodies[index] for index in indices}) > 1:
            for index in indices:
                bodies[index] = body
    return bodies


def _kernels(
    graph: Graph, plan: Plan, constants: list[OpConstants]
) -> tuple[list[_Kernel], list[str]]:
    """The different kernels in order of first use, and for each operator its kernel's symbol."""
    bodies = _kernel_bodies(graph, plan, constants)
    users = Counter(bodies)
    kernels: dict[str, _Kernel] = {}
    for op, body in zip(graph.ops, bodies, strict=True):
        if body not in kernels:
            names = [graph.ops[i].name for i, text in enumerate(bodies) if text == body]
            symbol = f"kernel_{len(kernels)}_{op.kind}"
            kernels[body] = _Kernel(symbol, f"For {', '.join(names)}.", body, users[body])
    return list(kernels.values()), [kernels[body].symbol for body in bodies]


def _origin(digest: str, command: str) -> str:
    made = provenance(command, {})
    lines = [f"Generated by etinynet {made['version']}; do not edit."]
    words = str(made["command"]).replace("*/", "* /")
    lines += [f"Command: {words}"] if command else []
    lines += [f"Graph SHA-256: {digest}"]
    return "\n".join(f" * {line}" for line in lines)


def _check_name(name: str) -> None:
    fault = name_fault(name)
    if fault is not None:
        raise UnsupportedError(
            f"graph: name is {name!r:.60}, which {fault}; give the library another name (--name)"
        )


def _kernel_headers() -> dict[str, bytes]:
    found = {
        entry.name: entry.read_bytes()
        for folder in ("kernels", "templates")
        for entry in (_PACKAGE / folder).iterdir()
        if entry.name.startswith("etn_") and entry.name.endswith(".h")
    }
    return dict(sorted(found.items()))


def _sources(
    graph: Graph, plan: Plan, arrays: list[Array], constants: list[OpConstants], origin: str
) -> dict[str, bytes]:
    kernels, kernel_of = _kernels(graph, plan, constants)
    shape = graph.tensors[graph.input].shape
    values = {
        "name": graph.name,
        "upper": graph.name.upper(),
        "origin": origin,
        "plan": plan,
        "plan_table": plan_table(graph, plan),
        "arrays": arrays,
        "alignment": ARENA_ALIGNMENT,
        "input": graph.tensors[graph.input],
        "input_index": list(graph.tensors).index(graph.input),
        "input_bytes": shape[1] * shape[2],
        "input_words": plan.layouts[graph.input].row_bytes // 4,
        "scores": graph.tensors[graph.outputs[0]].shape[2],
        "kernels": kernels,
        "headers": ["etn_schedule.h", *sorted({f"etn_{op.kind}.h" for op in graph.ops})],
        "start": plan.start,
        **interface_values(graph),
        **tables(graph, plan, constants, kernel_of),
    }
    files = {
        f"{graph.name}.h": "library.h.jinja",
        f"{graph.name}.c": "library.c.jinja",
        f"{graph.name}_weights.h": "weights.h.jinja",
        f"{graph.name}_weights.c": "weights.c.jinja",
    }
    if values["class_names"]:
        files[f"{graph.name}_classes.c"] = "classes.c.jinja"
    return {name: render(template, **values).encode() for name, template in files.items()}


def compile_graph(
    graph: Graph,
    *,
    mode: str | None = None,
    flash_bytes: int | None = None,
    regions: Sequence[int] = (),
    command: str = "",
    name: str | None = None,
) -> dict[str, bytes]:
    """Files of the C library of `graph`, by name: sources, internal headers, report.json and
    memory.svg, the picture of the plan.

    The same arguments give the same bytes. The library is called `name`, None for the graph's own.
    `mode` and `regions` (of RAM, for the arena) as for `make_plan`; `flash_bytes` of the part:
    FitError if constants or arena alone exceed them, or the arena what 31 bits address. Raises
    GraphError if the graph is not legal, UnsupportedError where the name is taken or the backend
    lacks a kernel or layout or has too many operators, ConfigError for an unknown mode, ToolError
    without jinja2.
    """
    check(graph)
    digest = graph_digest(graph)
    graph = graph if name is None else replace(graph, name=name)
    _check_name(graph.name)
    if graph.head is None:
        raise UnsupportedError(
            f"graph {graph.name!r}: it has no head; the C backend writes the scores of a classifier"
        )
    check_count(graph)
    plan = make_plan(graph, mode, regions)
    program = plan.program
    arrays, constants = constants_of(program)
    check_fit(program, plan, arrays, flash_bytes=flash_bytes, regions=regions)
    files = _sources(program, plan, arrays, constants, _origin(digest, command))
    files |= _kernel_headers()
    files["report.json"] = report_bytes(graph, digest, plan, arrays, constants, command)
    files["memory.svg"] = memory_svg(program, plan)
    return files
