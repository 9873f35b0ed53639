"""Opens the user's pictures safely and makes them network input: resize, centre crop, minus 128."""

from __future__ import annotations

import math
import mmap
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from etinynet.data.exif import read_orientation
from etinynet.data.files import UNREADABLE, conversion
from etinynet.errors import ConfigError, DataError

__all__ = [
    "MAX_PIXELS",
    "MAX_WORK",
    "Picture",
    "Preprocess",
    "load_picture",
    "open_picture",
    "to_input",
]

# Limits under which decoding takes at most 1 GB and five seconds (benchmarks/pictures.py).
#: Largest picture that is decoded, in pixels.
MAX_PIXELS = 120_000_000
#: Most pixels of a JPEG of several scans, as progressive ones are, those of every scan counted.
MAX_WORK = 600_000_000

# Largest, by format or Pillow's decoder, where that needs more: WebP memory, the others time.
_FEWER = {"WEBP": 48_000_000, "ppm": 3_000_000, "ppm_plain": 3_000_000, "bmp_rle": 3_000_000}

# JPEGs from here on are decoded at half their size: progressive ones take 12 bytes a pixel.
_HALVED = 60_000_000
_TILE_SIDES = 322, 323
# A byte after 0xFF: 0 and 0xD0 to 0xD7 belong to a scan, 0xFF fills, others begin a segment.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_SCAN, _END = 0xDA, 0xD9
# No other format is recognised: one (EPS) starts another program. JPEG includes MPO.
_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_BRANDS = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"crx "))
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_ORIENTATION = 0x0112
# Quarter turns to the left after mirroring left to right, by EXIF orientation.
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True)}
_TURNS |= {8: (1, False)}
#: The short side of a picture for the largest network, 4096, in the proportion of `for_size`.
_MOST_SIDE = 4681
# Rows that are converted at once: a whole picture in two modes would double the memory.
_STRIP = 4_000_000


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels uint8 (height, width, 3), R, G, B; `flaw`: what else in the file is damaged."""

    pixels: NDArray[np.uint8]
    flaw: str | None


def load_picture(path: Path) -> NDArray[np.uint8]:
    """The pixels of `open_picture`."""
    return open_picture(path).pixels


def open_picture(path: Path, short: int | None = None) -> Picture:
    """The picture at `path`, turned as its EXIF tag says, if that can be read.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its sides while its short side keeps `short` pixels.

    Grey, palette, CMYK and 16-bit grey pictures are converted; what is transparent is laid over
    white. Of an animation the first frame is taken. Data beside the pixels may be damaged.
    Raises DataError: unreadable, not a picture, pixels damaged or truncated, more than
    MAX_PIXELS, or more than MAX_WORK in all scans of a JPEG.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # Ours is a limit, not a warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            pixels, flaw = _decode(path, short)
        return Picture(pixels, flaw or next((str(one.message) for one in caught), None))
    except DataError:
        raise
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: {_unknown(path)}") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: picture has more than {MAX_PIXELS:,} pixels") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read this picture: {error.strerror or error}") from None
    # Decoders of damaged files raise nearly anything: ValueError, SyntaxError, IndexError, ...
    except Exception as error:
        raise DataError(f"{path}: damaged picture: {type(error).__name__}: {error}") from None


def _unknown(path: Path) -> str:
    """Why a file is no picture that is read."""
    with path.open("rb") as file:
        start = file.read(12)
    suffix = path.suffix.lower()
    if start[4:12] in _BRANDS or suffix in UNREADABLE:
        return f"HEIC, AVIF or raw data of a camera are not read; {conversion([suffix])}"
    if start[:4] == _APPLE_DOUBLE:
        return "not a picture, but what macOS keeps beside one of that name"
    return "not a picture of a known format"


def _decode(path: Path, short: int | None) -> tuple[NDArray[np.uint8], str | None]:
    """Pixels, and what of the EXIF data is damaged."""
    with Image.open(path, formats=_FORMATS) as picture:
        _check_size(picture, path)
        _shrink(picture, short)
        picture.load()
        turn, flaw = _orientation(picture)
        pixels = _pixels(picture, path)
    quarters, mirrored = _TURNS.get(turn, (0, False))
    pixels = pixels[:, ::-1] if mirrored else pixels
    return np.ascontiguousarray(np.rot90(pixels, quarters)), flaw


def _shrink(picture: Image.Image, short: int | None) -> None:
    """Has a JPEG decoded smaller: cosine transforms of fewer values are quicker, and as exact."""
    if not isinstance(picture, JpegImageFile):
        return
    width, height = picture.size
    factor = 2 if width * height > _HALVED else 1
    while short is not None and factor < 8 and min(width, height) >= 2 * factor * short:
        factor *= 2
    if factor > 1:
        picture.draft(None, (max(width // factor, 1), max(height // factor, 1)))


def _orientation(picture: Image.Image) -> tuple[int, str | None]:
    """Value of the EXIF tag, 1 where it cannot be read, and what of the EXIF data is damaged."""
    data = picture.info.get("exif")
    if isinstance(data, bytes):  # Pillow gives up at the first damaged tag
        turn, is_damaged = read_orientation(data)
        return turn, "EXIF data" if is_damaged else None
    try:
        return int(picture.getexif().get(_ORIENTATION, 1)), None
    except Exception as error:  # as many kinds as in decoding
        return 1, f"EXIF data: {type(error).__name__}: {error}"


def _check_size(picture: Image.Image, path: Path) -> None:
    """Raises DataError, by the header alone, where decoding would take too much."""
    pixels = picture.width * picture.height
    decoders = [tile[0] for tile in getattr(picture, "tile", ())]
    most = min([MAX_PIXELS] + [_FEWER[n] for n in (picture.format, *decoders) if n in _FEWER])
    if pixels > most:
        raise DataError(
            f"{path}: picture is {picture.width} x {picture.height}, {pixels:,} pixels; "
            f"at most {most:,} are allowed"
        )
    # A tile is decoded whole, however small the picture is.
    sides = [getattr(picture, "tag_v2", {}).get(tag, 1) for tag in _TILE_SIDES]
    if not all(type(side) is int and side > 0 for side in sides) or math.prod(sides) > MAX_PIXELS:
        raise DataError(
            f"{path}: tiles are {sides[0]!r} x {sides[1]!r}; "
            f"at most {MAX_PIXELS:,} pixels are allowed"
        )
    scans = _count_scans(path) if isinstance(picture, JpegImageFile) else 1
    if scans > 1 and pixels * scans > MAX_WORK:
        raise DataError(
            f"{path}: JPEG of {pixels:,} pixels in {scans:,} scans; "
            f"at most {MAX_WORK:,} pixels in all scans are allowed"
        )


def _count_scans(path: Path) -> int:
    """How many scans the first picture in a JPEG has, whatever its other segments hold."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        count, at = 0, 2
        while found := _MARKER.search(data, at):
            at, kind = found.end(), found[1][0]
            if kind == _END:
                break
            count += kind == _SCAN
            at += int.from_bytes(data[at : at + 2], "big")
        return count


def _pixels(picture: Image.Image, path: Path) -> NDArray[np.uint8]:
    """Decoded `picture` as R, G, B, a strip of rows at a time."""
    width, height = picture.size
    rows = max(_STRIP // width, 1)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = np.asarray(_rgb(strip, path))
    return pixels


def _rgb(picture: Image.Image, path: Path) -> Image.Image:
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return picture
    if picture.mode.startswith(("I", "F")):
        return _sixteen_bit(picture, path)
    if picture.has_transparency_data:
        colour = picture.convert("RGBA")
        paper = Image.new("RGBA", colour.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, colour).convert("RGB")
    return picture.convert("RGB")


def _sixteen_bit(picture: Image.Image, path: Path) -> Image.Image:
    """Grey of more than 8 bits: Pillow's own conversion would clip it at 255."""
    if picture.mode == "F":
        raise DataError(f"{path}: picture of floating-point values; 8 or 16 bits are allowed")
    values = np.asarray(picture.convert("I"))
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{path}: grey values beyond 16 bits; 8 or 16 bits are allowed")
    return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")


@dataclass(frozen=True)
class Preprocess:
    """From picture to input: short side to `resize_short` (bilinear), centre crop of `size`.

    Networks are trained on 224 of 256; `for_size` keeps that proportion. Raises ConfigError.
    """

    size: int
    resize_short: int
    crop: str = "center"

    def __post_init__(self) -> None:
        for name in ("size", "resize_short"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= _MOST_SIDE:
                raise ConfigError(
                    f"preprocess: {name} is {value!r}; an integer 1 to {_MOST_SIDE} is allowed"
                )
        if self.resize_short < self.size:
            raise ConfigError(
                f"preprocess: resize_short is {self.resize_short!r}; "
                f"at least size, {self.size}, is allowed"
            )
        if self.crop != "center":
            raise ConfigError(f"preprocess: crop is {self.crop!r}; allowed: center")

    @staticmethod
    def for_size(size: int) -> Preprocess:
        """Resize by 256/224 of `size`, then centre crop."""
        if type(size) is not int:
            raise ConfigError(f"preprocess: size is {size!r}; an integer is allowed")
        return Preprocess(size, round(size * 256 / 224))

    @staticmethod
    def from_json(value: object) -> Preprocess:
        """The preprocessing in `value`; raises ConfigError on unknown, missing or bad fields."""
        names = [field.name for field in fields(Preprocess)]
        if not isinstance(value, Mapping) or sorted(map(str, value)) != sorted(names):
            raise ConfigError(
                f"preprocess: {value!r} is not an object of exactly {', '.join(names)}"
            )
        return Preprocess(**value)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back."""
        return asdict(self)

    @property
    def short(self) -> int:
        """How short the short side of a picture may be decoded: four times what is needed of it.

        The resize then averages as it does over the whole picture.
        """
        return 4 * self.resize_short

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Picture uint8 (height, width, 3) to uint8 (size, size, 3).

        Of a picture much longer than wide only the part that the crop keeps is resized: the
        whole would take gigabytes.
        """
        height, width = picture.shape[:2]
        scale = self.resize_short / min(height, width)
        sides = max(round(width * scale), 1), max(round(height * scale), 1)
        image = Image.fromarray(picture)
        if max(sides) <= 8 * self.resize_short:
            left, top = ((side - self.size) // 2 for side in sides)
            resized = image.resize(sides, Image.Resampling.BILINEAR)
            return np.asarray(resized.crop((left, top, left + self.size, top + self.size)))
        reach = self.size / scale
        left, top = max((width - reach) / 2, 0), max((height - reach) / 2, 0)
        box = (left, top, min(left + reach, width), min(top + reach, height))
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box))


def to_input(picture: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Pixel minus 128: uint8 0..255 to int8 -128..127, same shape."""
    return (picture ^ 0x80).view(np.int8)
