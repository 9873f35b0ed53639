"""The cycle models on short pieces of code whose cycles are published."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from etinynet.errors import ToolError
from etinynet.target.cycles import cortex_m4, cortex_m7
from etinynet.target.decode import KINDS, Decoder, Instruction
from etinynet.target.link import Firmware

Build = Callable[..., Firmware]

#: Arm's table of Cortex-M4 instructions, 100166 3.3.1, and the examples of its 3.3.2.
M4 = {
    "add r0, r1, r2": 1,
    "smlad r0, r1, r2, r0; smmlar r3, r0, r1, r2; ssat r3, #8, r3": 3,
    "smull r0, r1, r2, r3; mla r0, r1, r2, r3; umaal r0, r1, r2, r3": 3,
    "udiv r0, r1, r2": 12,
    "ldr r0, [r1]": 2,
    "ldr r0, [r1]; ldr r1, [r2]": 3,
    "ldr r0, [r1, r2]; str r0, [r3, #20]": 3,
    "ldr r0, [r1, r2]; str r1, [r3, r2]": 3,
    "ldr r0, [r1, r5]; ldr r1, [r2]; ldr r2, [r3, #4]": 4,
    "ldr r0, [r1]; ldr r2, [r0]": 4,
    "str r0, [r1, #4]; str r2, [r1, #8]": 2,
    "str r0, [r1, r2]": 2,
    "add r1, r1, #4; ldr r0, [r1]": 4,
    "ldrd r0, r1, [r2]; strd r0, r1, [r2]": 6,
    "push {r4-r7, lr}": 6,
    "ldm r0!, {r1-r4}; stm r5!, {r1-r4}": 10,
    "adds r0, #1; it eq; moveq r0, #0": 2,
    "add.w r0, r0, #1; it eq; moveq r0, #0": 3,
    "cmp r0, #0; bne 9f; 9: nop": 3,
}
#: Measured on an STM32H743 by others; docs/cycle-model.md names them.
M7 = {
    "add r0, r1, r2; add r3, r4, r5": 1,
    "add r0, r1, r2; add r3, r0, r5": 1,
    "eor r0, r1, r2; add r3, r0, r5": 2,
    "eor r0, r1, r2; add r3, r4, r0, lsl #2": 3,
    "add r0, r1, r2, lsl #2; eor r3, r4, r5, ror #8": 2,
    "sxtb16 r0, r1; sxtb16 r2, r3": 2,
    "sxtb16 r0, r1; add r2, r3, r4, lsl #2": 1,
    "bfi r0, r1, #4, #4; add r2, r3, r4, lsl #2": 2,
    "add r2, r3, r4; sxtb16 r0, r1": 2,
    "smlad r0, r1, r2, r0; smlad r3, r1, r2, r3": 2,
    "smlad r0, r1, r2, r0; smlad r0, r3, r4, r0": 2,
    "smlad r0, r1, r2, r0; add r0, r0, r3": 3,
    "smlad r0, r1, r2, r0; str r3, [r4]": 2,
    "smlad r0, r1, r2, r0; ldr r3, [r4]": 1,
    "ldr r0, [r1]; ldr r2, [r1, #4]": 1,
    "ldr r0, [r1]; ldr r2, [r1, #8]": 2,
    "ldr r0, [r1]; ldr r2, [r3, #4]": 2,
    "ldr r0, [r1]; add r2, r0, r3": 2,
    "ldr r0, [r1]; smlad r2, r0, r3, r2": 3,
    "ldrb r0, [r1]; add r2, r0, r3": 3,
    "ldr r0, [r1]; str r0, [r2]": 1,
    "str r0, [r1]; str r2, [r3]": 2,
    "ldrd r0, r1, [r2]; add r3, r4, r5": 2,
    "push {r4-r7, lr}": 3,
    "eor r0, r1, r2; ldr r3, [r0]": 3,
    "add r0, r1, r2; ldr r3, [r0]": 2,
}


@pytest.fixture(scope="module")
def decoded(build: Build) -> dict[str, list[Instruction]]:
    """Every piece of code above, assembled and decoded."""
    texts = [*M4, *M7]
    functions = []
    for number, text in enumerate(texts):
        lines = [f".globl piece_{number}", f".type piece_{number}, %function", f"piece_{number}:"]
        lines += [*text.split("; "), f".size piece_{number}, .-piece_{number}"]
        # a section of its own, kept because main refers to it
        body = "".join(f"{line}\\n" for line in lines)
        functions.append(f'__asm__(".cpu cortex-m7\\n.syntax unified\\n.thumb\\n{body}");')
        functions.append(f"void piece_{number}(void);")
    names = ", ".join(f"piece_{number}" for number in range(len(texts)))
    functions.append(f"void (*const volatile pieces[])(void) = {{{names}}};")
    functions.append("int main(void) { return pieces[0] == 0; }")
    firmware = build("\n".join(functions))
    start, code = firmware.image.segments[0]
    decoder = Decoder()
    found = {}
    for number, text in enumerate(texts):
        symbol = firmware.image.function(f"piece_{number}")
        assert symbol is not None
        at = symbol.address - start
        found[text] = decoder.block(code[at : at + symbol.size], symbol.address)
    return found


@pytest.mark.parametrize("text", M4)
def test_cortex_m4(decoded: dict[str, list[Instruction]], text: str) -> None:
    assert cortex_m4(decoded[text]) == M4[text]


@pytest.mark.parametrize("text", M7)
def test_cortex_m7(decoded: dict[str, list[Instruction]], text: str) -> None:
    assert cortex_m7(decoded[text]) == M7[text]


def test_every_kind_is_known(decoded: dict[str, list[Instruction]]) -> None:
    kinds = {instruction.kind for code in decoded.values() for instruction in code}
    assert kinds <= set(KINDS)
    assert kinds >= set(KINDS) - {"shift"}


def test_nothing_takes_nothing() -> None:
    assert cortex_m4([]) == cortex_m7([]) == 0


def test_unknown_code_is_refused() -> None:
    with pytest.raises(ToolError, match="capstone does not know the instruction at 0x08000000"):
        Decoder().block(b"\xff\xff\xff\xff", 0x08000000)
