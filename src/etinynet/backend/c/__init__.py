"""The C backend: a graph becomes one folder of C99 without an interpreter (emit) for one arena."""

from etinynet.backend.c.emit import compile_graph
from etinynet.backend.c.packaging import package_files
from etinynet.backend.c.plan import MODES
from etinynet.backend.c.report import decode_rows, pieces, plan_mode, store_rows

__all__ = [
    "MODES",
    "compile_graph",
    "decode_rows",
    "package_files",
    "pieces",
    "plan_mode",
    "store_rows",
]
