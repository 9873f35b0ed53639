"""The plans to test: every mode, and `stream` with strips wherever they are possible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from etinynet.backend.c import MODES, plan, search

__all__ = ["PLANS", "every_strip", "in_plan"]

PLANS = (*MODES, "strips")


@contextmanager
def every_strip() -> Iterator[str]:
    """Within it `stream` works in strips not only where they save memory, and takes no smaller plan
    of another mode."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_without_strips", lambda graph, best: best)
        patch.setattr(plan, "_quickest_first", lambda mode: (mode,))
        yield "stream"


def in_plan(name: str) -> AbstractContextManager[str]:
    """A context that gives the mode of plan `name`, one of `PLANS`."""
    return every_strip() if name == "strips" else nullcontext(name)
