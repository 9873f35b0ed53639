"""The UART form of the firmware: its text and its registers, in the emulator with a model UART."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources

import numpy as np
import pytest
from uart_machine import UartMachine

from etinynet.backend.c import compile_graph
from etinynet.commands.building import demo_picture, expected_line
from etinynet.graph import Graph, execute
from etinynet.target.base import pixels
from etinynet.target.link import Firmware, build_firmware, main_source, project_files
from etinynet.target.parts import PARTS, get_part
from graph_cases import random_graph, random_image

COMPILERS = ("", "arm-none-eabi-gcc")
_GPIO = {"stm32h743": 0x58020000}
#: USART3 and the enable registers: status, send, receive, control, baud; GPIO and UART clocks.
USART = {
    "stm32f412": (0x40004800, 0x40004804, 0x40004804, 0x4000480C, 0x40004808),
    "stm32f746": (0x4000481C, 0x40004828, 0x40004824, 0x40004800, 0x4000480C),
    "stm32h743": (0x4000481C, 0x40004828, 0x40004824, 0x40004800, 0x4000480C),
}
CLOCKS = {
    "stm32f412": (0x40023830, 0x40023840),
    "stm32f746": (0x40023830, 0x40023840),
    "stm32h743": (0x580244E0, 0x580244E8),
}


#: What start-up writes: supply, reads of the AXI SRAM, clocks of the RAM in domain D2.
STARTED = {"stm32h743": {0x5802480C: 1 << 1, 0x51008108: 1, 0x580244DC: 7 << 29}}


@pytest.fixture(params=COMPILERS, ids=["zig", "gcc"])
def compiler(
    request: pytest.FixtureRequest, tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> str:
    """One of the two cross compilers, in force."""
    monkeypatch.setenv("ETINYNET_ARM_CC", request.param and tool(request.param))
    return request.param


def firmware(graph: Graph, part: str, *extra: str) -> Firmware:
    """The UART form; `extra` are further files of the firmware's folder."""
    chosen = get_part(part)
    files = {n: d for n, d in compile_graph(graph).items() if n.endswith((".c", ".h"))}
    files["firmware_main.c"] = main_source(graph.name)
    own = project_files(chosen, graph.name)
    return build_firmware({**files, **{name: own[name] for name in extra}}, chosen, board="uart")


def board_with(part: str, elf: bytes, **options: object) -> UartMachine:
    status, send, receive = USART[part][:3]
    gpio_b = _GPIO.get(part, 0x40020000) + 0x400
    return UartMachine(get_part(part), elf, status, send, receive, gpio_b + 0x18, **options)


@pytest.mark.parametrize("part", PARTS)
def test_prints_the_class_of_the_test_picture(compiler: str, part: str) -> None:
    graph = random_graph(np.random.default_rng(1))
    made = firmware(graph, part)
    assert made.tools.startswith(compiler or "zig cc")
    board = board_with(part, made.elf)
    board.run()
    assert board.text == f"{part}: running\r\n{expected_line(graph, part)}\r\n"
    best = int(execute(graph, demo_picture(graph)).argmax())
    assert f"class {best} of " in board.text
    assert board.led == [1 << 14, 1 << 30, 1 << 14]
    gpio = _GPIO.get(part, 0x40020000)
    control, baud = USART[part][3:]
    hertz = 64_000_000 if part == "stm32h743" else 16_000_000
    assert abs(hertz / board.registers[baud] / 115200 - 1) < 0.002
    assert board.registers[control] == (0x200C if part == "stm32f412" else 0xD)
    assert board.registers[gpio + 0xC00] == 2 << 16 | 2 << 18  # GPIOD_MODER: PD8, PD9
    assert board.registers[gpio + 0xC24] == 0x77  # GPIOD_AFRH
    assert board.registers[gpio + 0x400] == 1 << 28  # GPIOB_MODER: PB14
    for register, bits in zip(CLOCKS[part], (1 << 1 | 1 << 3, 1 << 18), strict=True):
        assert board.registers[register] == bits
    for register, bits in STARTED.get(part, {}).items():
        assert board.registers[register] == bits


@pytest.mark.parametrize("part", PARTS)
def test_rows_come_through_the_uart(compiler: str, part: str) -> None:
    rng = np.random.default_rng(2)
    graph = random_graph(rng)
    image = random_image(rng, graph)
    rows = np.frombuffer(pixels(image), np.uint8).reshape(image.shape[0], -1)
    answers = {f"row {number}": row.tobytes() for number, row in enumerate(rows)}
    board = board_with(part, firmware(graph, part, "camera_uart.c").elf, answers=answers)
    board.run()
    lines = board.text.split("\r\n")
    assert lines[:-2] == [f"{part}: running", *answers]
    scores = execute(graph, image).reshape(-1)
    assert lines[-2].startswith(
        f"{part}: class {scores.argmax()} of {len(scores)}, score {scores.max()}, checksum "
    )


def test_a_camera_that_fails_is_reported() -> None:
    graph = random_graph(np.random.default_rng(1))
    files = {n: d for n, d in compile_graph(graph).items() if n.endswith((".c", ".h"))}
    files["firmware_main.c"] = main_source(graph.name)
    files["camera.c"] = (
        b'#include "board_camera.h"\nint board_camera_row(int32_t row, uint8_t *rgb, int32_t bytes)'
        b"{ (void)rgb; (void)bytes; return row == 3; }\n"
    )
    board = board_with("stm32f412", build_firmware(files, get_part("stm32f412"), board="uart").elf)
    board.run()
    assert board.text == "stm32f412: running\r\nthe picture could not be read\r\n"
    assert board.led == [1 << 14, 1 << 30, 1 << 14]


def test_each_register_is_named_once() -> None:
    folder = resources.files("etinynet.target") / "firmware"
    for part in PARTS:
        text = (folder / f"registers_{part}.h").read_text()
        assert re.search(r"by the names of RM\d{4}\.", text)
        for line in re.findall(r"#define \w+ +0x[0-9A-F]{8}u.*", text):
            assert re.search(r"u     /\* [A-Z0-9_]+ \*/$", line), line
    assert "0x40" not in (folder / "board_uart.c").read_text()
