"""Building blocks as torch modules: convolution unit, blocks of each network, classifier."""

from __future__ import annotations

from torch import Tensor, nn

from etinynet.model.config import Block, EtinyNetConfig, NetworkConfig
from etinynet.model.mobilenet_config import MobileBlock, MobileNetConfig

__all__ = ["ConvUnit", "LinearBlock", "MobileUnit", "linear_classifier"]


class ConvUnit(nn.Module):
    """Convolution without bias, batch normalization, and ReLU where `activated`.

    `order` says where ReLU stands (`config.NORMALIZATIONS`); `clip` bounds the output to ± clip,
    `ceiling` that of the ReLU (ReLU6: 6), which then stands after the normalization.
    """

    def __init__(
        self,
        config: NetworkConfig,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activated: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=config.bn_epsilon)
        self.activated = activated
        self.order = config.normalization
        self.clip = config.activation_clip
        self.ceiling = config.ceiling if activated else None
        gain = "relu" if activated else "linear"
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity=gain)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, H', W')."""
        x = self.conv(x)
        if self.activated and self.order == "conv_relu_bn":
            x = self.norm(x.relu())
        elif self.ceiling is not None:
            x = self.norm(x).clamp(0, self.ceiling)
        elif self.activated:
            x = self.norm(x).relu()
        else:
            x = self.norm(x)
        return x if self.clip is None else x.clamp(-self.clip, self.clip)


class LinearBlock(nn.Module):
    """LB or DLB (paper, equation 3 and figure 2): depthwise, pointwise, depthwise.

    The first depthwise is linear: batch normalization and no ReLU.
    """

    def __init__(self, config: EtinyNetConfig, block: Block) -> None:
        super().__init__()
        inner, outer = block.in_channels, block.out_channels
        self.first_shortcut = block.first_shortcut
        self.second_shortcut = block.second_shortcut
        self.dw1 = ConvUnit(
            config, inner, inner, kernel=3, stride=block.stride, groups=inner, activated=False
        )
        self.pw = ConvUnit(config, inner, outer, kernel=1)
        self.dw2 = ConvUnit(config, outer, outer, kernel=3, groups=outer)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, H / stride, W / stride), sides rounded up."""
        y = self.pw(self.dw1(x))
        if self.first_shortcut:
            y = y + x
        z = self.dw2(y)
        return z + y if self.second_shortcut else z


class MobileUnit(nn.Module):
    """A block of MobileNet: expansion (`expand`, None for none), depthwise, pointwise."""

    def __init__(self, config: MobileNetConfig, block: MobileBlock) -> None:
        super().__init__()
        inner = block.inner_channels
        self.shortcut = block.shortcut
        self.expand = (
            ConvUnit(config, block.in_channels, inner, kernel=1) if block.expansion > 1 else None
        )
        self.dw = ConvUnit(config, inner, inner, kernel=3, stride=block.stride, groups=inner)
        self.pw = ConvUnit(
            config, inner, block.out_channels, kernel=1, activated=not block.inverted
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, H / stride, W / stride), sides rounded up."""
        y = x if self.expand is None else self.expand(x)
        y = self.pw(self.dw(y))
        return y + x if self.shortcut else y


def linear_classifier(config: NetworkConfig) -> nn.Linear | None:
    """The layer from pooled features to class scores; None where `config.classes` is 0."""
    if not config.classes:
        return None
    classifier = nn.Linear(config.feature_channels, config.classes)
    nn.init.kaiming_normal_(classifier.weight, nonlinearity="linear")
    nn.init.zeros_(classifier.bias)
    return classifier
