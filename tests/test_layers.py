"""Imports go one way, and the light half of the package never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import etinynet

ROOT = Path(etinynet.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

#: Of each part of the package: the parts it may import, itself apart.
ALLOWED = {
    "": {"threads"},
    "threads": set(),
    "text": set(),
    "errors": {"text"},
    "extras": {"errors"},
    "artefact": {"text", "errors"},
    "graph": {"text", "errors"},
    "data": {"text", "errors"},
    "backend": {"text", "errors", "extras", "artefact", "graph"},
    "target": {"text", "errors", "extras", "artefact", "graph", "backend"},
    "model": {"text", "errors", "artefact", "data"},
    "train": {"text", "errors", "threads", "artefact", "data", "model"},
    "frontend": {"errors", "graph"},
    "quantize": {"errors", "extras", "threads", "model", "train", "graph", "frontend"},
    "show": {"text", "errors"},
    "opened": {"errors", "artefact", "data", "graph", "model", "train", "target"},
    "commands": {
        *("text", "errors", "extras", "artefact", "data", "graph", "backend", "target", "model"),
        *("train", "frontend", "quantize", "show", "opened", "threads"),
    },
    "cli_shared": {"errors", "artefact", "model", "show"},
    "cli_errors": {"text", "errors", "extras", "show"},
    "cli_quantize": {"errors", "show", "commands", "cli_shared"},
    "cli_train": {"errors", "show", "commands", "train", "cli_shared"},
    "cli": {
        *("errors", "show", "commands", "model", "cli_shared", "cli_quantize", "cli_train"),
        "cli_errors",
    },
}
FLOAT = ("model", "train", "frontend", "quantize")
#: The only files that see the float network and the integer graph.
BRIDGES = {"quantize/lower.py", "quantize/pipeline.py"}
#: What the others may know of the graph: which operators there are, and what they read.
OPERATORS = ("graph.ir.POINT", "graph.ir.Window", "graph.ops.", "graph.precision.")


def part(path: Path) -> str:
    """ "graph" for src/etinynet/graph/io.py, "cli" for src/etinynet/cli.py, "" for the root."""
    name = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if name == "__init__" else name


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        assert node.module is not None
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """Parts of the package that `path` imports anywhere, itself apart."""
    names = (name for node in ast.walk(ast.parse(path.read_text())) for name in imported(node))
    return {name.split(".")[1] for name in names if name.startswith("etinynet.")} - {part(path)}


def beyond_operators(path: Path) -> set[str]:
    """What `path` imports of the graph besides `OPERATORS`."""
    names = {name for node in ast.walk(ast.parse(path.read_text())) for name in imported(node)}
    parts = {name.removeprefix("etinynet.") for name in names if name.startswith("etinynet.graph")}
    return {name for name in parts if not name.startswith(OPERATORS)}


def at_import(path: Path) -> set[str]:
    """Top-level packages that `path` imports when it is imported itself."""
    found = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        found |= {name.split(".")[0] for name in imported(node)}
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not lazy and not checking:
            waiting += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_direction(path: Path) -> None:
    uphill = ours(path) - ALLOWED[part(path)]
    assert not uphill, f"{path.relative_to(ROOT)} imports {uphill}"
    name = path.relative_to(ROOT).as_posix()
    if part(path) in FLOAT and name not in BRIDGES:
        assert beyond_operators(path) == set()
    if part(path) not in FLOAT:
        assert "torch" not in at_import(path), f"{name} loads torch"


def test_graph_imports_only_numpy_and_safetensors() -> None:
    outside = set()
    for path in (ROOT / "graph").glob("*.py"):
        outside |= at_import(path)
    assert outside - set(sys.stdlib_module_names) == {"numpy", "safetensors", "etinynet"}


def loaded(statement: str) -> set[str]:
    """Top-level packages in memory after `statement` in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["etinynet.graph", "etinynet.target.base", "etinynet.backend.c", "etinynet.cli"],
)
def test_no_torch(module: str) -> None:
    assert "torch" not in loaded(f"import {module}")


def test_the_graph_loads_little() -> None:
    """Beside the standard library and what the interpreter starts with."""
    more = loaded("import etinynet.graph") - loaded("") - set(sys.stdlib_module_names)
    assert more - {"etinynet", "numpy", "safetensors"} == set()
