"""Optional tools are asked whether they can do their work, not whether they are there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import optional_tools
from optional_tools import PROBES, inability, require

#: A clang whose sanitizer run-time is not installed, and one whose programs do not start.
NO_RUNTIME = """#!/bin/sh
for word; do case $word in -fsanitize=*)
    echo "ld: cannot find libclang_rt.asan-x86_64.a: No such file or directory" >&2; exit 1
esac; done
"""
NO_START = '#!/bin/sh\necho "exit 3" > probe; sed -i "1i #!/bin/sh" probe; chmod +x probe\n'


def put(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder before all others on the path; nothing that was found out counts."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(optional_tools, "inability", inability.__wrapped__)
    return tmp_path / "bin"


def test_clang_without_its_sanitizers_is_not_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(path, "clang", NO_RUNTIME)
    words = r"clang is here but cannot do what the tests need: clang .*: ld: cannot find libclang_"
    monkeypatch.delenv("ETINYNET_REQUIRE_TOOLS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=words):
        require("clang")
    monkeypatch.setenv("ETINYNET_REQUIRE_TOOLS", "1")
    with pytest.raises(pytest.fail.Exception, match=f"required here: {words}"):
        require("clang")


@pytest.mark.parametrize("name", PROBES)
def test_every_tool_is_tried(path: Path, name: str) -> None:
    put(path, name, "#!/bin/sh\necho broken >&2\nexit 1\n")
    assert inability.__wrapped__(name).endswith(": broken")


@pytest.mark.parametrize("name", ["gcc", "g++", "clang"])
def test_programs_are_run(path: Path, name: str) -> None:
    put(path, name, NO_START)
    assert inability.__wrapped__(name).endswith("./probe: exit status 3")


def test_absent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(path))
    assert [inability.__wrapped__(name) for name in PROBES] == [f"{n} is absent" for n in PROBES]


def test_the_command_names_what_cannot(path: Path) -> None:
    put(path, "clang", NO_RUNTIME)
    command = [sys.executable, optional_tools.__file__]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "clang is here but cannot" in done.stdout
