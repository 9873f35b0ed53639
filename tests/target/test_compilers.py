"""Other compilers than zig give the same bits: Debian's gcc for Arm, gcc and clang on the host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backend.host_library import build as build_library
from etinynet.backend.c import MODES
from etinynet.errors import FitError, ToolError
from etinynet.graph import execute, execute_all, read_graph
from etinynet.target.base import get_target
from etinynet.target.link import Firmware
from etinynet.target.toolchain import device_compiler
from etinynet.target.verify import verify
from graph_cases import random_graph, random_image, siblings_graph

ASSETS = Path(__file__).parents[2] / "src" / "etinynet" / "assets"
Tool = Callable[[str], str]
FORMS = {"portable": (), "dsp": ("-DETN_EMULATE_DSP",)}
#: The cases of the conformance table, by seed; None is the one with shared kernels.
CASES = (0, 1, 2, 3, None)


def case(seed: int | None):
    rng = np.random.default_rng(seed or 0)
    graph = siblings_graph(rng) if seed is None else random_graph(rng)
    return graph, random_image(rng, graph)


@pytest.fixture
def arm_gcc(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Firmware is built by Debian's compiler."""
    monkeypatch.setenv("ETINYNET_ARM_CC", tool("arm-none-eabi-gcc"))


@pytest.mark.usefixtures("arm_gcc")
@pytest.mark.parametrize("name", ["stm32f412", "stm32f746"])
@pytest.mark.parametrize("seed", CASES)
def test_firmware_by_gcc_equals_the_reference(seed: int | None, name: str) -> None:
    graph, image = case(seed)
    mode = MODES[(seed or 0) % len(MODES)]
    with get_target(name, mode=mode).load(graph) as program:
        assert verify(graph, program, [image], tensors=True).passed
        result = program.run(image)
        np.testing.assert_array_equal(result.scores, execute(graph, image))
        assert result.tools.startswith("arm-none-eabi-gcc ")
        assert " -mcpu=cortex-m" in result.tools
        assert all(count > 0 for count in result.instructions_per_op.values())


@pytest.mark.usefixtures("arm_gcc")
@pytest.mark.parametrize("name", ["stm32f412", "stm32f746"])
def test_embedded_model_by_gcc_equals_the_reference(name: str) -> None:
    graph = read_graph(ASSETS / "sign-digits.etn")
    image = random_image(np.random.default_rng(0), graph)
    with get_target(name).load(graph) as program:
        result = program.run(image)
    np.testing.assert_array_equal(result.scores, execute(graph, image))
    print(f"{name}: {result.instructions} instructions, {result.flash_bytes} + {result.ram_bytes}")
    assert result.instructions < 20_500_000
    assert result.flash_bytes < 365_000
    assert result.ram_bytes < 40_000


@pytest.mark.usefixtures("arm_gcc")
def test_gcc_of_arm_says_what_does_not_fit(build: Callable[..., Firmware]) -> None:
    with pytest.raises(FitError, match=r"RAM holds 262144 bytes, the program needs 304\d\d\d \("):
        build(
            "static uint8_t a[300000]; int main(void) { a[*(volatile int *)a] = 1; return a[9]; }"
        )
    with pytest.raises(ToolError, match=r"linker: .*undefined reference to `absent'"):
        build("int absent(void); int main(void) { return absent(); }")


def test_named_arm_compiler_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETINYNET_ARM_CC", "no-such-gcc")
    with pytest.raises(ToolError, match=r"ETINYNET_ARM_CC names 'no-such-gcc', which is not on"):
        device_compiler("cortex_m4")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("level", ["-O0", "-O3"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("seed", [1])
def test_host_compilers_with_sanitizers_equal_the_reference(
    tool: Tool, tmp_path: Path, seed: int, compiler: str, level: str, form: str
) -> None:
    graph, image = case(seed)
    flags = (level, *FORMS[form])
    built = build_library(tmp_path, graph, flags, compiler=tool(compiler))
    status, scores, tensors = built.run(image)
    assert status == 0
    expected = execute_all(graph, image)
    np.testing.assert_array_equal(scores, expected[graph.outputs[0]].reshape(-1))
    for name, values in tensors.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
