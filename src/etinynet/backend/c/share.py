"""One ring for several tensors: as rows of one die, rows of the next take their place."""

from __future__ import annotations

from dataclasses import dataclass

from etinynet.backend.c.schedule import Life

__all__ = ["Shared", "share", "slots", "turned"]

#: Placements of phases tried for one ring size before the next larger is.
_MOST_TRIALS = 50000


@dataclass(frozen=True)
class Shared:
    """A ring of `rows` rows: row r of tensor `name` lies in slot (r + phases[name]) % rows.

    Bit t of `masks[s]` is set while slot s is in use at event t.
    """

    rows: int
    phases: dict[str, int]
    masks: tuple[int, ...]


def slots(life: list[Life], rows: int) -> tuple[int, ...]:
    """Masks of the slots of a ring of `rows` rows in which rows live as `life` says."""
    masks = [0] * rows
    for row, span in enumerate(life):
        masks[row % rows] |= ((1 << (span.last - span.first + 1)) - 1) << span.first
    return tuple(masks)


def turned(masks: tuple[int, ...], phase: int) -> tuple[int, ...]:
    """`masks` with slot s moved to slot (s + phase) % rows."""
    return masks[-phase:] + masks[:-phase] if phase else masks


def _most_live(lives: list[list[Life]]) -> int:
    """Most rows in use at one event."""
    changes: dict[int, int] = {}
    for span in (span for life in lives for span in life):
        changes[span.first] = changes.get(span.first, 0) + 1
        changes[span.last + 1] = changes.get(span.last + 1, 0) - 1
    live = most = 0
    for time in sorted(changes):
        live += changes[time]
        most = max(most, live)
    return most


def _allowed(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Bit d is set if `other`, turned d slots further than `one`, never meets a row of it."""
    rows = len(one)
    return sum(
        1 << turn
        for turn in range(rows)
        if not any(a & b for a, b in zip(one, turned(other, turn), strict=True))
    )


def _phases(masks: list[tuple[int, ...]], rows: int) -> list[int] | None:
    """A phase for each tensor so that no two meet, by depth-first search; None if none is found."""
    count = len(masks)
    full = (1 << rows) - 1
    allowed = {(i, j): _allowed(masks[i], masks[j]) for j in range(count) for i in range(j)}
    trials = 0

    def search(chosen: list[int]) -> list[int] | None:
        nonlocal trials
        trials += 1
        if len(chosen) == count or trials > _MOST_TRIALS:
            return chosen if len(chosen) == count else None
        free = full
        for i, phase in enumerate(chosen):
            ring = allowed[i, len(chosen)] << phase
            free &= ring | ring >> rows
        for phase in range(rows):
            if free >> phase & 1 and (found := search([*chosen, phase])) is not None:
                return found
        return None

    return search([0])


def share(family: list[str], life: dict[str, list[Life]], rings: dict[str, int]) -> Shared | None:
    """The smallest ring found for all of `family`, if smaller than theirs (`rings`) together."""
    lives = [life[name] for name in family]
    least = max(_most_live(lives), *(rings[name] for name in family))
    for rows in range(least, sum(rings[name] for name in family)):
        masks = [slots(one, rows) for one in lives]
        phases = _phases(masks, rows)
        if phases is not None:
            used = [0] * rows
            for mask, phase in zip(masks, phases, strict=True):
                used = [a | b for a, b in zip(used, turned(mask, phase), strict=True)]
            return Shared(rows, dict(zip(family, phases, strict=True)), tuple(used))
    return None
