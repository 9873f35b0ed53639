"""Packages that only some verbs need, and what installs each."""

from __future__ import annotations

from etinynet.errors import ToolError

__all__ = ["EXTRAS", "not_installed"]

#: By package as it is imported: its name on the index, what it is, and the extra that holds it.
EXTRAS = {
    "torch": ("torch", "PyTorch", "train"),
    "jinja2": ("jinja2", "the template engine", "mcu"),
    "ziglang": ("ziglang", "the C compiler", "mcu"),
    "unicorn": ("unicorn", "the emulator", "mcu"),
    "capstone": ("capstone", "the decoder of instructions", "mcu"),
    "elftools": ("pyelftools", "the reader of ELF files", "mcu"),
    "onnx": ("onnx", "the format of export", "onnx"),
    "matplotlib": ("matplotlib", "what draws figures", "plot"),
    "pyocd": ("pyocd", "the driver of debug probes", "flash"),
}


def not_installed(module: str) -> ToolError:
    """The error of a package in EXTRAS that cannot be imported; it says what installs it."""
    package, what, extra = EXTRAS[module]
    return ToolError(
        f"package {package!r}, {what}, is not installed; in the clone of etinynet run "
        f"pip install -e '.[{extra}]'"
    )
