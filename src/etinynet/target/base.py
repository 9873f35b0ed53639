"""What every target promises: load a graph, run a picture, give scores and, on demand, tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from etinynet.errors import ConfigError, DataError
from etinynet.graph.ir import Graph

__all__ = [
    "TARGETS",
    "Closing",
    "MemoryUse",
    "Program",
    "Result",
    "Target",
    "check_image",
    "get_target",
    "pixels",
]

#: Names that `get_target` knows: the executor, this computer, and each part of parts.py.
TARGETS = ("reference", "host", "stm32f412", "stm32f746", "stm32h743")


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of a firmware image. Flash = weights + constants + code; RAM = variables + stack.

    `weights`: the kernels' packed arrays; `constants`: multipliers, offsets, biases, other
    read-only data and initial values; `code`: the rest, this firmware and its vectors included.
    `variables`: .data and .bss, the arena among them; `stack`: deepest use measured in the run;
    `stack_reserved`: what the linker script keeps free for it.
    """

    weights: int
    constants: int
    code: int
    variables: int
    stack: int
    stack_reserved: int

    @property
    def flash(self) -> int:
        """Bytes that the image occupies in flash."""
        return self.weights + self.constants + self.code

    @property
    def ram(self) -> int:
        """Bytes of RAM that the run needed."""
        return self.variables + self.stack


@dataclass(frozen=True, eq=False)
class Result:
    """One picture's outcome.

    `scores`: int16 of length classes. `tensors` (if asked for): every tensor of the graph by name,
    (height, width, channels), int8 or int16 as graph.execute gives them. The rest is None where a
    target cannot know it: `instructions` executed from reset to exit, the same per operator name
    (the firmware's and the schedule's own under ""), memory in bytes, `tools`, the compiler with
    its flags, and `plan`, the mode of the memory plan.
    """

    scores: NDArray[np.int16]
    tensors: Mapping[str, NDArray[Any]] | None = None
    instructions: int | None = None
    instructions_per_op: Mapping[str, int] | None = None
    memory: MemoryUse | None = None
    tools: str | None = None
    plan: str | None = None

    @property
    def flash_bytes(self) -> int | None:
        """Bytes that the program occupies in flash."""
        return None if self.memory is None else self.memory.flash

    @property
    def ram_bytes(self) -> int | None:
        """Bytes of RAM that the run needed: variables, arena and measured stack."""
        return None if self.memory is None else self.memory.ram

    @property
    def stack_bytes(self) -> int | None:
        """Deepest stack of the run."""
        return None if self.memory is None else self.memory.stack


class Closing:
    """Context manager whose end is `close`; what every program shares."""

    def close(self) -> None:
        """Gives back what is held; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Program(Protocol):
    """A graph loaded on a target; a context manager, since some hold a process."""

    def run(self, image: NDArray[np.int8], *, tensors: bool = False) -> Result:
        """Scores of `image`, int8 (height, width, 3), pixel minus 128; DataError if it is not."""
        ...

    def close(self) -> None:
        """Gives back what the program holds; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Target(Protocol):
    """A place where graphs run."""

    @property
    def name(self) -> str:
        """The name that `get_target` knows it by."""
        ...

    def load(self, graph: Graph) -> Program:
        """Builds `graph` for this target; FitError, UnsupportedError or ToolError if it cannot."""
        ...


def get_target(name: str, *, mode: str | None = None) -> Target:
    """The target called `name`; raises ConfigError listing the names that exist.

    `mode` is the memory plan of programs in C, None for the quickest that fits; the reference has
    none, and refuses one with ConfigError.
    """
    if name not in TARGETS:
        raise ConfigError(f"target {name!r} is unknown, allowed are {', '.join(TARGETS)}")
    if name == "reference":
        if mode is not None:
            raise ConfigError(f"target 'reference' has no memory plan, --plan is {mode!r}")
        from etinynet.target.reference import ReferenceTarget

        return ReferenceTarget()
    if name == "host":
        from etinynet.target.host import HostTarget

        return HostTarget(mode=mode)
    from etinynet.target.mcu import McuTarget
    from etinynet.target.parts import get_part

    return McuTarget(get_part(name), mode=mode)


def check_image(graph: Graph, image: NDArray[np.int8]) -> None:
    """Raises DataError unless `image` has the shape of the graph's input and is int8."""
    shape = graph.tensors[graph.input].shape
    if image.shape != shape or image.dtype != np.int8:
        raise DataError(
            f"picture for graph {graph.name!r}: got {image.dtype} {image.shape}, "
            f"allowed is int8 {shape}"
        )


def pixels(image: NDArray[np.int8]) -> bytes:
    """The picture's bytes as a camera gives them, R G B row by row: `image` plus 128."""
    return (image.view(np.uint8) ^ 0x80).tobytes()
