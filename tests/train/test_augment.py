"""Augmentation: identity, mirror, ranges, and one source of chance."""

from __future__ import annotations

import torch

from etinynet.train.augment import augment
from etinynet.train.recipe import Recipe


def _pictures(count: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 20, 20, 3), dtype=torch.uint8, generator=generator)


def _whole(**others: object) -> Recipe:
    return Recipe(smallest_crop=1.0, rotation_degrees=0, colour=0, **{"flip": False, **others})


def test_output_is_network_input() -> None:
    out = augment(_pictures(), 16, Recipe(), torch.Generator().manual_seed(0))
    assert out.shape == (16, 3, 16, 16)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert -128 <= float(out.min()) < float(out.max()) <= 127


def test_equal_generators_give_equal_batches() -> None:
    pictures = _pictures()
    one, two, other = (
        augment(pictures, 16, Recipe(), torch.Generator().manual_seed(s)) for s in (3, 3, 4)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_flip_mirrors_left_and_right() -> None:
    half = torch.zeros(64, 20, 20, 3, dtype=torch.uint8)
    half[:, :, :10] = 200
    out = augment(half, 20, _whole(flip=True), torch.Generator().manual_seed(0))
    left = out[..., :6].mean((1, 2, 3)) > out[..., -6:].mean((1, 2, 3))
    assert 16 < int(left.sum()) < 48
    top, bottom = out[:, :, :10].mean((1, 2, 3)), out[:, :, 10:].mean((1, 2, 3))
    assert torch.allclose(top, bottom, atol=1e-3)
    kept = augment(half, 20, _whole(), torch.Generator().manual_seed(0))
    assert bool((kept[..., :6].mean((1, 2, 3)) > kept[..., -6:].mean((1, 2, 3))).all())


def test_plain_pictures_keep_their_colour() -> None:
    plain = torch.full((4, 20, 20, 3), 77, dtype=torch.uint8)
    recipe = Recipe(colour=0, rotation_degrees=45)
    out = augment(plain, 16, recipe, torch.Generator().manual_seed(0))
    assert torch.allclose(out, torch.tensor(77.0 - 128), atol=1e-3)
