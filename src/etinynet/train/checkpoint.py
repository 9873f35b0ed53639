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
from torch.optim import Adam, Optimizer

from etinynet.artefact import read_file, sha256
from etinynet.errors import ArtefactError
from etinynet.text import parse_json
from etinynet.train.history import words

__all__ = ["State", "read_state", "restore", "state_bytes"]

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
        info = parse_json(text) if intact else None
    # A damaged header can be wrong in every way: bad JSON, other types, unknown element types.
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        info = None
    if not isinstance(info, dict):
        raise ArtefactError(f"{path}: not a training state, or damaged; train from the start")
    return info, arrays


def restore(model: nn.Module, optimizer: Optimizer, arrays: State, source: str) -> None:
    """Puts `arrays` into `model` and `optimizer`, after all of them are checked.

    Raises ArtefactError: another network's or another optimizer's, other types or shapes, values
    that are not finite or that no training gives.
    """
    parameters = dict(model.named_parameters())
    state = {n.removeprefix("model."): a for n, a in arrays.items() if n.startswith("model.")}
    expected = {name: value.numpy() for name, value in model.state_dict().items()}
    if {n: a.shape for n, a in state.items()} != {n: a.shape for n, a in expected.items()}:
        raise ArtefactError(f"{source}: state of another network than the one to be trained")
    for name, array in state.items():
        _check_array(name, array, expected[name], name.endswith(".running_var"), source)
    memory = _checked_memory(parameters, optimizer, arrays, source)
    model.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in state.items()})
    for of, found in memory.items():
        for key, array in found.items():
            value = torch.from_numpy(np.array(array))
            # As the parameter lies in memory; Adam's number of steps is one value.
            place = torch.empty_like(value if key == "step" else parameters[of])
            optimizer.state[parameters[of]][key] = place.copy_(value)


def _remembered(optimizer: Optimizer) -> tuple[str, ...]:
    """Keys of what the optimizer keeps of each parameter that had a gradient."""
    if isinstance(optimizer, Adam):
        return ("step", "exp_avg", "exp_avg_sq")
    return ("momentum_buffer",) if optimizer.defaults["momentum"] else ()


def _checked_memory(
    parameters: Mapping[str, nn.Parameter], optimizer: Optimizer, arrays: State, source: str
) -> dict[str, State]:
    """What the optimizer kept, by parameter and key: of each parameter all keys, or none."""
    found: dict[str, State] = {}
    keys = _remembered(optimizer)
    for name, array in arrays.items():
        if name.startswith("model."):
            continue
        prefix, _, key_and_name = name.partition(".")
        key, _, of = key_and_name.partition(".")
        if prefix != "optimizer" or key not in keys or of not in parameters:
            raise ArtefactError(f"{source}: array {words(name)} belongs to no part of this run")
        like = parameters[of].detach().numpy()
        if key == "step":
            like = np.zeros((), like.dtype)
        _check_array(name, array, like, key in ("step", "exp_avg_sq"), source)
        found.setdefault(of, {})[key] = array
    for of, its in found.items():
        if its.keys() != set(keys):
            missing = next(key for key in keys if key not in its)
            raise ArtefactError(f"{source}: array 'optimizer.{missing}.{of}' is missing")
    return found


def _check_array(
    name: str, array: np.ndarray[Any, Any], like: np.ndarray[Any, Any], positive: bool, source: str
) -> None:
    """Refuses another type or shape than `like`'s, and what is not finite, or below 0."""
    if array.dtype != like.dtype or array.shape != like.shape:
        raise ArtefactError(
            f"{source}: array {words(name)} is {array.dtype} {array.shape}; "
            f"{like.dtype} {like.shape} is allowed"
        )
    if not np.isfinite(array).all():
        raise ArtefactError(f"{source}: array {words(name)} holds values that are not finite")
    if positive and (array < 0).any():
        raise ArtefactError(f"{source}: array {words(name)} holds a value below 0")
