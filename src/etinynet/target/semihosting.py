"""The debugger's side of Arm semihosting: files and console of an emulated program, in memory."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from etinynet.errors import DeviceFault

__all__ = ["APPLICATION_EXIT", "Memory", "Semihosting"]

#: Reason of SYS_EXIT that means success.
APPLICATION_EXIT = 0x20026

_OPEN, _CLOSE, _WRITEC, _WRITE0, _WRITE, _READ, _EXIT = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x18
_FAILED = 0xFFFFFFFF
_LONGEST_TEXT = 4096


class Memory(Protocol):
    """The program's memory; both raise DeviceFault outside of it."""

    def read(self, address: int, count: int) -> bytes:
        """`count` bytes from `address`."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Puts `data` at `address`."""
        ...


@dataclass
class _File:
    name: str
    content: bytes = b""
    position: int = 0
    is_written: bool = False


@dataclass
class Semihosting:
    """Answers BKPT 0xAB. `files` can be opened for reading, every name for writing.

    Afterwards: `written` holds the files, `console` the text, `exit_reason` what SYS_EXIT said.
    """

    files: Mapping[str, bytes]
    written: dict[str, bytes] = field(default_factory=dict)
    console: str = ""
    exit_reason: int | None = None
    _open: dict[int, _File] = field(default_factory=dict)

    def call(self, operation: int, argument: int, memory: Memory) -> int:
        """Does `operation` (R0) with `argument` (R1); what goes back into R0.

        Raises DeviceFault for an operation that the firmware has no need of.
        """
        if operation == _OPEN:
            name_at, mode, length = struct.unpack("<3I", memory.read(argument, 12))
            return self._open_file(name_at, mode, length, memory)
        if operation == _CLOSE:
            (handle,) = struct.unpack("<I", memory.read(argument, 4))
            return 0 if self._open.pop(handle, None) else _FAILED
        if operation == _WRITEC:
            self.console += memory.read(argument, 1).decode("latin-1")
            return 0
        if operation == _WRITE0:
            self.console += _text(argument, memory)
            return 0
        if operation in (_WRITE, _READ):
            handle, address, count = struct.unpack("<3I", memory.read(argument, 12))
            return self._transfer(operation, handle, address, count, memory)
        if operation == _EXIT:
            self.exit_reason = argument
            return 0
        raise DeviceFault(f"semihosting operation {operation:#x} is not offered")

    def _open_file(self, name_at: int, mode: int, length: int, memory: Memory) -> int:
        name = memory.read(name_at, min(length, _LONGEST_TEXT)).decode("latin-1")
        is_written = mode >= 4
        if not is_written and name not in self.files:
            return _FAILED
        handle = 1 + max(self._open, default=0)
        content = b"" if is_written else self.files[name]
        self._open[handle] = _File(name, content, is_written=is_written)
        if is_written:
            self.written[name] = b""
        return handle

    def _transfer(
        self, operation: int, handle: int, address: int, count: int, memory: Memory
    ) -> int:
        """The number of bytes not transferred, as semihosting wants it."""
        file = self._open.get(handle)
        if file is None or file.is_written != (operation == _WRITE):
            return count
        if operation == _WRITE:
            self.written[file.name] += memory.read(address, count)
            return 0
        data = file.content[file.position : file.position + count]
        memory.write(address, data)
        file.position += len(data)
        return count - len(data)


def _text(address: int, memory: Memory) -> str:
    text = bytearray()
    while len(text) < _LONGEST_TEXT:
        byte = memory.read(address + len(text), 1)
        if byte == b"\0":
            break
        text += byte
    return text.decode("latin-1")
