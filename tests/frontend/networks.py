"""Small networks as users write them, none of them ours, and pictures for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CLASSIFIERS", "Residual", "Taps", "TwoMaps", "images", "prepared"]

Shape = tuple[int, int, int]
SQUARE: Shape = (24, 24, 3)


class Plain(nn.Module):
    """Two dense convolutions, one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.second(functional.relu(self.first(x))))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Residual(nn.Module):
    """A basic residual block, with ReLU after the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return self.fc(functional.relu(y + x).mean((2, 3)))


class Taps(nn.Module):
    """One map is read by a depthwise and a pointwise layer and a pooling at once."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.mix = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3))
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        one = self.mix[0](functional.relu(self.depth(x)))
        other = self.mix[2](functional.avg_pool2d(x, 3, 1, 1))
        return self.fc((one + self.mix[1](x) + other).mean((2, 3)))


class First(nn.Module):
    """The first layer is depthwise, or pointwise."""

    def __init__(self, depthwise: bool, channels: int = 3) -> None:
        super().__init__()
        if depthwise:
            self.first = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            self.second = nn.Conv2d(channels, 8, 1)
        else:
            self.first = nn.Conv2d(channels, 6, 1)
            self.second = nn.Conv2d(6, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.second(functional.relu(self.first(x))))
        return self.fc(x.mean((2, 3)))


class Clipped(nn.Module):
    """Every convolution ends at -12 and 12, before what is added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.mix = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x)).clamp(-12, 12)
        y = functional.relu(self.mix(self.depth(x).clamp(-12, 12))).clamp(-12, 12)
        return self.fc((y + x).mean((2, 3)))


class Windows(nn.Module):
    """Windows of 5x5, 1x7 and 7x1, and paddings of 0, 0, 1, 1."""

    def __init__(self) -> None:
        super().__init__()
        self.five = nn.Conv2d(3, 6, 5, stride=2, padding=2)
        self.wide = nn.Conv2d(6, 6, (1, 7), padding=(0, 3))
        self.tall = nn.Conv2d(6, 6, (7, 1), padding=(3, 0), groups=6)
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.depth = nn.Conv2d(6, 6, 3, stride=2, groups=6)
        self.last = nn.Conv2d(6, 8, 3, stride=2)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.wide(functional.relu(self.five(x))))
        x = self.depth(self.pad(functional.relu(self.tall(x))))
        return self.fc(functional.relu(self.last(self.pad(x))).mean((2, 3)))


class TwoMaps(nn.Module):
    """Two outputs from different depths, the first of them read further."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, stride=2, groups=8)
        self.mix = nn.Conv2d(8, 12, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.relu(self.stem(x))
        return x, self.mix(functional.relu(self.depth(x)))


#: Classifiers by name: the module's class, its arguments, and the shape of its pictures.
CLASSIFIERS: dict[str, tuple[type[nn.Module], tuple[object, ...], Shape]] = {
    "conv2d behind conv2d": (Plain, (), SQUARE),
    "ReLU after the sum": (Residual, (), SQUARE),
    "a map of three readers": (Taps, (), SQUARE),
    "first layer depthwise": (First, (True,), SQUARE),
    "first layer pointwise": (First, (False,), SQUARE),
    "clip": (Clipped, (), SQUARE),
    "windows": (Windows, (), (33, 37, 3)),
    "96x64": (Plain, (), (96, 64, 3)),
    "grey": (First, (False, 1), (40, 24, 1)),
}


def images(count: int, shape: Shape, seed: int = 1) -> Tensor:
    """Smooth random pictures, pixel minus 128, float32 (count, channels, height, width)."""
    height, width, channels = shape
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, channels, -(-height // 4), -(-width // 4), generator=generator)
    smooth = functional.interpolate(coarse, size=(height, width), mode="bilinear")
    noise = torch.randn(count, channels, height, width, generator=generator)
    return (60 * smooth + 10 * noise).round().clamp(-128, 127)


@torch.no_grad()
def prepared(kind: type[nn.Module], arguments: tuple[object, ...], shape: Shape) -> nn.Module:
    """A module with random weights, its normalizations fitted to `images`, in evaluation mode."""
    torch.manual_seed(1)
    module = kind(*arguments)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
            part.weight.uniform_(0.5, 1.5)
            part.bias.uniform_(-0.5, 0.5)
    module.train()
    module(images(16, shape))
    return module.eval()
