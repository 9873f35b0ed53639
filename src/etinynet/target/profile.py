"""What each layer of a program costs: measured instructions, bytes, and modelled cycles."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.backend.c import plan_mode
from etinynet.errors import MismatchError
from etinynet.graph.ir import Graph
from etinynet.target.base import MemoryUse, check_image, pixels
from etinynet.target.counter import Block
from etinynet.target.cycles import JUMP, MODELS
from etinynet.target.decode import Decoder
from etinynet.target.emulator import Machine
from etinynet.target.mcu import McuProgram, memory_use, read_scores
from etinynet.target.parts import CLOCKS, Clock

__all__ = ["OUTSIDE", "Cost", "Layer", "Profile", "model_blocks", "profile"]

#: Name of the row of what belongs to no layer: schedule, start-up code, and its callbacks.
OUTSIDE = "schedule and firmware"

#: Multiply-accumulates of the fastest instruction (SMLAD), and bytes of a load or store.
_MACS_A_CYCLE, _BYTES_A_CYCLE = 2, 4


@dataclass(frozen=True)
class Cost:
    """Executed `instructions`, how many of each kind (decode.KINDS), and modelled `cycles`."""

    instructions: int
    kinds: Mapping[str, int]
    cycles: int


@dataclass(frozen=True)
class Layer:
    """One operator. `macs` counts padding; bytes are those of the arrays as they lie in memory.

    `weight_bytes` and `constant_bytes` lie in flash; `read_bytes` and `written_bytes` are the
    tensors that it reads, shortcut included, and the one that it makes, each value once.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    macs: int
    weight_bytes: int
    constant_bytes: int
    read_bytes: int
    written_bytes: int
    cost: Cost

    @property
    def arithmetic_limit(self) -> int:
        """Cycles that its multiplications take at least: two a cycle (SMLAD)."""
        return -(-self.macs // _MACS_A_CYCLE)

    @property
    def bytes_limit(self) -> int:
        """Cycles that moving its bytes once takes at least: a word a cycle."""
        moved = self.weight_bytes + self.constant_bytes + self.read_bytes + self.written_bytes
        return -(-moved // _BYTES_A_CYCLE)


@dataclass(frozen=True)
class Profile:
    """One picture's run of a graph on a part, layer by layer; `outside` is what belongs to none."""

    graph: str
    part: str
    cpu: str
    plan: str
    tools: str
    memory: MemoryUse
    instructions: int
    layers: tuple[Layer, ...]
    outside: Cost

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def clock(self) -> Clock:
        """The part's highest clock, at which cycles become milliseconds."""
        return CLOCKS[self.part]

    @property
    def cycles(self) -> int:
        """Modelled cycles of the whole run."""
        return sum(layer.cost.cycles for layer in self.layers) + self.outside.cycles


def profile(graph: Graph, program: McuProgram, image: NDArray[np.int8]) -> Profile:
    """Runs `image` (int8, pixel minus 128) on `program`, a program of `graph`, and counts.

    Raises what `McuProgram.run` raises, ToolError without capstone, and MismatchError if the
    instructions of the layers are not those that the emulator counted for them.
    """
    check_image(graph, image)
    part = program.firmware.part
    machine = Machine(part, program.firmware.image, profile=True)
    run = machine.run({"picture.rgb": pixels(image)})
    read_scores(graph, part, run)
    by_operator: dict[int | None, list[Block]] = {}
    for block in run.blocks:
        by_operator.setdefault(block.operator, []).append(block)
    costs = {
        number: model_blocks(machine, part.cpu, blocks) for number, blocks in by_operator.items()
    }
    for number, count in ((None, run.counts.outside), *run.counts.operators.items()):
        if count != (found := costs[number].instructions if number in costs else 0):
            raise MismatchError(f"operator {number}: {count} instructions, its blocks have {found}")
    report = json.loads(program.files["report.json"])
    return Profile(
        graph.name,
        part.name,
        part.cpu,
        plan_mode(program.files),
        program.firmware.tools,
        memory_use(program.firmware.image, run.stack_bytes),
        run.counts.total,
        tuple(_layer(report, number, costs) for number in range(len(report["operators"]))),
        costs[None],
    )


def model_blocks(machine: Machine, cpu: str, blocks: Iterable[Block]) -> Cost:
    """Cost of `blocks`, which ran on `machine`, in cycles of the model of `cpu`."""
    decoder, model = Decoder(), MODELS[cpu]
    instructions = cycles = 0
    kinds: Counter[str] = Counter()
    for block in blocks:
        code = decoder.block(machine.read(block.address, block.length), block.address)
        instructions += len(code) * block.times
        cycles += model(code) * block.times + JUMP[cpu] * block.jumps
        for instruction in code:
            kinds[instruction.kind] += block.times
    return Cost(instructions, dict(kinds), cycles)


def _layer(report: dict[str, Any], number: int, costs: Mapping[int | None, Cost]) -> Layer:
    entry = report["operators"][number]
    tensors = {tensor["name"]: tensor for tensor in report["tensors"]}

    def size(name: str | None) -> int:
        return 0 if name is None else prod(tensors[name]["shape"]) * tensors[name]["element_bytes"]

    return Layer(
        entry["name"],
        entry["kind"],
        tuple(tensors[entry["output"]]["shape"]),
        entry["macs"],
        entry["weight_bytes"],
        entry["constant_bytes"],
        size(entry["input"]) + size(entry["residual"]),
        size(entry["output"]),
        costs.get(number, Cost(0, {}, 0)),
    )
