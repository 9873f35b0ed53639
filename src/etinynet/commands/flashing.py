"""flash: firmware goes into the board at a debug probe."""

from __future__ import annotations

from pathlib import Path

from etinynet.target.flash import flash_firmware
from etinynet.target.parts import get_part

__all__ = ["flash_file"]


def flash_file(firmware: Path, on: str) -> dict[str, object]:
    """Writes ELF file `firmware` into part `on`; ConfigError for an unknown part."""
    return flash_firmware(firmware, get_part(on))
