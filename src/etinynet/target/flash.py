"""Writes a firmware image into a part's flash, through a debug probe and pyOCD."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

from etinynet.artefact import read_file
from etinynet.errors import ArtefactError, ToolError, UnsupportedError
from etinynet.extras import not_installed
from etinynet.target.elf import Image, read_elf
from etinynet.target.parts import PARTS, Part

__all__ = ["check_firmware", "flash_firmware"]

#: What pyOCD calls each part: a target of its own, or of a pack that its user installs once.
_TARGETS = {"stm32f412": "stm32f412xg", "stm32f746": "stm32f746zg", "stm32h743": "stm32h743xx"}


def check_firmware(data: bytes, part: Part, source: str) -> Image:
    """The program in ELF file `data`, made for `part`.

    Raises ArtefactError if `data` is no ELF file, and UnsupportedError if it names another part,
    or puts code outside the flash or the stack outside the RAM of this one. `source` names it.
    """
    if data[:4] != b"\x7fELF":
        raise ArtefactError(f"{source}: this is not an ELF file, it starts with {data[:4]!r}")
    image = read_elf(data)
    for name in PARTS:
        if f"etn_part_{name}" in image.marks and name != part.name:
            raise UnsupportedError(f"{source}: made for {name}, --on is {part.name!r}")
    flash = part.flash
    for address, content in image.segments:
        if address not in flash or address + len(content) > flash.end:
            raise UnsupportedError(
                f"{source}: {len(content)} bytes for address {address:#010x}; flash of {part.name} "
                f"is {flash.origin:#010x} to {flash.end - 1:#010x}"
            )
    vectors = next((data for start, data in image.segments if start == flash.origin), b"")
    if len(vectors) < 8:
        raise UnsupportedError(f"{source}: no vectors at {flash.origin:#010x}, where they start")
    stack, reset = struct.unpack_from("<2I", vectors)
    if not any(ram.origin < stack <= ram.end for ram in part.rams) or reset not in flash:
        raise UnsupportedError(
            f"{source}: stack {stack:#010x} and reset {reset:#010x} are not in RAM and flash of "
            f"{part.name}"
        )
    return image


def flash_firmware(path: Path, part: Part) -> dict[str, object]:
    """Writes the ELF file at `path` into `part` and starts it; what was written, to where.

    Raises as `check_firmware`, and ToolError without pyOCD, without a probe, without pyOCD's
    support for the part, or if the probe fails.
    """
    image = check_firmware(read_file(path, "firmware"), part, str(path))
    try:
        from pyocd.core.exceptions import Error, TargetSupportError
        from pyocd.core.helpers import ConnectHelper
        from pyocd.flash.file_programmer import FileProgrammer
    except ImportError:
        raise not_installed("pyocd") from None
    logging.getLogger("pyocd").setLevel(logging.CRITICAL)  # errors are ours to word
    probes = ConnectHelper.get_all_connected_probes(blocking=False, print_wait_message=False)
    if len(probes) != 1:
        raise ToolError(_probes_in_words([probe.description for probe in probes]))
    target = _TARGETS[part.name]
    try:
        session = ConnectHelper.session_with_chosen_probe(
            blocking=False, unique_id=probes[0].unique_id, options={"target_override": target}
        )
        with session:
            FileProgrammer(session, progress=lambda done: None).program(str(path), "elf")
            session.target.reset()
    except TargetSupportError:
        raise ToolError(
            f"pyOCD does not know {target!r} yet; run once: pyocd pack install {target}"
        ) from None
    except Error as error:
        raise ToolError(f"probe {probes[0].unique_id}: {error}") from None
    return {"part": part.name, "probe": probes[0].unique_id, "bytes": image.flash_bytes}


def _probes_in_words(found: list[str]) -> str:
    if not found:
        return "no debug probe is attached; connect the board's ST-LINK by USB"
    return f"{len(found)} debug probes are attached, allowed is one: {', '.join(found)}"
