"""Modelled cycles of straight code on a Cortex-M4 and a Cortex-M7: docs/cycle-model.md as code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from etinynet.target.decode import Instruction

__all__ = ["JUMP", "MODELS", "VALIDATION", "cortex_m4", "cortex_m7"]

#: Cycles of a division, whose true number depends on the values: the most that it takes.
_DIVIDE = 12


def cortex_m4(code: Sequence[Instruction]) -> int:
    """Cycles from the first to the last instruction of `code`, without that of a jump at its end.

    Arm's table of the processor's instructions (100166, 3.3.1) with its rules for pairs of loads
    and stores; memories without wait states.
    """
    total = 0
    before: Instruction | None = None
    for now in code:
        total += _m4_cost(now, before)
        before = now
    return total


def _m4_cost(now: Instruction, before: Instruction | None) -> int:
    after_load = before is not None and before.kind in ("load", "multiple")
    # an address from the instruction before is late; a load has waited for its result by itself
    late = before is not None and bool(now.early & before.writes)
    stall = int(late and not after_load)
    if now.kind in ("load", "store"):
        simple = now.kind == "store" and now.offset is not None
        chained = before is not None and before.kind == "load" and not late
        return stall + (1 if simple or chained else 2)
    if now.kind == "multiple":
        return stall + 1 + now.registers
    if now.kind == "divide":
        return _DIVIDE
    if now.name in ("tbb", "tbh"):
        return 3
    if now.kind == "it":
        return int(before is None or before.bytes != 2)
    return 1


#: Which part of the Cortex-M7 an instruction needs, of which there is one: two instructions with
#: the same letter do not issue together. x: the multiplier, of which stores take a port; s: the
#: shifter before the ALU; d: the unit of bit fields and small integers.
_M7_UNITS = {
    "multiply": "x",
    "store": "x",
    "shifted": "s",
    "extract": "sd",
    "dsp": "d",
    "branch": "b",
}


class _Pipeline:
    """Issue of one instruction after the other, at most two a cycle, in order.

    For each register: the cycle from which it can be had by the late ALU, early (for addresses,
    shifted operands and extracted fields), by a multiplication, and to be accumulated to.
    """

    def __init__(self) -> None:
        self.cycle = 0
        self._issued: list[Instruction] = []
        self._ready: dict[str, tuple[int, int, int, int]] = {}

    def issue(self, now: Instruction) -> None:
        """Lets `now` issue as soon as it can."""
        start = max(self.cycle, self._operands(now))
        if start > self.cycle or not self._pairs(now):
            start = max(start, self.cycle + bool(self._issued))
            self._issued = []
        self.cycle = start
        self._issued.append(now)
        self._results(now)
        if now.kind == "multiple":
            self.cycle += (now.registers + 1) // 2 - 1
        elif now.kind == "divide":
            self.cycle += _DIVIDE - 1

    def _pairs(self, now: Instruction) -> bool:
        """Whether `now` can issue in the cycle of what has issued last."""
        if not self._issued:
            return True
        if len(self._issued) == 2:
            return False
        before = self._issued[0]
        if "multiple" in (before.kind, now.kind) or "divide" in (before.kind, now.kind):
            return False
        if set(_M7_UNITS.get(before.kind, "")) & set(_M7_UNITS.get(now.kind, "")):
            return False
        if now.kind in ("extract", "dsp"):  # these issue as the first of two only
            return False
        return not (before.kind == now.kind == "load") or _other_bank(before, now)

    def _operands(self, now: Instruction) -> int:
        """The cycle from which all that `now` reads can be had."""
        start = 0
        for register in now.reads & self._ready.keys():
            late, early, factor, sum_ = self._ready[register]
            if register in now.early:
                start = max(start, early)
            elif now.kind == "multiply":
                start = max(start, sum_ if register in now.accumulates else factor)
            elif now.kind == "store":
                start = max(start, sum_)
            elif now.kind != "branch":  # a branch is predicted and does not wait
                start = max(start, late)
        return start

    def _results(self, now: Instruction) -> None:
        at = self.cycle
        ready = (at + 1, at + 2, at + 1, at)
        if now.kind in ("add", "shift"):
            # from the first of two, a sum is there for the second one in the same cycle
            ready = (at if len(self._issued) == 1 else at + 1, at + 1, at + 1, at)
        elif now.kind == "multiply":
            ready = (at + 2, at + 3, at + 2, at + 1)
        elif now.kind in ("load", "multiple"):
            narrow = int(now.is_narrow_load)
            ready = (at + 1 + narrow, at + 2 + narrow, at + 2, at + narrow)
        for register in now.writes:
            self._ready[register] = ready
        if now.updates is not None:
            self._ready[now.updates] = (at + 1, at + 1, at + 1, at)


def _other_bank(before: Instruction, now: Instruction) -> bool:
    """Whether two loads surely go to an even and an odd word: from one base, constants apart."""
    if before.base != now.base or before.offset is None or now.offset is None:
        return False
    if before.updates is not None:
        return False
    return (before.offset // 4 - now.offset // 4) % 2 == 1


def cortex_m7(code: Sequence[Instruction]) -> int:
    """As `cortex_m4` for a Cortex-M7: in order, two instructions a cycle where they go together.

    Arm publishes no table: the rules are those measured by others, see docs/cycle-model.md.
    Instructions and data come from memories without wait states, every branch is predicted.
    """
    pipeline = _Pipeline()
    for now in code:
        pipeline.issue(now)
    return pipeline.cycle + 1 if code else 0


#: The model of each cpu of parts.py.
MODELS: dict[str, Callable[[Sequence[Instruction]], int]] = {
    "cortex_m4": cortex_m4,
    "cortex_m7": cortex_m7,
}
#: Cycles added where code is left by a jump: refill of the pipeline, or none where it is predicted.
JUMP = {"cortex_m4": 2, "cortex_m7": 0}
#: How far each model was compared with chips (benchmarks/cycle_model.py); part of every output.
VALIDATION = {
    "cortex_m4": "within 6 % of 6 published counts, of AES on an STM32F4 (no multiplications); "
    "no wait states",
    "cortex_m7": "within 4 % of 6 published counts, of AES on an STM32H7 (no multiplications); "
    "no wait states, no cache misses, all branches predicted",
}
