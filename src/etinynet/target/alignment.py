"""Finds the instructions that need aligned addresses, and watches them in the emulator."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etinynet.target.elf import Image
from etinynet.target.native import add_hook, engine_function, hook_function
from etinynet.target.parts import Region

__all__ = ["AlignmentCheck"]


class _Fields(ctypes.Structure):
    """etn_alignment of alignment_check.c."""

    _fields_ = (
        ("code", ctypes.c_void_p),
        ("origin", ctypes.c_uint32),
        ("registers", ctypes.c_int32 * 15),
        ("read_register", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("fault_at", ctypes.c_uint32),
        ("fault_address", ctypes.c_uint32),
    )


class AlignmentCheck:
    """Watches LDM, STM, LDRD and STRD of `image` in `engine`, whose `flash` has `content`.

    `registers` are the engine's numbers of R0 to R14; `hook_kind` that of a hook on instructions.
    """

    def __init__(
        self,
        engine: Any,
        image: Image,
        flash: Region,
        content: NDArray[np.uint8],
        registers: list[int],
        hook_kind: int,
    ) -> None:
        self._content = content
        self._fields = _Fields(
            content.ctypes.data,
            flash.origin,
            (ctypes.c_int32 * 15)(*registers),
            engine_function("uc_reg_read"),
            engine_function("uc_emu_stop"),
        )
        function = hook_function("etn_check_alignment")
        for symbol in image.symbols:
            if symbol.is_function and symbol.address in flash:
                start = symbol.address - flash.origin
                for offset in _places(content[start : start + symbol.size].tobytes()):
                    address = symbol.address + offset
                    add_hook(engine, hook_kind, function, self._fields, address, address)

    def reset(self) -> None:
        """Forgets what was found."""
        self._fields.fault_at = 0

    @property
    def fault(self) -> tuple[int, int] | None:
        """Address of the first instruction that would have faulted, and the address it used."""
        fields = self._fields
        return (int(fields.fault_at), int(fields.fault_address)) if fields.fault_at else None


def _places(code: bytes) -> Iterator[int]:
    """Offsets in a function's `code` of its LDM, STM, LDRD and STRD.

    Encodings of the Armv7-M manual, A5.2 and A5.3. The bases SP and PC are always aligned.
    """
    at = 0
    while at + 2 <= len(code):
        half = code[at] | code[at + 1] << 8
        is_wide = half >= 0xE800
        if is_wide:
            is_multiple = half & 0xFE40 == 0xE800
            is_dual = half & 0xFE40 == 0xE840 and half & 0x0120 != 0
            if (is_multiple or is_dual) and half & 15 not in (13, 15):
                yield at
        elif half & 0xF000 == 0xC000:
            yield at
        at += 4 if is_wide else 2
