"""Decodes image files to pixels of one form, in one process or several.

It imports little, since every worker process imports it.
"""

import io
import multiprocessing
import os
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from gan_lab.core.errors import LabError
from gan_lab.core.interrupts import blocked, leave_to_parent
from gan_lab.data.layout import MAX_PIXELS

MAX_BYTES = 2**28  # of an image file, whatever an archive's header says; no 89 million pixels need more

Image.init()  # registers all of Pillow's formats
# EPS would start Ghostscript, which runs a programming language; of the others Pillow knows no more than the name.
EXCLUDED_FORMATS = {"EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
# In this order they are tried.
FORMATS = ["JPEG", "PNG", *sorted(set(Image.OPEN) - EXCLUDED_FORMATS - {"JPEG", "PNG"})]
SUFFIXES = frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)

# Values that are white in 16-bit gray: cameras and scanners of 10, 12 and 14 bits fill 16 only in part.
WHITES = (255, 1023, 4095, 16383, 65535)
MAX_SAMPLE_VALUE = 281  # TIFF tag: the largest value that may occur
BITS_PER_SAMPLE = 258  # TIFF tag

# By their first bytes, files that are taken for images, and why they are none.
NO_IMAGES = {
    b"<!DOCTYPE": "it is a web page, not an image: download it again",
    b"<!doctype": "it is a web page, not an image: download it again",
    b"<html": "it is a web page, not an image: download it again",
    b"<svg": "it is an SVG drawing: convert it to PNG",
    b"<?xml": "it is XML, such as an SVG drawing or a server's error: convert it to PNG or download it again",
    b"{": "it is JSON, such as a server's error: download it again",
    b"version https://git-lfs": "it is a pointer of Git LFS: get the file itself by git lfs pull",
    b"%PDF": "it is a PDF: convert it to PNG",
}
HEIC_BRANDS = (b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")

NumberedContent = tuple[int, bytes | np.ndarray]  # a number, and an image file or pixels
# The same number, and pixels (H, W, C), the reason why there are none, or of 16-bit gray the value that is white in it.
Result = tuple[int, np.ndarray | str | int]


class UnreadableError(Exception):
    """An image that can't be used; its text says why."""


class UnknownWhiteError(Exception):
    """16-bit gray that can't be converted before it is known which value is white in all images of a source.

    Args:
        white: one of `WHITES`, as far as this image shows.
    """

    def __init__(self, white: int):
        super().__init__(white)
        self.white = white


class Form(NamedTuple):
    """What images become.

    Attributes:
        size: pixels of a side of the square result; None keeps the size.
        crop: height and width of the centred part that is kept; "center", the largest square; "none", everything.
        gray: True for one channel (ITU-R 601-2 luma), False for RGB.
        background: RGB, 0 to 255, which shows where an image is transparent.
        white: value of 16-bit gray that becomes 255; None if it isn't known yet.
    """

    size: int | None
    crop: tuple[int, int] | str
    gray: bool
    background: tuple[int, int, int]
    white: int | None = None

    @classmethod
    def from_keys(cls, size: int | None, crop: str, color: str, background: str) -> "Form":
        """Makes a form from the configuration's keys; see conf/pack.yaml.

        Raises:
            LabError: for a crop or a colour that doesn't exist.
        """
        try:
            rgb = ImageColor.getrgb(background)[:3]
        except ValueError as error:
            raise LabError(
                f"background={background} is no colour that Pillow knows.",
                "Take a name (white), or '#ff8000'.",
                code="invalid",
                key="background",
            ) from error
        return cls(size, _parse_crop(crop), color == "gray", (rgb[0], rgb[1], rgb[2]))


def _parse_crop(crop: str) -> tuple[int, int] | str:
    """Returns "center", "none", or height and width from a text such as 128x128.

    Raises:
        LabError: for anything else.
    """
    if crop in ("center", "none"):
        return crop
    sides = crop.split("x")
    # int() of thousands of digits would raise: the first six show whether the number is above 0.
    are_numbers = all(side.isascii() and side.isdecimal() and int(side[:6]) > 0 for side in sides)
    if len(sides) != 2 or not are_numbers:
        raise LabError(
            f"crop={crop} is no crop.",
            "Take center, none, or height x width as in crop=128x128.",
            code="invalid",
            key="crop",
        )
    return int(sides[0]), int(sides[1])


def decode_all(block: Sequence[NumberedContent], form: Form) -> list[Result]:
    """Decodes several images; see `Result`."""
    results: list[Result] = []
    with warnings.catch_warnings():
        # Pillow warns about large images, which are refused below, and about odd ones.
        warnings.simplefilter("ignore")
        for number, content in block:
            try:
                results.append((number, decode(content, form)))
            except UnreadableError as error:
                results.append((number, str(error)))
            except UnknownWhiteError as error:
                results.append((number, error.white))
    return results


def decode_with(workers: int, blocks: Iterable[Sequence[NumberedContent]], form: Form) -> Iterator[Result]:
    """Decodes blocks of images in their order.

    Args:
        workers: number of processes; 0 and 1: in this one.
        blocks: are read as they are needed, a few ahead for each process, so that memory stays bounded.
        form: what they become.

    Raises:
        LabError: if a process is killed.
    """
    if workers <= 1:
        for block in blocks:
            yield from decode_all(block, form)
        return
    pool = ProcessPoolExecutor(workers, initializer=_set_up_worker)
    pending: deque[Future[list[Result]]] = deque()
    try:
        for block in blocks:
            # This starts the workers.
            with blocked():
                pending.append(pool.submit(decode_all, block, form))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool as error:
        raise LabError(
            "A worker process was killed, by hand or because memory ran out.",
            f"Use fewer: workers={workers - 1}.",
            code="failed",
            key="workers",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _set_up_worker() -> None:
    """Makes a worker leave Ctrl-C to its parent, and end when the parent does, even if that one is killed."""
    leave_to_parent()
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def decode(content: bytes | np.ndarray, form: Form) -> np.ndarray:
    """Decodes an image.

    It is turned as its EXIF data say, cropped, made opaque and RGB or gray, then resized (bicubic, with antialiasing).

    Args:
        content: an image file, of an animation the first frame counts; or pixels `(H, W, 3)` uint8.
        form: what it becomes.

    Returns:
        Pixels `(H, W, C)`, uint8.

    Raises:
        UnreadableError: if it is no image, damaged, too large, or its values have no meaning in 0 to 255.
        UnknownWhiteError: if it is 16-bit gray and the form doesn't say which value is white.
    """
    try:
        image = Image.fromarray(content) if isinstance(content, np.ndarray) else _open_image(content)
        if 0 in image.size:
            raise UnreadableError("it has no pixels")
        if form.white is None and image.mode.startswith("I"):
            raise UnknownWhiteError(_white_of(image))
        ImageOps.exif_transpose(image, in_place=True)
        image = _crop(image, form.crop)
        image = _flatten(image, form)
        if form.size is not None and image.size != (form.size, form.size):
            image = image.resize((form.size, form.size), Image.Resampling.BICUBIC)
        pixels = np.asarray(image)
    except (UnreadableError, UnknownWhiteError, MemoryError):
        raise
    except Exception as error:  # Pillow reports damage by errors of many types
        raise UnreadableError(str(error) or type(error).__name__) from error
    return pixels[:, :, None] if form.gray else pixels


def _open_image(content: bytes) -> Image.Image:
    """Opens an image file, and refuses one that is too large before it is decoded."""
    if not content:
        raise UnreadableError("it is empty")
    if len(content) > MAX_BYTES:
        raise UnreadableError(f"it has more than {MAX_BYTES:,} bytes")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnreadableError(_reason_for_no_image(content)) from error
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableError(f"{image.width:,} × {image.height:,} pixels are more than {MAX_PIXELS:,}")
    return image


def _crop(image: Image.Image, crop: tuple[int, int] | str) -> Image.Image:
    """Returns the centred part of an image that is kept; see `Form`."""
    if crop == "none":
        return image
    if isinstance(crop, str):
        height = min(image.size)
        width = height
    else:
        height, width = crop
    if height > image.height or width > image.width:
        raise UnreadableError(f"{image.height} × {image.width} is smaller than the crop {height} × {width}")
    if (height, width) == (image.height, image.width):
        return image
    left = (image.width - width) // 2
    top = (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _flatten(image: Image.Image, form: Form) -> Image.Image:
    """Returns an image opaque, in RGB or gray."""
    mode = "L" if form.gray else "RGB"
    if image.mode.startswith("I"):
        assert form.white is not None  # see decode
        image = _to_eight_bits(image, form.white)
    elif image.mode == "F":
        raise UnreadableError("floating-point pixels, of which nothing says what is white")
    # Checked first: flattening takes six times as long as converting.
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            canvas = Image.new("RGB", image.size, form.background)
            canvas.paste(image, mask=image)
            image = canvas
    return image if image.mode == mode else image.convert(mode)


def _to_eight_bits(image: Image.Image, white: int) -> Image.Image:
    """Converts 16-bit gray (mode `I;16`, in some files `I`), so that white becomes 255.

    Pillow's own conversion differs from version to version.
    """
    values = _sixteen_bit_values(image)
    return Image.fromarray(np.minimum((255 * values + white // 2) // white, 255).astype(np.uint8))


def _white_of(image: Image.Image) -> int:
    """Returns the smallest of `WHITES` that no value of an image exceeds, nor those that its TIFF header allows."""
    largest = int(_sixteen_bit_values(image).max())
    if isinstance(image, TiffImageFile):
        # What a camera or microscope says about itself; 16 bits say nothing, as files have no 12.
        for tag in (BITS_PER_SAMPLE, MAX_SAMPLE_VALUE):
            values = image.tag_v2.get(tag)
            value = values[0] if isinstance(values, tuple) and values else values
            if isinstance(value, int) and value > 0:
                stated = 2 ** min(value, 16) - 1 if tag == BITS_PER_SAMPLE else value
                largest = max(largest, stated if stated < WHITES[-1] else 0)
    return next(white for white in WHITES if largest <= white)


def _sixteen_bit_values(image: Image.Image) -> np.ndarray:
    """Returns the values of 16-bit gray, `(H, W)` int64.

    Raises:
        UnreadableError: if they are no numbers from 0 to 65535.
    """
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0:
        raise UnreadableError("negative pixels, of which nothing says what is black: save it from 0 to 65535")
    if values.max() > WHITES[-1]:
        raise UnreadableError("32-bit pixels, of which nothing says what is white")
    return values


def _reason_for_no_image(content: bytes) -> str:
    """Returns why a file isn't an image that Pillow reads, if its first bytes tell it."""
    start = content[:64].lstrip()
    for signature, reason in NO_IMAGES.items():
        if start.startswith(signature):
            return reason
    brand = content[8:12] if content[4:8] == b"ftyp" else b""
    if brand in HEIC_BRANDS:
        return "it is a HEIC photograph: convert it to JPEG"
    if brand in AVIF_BRANDS:
        return "it is AVIF, which this Pillow doesn't read: convert it to PNG"
    if not content.strip(b"\0"):
        return "it has only zeros, as of a download that was interrupted"
    return "it is no image that Pillow reads"
