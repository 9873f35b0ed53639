"""Does it fit the part? The check that needs no compiler: constants and arena alone."""

from __future__ import annotations

from etinynet.backend.c.constants import Array
from etinynet.backend.c.plan import Plan
from etinynet.errors import FitError
from etinynet.graph.ir import Graph

__all__ = ["check_fit"]


def check_fit(
    graph: Graph,
    plan: Plan,
    arrays: list[Array],
    *,
    flash_bytes: int | None,
    ram_bytes: int | None,
) -> None:
    """Raises FitError with all sizes if constants or arena exceed the part; None: not checked.

    Code, stack and vectors come on top; after linking the exact sizes are checked again.
    """
    constants = sum(array.bytes for array in arrays)
    scores = 2 * graph.tensors[graph.output].shape[2]
    ram = plan.arena_bytes + scores
    sizes = (
        f"weights and constants {constants} bytes of flash, "
        f"arena {plan.arena_bytes} + scores {scores} = {ram} bytes of RAM, code not counted"
    )
    if flash_bytes is not None and constants > flash_bytes:
        raise FitError(
            f"{graph.name}: weights and constants take {constants} bytes, "
            f"the part's flash has {flash_bytes} ({sizes})"
        )
    if ram_bytes is not None and ram > ram_bytes:
        raise FitError(
            f"{graph.name}: arena and scores take {ram} bytes, "
            f"the part's RAM has {ram_bytes} ({sizes})"
        )
