"""Reads a firmware image: what to load where, and which function an address belongs to."""

from __future__ import annotations

import bisect
import io
from dataclasses import dataclass, field
from typing import Any

from etinynet.errors import ArtefactError
from etinynet.extras import not_installed

__all__ = ["Image", "Symbol", "read_elf"]


@dataclass(frozen=True)
class Symbol:
    """A function or object: `address` without the Thumb bit, `size` in bytes."""

    name: str
    address: int
    size: int
    is_function: bool


@dataclass(frozen=True)
class Image:
    """A linked program: `segments` are (physical address, content), `symbols` by address.

    `marks` are the linker script's own symbols, by name.
    """

    segments: tuple[tuple[int, bytes], ...]
    symbols: tuple[Symbol, ...]
    marks: dict[str, int]
    _starts: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", [symbol.address for symbol in self.symbols])

    @property
    def flash_bytes(self) -> int:
        """Bytes that are programmed into the part, initial values of variables included."""
        return sum(len(content) for _, content in self.segments)

    def symbol_at(self, address: int) -> Symbol | None:
        """The function or object that contains `address`; None if none does."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        symbol = self.symbols[index]
        return symbol if address < symbol.address + max(symbol.size, 1) else None

    def place(self, address: int) -> str:
        """`address` in words: "main+0x1c", or the bare number outside all functions."""
        symbol = self.symbol_at(address)
        if symbol is None:
            return f"{address:#010x}"
        return f"{symbol.name}+{address - symbol.address:#x}"

    def function(self, name: str) -> Symbol | None:
        """The function called `name`, if it was linked."""
        return next((s for s in self.symbols if s.is_function and s.name == name), None)


def read_elf(data: bytes) -> Image:
    """Parses an ELF executable; ArtefactError if it is damaged, ToolError without pyelftools.

    A program without a table of symbols has none.
    """
    try:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile
    except ImportError:
        raise not_installed("elftools") from None
    try:
        return _image(ELFFile(io.BytesIO(data)))
    except ELFError as error:
        raise ArtefactError(f"firmware: this is not a whole ELF file: {error}") from None


def _image(file: Any) -> Image:
    segments = tuple(
        (int(segment["p_paddr"]), bytes(segment.data()))
        for segment in file.iter_segments()
        if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]
    )
    symbols: dict[int, Symbol] = {}
    marks: dict[str, int] = {}
    table: Any = file.get_section_by_name(".symtab")
    for entry in () if table is None else table.iter_symbols():
        kind, value, size = entry["st_info"]["type"], int(entry["st_value"]), int(entry["st_size"])
        if kind in ("STT_FUNC", "STT_OBJECT"):
            is_function = kind == "STT_FUNC"
            address = value & ~1 if is_function else value
            if address not in symbols or symbols[address].size < size:
                symbols[address] = Symbol(entry.name, address, size, is_function)
        elif kind == "STT_NOTYPE" and entry.name and not entry.name.startswith("$"):
            marks[entry.name] = value
    return Image(segments, tuple(symbols[key] for key in sorted(symbols)), marks)
