"""Pictures of every sort and damage: the right pixels or a DataError in one line."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from etinynet.data import images
from etinynet.data.images import Preprocess, load_picture, open_picture, to_input
from etinynet.errors import ConfigError, DataError


def _save(path, picture: Image.Image, **options):
    picture.save(path, **options)
    return path


def _gradient(height: int = 20, width: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 8, columns * 8, rows + columns], axis=2).astype(np.uint8)


def test_rgb_is_kept(tmp_path):
    pixels = _gradient()
    got = load_picture(_save(tmp_path / "a.png", Image.fromarray(pixels)))
    assert got.dtype == np.uint8
    assert np.array_equal(got, pixels)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "PA", "CMYK", "YCbCr", "I;16"])
def test_modes_become_rgb(tmp_path, mode):
    suffix = {"CMYK": "jpg", "YCbCr": "jpg", "PA": "webp"}.get(mode, "png")
    source = Image.new("RGB", (6, 4), (255, 255, 255))
    if mode == "I;16":
        picture = Image.fromarray(np.full((4, 6), 65535, np.uint16))
    else:
        picture = source.convert(mode) if mode != "PA" else source.convert("RGBA")
    got = load_picture(_save(tmp_path / f"a.{suffix}", picture))
    assert got.shape == (4, 6, 3)
    assert got.min() >= 254


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    values = np.array([[0, 257 * 100, 65535]], np.uint16)
    got = load_picture(_save(tmp_path / "a.png", Image.fromarray(values)))
    assert got[0, :, 0].tolist() == [0, 100, 255]


def test_floating_point_is_refused(tmp_path):
    path = _save(tmp_path / "a.tif", Image.fromarray(np.ones((2, 2), np.float32)))
    with pytest.raises(DataError, match=r"a\.tif: picture of floating-point values"):
        load_picture(path)


def test_transparent_is_laid_over_white(tmp_path):
    picture = Image.new("RGBA", (2, 1))
    picture.putpixel((1, 0), (10, 20, 30, 255))
    got = load_picture(_save(tmp_path / "a.png", picture))
    assert got.tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_palette_with_transparent_entry(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([0, 0, 0, 9, 8, 7])
    picture.putpixel((1, 0), 1)
    got = load_picture(_save(tmp_path / "a.png", picture, transparency=0))
    assert got.tolist() == [[[255, 255, 255], [9, 8, 7]]]


@pytest.mark.parametrize(
    ("tag", "turn"),
    [(1, lambda p: p), (3, lambda p: p[::-1, ::-1]), (6, lambda p: np.rot90(p, -1)),
     (8, lambda p: np.rot90(p))],
)  # fmt: skip
def test_exif_orientation_is_applied(tmp_path, tag, turn):
    pixels = _gradient()
    exif = Image.Exif()
    exif[0x112] = tag
    got = load_picture(_save(tmp_path / "a.png", Image.fromarray(pixels), exif=exif))
    assert np.array_equal(got, turn(pixels))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"not a picture" * 100, b"\xff\xd8\xff\xe0"])
def test_not_a_picture(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg: ") as caught:
        load_picture(path)
    assert "\n" not in str(caught.value)


def test_absent_and_folder(tmp_path):
    with pytest.raises(DataError, match="cannot read this picture: No such file"):
        load_picture(tmp_path / "absent.png")
    with pytest.raises(DataError, match="cannot read this picture"):
        load_picture(tmp_path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_or_changed_bytes(tmp_path, form):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(
        buffer, form
    )
    whole = buffer.getvalue()
    path = tmp_path / "a"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="picture"):
        load_picture(path)
    for position in [*range(64), *range(64, len(whole), 101)]:
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            picture = load_picture(path)
        except DataError:
            continue
        assert picture.ndim == 3


def test_too_many_pixels(tmp_path, monkeypatch):
    path = _save(tmp_path / "a.png", Image.new("L", (101, 100)))
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    with pytest.raises(DataError, match="is 101 x 100, 10,100 pixels; at most 10,000 are"):
        load_picture(path)


@pytest.mark.parametrize(
    ("limits", "form", "options"),
    [({"WEBP": 99}, "webp", {}), ({"ppm_plain": 99}, "ppm", {"plain": True})],
)
def test_formats_that_need_more_have_a_lower_limit(tmp_path, monkeypatch, limits, form, options):
    path = tmp_path / f"a.{form}"
    if options:
        path.write_text("P3 10 10 255 " + "7 " * 300)
    else:
        _save(path, Image.new("RGB", (10, 10), (7, 7, 7)))
    assert load_picture(path).shape == (10, 10, 3)
    monkeypatch.setattr(images, "_FEWER", limits)
    with pytest.raises(DataError, match="is 10 x 10, 100 pixels; at most 99 are allowed"):
        load_picture(path)


def test_scans_of_a_progressive_jpeg_are_counted(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    Image.fromarray(_gradient(100, 100)).save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    monkeypatch.setattr(images, "MAX_WORK", 100_000)
    assert load_picture(path).shape == (100, 100, 3)
    path.write_bytes(whole[:-2] + 500 * scan + b"\xff\xd9")
    with pytest.raises(DataError, match="JPEG of 10,000 pixels in 510 scans; at most"):
        load_picture(path)


def test_a_thumbnail_and_what_follows_are_no_scans(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    Image.fromarray(_gradient(100, 100)).save(buffer, "JPEG")
    whole = buffer.getvalue()
    thumbnail = b"\xff\xe1" + (2 + 400).to_bytes(2, "big") + b"\xff\xda\0\2" * 100
    path = tmp_path / "a.jpg"
    path.write_bytes(whole[:2] + thumbnail + whole[2:] + 100 * whole)
    monkeypatch.setattr(images, "MAX_WORK", 10_000)
    assert np.array_equal(load_picture(path), np.asarray(Image.open(buffer)))


def test_tiles_of_a_small_picture(tmp_path):
    """A tile is decoded whole: this file would take gigabytes."""

    def tiled(side):
        pixels = zlib.compress(bytes(min(side, 1000) ** 2))
        tags = [(256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1)]
        tags += [(322, side), (323, side), (324, 8 + 2 + 10 * 12 + 4), (325, len(pixels))]
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        path = tmp_path / "a.tif"
        path.write_bytes(b"II*\0" + struct.pack("<IH", 8, 10) + entries + bytes(4) + pixels)
        return path

    assert load_picture(tiled(16)).shape == (16, 16, 3)
    with pytest.raises(DataError, match="tiles are 40000 x 40000; at most 120,000,000 pixels"):
        load_picture(tiled(40_000))


@pytest.mark.parametrize(
    ("short", "sides"),
    [(None, (900, 1200)), (451, (900, 1200)), (450, (450, 600)), (226, (450, 600)),
     (225, (225, 300)), (112, (113, 150)), (1, (113, 150))],
)  # fmt: skip
def test_a_jpeg_is_decoded_no_larger_than_needed(tmp_path, short, sides):
    for progressive in (False, True):
        picture = Image.fromarray(_gradient(900, 1200))
        path = _save(tmp_path / "a.jpg", picture, progressive=progressive)
        assert open_picture(path, short).pixels.shape[:2] == sides


def test_what_is_decoded_smaller_looks_the_same(tmp_path):
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (120, 150, 3), np.uint8))
    path = _save(tmp_path / "a.jpg", small.resize((2400, 1920), Image.Resampling.BICUBIC))
    rule = Preprocess.for_size(96)
    reduced = open_picture(path, rule.short).pixels
    assert reduced.shape == (480, 600, 3)
    difference = rule.apply(reduced).astype(int) - rule.apply(load_picture(path))
    assert np.abs(difference).max() <= 2
    assert np.abs(difference).mean() < 0.5


def test_large_jpegs_are_decoded_at_half_their_size(tmp_path, monkeypatch):
    path = _save(tmp_path / "a.jpg", Image.new("RGB", (402, 200), (90, 90, 90)), quality=95)
    monkeypatch.setattr(images, "_HALVED", 80_000)
    assert load_picture(path).shape == (100, 201, 3)


def test_all_orientations_equal_pillows(tmp_path):
    pixels = _gradient()
    for tag in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = tag
        path = _save(tmp_path / f"{tag}.png", Image.fromarray(pixels), exif=exif)
        with Image.open(path) as picture:
            expected = np.asarray(ImageOps.exif_transpose(picture))
        assert np.array_equal(load_picture(path), expected)


@pytest.mark.parametrize("name", ["exif_outside.jpg", "exif_short.jpg", "png_badexif.png"])
def test_damaged_exif_beside_whole_pixels(shared_data, name):
    path = shared_data.parent / "cases" / name
    found = open_picture(path)
    assert found.flaw
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as picture:
            expected = np.asarray(picture.convert("RGB"))
    assert sorted(found.pixels.shape) == sorted(expected.shape)
    assert found.pixels.sum(dtype=np.int64) == expected.sum(dtype=np.int64)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("damage", "is_turned"),
    [(lambda data: data[:-12], True), (lambda data: data[:40], True),
     (lambda data: data[:30], False), (lambda data: data[:12], False)],
    ids=["value-outside", "no-values", "no-second-tag", "no-tags"],
)  # fmt: skip
def test_orientation_from_damaged_exif(tmp_path, form, damage, is_turned):
    exif = Image.Exif()
    exif[0x10F] = "a maker's name"
    exif[0x112] = 6
    picture = Image.fromarray(_gradient())
    plain = open_picture(_save(tmp_path / "plain", picture, format=form))
    got = open_picture(_save(tmp_path / "odd", picture, format=form, exif=damage(exif.tobytes())))
    assert plain.flaw is None
    assert got.flaw
    expected = np.rot90(plain.pixels, -1) if is_turned else plain.pixels
    assert np.array_equal(got.pixels, expected)


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0" + bytes(range(200, 255)),
     b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04what"],
)  # fmt: skip
def test_exif_of_nonsense_does_not_cost_the_picture(tmp_path, exif):
    path = _save(tmp_path / "a.jpg", Image.fromarray(_gradient()), exif=exif)
    assert load_picture(path).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jpg", b"\0\0\0\x18ftypheic" + bytes(50)),
        ("a.jpg", b"\0\0\0\x18ftypavif" + bytes(50)),
        ("a.heic", b"anything"),
        ("a.NEF", b"MM\0*" + bytes(20)),
    ],
)
def test_pictures_of_phones_and_raw_files_are_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match="raw data of a camera are not read; convert them to JPEG"):
        load_picture(path)


def test_apple_double_is_named(tmp_path):
    path = tmp_path / "._a.jpg"
    path.write_bytes(b"\x00\x05\x16\x07" + bytes(40))
    with pytest.raises(DataError, match="what macOS keeps beside one of that name"):
        load_picture(path)


def test_decompression_bomb(tmp_path):
    path = _save(tmp_path / "a.png", Image.new("1", (30_000, 30_000)))
    with pytest.raises(DataError, match="pixels"):
        load_picture(path)


def test_large_legal_picture_works(tmp_path):
    path = _save(tmp_path / "a.png", Image.new("RGB", (20_000, 5_000), (1, 2, 3)))
    got = Preprocess.for_size(224).apply(load_picture(path))
    assert got.shape == (224, 224, 3)
    assert (got == (1, 2, 3)).all()


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 20_000), (20_000, 1), (3, 5), (256, 256), (256, 2048), (256, 2049)]
)
@pytest.mark.parametrize("size", [1, 96, 224])
def test_any_shape_gives_the_size(shape, size):
    picture = np.full((*shape, 3), 7, np.uint8)
    got = Preprocess.for_size(size).apply(picture)
    assert got.shape == (size, size, 3)
    assert (got == 7).all()


def test_crop_is_the_centre():
    picture = np.zeros((256, 300, 3), np.uint8)
    picture[16:240, 38:262] = 9
    assert (Preprocess(224, 256).apply(picture) == 9).all()


def test_long_pictures_are_cropped_as_short_ones():
    picture = np.zeros((64, 64 * 20, 3), np.uint8)
    picture[:, :, 1] = np.linspace(0, 255, 64 * 20).astype(np.uint8)
    rule = Preprocess(56, 64)
    whole = picture[4:60, (1280 - 56) // 2 : (1280 + 56) // 2]
    assert np.abs(rule.apply(picture).astype(int) - whole).max() <= 1


def test_same_side_for_size_and_resize():
    assert Preprocess(32, 32).apply(_gradient(37, 1000)).shape == (32, 32, 3)


def test_proportion_of_224_to_256():
    assert Preprocess.for_size(224) == Preprocess(224, 256)
    assert Preprocess.for_size(96).resize_short == 110
    assert Preprocess.from_json(Preprocess.for_size(96).to_json()) == Preprocess.for_size(96)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 0, "resize_short": 8, "crop": "center"}, "size is 0; an integer 1 to 4681"),
        ({"size": 9, "resize_short": 8, "crop": "center"}, "resize_short is 8; at least size, 9"),
        ({"size": 8, "resize_short": 8, "crop": "left"}, "crop is 'left'; allowed: center"),
        ({"size": 8, "resize_short": "8", "crop": "center"}, "resize_short is '8'"),
        ({"size": 8}, "not an object of exactly size, resize_short, crop"),
        ({"size": 8, "resize_short": 8, "crop": "center", "x": 1}, "not an object of exactly"),
        ([], "not an object of exactly"),
    ],
)
def test_bad_preprocess_is_refused_in_words(values, words):
    with pytest.raises(ConfigError, match=words):
        Preprocess.from_json(values)


def test_input_is_pixel_minus_128():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(to_input(pixels), pixels.astype(int) - 128)
    assert to_input(pixels).dtype == np.int8
