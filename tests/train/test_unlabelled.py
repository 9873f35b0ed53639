"""Pictures to learn from without labels: small ones side by side, in their own size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from etinynet.data.images import Preprocess
from etinynet.data.labels import Dataset, Example
from etinynet.data.reading import Reading
from etinynet.data.split import split_held_out
from etinynet.errors import DataError
from etinynet.train.pictures import load_split, load_unlabelled


def _dataset(folder: Path, sides: list[int]) -> Dataset:
    """Pictures of one grey value each, 10, 11, 12, ..."""
    examples = []
    for index, side in enumerate(sides):
        path = folder / f"{index}.png"
        Image.fromarray(np.full((side, side + 4, 3), 10 + index, np.uint8)).save(path)
        examples.append(Example(path, 0, path.name))
    return Dataset(tuple(examples), ("unlabelled",))


@pytest.mark.parametrize(("side", "tiles"), [(64, 1), (44, 1), (32, 2), (26, 2), (20, 3)])
def test_small_pictures_lie_side_by_side(tmp_path: Path, side: int, tiles: int) -> None:
    dataset = _dataset(tmp_path, [side] * 24)
    preprocess = Preprocess(56, 64)
    data = load_unlabelled(dataset, preprocess)
    train, held_out = split_held_out(dataset)
    assert data.train.pixels.shape == (len(train.examples), 64, 64, 3)
    assert data.held_out.pixels.shape == (len(held_out.examples), 56, 56, 3)
    greys = [10 + int(one.path.stem) for one in train.examples]
    for index, square in enumerate(data.train.pixels.numpy()):
        expected = {greys[(index + i) % len(greys)] for i in range(tiles**2)}
        assert set(np.unique(square)) == expected
        assert (square[: 64 // tiles - 1, : 64 // tiles - 1] == greys[index]).all()


def test_large_pictures_stay_among_small_ones(tmp_path: Path) -> None:
    sides = [64, 32] * 12
    train, _ = split_held_out(_dataset(tmp_path, sides))
    data = load_unlabelled(_dataset(tmp_path, sides), Preprocess(56, 64))
    for one, square in zip(train.examples, data.train.pixels.numpy(), strict=True):
        large = sides[int(one.path.stem)] == 64
        assert len(np.unique(square)) == (1 if large else 4)
        greys = np.unique(square) - 10
        assert all((sides[grey] == 64) is large for grey in greys)


def test_labelled_pictures_keep_to_themselves(tmp_path: Path) -> None:
    """A square of several pictures would have several labels."""
    dataset = _dataset(tmp_path, [32] * 24)
    data = load_split(dataset, Preprocess(56, 64))
    train, _ = split_held_out(dataset)
    for one, square in zip(train.examples, data.train.pixels.numpy(), strict=True):
        assert np.unique(square).tolist() == [10 + int(one.path.stem)]


def test_damaged_pictures_are_left_out_up_to_a_limit(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, [32] * 40)
    train, held_out = split_held_out(dataset)
    broken = [train.examples[3].path, train.examples[8].path, held_out.examples[0].path]
    for path in broken[:2]:
        path.write_bytes(b"no picture")
    reading = Reading(40)
    data = load_split(dataset, Preprocess(56, 64), reading=reading)
    assert len(data.train) == len(train.examples) - 2
    assert [path for path, _ in reading.damaged] == broken[:2]
    greys = [10 + int(e.path.stem) for e in train.examples if e.path not in broken]
    assert [int(square.unique()) for square in data.train.pixels] == greys
    broken[2].write_bytes(b"no picture")
    for load in (load_split, load_unlabelled):
        with pytest.raises(DataError, match="3 of 40 pictures cannot be read") as caught:
            load(dataset, Preprocess(56, 64))
        assert all(path.name in str(caught.value) for path in broken)
