"""What an EtinyNet is: channels, blocks, normalization order, classes and input side, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from etinynet.errors import ConfigError

__all__ = [
    "KINDS",
    "NAMES",
    "NORMALIZATIONS",
    "Block",
    "EtinyNetConfig",
    "etinynet",
    "etinynet_0_75",
    "etinynet_1_0",
    "named_config",
]

#: Linear depthwise block (paper, equation 3) and dense linear depthwise block (figure 2 b).
KINDS = ("lb", "dlb")
#: Where ReLU stands: after the batch normalization, or before it as in the authors' files.
NORMALIZATIONS = ("conv_bn_relu", "conv_relu_bn")
#: The two networks of the paper's table 1.
NAMES = ("etinynet-1.0", "etinynet-0.75")

_MAX_CHANNELS = 4096
_MAX_BLOCKS = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Stem, then the channels of the stages of table 1; the last stage widens in its last block.
_CHANNELS_1_0 = (32, 32, 128, 192, 256, 512)
_CHANNELS_0_75 = (24, 24, 96, 168, 192, 384)


def _integer(owner: str, field: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{owner}: {field} is {value!r}; an integer {low} to {high} is allowed")


def _one_of(owner: str, field: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{owner}: {field} is {value!r}; allowed: {', '.join(allowed)}")


@dataclass(frozen=True)
class Block:
    """One block: 3x3 depthwise (`stride`), pointwise to `out_channels`, 3x3 depthwise.

    A depthwise convolution keeps its channels, so table 1's triple is [in, out, out].
    """

    kind: str
    in_channels: int
    out_channels: int
    stride: int = 1

    def __post_init__(self) -> None:
        _one_of("block", "kind", self.kind, KINDS)
        _integer("block", "in_channels", self.in_channels, 1, _MAX_CHANNELS)
        _integer("block", "out_channels", self.out_channels, 1, _MAX_CHANNELS)
        _integer("block", "stride", self.stride, 1, 2)

    @property
    def first_shortcut(self) -> bool:
        """Whether the block's input is added after its pointwise convolution."""
        return self.kind == "dlb" and self.stride == 1 and self.in_channels == self.out_channels

    @property
    def second_shortcut(self) -> bool:
        """Whether the second depthwise convolution's input is added to its output."""
        return self.kind == "dlb"


@dataclass(frozen=True)
class EtinyNetConfig:
    """An EtinyNet (paper, table 1), any width; raises ConfigError on construction.

    `classes` 0 is the backbone alone. `size` is the input's side in pixels: what the network is
    meant for; the float network itself accepts other sides. `activation_clip`: every batch
    normalization's output is clipped to ± this value (the authors' later file: 12); None: not.
    """

    name: str
    stem_channels: int
    stages: tuple[tuple[Block, ...], ...]
    classes: int
    size: int = 224
    normalization: str = "conv_bn_relu"
    activation_clip: float | None = None
    bn_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"config: name is {self.name!r}; 1 to 64 letters, digits, '.', '_' or '-' "
                "are allowed, the first a letter or a digit"
            )
        _integer(self.name, "stem_channels", self.stem_channels, 1, _MAX_CHANNELS)
        _integer(self.name, "classes", self.classes, 0, 65535)
        _integer(self.name, "size", self.size, 8, 4096)
        _one_of(self.name, "normalization", self.normalization, NORMALIZATIONS)
        clip = self.activation_clip
        if clip is not None and not (type(clip) in (int, float) and 0 < clip <= 1e6):
            raise ConfigError(
                f"{self.name}: activation_clip is {clip!r}; None or a number above 0 is allowed"
            )
        epsilon = self.bn_epsilon
        if type(epsilon) is not float or not 0 < epsilon <= 1:
            raise ConfigError(
                f"{self.name}: bn_epsilon is {epsilon!r}; a number above 0 and up to 1 is allowed"
            )
        self._check_stages()

    def _check_stages(self) -> None:
        stages = self.stages
        if not isinstance(stages, tuple) or not all(isinstance(s, tuple) and s for s in stages):
            raise ConfigError(f"{self.name}: stages is {stages!r}; tuples of blocks are allowed")
        count = sum(len(stage) for stage in stages)
        if not 1 <= count <= _MAX_BLOCKS:
            raise ConfigError(f"{self.name}: {count} blocks; 1 to {_MAX_BLOCKS} are allowed")
        channels = self.stem_channels
        for index, block in enumerate(self.blocks):
            if not isinstance(block, Block):
                raise ConfigError(f"{self.name}: blocks[{index}] is {block!r}, not a Block")
            if block.in_channels != channels:
                raise ConfigError(
                    f"{self.name}: blocks[{index}].in_channels is {block.in_channels}; "
                    f"the layer before it gives {channels}"
                )
            channels = block.out_channels

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in order of execution."""
        return tuple(block for stage in self.stages for block in stage)

    @property
    def feature_channels(self) -> int:
        """Channels of the last feature map, which the global average and the classifier read."""
        return self.blocks[-1].out_channels

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back to an equal configuration."""
        return asdict(self)

    @staticmethod
    def from_json(value: object) -> EtinyNetConfig:
        """The configuration in `value`; raises ConfigError on unknown, missing or bad fields."""
        record = _record(value, EtinyNetConfig, "config")
        stages = record["stages"]
        if not isinstance(stages, (list, tuple)) or not all(
            isinstance(stage, (list, tuple)) for stage in stages
        ):
            raise ConfigError(f"config: stages is {stages!r}; lists of blocks are allowed")
        blocks = tuple(
            tuple(Block(**_record(block, Block, "block")) for block in stage) for stage in stages
        )
        return EtinyNetConfig(**{**record, "stages": blocks})


def _record(value: object, kind: type, owner: str) -> dict[str, Any]:
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


def _table_1(channels: tuple[int, ...]) -> tuple[tuple[Block, ...], ...]:
    """The stages of table 1; every stage but the first halves the side in its first block."""
    stem, one, two, three, four, five = channels
    return (
        (Block("lb", stem, one), *[Block("lb", one, one)] * 3),
        (Block("lb", one, two, 2), *[Block("lb", two, two)] * 3),
        (Block("dlb", two, three, 2), *[Block("dlb", three, three)] * 2),
        (Block("dlb", three, four, 2), Block("dlb", four, four), Block("dlb", four, five)),
    )


def etinynet(width: float, classes: int = 1000, size: int = 224, **others: Any) -> EtinyNetConfig:
    """EtinyNet of any width: table 1's channels times `width`, in multiples of 8, at least 8.

    Widths 1.0 and 0.75 are the paper's two networks; the narrower one has 168 channels in its
    third stage where plain scaling would give 144. `others` are fields of EtinyNetConfig.
    Raises ConfigError.
    """
    if type(width) not in (int, float) or not 0 < width <= 8:
        raise ConfigError(f"etinynet: width is {width!r}; a number above 0 and up to 8 is allowed")
    channels = _CHANNELS_0_75 if width == 0.75 else _scaled(width)
    name = f"etinynet-{float(width)!r}"
    return EtinyNetConfig(name, channels[0], _table_1(channels), classes, size, **others)


def _scaled(width: float) -> tuple[int, ...]:
    return tuple(max(8, int(channels * width / 8 + 0.5) * 8) for channels in _CHANNELS_1_0)


def etinynet_1_0(classes: int = 1000, size: int = 224, **others: Any) -> EtinyNetConfig:
    """EtinyNet-1.0 of the paper's table 1; raises ConfigError."""
    return etinynet(1.0, classes, size, **others)


def etinynet_0_75(classes: int = 1000, size: int = 224, **others: Any) -> EtinyNetConfig:
    """EtinyNet-0.75 of the paper's table 1; raises ConfigError."""
    return etinynet(0.75, classes, size, **others)


def named_config(name: str, classes: int = 1000, size: int = 224, **others: Any) -> EtinyNetConfig:
    """The network called `etinynet-<width>`, such as `etinynet-0.75`; raises ConfigError."""
    match = re.fullmatch(r"etinynet-(\d{1,2}(?:\.\d{1,4})?)", name)
    if match is None:
        raise ConfigError(
            f"unknown network {name!r}; allowed: {', '.join(NAMES)} or etinynet-<width>"
        )
    return etinynet(float(match[1]), classes, size, **others)
