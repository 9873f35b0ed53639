"""The stack by machine code is never less than what a run takes, and most often just that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from etinynet.backend.c import MODES
from etinynet.errors import UnsupportedError
from etinynet.graph import read_graph
from etinynet.target.elf import read_elf
from etinynet.target.emulator import Machine
from etinynet.target.link import Firmware
from etinynet.target.mcu import McuTarget
from etinynet.target.parts import get_part
from etinynet.target.stack_bound import StackAnalysis
from graph_cases import random_graph, random_image

ASSETS = Path(__file__).parents[2] / "src" / "etinynet" / "assets"
Tool = Callable[[str], str]
Build = Callable[..., Firmware]
COMPILERS = ["", "arm-none-eabi-gcc"]
NOINLINE = "#define NOINLINE __attribute__((noinline))\n"
#: The assembly is that of the kernels: a push which compilers do not know of.
PROGRAMS = {
    "leaf": """NOINLINE static int f(int x) { volatile char a[256]; a[x] = 1; return a[x]; }
        int main(void) { return f(3) - 1; }""",
    "deepest of two": """
        NOINLINE static int f(int x) { volatile char a[64]; a[x] = 1; return a[x]; }
        NOINLINE static int g(int x) { volatile char a[512]; a[x] = 1; return a[x] + f(x); }
        int main(void) { return f(3) + g(4) - 3; }""",
    "pointer": """
        NOINLINE static int f(int x) { volatile char a[300]; a[x] = 1; return a[x]; }
        NOINLINE static int g(int x) { return x - 3; }
        int (*volatile way)(int) = f;
        int (*volatile other)(int) = g;
        int main(void) { return way(3) - 1 + other(3); }""",
    "assembly": r"""int main(void) {
        __asm__ volatile("str r7, [sp, #-8]!\n\tldr r7, [sp], #8"); return 0; }""",
}
NO_BOUND = {
    "recursion": (
        """NOINLINE static int f(int x) {
            volatile int a = x; return x < 1 ? 0 : f(x - 1) + a; }
        int main(void) { return f(*(volatile int *)0x20000000) & 0; }""",
        "'f' can come to call itself",
    ),
    "variable length": (
        """int main(void) { int n = *(volatile int *)0x20000000 & 15;
            volatile char a[n + 1]; a[n] = 0; return a[n]; }""",
        r"the stack pointer is computed at main\+",
    ),
}


@pytest.fixture(params=COMPILERS, ids=["zig", "gcc"])
def compiler(request: pytest.FixtureRequest, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv("ETINYNET_ARM_CC", name and tool(name))
    return name


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("program", PROGRAMS)
def test_small_programs(build: Build, program: str) -> None:
    firmware = build(NOINLINE + PROGRAMS[program])
    used = Machine(firmware.part, firmware.image).run({}).stack_bytes
    bound = StackAnalysis(firmware.image).bound("etn_reset")
    assert used <= bound <= used + 16


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("part", "seed"), [("stm32f412", 0), ("stm32f746", 1), ("stm32h743", 2)])
def test_random_networks(part: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    for mode in MODES:
        with McuTarget(get_part(part), mode=mode).load(graph) as program:
            result = program.run(random_image(rng, graph))
            bound = StackAnalysis(program.firmware.image).bound("etn_reset")
        assert result.memory is not None
        assert result.memory.stack <= bound


@pytest.mark.usefixtures("compiler")
def test_the_embedded_model() -> None:
    """To the byte: the deepest path is one that the run takes."""
    graph = read_graph(ASSETS / "sign-digits.etn")
    with McuTarget(get_part("stm32f746")).load(graph) as program:
        result = program.run(random_image(np.random.default_rng(0), graph))
        analysis = StackAnalysis(program.firmware.image)
    assert result.memory is not None
    assert analysis.bound("etn_reset") == result.memory.stack
    library = analysis.bound("sign_digits_run", lambda name: name.startswith("op_"))
    assert library <= analysis.bound("etn_reset") <= library + 64


@pytest.mark.parametrize("program", NO_BOUND)
def test_what_has_no_bound_is_refused(build: Build, program: str) -> None:
    source, words = NO_BOUND[program]
    analysis = StackAnalysis(build(NOINLINE + source).image)
    with pytest.raises(UnsupportedError, match=f"stack: {words}"):
        analysis.bound("etn_reset")
    with pytest.raises(UnsupportedError, match="stack: the program has no function 'absent'"):
        analysis.bound("absent")


def test_both_forms_of_the_board_have_a_bound(build: Build) -> None:
    for board in ("semihosting", "uart"):
        firmware = build("int main(void) { return 0; }", board=board)
        assert 0 <= StackAnalysis(read_elf(firmware.elf)).bound("etn_reset") < 200
