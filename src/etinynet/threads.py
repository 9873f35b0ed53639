"""How OpenMP's threads wait for each other, and how many of them compute."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

__all__ = ["SMALL_SIDE", "WAITING", "choose_threads", "spared", "wait_passively"]

#: Any of these in the environment is the user's own choice of how threads wait: of GNU's OpenMP,
#: which torch's packages for Linux bring along, of LLVM's (macOS) and of Intel's (Windows).
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
#: Up to inputs of this side one thread is as quick as two, or quicker: benchmarks/threads.py.
SMALL_SIDE = 128

_NUMBER = "OMP_NUM_THREADS"
# Threads of a torch that was loaded first, so that they spin; None where they do not.
_spinning: int | None = None


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Lets OpenMP's threads sleep, not spin, until the others are done; called at import.

    A thread that spins keeps a core from the thread that it waits for: beside anything else that
    runs, training takes many times as long. OpenMP reads the policy once, when torch loads it. A
    user's own setting stays.
    """
    global _spinning
    if any(name in environment for name in WAITING):
        return
    torch = sys.modules.get("torch")
    if torch is None:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    else:
        _spinning = torch.get_num_threads()


def choose_threads(side: int, environment: Mapping[str, str] = os.environ) -> None:
    """Sets torch's number of threads for networks of that input side: one up to SMALL_SIDE.

    OMP_NUM_THREADS goes before. For a process that is ours alone, as the command line's is.
    """
    if side <= SMALL_SIDE and _NUMBER not in environment:
        import torch

        torch.set_num_threads(1)


@contextmanager
def spared(side: int, environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """As `choose_threads`, but only where threads spin, nobody chose a number, and for a while."""
    import torch

    before = torch.get_num_threads()
    if before == _spinning:
        choose_threads(side, environment)
    try:
        yield
    finally:
        torch.set_num_threads(before)
