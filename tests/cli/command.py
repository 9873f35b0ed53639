"""Runs the command line in this process, as its entry point does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etinynet.cli import main

ASSETS = Path(__file__).parents[2] / "src" / "etinynet" / "assets"
PICTURE = ASSETS / "sign-digits-5.jpg"
GRAPH = ASSETS / "sign-digits.etn"


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, stdout, stderr."""

    status: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """stdout as one JSON object."""
        assert self.status == 0, self.err
        return json.loads(self.out)

    def refused(self) -> str:
        """The one line of an error: exit code 2, nothing on stdout, no traceback."""
        assert self.status == 2, (self.status, self.out, self.err)
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert lines[-1].startswith("etinynet: "), self.err
        assert "Traceback" not in self.err
        assert self.out == ""
        return lines[-1]


#: run("predict", ...): what the fixture `run` gives.
Run = Callable[..., Outcome]


def etinynet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> Outcome:
    """`etinynet arguments...`"""
    monkeypatch.setattr("sys.argv", ["etinynet", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as leave:
        main()
    found = capsys.readouterr()
    return Outcome(int(leave.value.code or 0), found.out, found.err)
