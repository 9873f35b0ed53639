"""State of an unfinished run as safetensors: every byte checked, nothing in it is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from etinynet.artefact import read_file, sha256
from etinynet.errors import ArtefactError

__all__ = ["read_state", "restore", "state_bytes"]

_KEY = "etinynet-training"

State = dict[str, np.ndarray[Any, Any]]


def _named_state(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """What the optimizer remembers of each parameter: momenta, and Adam's number of steps."""
    return {
        f"optimizer.{key}.{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _container(text: str, arrays: State) -> bytes:
    checksum = sha256(text.encode() + save(arrays))
    return bytes(save(arrays, {_KEY: f"{checksum} {text}"}))


def state_bytes(model: nn.Module, optimizer: Optimizer, info: Mapping[str, Any]) -> bytes:
    """A file with parameters, buffers, the optimizer's state, and `info`, which is plain JSON."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= _named_state(model, optimizer)
    arrays = {name: value.detach().cpu().contiguous().numpy() for name, value in tensors.items()}
    return _container(json.dumps(dict(info)), arrays)


def read_state(path: Path) -> tuple[dict[str, Any], State]:
    """(info, arrays) of a file of `state_bytes`; raises ArtefactError for any changed bit."""
    data = read_file(path, "training state")
    try:
        length = int.from_bytes(data[:8], "little")
        entry = json.loads(data[8 : 8 + length])["__metadata__"][_KEY]
        text = entry.partition(" ")[2]
        arrays = load(data)
        intact = _container(text, arrays) == data
        info = json.loads(text) if intact else None
    # A damaged header can be wrong in every way: bad JSON, other types, unknown element types.
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        info = None
    if not isinstance(info, dict):
        raise ArtefactError(f"{path}: not a training state, or damaged; train from the start")
    return info, arrays


def restore(model: nn.Module, optimizer: Optimizer, arrays: State, source: str) -> None:
    """Puts `arrays` into `model` and `optimizer`; raises ArtefactError for another network's."""
    values = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    expected = model.state_dict()
    state = {n.removeprefix("model."): v for n, v in values.items() if n.startswith("model.")}
    if {n: v.shape for n, v in state.items()} != {n: v.shape for n, v in expected.items()}:
        raise ArtefactError(f"{source}: state of another network than the one to be trained")
    model.load_state_dict(state)
    parameters = dict(model.named_parameters())
    for name, value in values.items():
        _, _, key_and_name = name.partition("optimizer.")
        key, _, of = key_and_name.partition(".")
        if of in parameters:
            # As the parameter lies in memory; Adam's number of steps is one value.
            place = torch.empty_like(parameters[of]) if value.dim() else torch.empty_like(value)
            optimizer.state[parameters[of]][key] = place.copy_(value)
