"""The generated C library: one folder of files for one graph."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from typing import Any

from etinynet.artefact import provenance
from etinynet.backend.c.constants import Array, OpConstants, constants_of, identifier
from etinynet.backend.c.fit import check_fit
from etinynet.backend.c.layout import Layout
from etinynet.backend.c.place import ALIGNMENT
from etinynet.backend.c.plan import Plan, make_plan
from etinynet.backend.c.report import report_bytes
from etinynet.errors import ToolError, UnsupportedError
from etinynet.graph.check import check
from etinynet.graph.io import graph_digest
from etinynet.graph.ir import Graph, Op

__all__ = ["compile_graph"]

#: Headers of these names would stand in the way of the compiler's.
_RESERVED = ("stddef", "stdint", "string")
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
        raise ToolError("package 'jinja2' is not installed; pip install etinynet[mcu]") from None
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    source = (_PACKAGE / "templates" / name).read_text(encoding="utf-8")
    return environment.from_string(source)


def _render(template: str, **values: object) -> str:
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
    flags = rule.relu, values.per_tensor, values.narrow_offset
    return f"{{{shift or rule.shift}, {bits}, " + ", ".join(str(int(flag)) for flag in flags) + "}"


def _kernel_body(graph: Graph, plan: Plan, index: int, values: OpConstants, shift: str = "") -> str:
    """C statements calling the kernel of `op`; equal text means that operators can share it.

    `shift` is a C expression for the shift, by default its number.
    """
    op = graph.ops[index]
    source, result = graph.tensors[op.input], graph.tensors[op.output]
    layout, out = plan.layouts[op.input], plan.layouts[op.output]
    shortcut = None if op.residual is None else plan.layouts[op.residual]
    return _render(
        "kernel.jinja",
        kind=op.kind,
        out=_view(out, "call->out"),
        residual="" if shortcut is None else _view(shortcut, "call->residual"),
        rule=_rule(op, result.bits, values, shift),
        line_stride=layout.line_stride,
        in_row_stride=layout.row_bytes // layout.element_bytes,
        height_in=source.shape[0],
        width_in=source.shape[1],
        channels_in=source.shape[2],
        width_out=result.shape[1],
        channels_out=result.shape[2],
        kernel=op.kernel,
        stride=op.stride,
        padding=op.padding,
        zero_point=source.zero_point,
        weight_bits=8 if op.weight_bits > 4 else 4,
        rows=1 if plan.steps[index].rows == 1 else "call->rows",
    ).rstrip("\n")


def _kernel_bodies(graph: Graph, plan: Plan, constants: list[OpConstants]) -> list[str]:
    """`_kernel_body` of each operator.

    Depthwise kernels that differ in nothing but the shift become one that reads it: about half a
    kilobyte of code each, for one instruction more in about twenty.
    """
    bodies = [_kernel_body(graph, plan, index, values) for index, values in enumerate(constants)]
    users: dict[str, list[int]] = {}
    for index, op in enumerate(graph.ops):
        if op.kind == "depthwise":
            body = _kernel_body(graph, plan, index, constants[index], "values->shift")
            users.setdefault(body, []).append(index)
    for body, indices in users.items():
        if len({bodies[index] for index in indices}) > 1:
            for index in indices:
                bodies[index] = body
    return bodies


def _shape(shape: tuple[int, int, int]) -> str:
    return "x".join(str(side) for side in shape)


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


def _operators(
    graph: Graph, plan: Plan, constants: list[OpConstants], kernels: list[str]
) -> list[dict[str, Any]]:
    numbers = {name: number for number, name in enumerate(graph.tensors)}
    rows = []
    for op, step, values, kernel in zip(graph.ops, plan.steps, constants, kernels, strict=True):
        source, result = graph.tensors[op.input].shape, graph.tensors[op.output].shape
        added = f" + {op.residual}" if op.residual else ""
        rows.append(
            {
                "name": op.name,
                "symbol": f"op_{step.index}_{op.kind}",
                "comment": f"{op.name}: {_shape(source)} -> {_shape(result)}{added}",
                "kernel": kernel,
                "weight": values.weight,
                "bias": values.bias,
                "multiplier": values.multiplier,
                "offset": values.offset,
                "residual_multiplier": values.residual_multiplier,
                "shift": 0 if op.requantization is None else op.requantization.shift,
                "scratch": plan.scratch.get(step.index, 0),
                "pad": plan.pads.get(step.index, 0),
                "input": numbers[op.input],
                "output": numbers[op.output],
                "residual": -1 if op.residual is None else numbers[op.residual],
                "last": step.last,
                "rows_needed": step.kernel,
                "rows": step.rows,
                "window": op.kernel,
                "stride": step.stride,
                "padding": step.padding,
                "barrier": int(step.barrier),
            }
        )
    return rows


def _tensors(graph: Graph, plan: Plan) -> list[dict[str, Any]]:
    rows = []
    for name, tensor in graph.tensors.items():
        layout, ring = plan.layouts[name], plan.rings.get(name)
        rows.append(
            {
                "name": name,
                "offset": ring.offset if ring else 0,
                "row_bytes": layout.row_bytes,
                "height": tensor.shape[0],
                "ring": ring.rows if ring else tensor.shape[0],
                "phase": ring.phase if ring else 0,
                "fill": layout.fill,
                "start": layout.pad * layout.element_bytes,
            }
        )
    return rows


def _checks(graph: Graph, plan: Plan) -> list[dict[str, str]]:
    """Static assertions: every buffer ends inside the arena and holds what kernels write to it."""
    arena = f"{graph.name.upper()}_ARENA_BYTES"
    checks = []
    for number, (name, tensor) in enumerate(graph.tensors.items()):
        _, width, channels = tensor.shape
        layout, ring = plan.layouts[name], plan.rings.get(name)
        if layout.order == "hwc":
            row = f"{width} * {channels} * {layout.element_bytes} <= {layout.row_bytes}"
        else:
            row = (
                f"{width} + {layout.pad} <= {layout.line_stride} && "
                f"{channels} * {layout.line_stride} + {4 * layout.pad} <= {layout.row_bytes}"
            )
        checks.append({"name": f"row_{number}_{identifier(name)}", "condition": row})
        if ring:
            fits = f"{ring.offset} + {ring.rows} * {layout.row_bytes} <= {arena}"
            checks.append({"name": f"ring_{number}_{identifier(name)}", "condition": fits})
    for index, offset in plan.scratch.items():
        fits = f"{offset} + {plan.scratch_bytes[index]} <= {arena}"
        checks.append({"name": f"scratch_{index}", "condition": fits})
        op = graph.ops[index]
        depth = graph.tensors[op.input].shape[2]
        need = f"4 * (({depth} + 3) / 4 * 4)"
        if op.kind == "conv2d":
            need = f"ETN_CONV2D_SCRATCH({op.kernel}, {depth})"
        enough = f"{need} <= {plan.scratch_bytes[index]}"
        checks.append({"name": f"scratch_size_{index}", "condition": enough})
    for index, offset in plan.pads.items():
        row_bytes = plan.layouts[graph.ops[index].input].row_bytes
        fits = f"{offset} + {row_bytes} <= {arena}"
        checks.append({"name": f"pad_{index}", "condition": fits})
    return checks


def _plan_table(graph: Graph, plan: Plan) -> str:
    lines = [" *   offset       rows x bytes   life          tensor"]
    for name, ring in sorted(plan.rings.items(), key=lambda pair: pair[1].first):
        size = f"{ring.rows} x {plan.layouts[name].row_bytes}"
        life = f"{ring.first}..{ring.last}"
        shape = _shape(graph.tensors[name].shape)
        lines.append(f" * {ring.offset:8d} {size:>18s}   {life:13s} {name} {shape}")
    return "\n".join(lines)


def _origin(graph: Graph, command: str) -> str:
    made = provenance(command, {})
    lines = [f"Generated by etinynet {made['version']}; do not edit."]
    lines += [f"Command: {' '.join(command.split()).replace('*/', '* /')}"] if command else []
    lines += [f"Graph SHA-256: {graph_digest(graph)}"]
    return "\n".join(f" * {line}" for line in lines)


def _check_name(name: str) -> None:
    if name.lower() in _RESERVED or name.lower().startswith("etn_"):
        raise UnsupportedError(
            f"graph: name is {name!r}, which would hide a file of the compiler or of the library; "
            f"allowed is any other than {', '.join(_RESERVED)} and names in etn_"
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
    graph: Graph, plan: Plan, arrays: list[Array], constants: list[OpConstants], command: str
) -> dict[str, bytes]:
    kernels, kernel_of = _kernels(graph, plan, constants)
    shape = graph.tensors[graph.input].shape
    values = {
        "name": graph.name,
        "upper": graph.name.upper(),
        "origin": _origin(graph, command),
        "plan": plan,
        "plan_table": _plan_table(graph, plan),
        "arrays": arrays,
        "alignment": ALIGNMENT,
        "input": graph.tensors[graph.input],
        "input_index": list(graph.tensors).index(graph.input),
        "input_bytes": shape[1] * shape[2],
        "input_words": plan.layouts[graph.input].row_bytes // 4,
        "scores": graph.tensors[graph.output].shape[2],
        "tensors": _tensors(graph, plan),
        "ops": _operators(graph, plan, constants, kernel_of),
        "kernels": kernels,
        "checks": _checks(graph, plan),
        "window": max(op.kernel for op in graph.ops),
        "headers": ["etn_schedule.h", *sorted({f"etn_{op.kind}.h" for op in graph.ops})],
        "start": plan.start,
    }
    files = {
        f"{graph.name}.h": "library.h.jinja",
        f"{graph.name}.c": "library.c.jinja",
        f"{graph.name}_weights.h": "weights.h.jinja",
        f"{graph.name}_weights.c": "weights.c.jinja",
    }
    return {name: _render(template, **values).encode() for name, template in files.items()}


def compile_graph(
    graph: Graph,
    *,
    flash_bytes: int | None = None,
    ram_bytes: int | None = None,
    command: str = "",
) -> dict[str, bytes]:
    """Files of the C library of `graph`, by name: sources, internal headers and report.json.

    The same graph and `command` give the same bytes. `flash_bytes` and `ram_bytes` are those of
    the part: FitError if constants or arena alone exceed them. Raises GraphError if the graph is
    not legal, UnsupportedError where the backend lacks a kernel or layout, ToolError without
    jinja2.
    """
    check(graph)
    _check_name(graph.name)
    plan = make_plan(graph)
    arrays, constants = constants_of(graph)
    check_fit(graph, plan, arrays, flash_bytes=flash_bytes, ram_bytes=ram_bytes)
    files = _sources(graph, plan, arrays, constants, command)
    files |= _kernel_headers()
    files["report.json"] = report_bytes(graph, plan, arrays, constants, command)
    return files
