"""Linking: programs that are too large, wrong C, memory map."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from etinynet.errors import ConfigError, FitError, ToolError, UnsupportedError
from etinynet.target.link import Firmware, build_firmware, firmware_files
from etinynet.target.parts import PARTS, Part, Region, get_part

Build = Callable[..., Firmware]


def test_flash_overflow(build: Build) -> None:
    source = """
    static const uint8_t table[1100000] = {1};
    int main(void) { volatile uint32_t i = 5; return table[i]; }"""
    words = r"stm32f412.*flash holds 1048576 bytes, .* needs 110\d\d\d\d"
    with pytest.raises(FitError, match=words):
        build(source)
    assert build(source, "stm32h743").image.flash_bytes > 1_100_000


def test_ram_overflow(build: Build) -> None:
    source = """
    static uint8_t arena[300000];
    int main(void) { volatile uint32_t i = 5; arena[i] = 1; return arena[2 * i]; }"""
    words = r"stm32f412.*RAM holds 262144 bytes, .* needs 304\d\d\d \(4096 of them for the stack\)"
    with pytest.raises(FitError, match=words):
        build(source)
    assert build(source, "stm32f746").image.flash_bytes < 2000


def test_both_overflow(build: Build) -> None:
    source = """
    static uint8_t arena[300000] = {1};
    static const uint8_t table[1048576] = {1};
    int main(void) { volatile uint32_t i = 5; arena[i] = 1; return arena[2 * i] + table[i]; }"""
    with pytest.raises(FitError, match=r"flash holds .*; RAM holds"):
        build(source)


def test_compiler_error_is_one_line(build: Build) -> None:
    with pytest.raises(ToolError, match=r"compiler: main\.c:\d+:\d+: error: .*'missing'") as info:
        build("int main(void) { return missing; }")
    assert "\n" not in str(info.value)


def test_missing_function_is_a_tool_error(build: Build) -> None:
    with pytest.raises(ToolError, match=r"linker: .*undefined symbol: absent"):
        build("int absent(void); int main(void) { return absent(); }")


def test_stack_lies_at_the_bottom_of_the_ram(build: Build) -> None:
    for name, part in PARTS.items():
        image = build("static int v; int main(void) { return v++; }", name).image
        assert image.marks["etn_stack_bottom"] == part.ram.origin
        assert image.marks["etn_stack_top"] == part.ram.origin + 4096
        assert image.segments[0][0] == part.flash.origin


def test_stack_size_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"stack_bytes: 100, allowed are multiples of 8 from 256"):
        firmware_files(get_part("stm32f412"), 100)


def test_part_rules() -> None:
    flash, ram = Region("flash", 0, 4096), Region("ram", 4096, 4096)
    with pytest.raises(ConfigError, match=r"cpu 'cortex_m0' is unknown, allowed are cortex_m4"):
        Part("x", "cortex_m0", flash, (ram,))
    with pytest.raises(ConfigError, match=r"rams is empty"):
        Part("x", "cortex_m4", flash, ())
    with pytest.raises(ConfigError, match=r"region 'odd': .* multiples of 4096"):
        Region("odd", 10, 4096)
    with pytest.raises(ConfigError, match=r"part 'stm32' is unknown, allowed are stm32f412, "):
        get_part("stm32")


def test_a_library_with_a_file_of_the_firmware_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"'board.h' has the name of a file of the firm"):
        build_firmware({"board.h": b""}, get_part("stm32f412"))
