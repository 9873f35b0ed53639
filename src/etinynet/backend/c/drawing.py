"""memory.svg: what lies where in the arena at which time of a run."""

from __future__ import annotations

from collections.abc import Iterator

from etinynet.backend.c.plan import Plan
from etinynet.graph.ir import Graph

__all__ = ["memory_svg"]

#: The plot, and what lies left of, above and below it; the legend at the right takes what it needs.
_PLOT_WIDTH, _PLOT_HEIGHT = 1380, 770
_LEFT, _TOP, _BOTTOM = 90, 70, 60
_TICKS = 8
#: A line of the legend, and its mark; more lines than fit the height go into another column.
_LINE, _MARK = 16, 15
#: Letters of a name in the legend and in the heading; longer ones are shortened.
_LONGEST_NAME, _LONGEST_TITLE = 28, 60
_SMALL = "#9a9a9a"
#: Least pixels of a box that carries its name, and pixels of a letter.
_NAMED = (26, 9)
_LETTER = 6.5
#: Narrower boxes would disappear behind their own border.
_BORDERED = 3
_THINNEST = 0.5


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
        return _LEFT + _PLOT_WIDTH * time / self.times

    def y(self, offset: float) -> float:
        return _TOP + _PLOT_HEIGHT - _PLOT_HEIGHT * offset / self.bytes

    def box(self, first: int, last: int, offset: int, size: int, colour: str) -> str:
        left, top = self.x(first), self.y(offset + size)
        width = max(self.x(last + 1) - left, _THINNEST)
        height = max(self.y(offset) - top, _THINNEST)
        where = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
        border = "" if min(width, height) < _BORDERED else ' class="box"'
        return f'<rect {where} fill="{colour}"{border}/>'


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


def _shortened(name: str, most: int) -> str:
    """`name` in at most `most` letters, its middle left out."""
    if len(name) <= most:
        return name
    half = (most - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _column_width(used: list[str]) -> float:
    longest = max((len(_shortened(name, _LONGEST_NAME)) for name in used), default=0)
    return 2 * _MARK + _LETTER * longest


def _width(used: list[str]) -> int:
    """Pixels of the whole picture: its legend has as many columns as it needs."""
    columns = -(-len(used) // (_PLOT_HEIGHT // _LINE))
    return _LEFT + _PLOT_WIDTH + _MARK + round(columns * _column_width(used))


def _legend(used: list[str]) -> Iterator[str]:
    """Every tensor's colour and name, in order of the graph."""
    for index, name in enumerate(used):
        column, line = divmod(index, _PLOT_HEIGHT // _LINE)
        x = _LEFT + _PLOT_WIDTH + _MARK + column * _column_width(used)
        y = _TOP + line * _LINE
        yield f'<rect x="{x:.1f}" y="{y}" width="10" height="10" fill="{_colour(index)}"/>'
        yield _text(x + _MARK, y + 9, _shortened(name, _LONGEST_NAME))


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
        f"{_shortened(graph.name, _LONGEST_TITLE)}: memory plan {plan.mode}, "
        f"{plan.arena_bytes:,} bytes of arena, "
        f"{plan.peak_bytes:,} in use at the worst call, {len(plan.events):,} calls"
    )
    width, height = _width(used), _TOP + _PLOT_HEIGHT + _BOTTOM
    # without a size of its own it fills the window that shows it, and is cut nowhere
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">'
    )
    style = (
        "<style>.grid{stroke:#ddd;fill:none}.border{stroke:#c00;stroke-dasharray:6 4;fill:none}"
        ".box{stroke:#fff;stroke-width:.3}</style>"
    )
    parts = [head, style, f'<rect width="{width}" height="{height}" fill="#fff"/>']
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
