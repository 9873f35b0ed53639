"""Fixtures of the target tests: small C programs on the emulated parts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from etinynet.target.emulator import Machine
from etinynet.target.link import Firmware, build_firmware
from etinynet.target.parts import get_part

Build = Callable[..., Firmware]


@pytest.fixture(scope="session")
def build() -> Build:
    """Links a C source text that has `int main(void)` for a part."""

    def link(source: str, part: str = "stm32f412", **options: object) -> Firmware:
        text = '#include <stdint.h>\n#include "board.h"\nint main(void);\n' + source
        return build_firmware({"main.c": text.encode()}, get_part(part), **options)  # type: ignore[arg-type]

    return link


@pytest.fixture(scope="session")
def machine(build: Build) -> Callable[..., Machine]:
    """A machine with such a program in its flash."""

    def load(
        source: str,
        part: str = "stm32f412",
        *,
        check_alignment: bool = False,
        profile: bool = False,
        **options: object,
    ) -> Machine:
        firmware = build(source, part, **options)
        return Machine(
            firmware.part, firmware.image, check_alignment=check_alignment, profile=profile
        )

    return load
