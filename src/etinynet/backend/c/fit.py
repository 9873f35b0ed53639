"""Does it fit the part? The check that needs no compiler: constants and arena alone."""

from __future__ import annotations

from collections.abc import Sequence

from etinynet.backend.c.constants import Array
from etinynet.backend.c.plan import Plan
from etinynet.errors import FitError, UnsupportedError
from etinynet.graph.ir import Graph

__all__ = ["check_count", "check_fit"]

#: Operators and tensors are numbered in int16 in the generated tables.
_MOST_OPERATORS = 2**15 - 2


def check_count(graph: Graph) -> None:
    """Raises UnsupportedError if the generated tables cannot number all operators."""
    if len(graph.ops) > _MOST_OPERATORS:
        raise UnsupportedError(
            f"graph: number of operators is {len(graph.ops)}, "
            f"the C backend numbers at most {_MOST_OPERATORS}"
        )


def check_fit(
    graph: Graph,
    plan: Plan,
    arrays: list[Array],
    *,
    flash_bytes: int | None,
    regions: Sequence[int],
) -> None:
    """Raises FitError with all sizes if constants or arena exceed the part.

    `flash_bytes` None, or no `regions` of RAM: not checked. Code, stack and vectors come on top;
    after linking the exact sizes are checked again.
    """
    constants = sum(array.bytes for array in arrays)
    sizes = (
        f"weights and constants {constants} bytes of flash, code not counted; "
        f"arena {plan.arena_bytes} bytes of RAM by plan {plan.mode!r}"
    )
    if flash_bytes is not None and constants > flash_bytes:
        raise FitError(
            f"{graph.name}: weights and constants take {constants} bytes, "
            f"the part's flash has {flash_bytes} ({sizes})"
        )
    if regions and plan.arena_bytes > sum(plan.regions):
        raise FitError(
            f"{graph.name}: the arena takes {plan.arena_bytes} bytes, "
            f"the part's RAM has {' + '.join(map(str, regions))} for it ({sizes})"
        )
