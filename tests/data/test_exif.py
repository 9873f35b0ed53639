"""Orientation from EXIF data, sound and damaged in every way."""

from __future__ import annotations

import random

import pytest
from PIL import Image

from etinynet.data.exif import read_orientation


def exif(endian: str, orientation: int) -> bytes:
    made = Image.Exif()
    made.endian = endian
    made[0x10F] = "a maker's name"
    made[0x112] = orientation
    made[0x132] = "2026:01:01 00:00:00"
    return made.tobytes()


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sound(endian: str, orientation: int) -> None:
    data = exif(endian, orientation)
    assert read_orientation(data) == (orientation, False)
    assert read_orientation(data.removeprefix(b"Exif\0\0")) == (orientation, False)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_no_orientation(orientation: int) -> None:
    assert read_orientation(exif("<", orientation)) == (1, True)
    assert read_orientation(Image.Exif().tobytes()) == (1, False)


@pytest.mark.parametrize("endian", ["<", ">"])
def test_cut_anywhere(endian: str) -> None:
    data = exif(endian, 6)
    end = data.index(b"\x01\x12" if endian == ">" else b"\x12\x01") + 12
    for length in range(len(data) - 2):
        assert read_orientation(data[:length]) == (6 if length >= end else 1, True)


def test_changed_anywhere() -> None:
    data = exif("<", 6)
    chance = random.Random(0)
    for _ in range(20_000):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        orientation, is_damaged = read_orientation(bytes(changed))
        assert 1 <= orientation <= 8
        assert type(is_damaged) is bool
