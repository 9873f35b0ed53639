"""Where each box of memory lies in the arena: first fit in several orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALIGNMENT", "MOST_BYTES", "Box", "peak_bytes", "place", "usage"]

#: Offsets are multiples of this; the generated C counts in it.
ALIGNMENT = 16

#: The largest arena: kernels count its bytes in int32.
MOST_BYTES = 2**31 - ALIGNMENT


@dataclass(frozen=True)
class Box:
    """`bytes` of memory in use during `spans` (times, both ends included, in order)."""

    name: str
    bytes: int
    spans: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Bytes with those that alignment costs."""
        return -(-self.bytes // ALIGNMENT) * ALIGNMENT


def usage(boxes: Sequence[Box], times: int) -> NDArray[np.int64]:
    """Bytes in use at each of `times` times: no placement is smaller than the largest."""
    change = np.zeros(times + 1, np.int64)
    for box in boxes:
        for first, last in box.spans:
            change[first] += box.size
            change[last + 1] -= box.size
    return np.cumsum(change)[:-1]


def peak_bytes(boxes: Sequence[Box], times: int) -> int:
    """Bytes in use at the worst time."""
    return int(usage(boxes, times).max())


def _met(
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Whether each span `first` .. `last` meets one of those from `starts` to `ends`, in order."""
    begun, over = np.searchsorted(starts, last, "right"), np.searchsorted(ends, first, "left")
    met: NDArray[np.bool_] = begun > over
    return met


def _conflicts(boxes: Sequence[Box]) -> NDArray[np.bool_]:
    """Which boxes are in use at one time."""
    first = np.array([box.spans[0][0] for box in boxes])
    last = np.array([box.spans[-1][1] for box in boxes])
    meet = (first[:, None] <= last) & (first <= last[:, None])
    many = [index for index, box in enumerate(boxes) if len(box.spans) > 1]
    spans = {index: np.array(boxes[index].spans).T for index in many}
    for number, index in enumerate(many):
        starts, ends = spans[index]
        met = _met(starts, ends, first, last)
        meet[index] &= met
        meet[:, index] &= met
        for other in many[:number]:
            meet[index, other] &= _met(starts, ends, *spans[other]).any()
            meet[other, index] = meet[index, other]
    np.fill_diagonal(meet, False)
    return meet


class _Placing:
    """First fit of `boxes` into regions that follow one another, `ends` being where they end."""

    def __init__(self, boxes: Sequence[Box], ends: Sequence[int]) -> None:
        self.sizes = [box.size for box in boxes]
        self.others = [np.flatnonzero(row) for row in _conflicts(boxes)]
        self.ends = ends

    def _clear(self, start: int, size: int) -> int:
        """`start`, or the start of the first region from there on that holds `size` bytes."""
        begin = 0
        for end in self.ends:
            if max(begin, start) + size <= end:
                return max(begin, start)
            begin = end
        return max(begin, start)

    def fit(self, order: Sequence[int]) -> tuple[NDArray[np.int64], int]:
        """Offset of each box, placed in the order given, and the end of the topmost."""
        sizes = np.array(self.sizes)
        offsets = np.full(len(sizes), -1, np.int64)
        for index in order:
            met = self.others[index]
            met = met[offsets[met] >= 0]
            met = met[np.argsort(offsets[met], kind="stable")]
            starts, ends = offsets[met], offsets[met] + sizes[met]
            size = self.sizes[index]
            offset = self._clear(0, size)
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                if start - offset >= size:
                    break
                if end > offset:
                    offset = self._clear(end, size)
            offsets[index] = offset
        return offsets, int((offsets + sizes).max())


def _orders(boxes: Sequence[Box], times: int) -> list[list[int]]:
    """Orders to try: what lives at the fullest times first, or nearest to the worst, or longest."""
    used = usage(boxes, times)
    worst = int(used.argmax())
    first = np.array([box.spans[0][0] for box in boxes])
    last = np.array([box.spans[-1][1] for box in boxes])
    size = np.array([box.size for box in boxes])
    fullest = np.array([max(int(used[a : b + 1].max()) for a, b in box.spans) for box in boxes])
    away = np.maximum(0, np.maximum(first - worst, worst - last))
    keys = [
        (first, -fullest),
        (first, away),
        (-last, -fullest),
        (first, -size),
        (first, first - last),
        (-last, first),
    ]
    return [[int(index) for index in np.lexsort(key)] for key in keys]


def place(
    boxes: Sequence[Box], times: int, regions: Sequence[int] | None = None, rounds: int = 4
) -> tuple[dict[str, int], int]:
    """Offset of each box by name, and bytes used in all.

    First fits in several orders, each improved by placing the topmost box earlier, until one is as
    small as the worst time. No box lies across the end of one of `regions`, the sizes of pieces of
    memory that follow one another; one that fits in none comes to lie behind the last.
    """
    ends = np.cumsum([size // ALIGNMENT * ALIGNMENT for size in regions or ()]).tolist()
    placing = _Placing(boxes, ends)
    least = peak_bytes(boxes, times)
    best: tuple[NDArray[np.int64], int] | None = None
    for order in _orders(boxes, times):
        for _ in range(rounds):
            offsets, total = placing.fit(order)
            if best is None or total < best[1]:
                best = offsets, total
            if best[1] == least:
                break
            top = max(order, key=lambda index: offsets[index] + placing.sizes[index])
            if order[0] == top:
                break
            order = [top, *(index for index in order if index != top)]
        if best is not None and best[1] == least:
            break
    assert best is not None
    found = {box.name: int(offset) for box, offset in zip(boxes, best[0], strict=True)}
    return found, best[1]
