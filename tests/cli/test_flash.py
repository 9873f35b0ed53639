"""flash: what is refused, in words; the error without a probe is pyOCD's own answer.

Nothing here writes to a board: no test machine has one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command import GRAPH, Run

from etinynet.errors import UnsupportedError
from etinynet.extras import not_installed
from etinynet.target.flash import check_firmware
from etinynet.target.link import build_firmware
from etinynet.target.parts import get_part

MAIN = b"#include <stdint.h>\nint main(void);\nint main(void) { return 0; }\n"


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """elf("stm32f412"): a small firmware for that part."""
    folder = tmp_path_factory.mktemp("elf")

    def make(part: str) -> Path:
        path = folder / f"{part}.elf"
        path.write_bytes(build_firmware({"main.c": MAIN}, get_part(part), board="uart").elf)
        return path

    return make


@pytest.mark.parametrize("part", ["stm32f412", "stm32f746", "stm32h743"])
def test_no_probe(run: Run, elf: Callable[[str], Path], part: str) -> None:
    pytest.importorskip("pyocd")
    from pyocd.core.helpers import ConnectHelper

    if ConnectHelper.get_all_connected_probes(blocking=False, print_wait_message=False):
        pytest.skip("a debug probe is attached")
    line = run("flash", elf(part), "--on", part).refused()
    assert line == "etinynet: no debug probe is attached; connect the board's ST-LINK by USB"


def test_firmware_of_another_part(run: Run, elf: Callable[[str], Path]) -> None:
    line = run("flash", elf("stm32f746"), "--on", "stm32f412").refused()
    assert line.endswith("stm32f746.elf: made for stm32f746, --on is 'stm32f412'")


def test_not_an_elf_file(run: Run, tmp_path: Path) -> None:
    line = run("flash", GRAPH, "--on", "stm32f412").refused()
    assert "this is not an ELF file, it starts with b" in line
    assert "cannot read this firmware file" in run("flash", "no.elf", "--on", "stm32f412").refused()
    (tmp_path / "cut.elf").write_bytes(b"\x7fELF")
    assert (
        "not a whole ELF file" in run("flash", tmp_path / "cut.elf", "--on", "stm32f412").refused()
    )
    line = run("flash", GRAPH, "--on", "stm32").refused()
    assert "part 'stm32' is unknown, allowed are stm32f412" in line


def test_memory_map_of_another_part(elf: Callable[[str], Path]) -> None:
    """Programs whose linker script names no part are judged by their addresses."""
    data = elf("stm32h743").read_bytes().replace(b"etn_part_stm32h743", b"etn_port_stm32h743")
    assert check_firmware(data, get_part("stm32h743"), "x").flash_bytes < 2000
    with pytest.raises(UnsupportedError, match=r"x: stack 0x24001000 and reset 0x08000\w+ are not"):
        check_firmware(data, get_part("stm32f746"), "x")
    table = b"static const uint8_t t[1100000] = {1}; volatile uint32_t i = 5; return t[i]"
    big = MAIN.replace(b"return 0", table)
    large = build_firmware({"main.c": big}, get_part("stm32h743")).elf
    large = large.replace(b"etn_part_stm32h743", b"etn_port_stm32h743")
    with pytest.raises(UnsupportedError, match=r"flash of stm32f412 is 0x08000000 to 0x080fffff"):
        check_firmware(large, get_part("stm32f412"), "x")


def test_pyocd_is_missing(
    run: Run, elf: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyocd.core.exceptions", None)
    line = run("flash", elf("stm32f412"), "--on", "stm32f412").refused()
    assert line == f"etinynet: {not_installed('pyocd')}"
