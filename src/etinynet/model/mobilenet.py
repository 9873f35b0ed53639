"""MobileNets as one torch module (Howard et al. 2017, Sandler et al. 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from etinynet.model.blocks import ConvUnit, MobileUnit, linear_classifier
from etinynet.model.mobilenet_config import MobileNetConfig

__all__ = ["MobileNet"]


class MobileNet(nn.Module):
    """The network of `config`; input is float (N, 3, H, W), pixel minus 128, channels R, G, B.

    Parts: `stem` (ConvUnit, 3x3 stride 2), `blocks` (MobileUnit each), `head` (ConvUnit, 1x1; None
    where `config.head_channels` is 0), a global average, `classifier` (Linear; None where
    `config.classes` is 0).
    """

    def __init__(self, config: MobileNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = ConvUnit(config, 3, config.stem_channels, kernel=3, stride=2)
        self.blocks = nn.ModuleList(MobileUnit(config, block) for block in config.blocks)
        last = config.blocks[-1].out_channels
        self.head = (
            ConvUnit(config, last, config.head_channels, kernel=1) if config.head_channels else None
        )
        self.classifier = linear_classifier(config)

    def features(self, x: Tensor) -> Tensor:
        """The last feature map, (N, feature_channels, H', W')."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x if self.head is None else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (N, classes); without a classifier the pooled features (N, channels)."""
        pooled = self.features(x).mean((2, 3))
        return pooled if self.classifier is None else self.classifier(pooled)
