"""What a network is: channels, blocks, normalization order, classes and input side, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from etinynet.errors import ConfigError

__all__ = [
    "KINDS",
    "NAMES",
    "NORMALIZATIONS",
    "Block",
    "EtinyNetConfig",
    "MobileBlock",
    "MobileNetConfig",
    "NetworkConfig",
    "config_from_json",
    "etinynet",
    "etinynet_0_75",
    "etinynet_1_0",
    "mobilenet",
    "named_config",
]

#: Linear depthwise block (paper, equation 3) and dense linear depthwise block (figure 2 b).
KINDS = ("lb", "dlb")
#: Where ReLU stands: after the batch normalization, or before it as in the authors' files.
NORMALIZATIONS = ("conv_bn_relu", "conv_relu_bn")
#: The two networks of the paper's table 1.
NAMES = ("etinynet-1.0", "etinynet-0.75")
_FAMILIES = "etinynet-<width>, mobilenet-v1-<width>, mobilenet-v2-<width>"

_MAX_CHANNELS = 4096
_MAX_BLOCKS = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Stem, then the channels of the stages of table 1; the last stage widens in its last block.
_CHANNELS_1_0 = (32, 32, 128, 192, 256, 512)
_CHANNELS_0_75 = (24, 24, 96, 168, 192, 384)
# MobileNetV1 (Howard et al. 2017, table 1): channels and stride of each block.
_SEPARABLE = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *[(512, 1)] * 5,
    *((1024, 2), (1024, 1)),
)
# MobileNetV2 (Sandler et al. 2018, table 2): expansion, channels, blocks, stride of the first.
_INVERTED = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


def _integer(owner: str, field: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{owner}: {field} is {value!r}; an integer {low} to {high} is allowed")


def _one_of(owner: str, field: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{owner}: {field} is {value!r}; allowed: {', '.join(allowed)}")


def _common(config: EtinyNetConfig | MobileNetConfig) -> None:
    """The fields that all networks have."""
    if not isinstance(config.name, str) or not _NAME.fullmatch(config.name):
        raise ConfigError(
            f"config: name is {config.name!r}; 1 to 64 letters, digits, '.', '_' or '-' "
            "are allowed, the first a letter or a digit"
        )
    _integer(config.name, "stem_channels", config.stem_channels, 1, _MAX_CHANNELS)
    _integer(config.name, "classes", config.classes, 0, 65535)
    _integer(config.name, "size", config.size, 8, 4096)
    epsilon = config.bn_epsilon
    if type(epsilon) is not float or not 0 < epsilon <= 1:
        raise ConfigError(
            f"{config.name}: bn_epsilon is {epsilon!r}; a number above 0 and up to 1 is allowed"
        )


def _connected(name: str, channels: int, blocks: Sequence[object], kind: type) -> None:
    """Each of `blocks` is of `kind` and reads the channels that the layer before it gives."""
    if not 1 <= len(blocks) <= _MAX_BLOCKS:
        raise ConfigError(f"{name}: {len(blocks)} blocks; 1 to {_MAX_BLOCKS} are allowed")
    for index, block in enumerate(blocks):
        if not isinstance(block, Block | MobileBlock) or not isinstance(block, kind):
            raise ConfigError(f"{name}: blocks[{index}] is {block!r}, not a {kind.__name__}")
        if block.in_channels != channels:
            raise ConfigError(
                f"{name}: blocks[{index}].in_channels is {block.in_channels}; "
                f"the layer before it gives {channels}"
            )
        channels = block.out_channels


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
        _common(self)
        _one_of(self.name, "normalization", self.normalization, NORMALIZATIONS)
        clip = self.activation_clip
        if clip is not None and not (type(clip) in (int, float) and 0 < clip <= 1e6):
            raise ConfigError(
                f"{self.name}: activation_clip is {clip!r}; None or a number above 0 is allowed"
            )
        stages = self.stages
        if not isinstance(stages, tuple) or not all(isinstance(s, tuple) and s for s in stages):
            raise ConfigError(f"{self.name}: stages is {stages!r}; tuples of blocks are allowed")
        _connected(self.name, self.stem_channels, self.blocks, Block)

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


@dataclass(frozen=True)
class MobileBlock:
    """Pointwise to `in_channels` times `expansion` (none at 1), 3x3 depthwise (`stride`), pointwise
    to `out_channels`; the last is linear in an `inverted` block (MobileNetV2), else activated.
    """

    in_channels: int
    out_channels: int
    stride: int = 1
    expansion: int = 1
    inverted: bool = False

    def __post_init__(self) -> None:
        _integer("block", "in_channels", self.in_channels, 1, _MAX_CHANNELS)
        _integer("block", "out_channels", self.out_channels, 1, _MAX_CHANNELS)
        _integer("block", "stride", self.stride, 1, 2)
        _integer("block", "expansion", self.expansion, 1, _MAX_CHANNELS // self.in_channels)
        if type(self.inverted) is not bool:
            raise ConfigError(f"block: inverted is {self.inverted!r}; true or false is allowed")

    @property
    def inner_channels(self) -> int:
        """Channels of the depthwise convolution."""
        return self.in_channels * self.expansion

    @property
    def shortcut(self) -> bool:
        """Whether the block's input is added to its output."""
        return self.inverted and self.stride == 1 and self.in_channels == self.out_channels


@dataclass(frozen=True)
class MobileNetConfig:
    """A MobileNet of version 1 or 2, any width; raises ConfigError on construction.

    Every activation is a ReLU6 after the batch normalization. `head_channels`: of the pointwise
    convolution before the global average, 0 for none. `classes`, `size` and `bn_epsilon` as in
    EtinyNetConfig.
    """

    name: str
    stem_channels: int
    blocks: tuple[MobileBlock, ...]
    head_channels: int
    classes: int
    size: int = 224
    bn_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _common(self)
        _integer(self.name, "head_channels", self.head_channels, 0, _MAX_CHANNELS)
        if not isinstance(self.blocks, tuple):
            raise ConfigError(f"{self.name}: blocks is {self.blocks!r}; a tuple is allowed")
        _connected(self.name, self.stem_channels, self.blocks, MobileBlock)

    @property
    def normalization(self) -> str:
        """Where the activation stands: one of NORMALIZATIONS."""
        return "conv_bn_relu"

    @property
    def activation_clip(self) -> float | None:
        """No normalization's output is clipped, but by the activation."""
        return None

    @property
    def ceiling(self) -> float | None:
        """Where an activation ends above: that of ReLU6."""
        return 6.0

    @property
    def feature_channels(self) -> int:
        """Channels of the last feature map, which the global average and the classifier read."""
        return self.head_channels or self.blocks[-1].out_channels

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back to an equal configuration."""
        return asdict(self)

    @staticmethod
    def from_json(value: object) -> MobileNetConfig:
        """The configuration in `value`; raises ConfigError on unknown, missing or bad fields."""
        record = _record(value, MobileNetConfig, "config")
        blocks = record["blocks"]
        if not isinstance(blocks, list | tuple):
            raise ConfigError(f"config: blocks is {blocks!r}; a list of blocks is allowed")
        made = tuple(MobileBlock(**_record(block, MobileBlock, "block")) for block in blocks)
        return MobileNetConfig(**{**record, "blocks": made})


#: Of any network this package can build.
NetworkConfig = EtinyNetConfig | MobileNetConfig


def config_from_json(value: object) -> NetworkConfig:
    """The configuration that a `to_json` gave; raises ConfigError."""
    if isinstance(value, Mapping) and "head_channels" in value:
        return MobileNetConfig.from_json(value)
    return EtinyNetConfig.from_json(value)


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


def _divisible(channels: float) -> int:
    """The multiple of 8 next to `channels`, not below nine tenths of it (MobileNetV2's rule)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def mobilenet(version: int, width: float, classes: int = 1000, size: int = 224) -> MobileNetConfig:
    """MobileNet of `version` 1 (Howard et al. 2017) or 2 (Sandler et al. 2018), at any width.

    Version 1 has its channels times `width`, rounded down, at least 8; version 2 rounds to
    multiples of 8 and narrows the last convolution never. Raises ConfigError.
    """
    if version not in (1, 2):
        raise ConfigError(f"mobilenet: version is {version!r}; allowed: 1, 2")
    if type(width) not in (int, float) or not 0 < width <= 2:
        raise ConfigError(f"mobilenet: width is {width!r}; a number above 0 and up to 2 is allowed")
    name = f"mobilenet-v{version}-{float(width)!r}"
    blocks: list[MobileBlock] = []
    if version == 1:
        stem = now = max(8, int(32 * width))
        for outer, stride in _SEPARABLE:
            blocks.append(MobileBlock(now, max(8, int(outer * width)), stride))
            now = blocks[-1].out_channels
        return MobileNetConfig(name, stem, tuple(blocks), 0, classes, size)
    stem = now = _divisible(32 * width)
    for expansion, outer, count, stride in _INVERTED:
        for index in range(count):
            step = stride if index == 0 else 1
            blocks.append(MobileBlock(now, _divisible(outer * width), step, expansion, True))
            now = blocks[-1].out_channels
    return MobileNetConfig(name, stem, tuple(blocks), _divisible(1280 * max(1, width)), classes, size)


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
