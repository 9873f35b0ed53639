"""The debugger's side: files, console, and refusals, with a plain array as the program's memory."""

from __future__ import annotations

import struct

import pytest

from etinynet.errors import DeviceFault
from etinynet.target.semihosting import APPLICATION_EXIT, Semihosting

OPEN, CLOSE, WRITEC, WRITE0, WRITE, READ, EXIT = 1, 2, 3, 4, 5, 6, 0x18
FAILED = 0xFFFFFFFF


class Array:
    """256 bytes of memory at address 0."""

    def __init__(self) -> None:
        self.content = bytearray(256)

    def read(self, address: int, count: int) -> bytes:
        return bytes(self.content[address : address + count])

    def write(self, address: int, data: bytes) -> None:
        self.content[address : address + len(data)] = data

    def put(self, *words: int) -> int:
        """Puts an argument block at address 128."""
        self.write(128, struct.pack(f"<{len(words)}I", *words))
        return 128


@pytest.fixture
def memory() -> Array:
    return Array()


def opened(host: Semihosting, memory: Array, name: bytes, mode: int) -> int:
    memory.write(0, name)
    return host.call(OPEN, memory.put(0, mode, len(name)), memory)


def test_read_in_pieces(memory: Array) -> None:
    host = Semihosting({"a.bin": b"12345"})
    handle = opened(host, memory, b"a.bin", 1)
    assert handle not in (0, FAILED)
    assert host.call(READ, memory.put(handle, 16, 3), memory) == 0
    assert host.call(READ, memory.put(handle, 19, 4), memory) == 2
    assert memory.read(16, 6) == b"12345\0"
    assert host.call(READ, memory.put(handle, 16, 1), memory) == 1


def test_write_and_close(memory: Array) -> None:
    host = Semihosting({})
    handle = opened(host, memory, b"out", 5)
    memory.write(16, b"xyz")
    assert host.call(WRITE, memory.put(handle, 16, 3), memory) == 0
    assert host.call(WRITE, memory.put(handle, 17, 2), memory) == 0
    assert host.call(CLOSE, memory.put(handle), memory) == 0
    assert host.call(CLOSE, memory.put(handle), memory) == FAILED
    assert host.call(WRITE, memory.put(handle, 16, 3), memory) == 3
    assert host.written == {"out": b"xyzyz"}


def test_refusals(memory: Array) -> None:
    host = Semihosting({"a": b"1"})
    assert opened(host, memory, b"absent", 1) == FAILED
    reading, writing = opened(host, memory, b"a", 1), opened(host, memory, b"b", 5)
    assert reading != writing
    assert host.call(WRITE, memory.put(reading, 0, 2), memory) == 2
    assert host.call(READ, memory.put(writing, 0, 2), memory) == 2
    with pytest.raises(DeviceFault, match=r"semihosting operation 0x12 is not offered"):
        host.call(0x12, 0, memory)


def test_console_and_exit(memory: Array) -> None:
    host = Semihosting({})
    memory.write(0, b"hello\0x")
    host.call(WRITE0, 0, memory)
    host.call(WRITEC, 6, memory)
    assert host.console == "hellox"
    assert host.exit_reason is None
    host.call(EXIT, APPLICATION_EXIT, memory)
    assert host.exit_reason == APPLICATION_EXIT
