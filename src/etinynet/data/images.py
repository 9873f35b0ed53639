"""Opens the user's pictures safely and makes them network input: resize, centre crop, minus 128."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from etinynet.errors import ConfigError, DataError

__all__ = ["MAX_PIXELS", "Preprocess", "load_picture", "to_input"]

#: Largest picture that is decoded, in pixels: decoding takes 3 to 8 bytes a pixel.
MAX_PIXELS = 200_000_000
#: The short side of a picture for the largest network, 4096, in the proportion of `for_size`.
_MOST_SIDE = 4681


def load_picture(path: Path) -> NDArray[np.uint8]:
    """The picture at `path` as uint8 (height, width, 3), R, G, B, turned as its EXIF tag says.

    Grey, palette, CMYK and 16-bit grey pictures are converted; what is transparent is laid over
    white. Of an animation the first frame is taken.
    Raises DataError: unreadable, not a picture, damaged or truncated, more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of damage and of picture sizes; ours is a limit, not a warning.
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return _decode(path)
    except DataError:
        raise
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: not a picture of a known format") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: picture has more than {MAX_PIXELS:,} pixels") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read this picture: {error.strerror or error}") from None
    # Decoders of damaged files raise nearly anything: ValueError, SyntaxError, IndexError, ...
    except Exception as error:
        raise DataError(f"{path}: damaged picture: {type(error).__name__}: {error}") from None


def _decode(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise DataError(
                f"{path}: picture is {picture.width} x {picture.height}; "
                f"at most {MAX_PIXELS:,} pixels are allowed"
            )
        picture.load()
        turned = ImageOps.exif_transpose(picture)
        return np.array(_rgb(turned, path), dtype=np.uint8)


def _rgb(picture: Image.Image, path: Path) -> Image.Image:
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
