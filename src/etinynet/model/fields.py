"""Checks of the fields of network configurations; every one raises ConfigError."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol

from etinynet.errors import ConfigError

__all__ = [
    "MAX_CHANNELS",
    "MAX_SIZE",
    "MIN_SIZE",
    "common",
    "connected",
    "integer",
    "one_of",
    "record",
]

MAX_CHANNELS = 4096
#: Side of a network's input in pixels.
MIN_SIZE, MAX_SIZE = 8, 4096
_MAX_BLOCKS = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Network(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def stem_channels(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def bn_epsilon(self) -> float: ...


class _Block(Protocol):
    @property
    def in_channels(self) -> int: ...
    @property
    def out_channels(self) -> int: ...


def integer(owner: str, field: str, value: object, low: int, high: int) -> None:
    """Refuses what is no integer of `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{owner}: {field} is {value!r}; an integer {low} to {high} is allowed")


def one_of(owner: str, field: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuses what is not in `allowed`."""
    if value not in allowed:
        raise ConfigError(f"{owner}: {field} is {value!r}; allowed: {', '.join(allowed)}")


def common(config: _Network) -> None:
    """The fields that all networks have."""
    if not isinstance(config.name, str) or not _NAME.fullmatch(config.name):
        raise ConfigError(
            f"config: name is {config.name!r}; 1 to 64 letters, digits, '.', '_' or '-' "
            "are allowed, the first a letter or a digit"
        )
    integer(config.name, "stem_channels", config.stem_channels, 1, MAX_CHANNELS)
    integer(config.name, "classes", config.classes, 0, 65535)
    integer(config.name, "size", config.size, MIN_SIZE, MAX_SIZE)
    epsilon = config.bn_epsilon
    if type(epsilon) is not float or not 0 < epsilon <= 1:
        raise ConfigError(
            f"{config.name}: bn_epsilon is {epsilon!r}; a number above 0 and up to 1 is allowed"
        )


def connected(name: str, channels: int, blocks: Sequence[_Block], kind: type) -> None:
    """Each of `blocks` is of `kind` and reads the channels that the layer before it gives."""
    if not 1 <= len(blocks) <= _MAX_BLOCKS:
        raise ConfigError(f"{name}: {len(blocks)} blocks; 1 to {_MAX_BLOCKS} are allowed")
    for index, block in enumerate(blocks):
        if not isinstance(block, kind):
            raise ConfigError(f"{name}: blocks[{index}] is {block!r}, not a {kind.__name__}")
        if block.in_channels != channels:
            raise ConfigError(
                f"{name}: blocks[{index}].in_channels is {block.in_channels}; "
                f"the layer before it gives {channels}"
            )
        channels = block.out_channels


def record(value: object, kind: type, owner: str) -> dict[str, Any]:
    """`value` as keyword arguments of dataclass `kind`, every field present, no other."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{owner}: {value!r} is not a JSON object")
    names = [field.name for field in fields(kind)]
    for key in value:
        if key not in names:
            raise ConfigError(f"{owner}: unknown field {key!r}; allowed: {', '.join(names)}")
    for name in names:
        if name not in value:
            raise ConfigError(f"{owner}: field {name!r} is missing")
    return dict(value)
