"""Decodes image files to pixels of one form, in one process or several.

It imports little, since every worker process imports it.
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

Image.init()  # registers all of Pillow's formats
# EPS would start Ghostscript, which runs a programming language; of the others Pillow knows no more than the name.
EXCLUDED_FORMATS = {"EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
# In this order they are tried.
FORMATS = ["JPEG", "PNG", *sorted(set(Image.OPEN) - EXCLUDED_FORMATS - {"JPEG", "PNG"})]
SUFFIXES = frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)

NumberedContent = tuple[int, bytes | np.ndarray]  # a number, and an image file or pixels
Result = tuple[int, np.ndarray | str]  # the same number, and pixels (H, W, C) or the reason why there are none


class UnreadableError(Exception):
    """An image that can't be used; its text says why."""


class Form(NamedTuple):
    """What images become.

    Attributes:
        size: pixels of a side of the square result; None keeps the size.
        crop: height and width of the centred part that is kept; "center", the largest square; "none", everything.
        gray: True for one channel (ITU-R 601-2 luma), False for RGB.
        background: RGB, 0 to 255, which shows where an image is transparent.
    """

    size: int | None
    crop: tuple[int, int] | str
    gray: bool
    background: tuple[int, int, int]

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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
    """
    try:
        image = Image.fromarray(content) if isinstance(content, np.ndarray) else _open_image(content)
        if 0 in image.size:
            raise UnreadableError("it has no pixels")
        ImageOps.exif_transpose(image, in_place=True)
        image = _crop(image, form.crop)
        image = _flatten(image, form)
        if form.size is not None and image.size != (form.size, form.size):
            image = image.resize((form.size, form.size), Image.Resampling.BICUBIC)
        pixels = np.asarray(image)
    except (UnreadableError, MemoryError):
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
        raise UnreadableError("it is no image that Pillow reads") from error
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
        image = _to_eight_bits(image)
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


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Converts 16-bit gray (mode `I;16`, in some files `I`), so that 65535 becomes 255.

    Pillow's own conversion differs from version to version.
    """
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableError("32-bit pixels, of which nothing says what is white")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
