"""What a module offers is what its `__all__` says, no more and no less."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import etinynet

ROOT = Path(etinynet.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))


def listed(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def is_alias(node: ast.stmt) -> bool:
    """Whether this names a type, such as `Arrays = dict[str, NDArray[Any]]`: listed or not."""
    return isinstance(node, ast.Assign) and not targets(node)[0].isupper()


def is_command(node: ast.stmt) -> bool:
    """Whether this is a verb of the command line, which its decorator makes known."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return any(ast.unparse(one).startswith("app.") for one in decorators)


def targets(node: ast.stmt) -> list[str]:
    """Names that a top-level statement binds, imports apart."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [leaf.id for t in node.targets for leaf in ast.walk(t) if isinstance(leaf, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def imports(tree: ast.Module) -> set[str]:
    nodes = (node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    return {alias.asname or alias.name for node in nodes for alias in node.names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_all_is_what_is_public(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module says its reason in its first line"
    public = {name for node in tree.body for name in targets(node) if not name.startswith("_")}
    names = listed(tree)
    if path.name == "__init__.py":
        available = public | imports(tree) - {"annotations"}
        assert set(names or ()) == available
        return
    assert names is not None, "no __all__"
    free = (node for node in tree.body if is_alias(node) or is_command(node))
    aliases = {name for node in free for name in targets(node)}
    assert sorted(set(names) - public) == [], "listed and not defined"
    assert sorted(public - aliases - set(names)) == [], "defined and not listed"
    assert len(set(names)) == len(names)
