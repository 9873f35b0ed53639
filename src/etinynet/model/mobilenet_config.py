"""What a MobileNet is: versions 1 and 2 at any width, checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from etinynet.errors import ConfigError
from etinynet.model.fields import MAX_CHANNELS, common, connected, integer, record

__all__ = ["MobileBlock", "MobileNetConfig", "mobilenet"]

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
        integer("block", "in_channels", self.in_channels, 1, MAX_CHANNELS)
        integer("block", "out_channels", self.out_channels, 1, MAX_CHANNELS)
        integer("block", "stride", self.stride, 1, 2)
        integer("block", "expansion", self.expansion, 1, MAX_CHANNELS // self.in_channels)
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
        common(self)
        integer(self.name, "head_channels", self.head_channels, 0, MAX_CHANNELS)
        if not isinstance(self.blocks, tuple):
            raise ConfigError(f"{self.name}: blocks is {self.blocks!r}; a tuple is allowed")
        connected(self.name, self.stem_channels, self.blocks, MobileBlock)

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
        found = record(value, MobileNetConfig, "config")
        blocks = found["blocks"]
        if not isinstance(blocks, list | tuple):
            raise ConfigError(f"config: blocks is {blocks!r}; a list of blocks is allowed")
        made = tuple(MobileBlock(**record(block, MobileBlock, "block")) for block in blocks)
        return MobileNetConfig(**{**found, "blocks": made})


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
    return MobileNetConfig(
        name, stem, tuple(blocks), _divisible(1280 * max(1, width)), classes, size
    )
