"""What a network is: channels, blocks, normalization order, classes and input side, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from etinynet.errors import ConfigError
from etinynet.model.fields import MAX_CHANNELS, common, connected, integer, one_of, record
from etinynet.model.mobilenet_config import MobileNetConfig, mobilenet

__all__ = [
    "KINDS",
    "NAMES",
    "NORMALIZATIONS",
    "Block",
    "EtinyNetConfig",
    "NetworkConfig",
    "config_from_json",
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
_FAMILIES = "etinynet-<width>, mobilenet-v1-<width>, mobilenet-v2-<width>"

# Stem, then the channels of the stages of table 1; the last stage widens in its last block.
_CHANNELS_1_0 = (32, 32, 128, 192, 256, 512)
_CHANNELS_0_75 = (24, 24, 96, 168, 192, 384)


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
        one_of("block", "kind", self.kind, KINDS)
        integer("block", "in_channels", self.in_channels, 1, MAX_CHANNELS)
        integer("block", "out_channels", self.out_channels, 1, MAX_CHANNELS)
        integer("block", "stride", self.stride, 1, 2)

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
        common(self)
        one_of(self.name, "normalization", self.normalization, NORMALIZATIONS)
        clip = self.activation_clip
        if clip is not None and not (type(clip) in (int, float) and 0 < clip <= 1e6):
            raise ConfigError(
                f"{self.name}: activation_clip is {clip!r}; None or a number above 0 is allowed"
            )
        stages = self.stages
        if not isinstance(stages, tuple) or not all(isinstance(s, tuple) and s for s in stages):
            raise ConfigError(f"{self.name}: stages is {stages!r}; tuples of blocks are allowed")
        connected(self.name, self.stem_channels, self.blocks, Block)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in order of execution."""
        return tuple(block for stage in self.stages for block in stage)

    @property
    def ceiling(self) -> float | None:
        """Where an activation ends above: nowhere, it is a ReLU."""
        return None

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
        found = record(value, EtinyNetConfig, "config")
        stages = found["stages"]
        if not isinstance(stages, (list, tuple)) or not all(
            isinstance(stage, (list, tuple)) for stage in stages
        ):
            raise ConfigError(f"config: stages is {stages!r}; lists of blocks are allowed")
        blocks = tuple(
            tuple(Block(**record(block, Block, "block")) for block in stage) for stage in stages
        )
        return EtinyNetConfig(**{**found, "stages": blocks})


#: Of any network this package can build.
NetworkConfig = EtinyNetConfig | MobileNetConfig


def config_from_json(value: object) -> NetworkConfig:
    """The configuration that a `to_json` gave; raises ConfigError."""
    if isinstance(value, Mapping) and "head_channels" in value:
        return MobileNetConfig.from_json(value)
    return EtinyNetConfig.from_json(value)


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


def named_config(name: str, classes: int = 1000, size: int = 224, **others: Any) -> NetworkConfig:
    """The network called `etinynet-<width>`, such as `etinynet-0.75`, `mobilenet-v1-<width>` or
    `mobilenet-v2-<width>`; raises ConfigError. `others` are fields of EtinyNetConfig.
    """
    match = re.fullmatch(r"(etinynet|mobilenet-v[12])-(\d{1,2}(?:\.\d{1,4})?)", name)
    if match is None:
        raise ConfigError(f"unknown network {name!r}; allowed: {', '.join(NAMES)} or {_FAMILIES}")
    width = float(match[2])
    if match[1] == "etinynet":
        return etinynet(width, classes, size, **others)
    if others:
        raise ConfigError(f"{name}: {next(iter(others))} is a field of EtinyNets only")
    return mobilenet(int(match[1][-1]), width, classes, size)
