"""README.md's tree names every source file."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FILES = sorted(
    path.relative_to(REPOSITORY / "src").as_posix()
    for ending in ("py", "c", "h", "jinja")
    for path in (REPOSITORY / "src").rglob(f"*.{ending}")
)


def named(readme: str) -> set[str]:
    """Paths of the tree: a folder ends in "/", its files are indented below it by two spaces."""
    block = readme.split("```text\netinynet/\n", 1)[1].split("```", 1)[0]
    found, folders = set(), ["etinynet"]
    for line in block.splitlines():
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders[depth:] = [name.rstrip("/")]
        if not name.endswith("/"):
            assert len(line.split()) > 1, f"{name} has no phrase"
            found.add("/".join(folders))
    return found


@pytest.fixture(scope="module")
def tree() -> set[str]:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    return named(readme)


def test_every_file_is_named(tree: set[str]) -> None:
    assert sorted(set(FILES) - tree) == []


def test_every_name_is_a_file(tree: set[str]) -> None:
    files = {name for name in tree if name.endswith((".py", ".c", ".h", ".jinja"))}
    assert sorted(files - set(FILES)) == []
