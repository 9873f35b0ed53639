"""OpenMP's threads wait without spinning, unless the user or an earlier torch decided it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch

from etinynet import threads
from etinynet.threads import WAITING, choose_threads, spared, wait_passively


def child(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`code` in a fresh interpreter with these settings of OpenMP alone."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={**inherited, **settings},
    )  # fmt: skip


def policy(code: str, **settings: str) -> str:
    """What OpenMP itself says that it took, when `code` has loaded torch."""
    said = child(code, OMP_DISPLAY_ENV="true", **settings).stderr
    found = re.search(r"OMP_WAIT_POLICY ?= ?'(\w+)'", said)
    if found is None:
        pytest.skip("this OpenMP does not say what it took")
    return found[1]


@pytest.mark.parametrize("module", ["etinynet.train.loop", "etinynet.commands.quantizing, torch"])
def test_openmp_takes_the_policy(module: str) -> None:
    assert policy(f"import {module}") == "PASSIVE"


def test_a_users_policy_stays() -> None:
    assert policy("import etinynet.train.loop", OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_it_is_set_before_torch_is_there() -> None:
    code = "import os, sys, etinynet; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    assert child(code).stdout.split() == ["PASSIVE", "False"]


@pytest.mark.parametrize("name", WAITING)
def test_any_setting_of_the_users_stays(name: str) -> None:
    environment = {name: "1"}
    wait_passively(environment)
    assert environment == {name: "1"}


@pytest.fixture
def two_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield None
    torch.set_num_threads(before)


@pytest.mark.parametrize(("side", "number"), [(96, 1), (128, 1), (129, 2), (224, 2)])
def test_small_networks_take_one_thread(two_threads: None, side: int, number: int) -> None:
    choose_threads(side, {"OMP_NUM_THREADS": "2"})
    assert torch.get_num_threads() == 2
    choose_threads(side, {})
    assert torch.get_num_threads() == number


def test_spinning_threads_are_spared(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left to do where torch was loaded first, so that the policy came too late."""
    environment: dict[str, str] = {}
    monkeypatch.setattr(threads, "_spinning", None)
    with spared(96, environment):
        assert torch.get_num_threads() == 2, "these threads sleep"
    wait_passively(environment)
    assert environment == {}
    with spared(96, environment):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with spared(224, environment):
        assert torch.get_num_threads() == 2
    torch.set_num_threads(3)
    with spared(96, environment):
        assert torch.get_num_threads() == 3, "somebody chose this number"
