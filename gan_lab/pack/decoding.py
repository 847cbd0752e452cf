"""From the bytes of image files to pixels of the asked form, in one process or several.

Light to import, as every process does it.
"""

import io
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from gan_lab.core.errors import LabError
from gan_lab.data.layout import MAX_PIXELS

MAX_BYTES = 2**28  # of an image file, whatever an archive's header says; no 89 million pixels need more

Image.init()  # all of Pillow's formats
# EPS would start Ghostscript, a programming language; of the others Pillow knows no more than the name.
OTHERS = {"EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
FORMATS = ["JPEG", "PNG", *sorted(set(Image.OPEN) - OTHERS - {"JPEG", "PNG"})]  # in this order they are tried
SUFFIXES = frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)
Content = tuple[int, bytes | np.ndarray]  # a number, and an image file or pixels
Result = tuple[int, np.ndarray | str]  # that number, and pixels (H, W, C) or the reason why there are none


class UnreadableError(Exception):
    """An image that can't be used; its text says why."""


class Form(NamedTuple):
    """What images become.

    Attributes:
        size: side of the square result in pixels; None keeps the size.
        crop: height and width of the centred part that is kept; "center", the largest square; "none", all.
        gray: one channel (ITU-R 601-2 luma) instead of RGB.
        background: RGB, which shows through where an image is transparent.
    """

    size: int | None
    crop: tuple[int, int] | str
    gray: bool
    background: tuple[int, int, int]

    @classmethod
    def of(cls, size: int | None, crop: str, color: str, background: str) -> "Form":
        """From the keys of the configuration.

        Raises:
            LabError: for a crop or a colour that there isn't.
        """
        part: tuple[int, int] | str = crop
        if crop not in ("center", "none"):
            sides = crop.split("x")
            if len(sides) != 2 or not all(side.isascii() and side.isdecimal() and int(side[:6]) > 0 for side in sides):
                raise LabError(f"crop={crop} is no crop.", "Take center, none, or height x width as in crop=128x128.")
            part = (int(sides[0]), int(sides[1]))
        try:
            colour = ImageColor.getrgb(background)[:3]
        except ValueError as error:
            raise LabError(
                f"background={background} is no colour that Pillow knows.", "Take a name (white), or '#ff8000'."
            ) from error
        return cls(size, part, color == "gray", (colour[0], colour[1], colour[2]))


def decode_all(block: Sequence[Content], form: Form) -> list[Result]:
    """Decodes numbered images: for each its number and its pixels `(H, W, C)`, or the reason why it can't be used."""
    results: list[Result] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on large images (refused below) and odd ones
        for number, content in block:
            try:
                results.append((number, decode(content, form)))
            except UnreadableError as error:
                results.append((number, str(error)))
    return results


def decode_with(workers: int, blocks: Iterable[Sequence[Content]], form: Form) -> Iterator[Result]:
    """Decodes blocks in so many processes (0 and 1: in this one), in their order, a few under way for each process.

    Raises:
        LabError: if a process is killed.
    """
    if workers <= 1:
        for block in blocks:
            yield from decode_all(block, form)
        return
    pool = ProcessPoolExecutor(workers, initializer=_end_with_parent)
    under_way: deque[Future[list[Result]]] = deque()
    try:
        for block in blocks:
            under_way.append(pool.submit(decode_all, block, form))
            if len(under_way) > 2 * workers:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    except BrokenProcessPool as error:
        raise LabError(
            "A worker process was killed, by hand or for want of memory.", f"Fewer at once: workers={workers - 1}."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A worker leaves Ctrl-C to the parent, and doesn't outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def decode(content: bytes | np.ndarray, form: Form) -> np.ndarray:
    """The pixels `(H, W, C)`, uint8, of an image file (an animation's first frame), or of an array of pixels.

    Turned as its EXIF data say, cropped, made opaque and RGB or gray, then resized (bicubic, with antialiasing).

    Raises:
        UnreadableError: if it is no image, damaged, too large, or without a meaning in 0 to 255.
    """
    try:
        image = Image.fromarray(content) if isinstance(content, np.ndarray) else _opened(content)
        if 0 in image.size:
            raise UnreadableError("it has no pixels")
        ImageOps.exif_transpose(image, in_place=True)
        image = _flat(_cropped(image, form.crop), form)
        if form.size is not None and image.size != (form.size, form.size):
            image = image.resize((form.size, form.size), Image.Resampling.BICUBIC)
        pixels = np.asarray(image)
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # Pillow tells damage by errors of many types
        raise UnreadableError(str(error) or type(error).__name__) from error
    return pixels[:, :, None] if form.gray else pixels


def _opened(content: bytes) -> Image.Image:
    if not content:
        raise UnreadableError("it is empty")
    if len(content) > MAX_BYTES:
        raise UnreadableError(f"it has more than {MAX_BYTES:,} bytes")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnreadableError("it is no image that Pillow reads") from error
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableError(f"{image.width:,} × {image.height:,} pixels are more than {MAX_PIXELS:,}")
    return image


def _cropped(image: Image.Image, crop: tuple[int, int] | str) -> Image.Image:
    if crop == "none":
        return image
    side = min(image.size)
    height, width = (side, side) if isinstance(crop, str) else crop
    if height > image.height or width > image.width:
        raise UnreadableError(f"{image.height} × {image.width} is smaller than the crop {height} × {width}")
    if (height, width) == (image.height, image.width):
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _flat(image: Image.Image, form: Form) -> Image.Image:
    """Opaque, RGB or gray."""
    mode = "L" if form.gray else "RGB"
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    elif image.mode == "F":
        raise UnreadableError("floating-point pixels, of which nothing says what is white")
    if image.has_transparency_data:  # asked first: flattening takes six times as long as converting
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            ground = Image.new("RGB", image.size, form.background)
            ground.paste(image, mask=image)
            image = ground
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit gray (`I;16`, in some files `I`), 65535 to 255: Pillow's own conversion differs by version."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableError("32-bit pixels, of which nothing says what is white")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
