"""memory.svg: what lies where in the arena at which time of a run."""

from __future__ import annotations

from collections.abc import Iterator

from etinynet.backend.c.plan import Plan
from etinynet.graph.ir import Graph

__all__ = ["memory_svg"]

_WIDTH, _HEIGHT = 1600, 900
_LEFT, _TOP, _RIGHT, _BOTTOM = 90, 70, 130, 60
_TICKS = 8
_SMALL = "#9a9a9a"
#: Least pixels of a box that carries its name, and pixels of a letter.
_NAMED = (26, 9)
_LETTER = 6


def _colour(index: int) -> str:
    """Neighbours in the graph get colours far apart."""
    return f"hsl({index * 137 % 360},{(55, 75)[index % 2]}%,{(72, 58, 80)[index % 3]}%)"


def _text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{words}</text>'


class _Scale:
    """From times and bytes to pixels."""

    def __init__(self, plan: Plan) -> None:
        self.times, self.bytes = 2 * len(plan.events), max(plan.arena_bytes, 1)

    def x(self, time: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * time / self.times

    def y(self, offset: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * offset / self.bytes

    def box(self, first: int, last: int, offset: int, size: int, colour: str) -> str:
        left, top = self.x(first), self.y(offset + size)
        width, height = self.x(last + 1) - left, self.y(offset) - top
        where = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
        return f'<rect {where} fill="{colour}"/>'


def _runs(plan: Plan, name: str) -> Iterator[tuple[int, int, int, int]]:
    """Rows of a tensor that lie and live side by side as one: first and last time, offset, bytes.

    Rows made and read at one time, one above the other, are one rectangle; others stay apart.
    """
    size = plan.layouts[name].row_bytes
    rows = sorted(zip(plan.spans[name], plan.places[name], strict=True))
    current: tuple[int, int, int, int] | None = None
    for (first, last), offset in rows:
        if current is not None:
            begin, end, low, bytes_ = current
            if (first, last, offset) == (begin, end, low + bytes_):
                current = begin, end, low, bytes_ + size
                continue
            yield current
        current = first, last, offset, size
    if current is not None:
        yield current


def _tensor(plan: Plan, scale: _Scale, name: str, shape: str, colour: str) -> str:
    runs = list(_runs(plan, name))
    boxes = "".join(scale.box(*run, colour) for run in runs)
    title = f"{name}, {shape}, {plan.layouts[name].row_bytes} bytes a row"
    return f"<g><title>{title}</title>{boxes}</g>"


def _label(plan: Plan, scale: _Scale, name: str) -> str:
    """The name, in the largest rectangle of the tensor, if it has room."""
    largest = max(_runs(plan, name), key=lambda run: (run[1] + 1 - run[0]) * run[3])
    first, last, offset, size = largest
    width, height = scale.x(last + 1) - scale.x(first), scale.y(offset) - scale.y(offset + size)
    if width < max(_NAMED[0], _LETTER * len(name)) or height < _NAMED[1]:
        return ""
    x, y = (scale.x(first) + scale.x(last + 1)) / 2, (scale.y(offset) + scale.y(offset + size)) / 2
    return _text(x, y + 3.5, name, ' text-anchor="middle"')


def _small(plan: Plan, scale: _Scale) -> str:
    offsets = {f"scratch {index}": at for index, at in plan.scratch.items()}
    offsets |= {f"pad {index}": at for index, at in plan.pads.items()}
    boxes = "".join(
        scale.box(first, last, offsets[name], box.bytes, _SMALL)
        for name, box in plan.small.items()
        for first, last in box.spans
    )
    return f"<g><title>scratch and pad rows</title>{boxes}</g>"


def _legend(used: list[str]) -> Iterator[str]:
    """Every tensor's colour and name, in order of the graph."""
    step = min(16.0, (_HEIGHT - _TOP - _BOTTOM) / len(used))
    for index, name in enumerate(used):
        x, y = _WIDTH - _RIGHT + 14, _TOP + index * step
        place = f'x="{x}" y="{y:.1f}" width="10" height="{min(10.0, step):.1f}"'
        yield f'<rect {place} fill="{_colour(index)}"/>'
        yield _text(x + 15, y + 9, name, f' font-size="{min(11.0, step):.1f}"')


def _axes(plan: Plan, scale: _Scale) -> list[str]:
    lines = []
    right, bottom = scale.x(scale.times), scale.y(0)
    for tick in range(_TICKS + 1):
        size = plan.arena_bytes * tick // _TICKS
        y = scale.y(size)
        lines.append(f'<path d="M{_LEFT} {y:.1f}H{right:.1f}" class="grid"/>')
        lines.append(_text(_LEFT - 6, y + 4, f"{size:,}", ' text-anchor="end"'))
        call = len(plan.events) * tick // _TICKS
        lines.append(_text(scale.x(2 * call), bottom + 18, str(call), ' text-anchor="middle"'))
    begin = 0
    for size in plan.regions[:-1]:
        begin += size
        if begin < plan.arena_bytes:
            y = scale.y(begin)
            lines.append(f'<path d="M{_LEFT} {y:.1f}H{right:.1f}" class="border"/>')
    lines.append(_text((_LEFT + right) / 2, bottom + 40, "calls", ' text-anchor="middle"'))
    return lines


def memory_svg(graph: Graph, plan: Plan) -> bytes:
    """The arena over the calls of a run: a rectangle for rows of a tensor while they are in use.

    Up: bytes of the arena; right: calls of operators in order. Grey is scratch. Colours are named
    at the right, and by pointing at a rectangle. Plain SVG, no script.
    """
    scale = _Scale(plan)
    used = [name for name in graph.tensors if name in plan.places]
    heading = (
        f"{graph.name}: memory plan {plan.mode}, {plan.arena_bytes:,} bytes of arena, "
        f"{plan.peak_bytes:,} in use at the worst call, {len(plan.events):,} calls"
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="11">'
    )
    style = (
        "<style>.grid{stroke:#ddd;fill:none}.border{stroke:#c00;stroke-dasharray:6 4;fill:none}"
        "rect{stroke:#fff;stroke-width:.3}</style>"
    )
    parts = [head, style, f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>']
    parts.append(_text(_LEFT, 32, heading, ' font-size="16"'))
    parts.append(_text(_LEFT, 52, "bytes of the arena; grey: scratch and pad rows"))
    parts += _axes(plan, scale)
    for index, name in enumerate(used):
        shape = "x".join(str(side) for side in graph.tensors[name].shape)
        parts.append(_tensor(plan, scale, name, shape, _colour(index)))
    parts.append(_small(plan, scale))
    parts += _legend(used)
    parts += [label for name in used if (label := _label(plan, scale, name))]
    return ("\n".join([*parts, "</svg>"]) + "\n").encode()
