"""Where each buffer lies in the arena: first fit, told apart by slots and by time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALIGNMENT", "Item", "bits_of", "find_conflicts", "first_fit", "improve"]

ALIGNMENT = 8


@dataclass(frozen=True)
class Item:
    """A buffer of equal slots; bit t of `masks[s]` is set while slot s is in use at event t."""

    name: str
    slot_bytes: int
    masks: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return self.slot_bytes * len(self.masks)


#: Of each item: the others it meets in time, each with the forbidden spans (ends allowed) of the
#: item's offset minus the other's.
_Conflicts = dict[str, dict[str, list[tuple[int, int]]]]


def find_conflicts(items: list[Item]) -> _Conflicts:
    """Pairs of slots in use at the same time, as distances that their items must not have."""
    hull = {item.name: reduce(or_, item.masks, 0) for item in items}
    found: _Conflicts = {item.name: {} for item in items}
    for number, one in enumerate(items):
        for other in items[:number]:
            if hull[one.name] & hull[other.name]:
                spans = _forbidden(one, other)
                found[one.name][other.name] = spans
                found[other.name][one.name] = [(-high, -low) for low, high in reversed(spans)]
    return found


def _forbidden(one: Item, other: Item) -> list[tuple[int, int]]:
    spans = [
        (
            j * other.slot_bytes - (i + 1) * one.slot_bytes,
            (j + 1) * other.slot_bytes - i * one.slot_bytes,
        )
        for i, mine in enumerate(one.masks)
        for j, theirs in enumerate(other.masks)
        if mine & theirs
    ]
    return _merge(sorted(spans))


def _merge(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in spans:
        if merged and low < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _lowest(item: Item, placed: dict[str, int], conflicts: _Conflicts) -> int:
    """Lowest aligned offset at which no slot of `item` meets a slot in use at the same time."""
    spans = sorted(
        (low + placed[name], high + placed[name])
        for name, distances in conflicts[item.name].items()
        if name in placed
        for low, high in distances
    )
    offset = 0
    for low, high in spans:
        if low >= offset:
            break
        if offset < high:
            offset = -(-high // ALIGNMENT) * ALIGNMENT
    return offset


def first_fit(items: list[Item], conflicts: _Conflicts) -> tuple[dict[str, int], int]:
    """Offset of each item, placed in the order given, and the bytes used in all."""
    placed: dict[str, int] = {}
    for item in items:
        placed[item.name] = _lowest(item, placed, conflicts)
    end = max((placed[item.name] + item.bytes for item in items), default=0)
    return placed, -(-end // ALIGNMENT) * ALIGNMENT


def improve(items: list[Item], rounds: int) -> tuple[dict[str, int], int]:
    """Best of first fits in several orders, each improved by placing the topmost item earlier.

    Deterministic; the orders are: by size, by time, and by time reversed.
    """
    conflicts = find_conflicts(items)
    by_size = sorted(items, key=lambda item: -item.bytes)
    by_time = sorted(items, key=lambda item: min((mask & -mask for mask in item.masks), default=0))
    best: tuple[dict[str, int], int] | None = None
    for order in (by_size, by_time, by_time[::-1]):
        for _ in range(rounds):
            offsets, total = first_fit(order, conflicts)
            if best is None or total < best[1]:
                best = offsets, total
            top = max(order, key=lambda item: offsets[item.name] + item.bytes)
            if order[0] is top:
                break
            order = [top, *(item for item in order if item is not top)]
    assert best is not None
    return best


def bits_of(mask: int, events: int) -> NDArray[np.bool_]:
    """The `events` lowest bits of `mask`, the lowest first."""
    data = np.frombuffer(mask.to_bytes((events + 7) // 8, "little"), np.uint8)
    return np.unpackbits(data, bitorder="little")[:events].astype(bool)
