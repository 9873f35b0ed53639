"""Seconds and memory that the largest allowed pictures of each kind take, one CSV row each.

python benchmarks/pictures.py OUT: OUT is made and holds the pictures, about 2 GB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from record import append_rows

from etinynet.data.images import Preprocess, load_picture

__all__ = ["main", "measure"]


def _noise(side: int, channels: int = 3) -> NDArray[np.uint8]:
    """Pixels (side, side, channels) that hardly compress."""
    block = np.random.default_rng(0).integers(0, 256, (500, side, channels), np.uint8)
    rolled = [np.roll(block, 7 * i, 1) for i in range(-(-side // 500))]
    return np.concatenate(rolled)[:side]


def _picture(side: int, mode: str = "RGB") -> Image.Image:
    picture = Image.fromarray(_noise(side, 4 if mode == "RGBA" else 3))
    return picture if picture.mode == mode else picture.convert(mode)


def _plain(path: Path) -> None:
    numbers = " ".join(map(str, _noise(1730).ravel()))
    path.write_text(f"P3 1730 1730 255 {numbers}")


def _deep(path: Path) -> None:
    values = _noise(1730).astype(">u2")
    path.write_bytes(b"P6 1730 1730 1000\n" + values.tobytes())


#: How each kind is made.
KINDS: dict[str, Callable[[Path], None]] = {
    "png": lambda path: _picture(10_950).save(path, compress_level=1),
    "rgba.png": lambda path: _picture(10_950, "RGBA").save(path, compress_level=1),
    "empty.png": lambda path: Image.new("RGBA", (10_950, 10_950)).save(path),
    "sixteen.png": lambda path: Image.new("I;16", (10_950, 10_950)).save(path),
    "large.jpg": lambda path: _picture(10_950).save(path, quality=90),
    "jpg": lambda path: _picture(7_740).save(path, quality=95, subsampling=0),
    "cmyk.jpg": lambda path: _picture(7_740, "CMYK").save(path, quality=90),
    "progressive.jpg": lambda path: _picture(7_740).save(
        path, quality=95, subsampling=0, progressive=True
    ),
    "webp": lambda path: _picture(6_920, "RGBA").save(path, lossless=True, quality=0, method=0),
    "lossy.webp": lambda path: _picture(6_920).save(path, method=0),
    "lzw.tif": lambda path: _picture(10_950).save(path, compression="tiff_lzw"),
    "fax.tif": lambda path: Image.new("1", (10_950, 10_950)).save(path, compression="group4"),
    "bmp": lambda path: _picture(10_950).save(path),
    "gif": lambda path: _picture(10_950, "L").save(path),
    "plain.ppm": _plain,
    "deep.ppm": _deep,
}


def _most_memory() -> int:
    """Most bytes that this process has had in memory; getrusage would count its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def measure(path: Path) -> tuple[float, int]:
    """Processor seconds and bytes that decoding and resizing take in this, a fresh process."""
    before = _most_memory()
    started = time.process_time()
    Preprocess.for_size(224).apply(load_picture(path))
    return time.process_time() - started, _most_memory() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", type=Path, help="measure this file and print the figures")
    arguments = parser.parse_args()
    if arguments.only is not None:
        print(*measure(arguments.only))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    Image.MAX_IMAGE_PIXELS = None
    ImageFile.MAXBLOCK = 2**30
    rows = []
    for name, make in KINDS.items():
        path = arguments.out / (name if "." in name else f"plain.{name}")
        make(path)
        command = [sys.executable, __file__, str(arguments.out), "--only", str(path)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        rows.append({"kind": path.name, "seconds": f"{float(found[0]):.1f}", "bytes": found[1]})
        print(rows[-1], flush=True)
        path.unlink()
    append_rows("pictures", rows)


if __name__ == "__main__":
    main()
