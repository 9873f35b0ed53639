"""Compilers: where they are found, what is recorded, and one line when they fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from etinynet.errors import ConfigError, ToolError
from etinynet.target.link import firmware_files
from etinynet.target.parts import PARTS
from etinynet.target.toolchain import (
    compile_sources,
    device_compiler,
    host_compiler,
    run_tool,
)

Tool = Callable[[str], str]


def test_named_compiler_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETINYNET_CC", "no-such-cc -O3")
    with pytest.raises(ToolError, match=r"ETINYNET_CC names 'no-such-cc', which is not on the p"):
        host_compiler()


def test_named_compiler_is_recorded(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETINYNET_CC", f"{tool('gcc')} -m64")
    compiler = host_compiler(["-DX"])
    assert compiler.command == ("gcc", "-m64")
    assert compiler.describe(["-DY"]).startswith("gcc ")
    assert compiler.describe(["-DY"]).endswith("-O2 -Wall -Wextra -Wconversion -Werror -DX -DY")


def test_zig_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETINYNET_CC", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for make in (host_compiler, lambda: device_compiler("cortex_m7")):
        with pytest.raises(ToolError, match=r"'ziglang', the C compiler, is not installed; in the"):
            make()


def test_tool_that_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"no-such-tool: cannot start: No such file"):
        run_tool(["no-such-tool"], tmp_path)


def test_tool_that_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"compiler: exit status 1 without a message"):
        run_tool(["false"], tmp_path)


def test_optimization_that_zig_would_take_for_another() -> None:
    with pytest.raises(ConfigError, match=r"optimization: '-O3', allowed are -O2 and -Os"):
        device_compiler("cortex_m4", "-O3")


@pytest.mark.parametrize("compiler", ["", "arm-none-eabi-gcc"])
@pytest.mark.parametrize("cpu", ["cortex_m4", "cortex_m7"])
def test_firmware_compiles_without_warnings(
    cpu: str, compiler: str, tmp_path: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETINYNET_ARM_CC", compiler and tool(compiler))
    part = next(part for part in PARTS.values() if part.cpu == cpu)
    files = firmware_files(part)
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    sources = [name for name in files if name.endswith(".c")]
    strict = ("-Werror", "-Wpedantic", "-I.", "-Iinclude")
    assert len(compile_sources(device_compiler(cpu), sources, tmp_path, strict)) == 3
