"""Augmentation of a batch in torch: one crop, turn and mirror by one resampling, then colour."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from etinynet.train.recipe import Recipe

__all__ = ["augment"]

# Width to height of a crop, at most, and its inverse at least.
_ASPECT = 4 / 3


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _transforms(count: int, recipe: Recipe, generator: Generator) -> Tensor:
    """Affine maps (N, 2, 3) from the output's coordinates, -1..1, to the picture's."""
    area = _uniform(count, recipe.smallest_crop, 1.0, generator)
    aspect = _uniform(count, -math.log(_ASPECT), math.log(_ASPECT), generator).exp()
    width = (area * aspect).sqrt().clamp_max(1)
    height = (area / aspect).sqrt().clamp_max(1)
    left = _uniform(count, -1, 1, generator) * (1 - width)
    top = _uniform(count, -1, 1, generator) * (1 - height)
    limit = math.radians(recipe.rotation_degrees)
    turn = _uniform(count, -limit, limit, generator)
    if recipe.flip:
        width = torch.where(torch.rand(count, generator=generator) < 0.5, -width, width)
    cosine, sine = turn.cos(), turn.sin()
    rows = [width * cosine, -height * sine, left, width * sine, height * cosine, top]
    return torch.stack(rows, 1).reshape(count, 2, 3)


def _recolour(x: Tensor, amount: float, generator: Generator) -> Tensor:
    """Brightness and contrast by ± `amount`, each colour channel by a third of it; 0..255."""
    count = len(x)
    brightness = _uniform(count, 1 - amount, 1 + amount, generator)
    contrast = _uniform(count, 1 - amount, 1 + amount, generator)
    balance = _uniform(3 * count, 1 - amount / 3, 1 + amount / 3, generator)
    x = x * (brightness[:, None] * balance.reshape(count, 3))[:, :, None, None]
    mean = x.mean((1, 2, 3), keepdim=True)
    return ((x - mean) * contrast[:, None, None, None] + mean).clamp(0, 255)


def augment(pixels: Tensor, size: int, recipe: Recipe, generator: Generator) -> Tensor:
    """Pictures uint8 (N, H, W, 3) to network input float32 (N, 3, size, size), pixel minus 128.

    What a turn uncovers is filled by reflection. All chance comes from `generator`.
    """
    count = len(pixels)
    x = pixels.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(
        _transforms(count, recipe, generator), [count, 3, size, size], align_corners=False
    )
    x = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    if recipe.colour > 0:
        x = _recolour(x, recipe.colour, generator)
    return (x - 128).contiguous(memory_format=torch.channels_last)
