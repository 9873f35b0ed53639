"""Hooks written in C: compiled at first use, called by the emulator without a detour to Python."""

from __future__ import annotations

import ctypes
import functools
import importlib
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from etinynet.errors import ToolError
from etinynet.target.toolchain import compile_sources, host_compiler, run_tool

__all__ = ["add_hook", "engine_function", "hook_function"]

_SOURCES = ("block_counter.c", "alignment_check.c")


def hook_function(name: str) -> ctypes.c_void_p:
    """The C function `name`; raises ToolError if the host's compiler is missing or fails."""
    return ctypes.cast(getattr(_library(), name), ctypes.c_void_p)


def engine_function(name: str) -> ctypes.c_void_p:
    """The function `name` of unicorn's C interface, for hooks to call."""
    return ctypes.cast(getattr(_unicorn(), name), ctypes.c_void_p)


def add_hook(
    engine: Any,
    kind: int,
    function: ctypes.c_void_p,
    user: ctypes.Structure,
    begin: int = 1,
    end: int = 0,
) -> None:
    """uc_hook_add for a C function, which unicorn's Python binding does not offer.

    `engine` is a unicorn.Uc; `user` must outlive it; by default the hook is for all addresses.
    """
    handle = ctypes.c_size_t()
    limits = (ctypes.c_uint64(begin), ctypes.c_uint64(end))
    status = _unicorn().uc_hook_add(
        engine._uch, ctypes.byref(handle), kind, function, ctypes.byref(user), *limits
    )
    if status:
        raise ToolError(f"unicorn: cannot add a hook: error {status}")


def _unicorn() -> Any:
    try:
        return importlib.import_module("unicorn.unicorn_py3.unicorn").uclib
    except (ImportError, AttributeError):
        raise ToolError("this version of package 'unicorn' is unknown; allowed are 2.1.x") from None


@functools.cache
def _library() -> ctypes.CDLL:
    name = "hooks.dll" if sys.platform == "win32" else "hooks.so"
    compiler = host_compiler(("-fPIC",))
    with tempfile.TemporaryDirectory(prefix="etinynet-", ignore_cleanup_errors=True) as folder:
        directory = Path(folder)
        for source in _SOURCES:
            data = resources.files("etinynet.target").joinpath(source).read_bytes()
            (directory / source).write_bytes(data)
        objects = compile_sources(compiler, _SOURCES, directory)
        run_tool((*compiler.command, *compiler.flags, "-shared", *objects, "-o", name), directory)
        return ctypes.CDLL(str(directory / name))
