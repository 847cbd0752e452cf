"""From image files to pixels: every kind of file, against values worked by hand."""

import io
import itertools
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from conftest import refused
from PIL import Image

from gan_lab.pack import decoding
from gan_lab.pack.decoding import FORMATS, MAX_PIXELS, SUFFIXES, Form, UnreadableError, decode, decode_all


def file_of(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(content, size=None, crop="none", color="rgb", background="white") -> list:
    return decode(content, Form.from_keys(size, crop, color, background)._replace(white=65535)).tolist()


def image(rows, mode="RGB") -> Image.Image:
    picture = Image.new(mode, (len(rows[0]), len(rows)))
    picture.putdata(list(itertools.chain.from_iterable(rows)))
    return picture


RED, GREEN, BLUE, BLACK, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)


def palette() -> bytes:
    """A red and a green pixel; of the palette, green is transparent."""
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *GREEN])
    picture.putdata([0, 1])
    return file_of(picture, transparency=1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (file_of(image([[RED, GREEN]])), [[[*RED], [*GREEN]]]),
        # half of black over white: 255 · 127/255
        (file_of(image([[(0, 0, 0, 128), (*BLUE, 255)]], "RGBA")), [[[127] * 3, [*BLUE]]]),
        (file_of(image([[(*RED, 255), (*BLUE, 255)]], "RGBA")), [[[*RED], [*BLUE]]]),
        (file_of(image([[(0, 128), (7, 0)]], "LA")), [[[127] * 3, [255] * 3]]),
        (palette(), [[[*RED], [255] * 3]]),
        (file_of(Image.fromarray(np.array([[0, 128, 129, 257 * 200, 65535]], np.uint16))), None),
        (file_of(Image.fromarray(np.array([[0, 128, 129, 257 * 200, 65535]], np.int32)), "TIFF"), None),
        (file_of(image([[(0, 255, 255, 0), (0, 0, 0, 255)]], "CMYK"), "TIFF"), [[[*RED], [*BLACK]]]),
        (file_of(image([[0, 255]], "1")), [[[*BLACK], [*WHITE]]]),
        (file_of(image([[9, 10]], "L"), "BMP"), [[[9] * 3, [10] * 3]]),
        (np.array([[RED, BLUE]], np.uint8), [[[*RED], [*BLUE]]]),
    ],
    ids=["rgb", "rgba", "opaque", "la", "palette", "16bit", "int32", "cmyk", "1bit", "bmp", "array"],
)
def test_kinds_of_pixels(content, expected):
    # 16 bits: 128/257 = 0.498, 129/257 = 0.502
    expected = expected or [[[value] * 3 for value in (0, 0, 1, 200, 255)]]
    assert pixels(content) == expected


def test_what_shows_through_is_the_background():
    content = file_of(image([[(0, 0, 0, 128), (*GREEN, 0)]], "RGBA"))
    assert pixels(content, background="red") == [[[127, 0, 0], [*RED]]]
    assert pixels(content, background="#0000ff80") == [[[0, 0, 127], [*BLUE]]]


def test_gray_has_one_channel():
    # 0.299 R + 0.587 G + 0.114 B, in 16 bits: 255 · 0.299 = 76.2, 149.7, 29.1
    assert pixels(file_of(image([[RED, GREEN, BLUE, WHITE]])), color="gray") == [[[76], [150], [29], [255]]]
    assert pixels(file_of(image([[3, 250]], "L")), color="gray") == [[[3], [250]]]


def test_turned_as_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90°: what is left comes to the top
    content = file_of(image([[RED, BLUE]]), exif=exif)
    assert pixels(content) == [[[*RED]], [[*BLUE]]]


def test_the_first_frame_of_an_animation():
    content = file_of(image([[RED]]), "GIF", save_all=True, append_images=[image([[BLUE]])])
    assert pixels(content) == [[[*RED]]]


@pytest.mark.parametrize(
    ("crop", "rows", "columns"),
    [
        ("none", range(4), range(6)),
        ("center", range(4), range(1, 5)),
        ("2x4", (1, 2), range(1, 5)),
        ("3x1", (0, 1, 2), (2,)),
    ],
)
def test_crops(crop, rows, columns):
    content = file_of(image([[10 * y + x for x in range(6)] for y in range(4)], "L"))
    assert pixels(content, crop=crop, color="gray") == [[[10 * y + x] for x in columns] for y in rows]


def test_resizing_is_a_weighted_mean():
    content = file_of(image([[0] * 32 + [255] * 32] * 64, "L"))
    small = decode(content, Form.from_keys(4, "none", "gray", "white"))[..., 0]
    assert small.shape == (4, 4)
    assert (small == small[0]).all()
    assert small[0, 0] < 20 < 235 < small[0, 3], "and no wider than it has to be"
    assert abs(int(small[0, 1]) + int(small[0, 2]) - 255) <= 1


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header states a size; its few bytes unfold to zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    zeros = zlib.compress(bytes(10**6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zeros) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 10_000), (MAX_PIXELS + 1, 1), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_found_by_its_header(size):
    tracemalloc.start()
    with pytest.raises(UnreadableError, match="pixels"):
        decode(png_of_size(*size), Form.from_keys(64, "center", "rgb", "white"))
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
        (file_of(image([[RED] * 99] * 99))[:-30], ""),
        (file_of(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "floating-point"),
        (file_of(Image.fromarray(np.array([[70_000]], np.int32)), "TIFF"), "32-bit"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
    ],
    ids=["empty", "text", "eps", "cut", "float", "32bit", "nothing"],
)
def test_what_cannot_be_read_has_a_reason(content, reason):
    with pytest.raises(UnreadableError) as error:
        pixels(content)
    assert reason in str(error.value)
    assert str(error.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damage_is_found_or_harmless(kind):
    rows = np.arange(256).reshape(16, 16)
    gradient = np.stack([rows % 16, rows // 16, (rows % 16) * (rows // 16)], axis=-1).astype(np.uint8)
    whole = file_of(Image.fromarray(gradient), kind)
    form = Form.from_keys(8, "5x7", "rgb", "red")
    chance = random.Random(0)
    block = []
    for number in range(50):
        raw = bytearray(whole)
        for _ in range(chance.choice([1, 1, 4, 40])):
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        block.append((number, bytes(raw[: chance.choice([len(raw), chance.randrange(len(raw))])])))
    results = decode_all(block, form)
    assert [number for number, _ in results] == list(range(50))
    assert all(result if isinstance(result, str) else result.shape == (8, 8, 3) for _, result in results)


def test_16_bits_are_cropped_as_well():
    content = file_of(Image.fromarray(257 * np.arange(16, dtype=np.uint16).reshape(4, 4)))
    assert pixels(content, crop="2x2", color="gray") == [[[5], [6]], [[9], [10]]]


def gray16(*values: int, kind: str = "PNG", dtype=np.uint16, **options) -> bytes:
    return file_of(Image.fromarray(np.array([values], dtype)), kind, **options)


@pytest.mark.parametrize(
    ("content", "white"),
    [
        (gray16(0, 1023), 1023),
        (gray16(0, 1024), 4095),
        (gray16(4095), 4095),
        (gray16(4096), 16383),
        (gray16(16384), 65535),
        (gray16(0, 255), 255),
        (gray16(0, 0), 255),
        (gray16(3000, kind="TIFF"), 4095),
        (gray16(3000, kind="TIFF", dtype=np.int32), 4095),
        # what the header states may be more than what occurs
        (gray16(700, kind="TIFF", tiffinfo={281: 4095}), 4095),
        (gray16(700, kind="TIFF", tiffinfo={281: 65535}), 1023),
        (gray16(700, kind="TIFF", tiffinfo={281: 100}), 1023),
    ],
    ids=lambda value: None if isinstance(value, int) else "",
)
def test_which_value_is_white_in_16_bits(content, white):
    form = Form.from_keys(None, "none", "gray", "white")
    assert decode_all([(3, content)], form) == [(3, white)]


def test_big_endian_tiff():
    """As microscopes write it: 12 bits in two bytes each, the high one first."""
    entries = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 4)]
    directory = struct.pack(">H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack(">HHI", tag, kind, count) + (
            struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
        )
    content = b"MM\0*" + struct.pack(">I", 12) + struct.pack(">HH", 4095, 2048) + directory + bytes(4)
    form = Form.from_keys(None, "none", "gray", "white")
    assert decode_all([(0, content)], form) == [(0, 4095)]
    assert decode(content, form._replace(white=4095)).tolist() == [[[255], [128]]]


def test_12_bits_reach_white():
    form = Form.from_keys(None, "none", "gray", "white")._replace(white=4095)
    assert decode(gray16(0, 8, 9, 2048, 4095), form).tolist() == [[[0], [0], [1], [128], [255]]]
    # 8 bits in 16 stay what they are
    values = list(range(256))
    assert decode(gray16(*values), form._replace(white=255)).ravel().tolist() == values


def animation(kind: str) -> bytes:
    return file_of(image([[RED]]), kind, save_all=True, append_images=[image([[BLUE]])], lossless=True)


def translucent_palette() -> bytes:
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *GREEN])
    picture.putdata([0, 1])
    return file_of(picture, transparency=bytes([255, 0]))


def png_of_16_bit_colour() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">HHH", 65535, 0, 256)
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (animation("WEBP"), [[[*RED]]]),
        (animation("PNG"), [[[*RED]]]),
        (animation("TIFF"), [[[*RED]]]),
        (translucent_palette(), [[[*RED], [255] * 3]]),
        (png_of_16_bit_colour(), [[[255, 0, 1]]]),
        (file_of(image([[(255, 0, 0, 0)] * 8] * 8, "CMYK"), "JPEG"), [[[0, 255, 255]] * 8] * 8),
        (file_of(image([[200]], "L"), "PPM"), [[[200] * 3]]),
        (file_of(image([[(*BLUE, 255)]], "RGBA"), "WEBP", lossless=True), [[[*BLUE]]]),
    ],
    ids=["webp", "apng", "pages", "palette", "rgb16", "cmyk jpeg", "pgm", "webp rgba"],
)
def test_oddities(content, expected):
    values = np.array(pixels(content))
    assert values.shape == np.array(expected).shape
    assert abs(values - expected).max() <= 2, "JPEG's rounding"


def test_photographs_of_phones():
    """MPO: a JPEG with a second picture behind the first, turned by EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 8
    left_white = np.zeros((16, 32, 3), np.uint8)
    left_white[:, :16] = 255
    first = Image.fromarray(left_white)
    content = file_of(first, "MPO", save_all=True, append_images=[first], exif=exif)
    values = np.array(pixels(content))
    assert values.shape == (32, 16, 3)
    assert values[28:].min() > 200 > 50 > values[:4].max(), "what is left comes to the bottom"


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (b"<!DOCTYPE html><html>Too many requests</html>", "web page"),
        (b"\n<html>", "web page"),
        (b"<svg xmlns=", "SVG"),
        (b'{"error": "quota"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC"),
        (bytes(5000), "zeros"),
        (b"%PDF-1.7", "PDF"),
        (gray16(-5, kind="TIFF", dtype=np.int32), "negative"),
    ],
)
def test_files_that_are_not_what_their_names_say(content, phrase):
    with pytest.raises(UnreadableError, match=phrase):
        pixels(content)


def test_nothing_that_runs_programs_is_opened():
    """Pillow gives EPS to Ghostscript."""
    assert "EPS" not in FORMATS
    assert not SUFFIXES & {".eps", ".ps", ".pdf", ".h5"}
    assert {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"} <= SUFFIXES


def test_too_many_bytes_or_too_small_for_the_crop(monkeypatch):
    with pytest.raises(UnreadableError, match="1 × 2 is smaller than the crop 2 × 2"):
        pixels(file_of(image([[RED, RED]])), crop="2x2")
    monkeypatch.setattr(decoding, "MAX_BYTES", 10)
    with pytest.raises(UnreadableError, match="more than 10 bytes"):
        pixels(file_of(image([[RED]])))


def test_one_bad_image_does_not_stop_a_block():
    good = file_of(image([[RED]]))
    first, second, third = decode_all([(5, good), (2, b"x"), (9, good)], Form.from_keys(None, "none", "rgb", "white"))
    assert (first[0], second[0], third[0]) == (5, 2, 9)
    assert isinstance(second[1], str)
    assert first[1].tolist() == third[1].tolist() == [[[*RED]]]


@pytest.mark.parametrize("crop", ["middle", "x", "0x5", "5x", "-1x5", "5", "5x5x5", "²x5", "1.5x2", ""])
def test_what_is_no_crop(crop):
    with refused("invalid", "crop"):
        Form.from_keys(64, crop, "rgb", "white")


@pytest.mark.parametrize("background", ["whitish", "", "#12", "rgb(1,2)"])
def test_what_is_no_colour(background):
    with refused("invalid", "background"):
        Form.from_keys(64, "center", "rgb", background)
