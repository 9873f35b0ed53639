"""EtinyNet as one torch module (paper, table 1)."""

from __future__ import annotations

from torch import Tensor, nn

from etinynet.model.blocks import ConvUnit, LinearBlock, linear_classifier
from etinynet.model.config import EtinyNetConfig

__all__ = ["EtinyNet"]


class EtinyNet(nn.Module):
    """The network of `config`; input is float (N, 3, H, W), pixel minus 128, channels R, G, B.

    Parts: `stem` (ConvUnit, 3x3 stride 2), a 2x2 max pool, `blocks` (LinearBlock each), a global
    average, `classifier` (Linear; None where `config.classes` is 0).
    """

    def __init__(self, config: EtinyNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = ConvUnit(config, 3, config.stem_channels, kernel=3, stride=2)
        self.pool = nn.MaxPool2d(2)
        self.blocks = nn.ModuleList(LinearBlock(config, block) for block in config.blocks)
        self.classifier = linear_classifier(config)

    def features(self, x: Tensor) -> Tensor:
        """The last feature map, (N, feature_channels, H', W')."""
        x = self.pool(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (N, classes); without a classifier the pooled features (N, channels)."""
        pooled = self.features(x).mean((2, 3))
        return pooled if self.classifier is None else self.classifier(pooled)
