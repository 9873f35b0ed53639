"""Fixtures of all tests: development data and tools, and what to do where they are absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from etinynet import wait_passively
from optional_tools import require

wait_passively()  # done by the import already; here before any test loads torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-costs", action="store_true", help="write what target/test_costs.py measures"
    )


def _shared_data() -> Path:
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("ETINYNET_SHARED_DATA", default))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of development data; skips by name where absent, fails where it is required."""
    path = _shared_data()
    if path.is_dir():
        return path
    if os.environ.get("ETINYNET_REQUIRE_SHARED_DATA"):
        pytest.fail(f"shared data are required here and absent: {path}")
    pytest.skip("shared data absent")


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """tool("clang"): that command; skips by name where it cannot do what the tests ask of it,
    fails where it is required."""
    return require
