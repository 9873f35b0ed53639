"""What an optimizer remembers goes into the state file and comes back, whatever optimizer it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from etinynet.errors import ArtefactError
from etinynet.train.checkpoint import read_state, restore, state_bytes

KINDS = {
    "adam": (lambda p: Adam(p, lr=0.1), {"step", "exp_avg", "exp_avg_sq"}),
    "sgd": (lambda p: SGD(p, lr=0.1, momentum=0.9), {"momentum_buffer"}),
    "plain": (lambda p: SGD(p, lr=0.1), set()),
}


def network(seed: int) -> nn.Module:
    """With a parameter of no axes, one of four in another order of memory, and one unused."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    model.register_parameter("single", nn.Parameter(torch.ones(())))
    return model.to(memory_format=torch.channels_last)


def step(model: nn.Module, optimizer: Optimizer, seed: int) -> None:
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    (model(x).square().mean() * model.single).backward()
    optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_as_if_never_stopped(kind: str, tmp_path: Path) -> None:
    make, keys = KINDS[kind]
    model = network(0)
    optimizer = make(model.parameters())
    for seed in range(3):
        step(model, optimizer, seed)
    path = tmp_path / "state.safetensors"
    path.write_bytes(state_bytes(model, optimizer, {"epoch": 3}))
    info, arrays = read_state(path)
    assert info == {"epoch": 3}
    stored = {name.split(".")[1] for name in arrays if name.startswith("optimizer.")}
    assert stored == keys
    assert not any(name.endswith(".unused") for name in arrays if name.startswith("optimizer."))
    other = network(1)
    its = make(other.parameters())
    restore(other, its, arrays, "state")
    for seed in range(3, 6):
        step(model, optimizer, seed)
        step(other, its, seed)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        for key, value in optimizer.state.get(one, {}).items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(its.state[two][key], value)
                assert its.state[two][key].stride() == value.stride()


def test_another_networks_state() -> None:
    model = network(0)
    optimizer = Adam(model.parameters())
    step(model, optimizer, 0)
    with pytest.raises(ArtefactError, match="state of another network than the one to be trained"):
        restore(model, optimizer, {"model.0.weight": torch.ones(4, 3, 3, 3).numpy()}, "state")
