"""Watches the instructions that need aligned addresses in the emulator."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """Watches each LDM, STM, LDRD and STRD that `engine` executes, whose `flash` has `content`.

    `registers` are the engine's numbers of R0 to R14; `hook_kind` that of a hook on instructions.
    """

    def __init__(
        self,
        engine: Any,
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
        add_hook(engine, hook_kind, function, self._fields, flash.origin, flash.end - 1)

    def reset(self) -> None:
        """Forgets what was found."""
        self._fields.fault_at = 0

    @property
    def fault(self) -> tuple[int, int] | None:
        """Address of the first instruction that would have faulted, and the address it used."""
        fields = self._fields
        return (int(fields.fault_at), int(fields.fault_address)) if fields.fault_at else None
