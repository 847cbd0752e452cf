"""Films: pictures of one size, one after the other, with a line of text below, as GIF or MP4.

Equal pictures give equal bytes. Nothing here writes files.
"""

import io
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gan_lab.plotting.style import drawable, font_file

MAX_BYTES = 3_000_000  # of a film
MAX_FRAMES = 48
MIN_FRAMES = 12  # a film that is still too large gets smaller frames rather than fewer
# Durations in milliseconds, multiples of 10.
FILM_TIME = 8_000  # of all frames but the last, within the two limits below
SHORTEST_FRAME = 100
LONGEST_FRAME = 600
LAST_FRAME = 4_000

# Sizes in pixels of the strip below a picture.
STRIP_MARGIN = 10
STRIP_FONT = 18
STRIP_LINE = 24
STRIP_BAR = 5  # height of the bar that shows how much of the training has passed
MAX_WORDS = 400  # characters of the words below the last frame
MAX_WORDS_LINES = 2
BAR_GREY = 90
BAR_BACKGROUND = 225

# Sizes in pixels of the panels of films side by side.
SHEET_WIDTH = 1_150
MAX_PANEL_WIDTH = 560
MAX_PANELS_IN_A_ROW = 6
PANEL_MARGIN = 8
PANEL_FONT = 14
PANEL_LINE = 19
MAX_NAME_LINES = 3
GREYS = 16

MP4_RATE = 5  # frames per second; a frame of the film takes several


class Shot(NamedTuple):
    """A picture of a film.

    Attributes:
        picture: in grey or colour.
        caption: one line below it.
        progress: the part of the film's time that has passed, in [0, 1].
    """

    picture: Image.Image
    caption: str
    progress: float


def evenly(number: int, most: int) -> list[int]:
    """Returns at most `most` ≥ 2 of the indices 0 … number − 1 at equal distances, with the first and the last one."""
    if number <= most:
        return list(range(number))
    return [round(i * (number - 1) / (most - 1)) for i in range(most)]


def film_frames(shots: Sequence[Shot], words: str) -> list[Image.Image]:
    """Returns the frames of a film: each picture with its caption below, the last one also with some words.

    Args:
        shots: at least one; smaller pictures get a white margin, so that all frames have the size of the largest.
        words: wrapped, and cut off after MAX_WORDS_LINES lines.
    """
    width = max(shot.picture.width for shot in shots)
    height = max(shot.picture.height for shot in shots)
    words = drawable(" ".join(words[:MAX_WORDS].split()))
    captions = [drawable(shot.caption) for shot in shots]
    font = _font("".join([words, *captions]))
    lines = _wrap(words, font, width - 2 * STRIP_MARGIN, MAX_WORDS_LINES)
    mode = "L" if all(shot.picture.mode == "L" for shot in shots) else "RGB"
    # All frames have room for the words of the last one.
    strip_height = STRIP_BAR + 2 * STRIP_MARGIN + STRIP_LINE * (1 + len(lines))
    frames = []
    for index, (shot, caption) in enumerate(zip(shots, captions, strict=True)):
        frame = Image.new(mode, (width, height + strip_height), "white")
        frame.paste(shot.picture.convert(mode), ((width - shot.picture.width) // 2, 0))
        draw = ImageDraw.Draw(frame)
        _draw_bar(draw, (0, height, width, height + STRIP_BAR), shot.progress, mode)
        is_last = index == len(shots) - 1
        text = "\n".join([caption, *lines]) if is_last else caption
        draw.multiline_text((STRIP_MARGIN, height + STRIP_BAR + STRIP_MARGIN), text, "black", font, spacing=6)
        frames.append(frame)
    return frames


class Panel(NamedTuple):
    """A picture of one of several films side by side, with a text above and one below."""

    picture: Image.Image
    above: str
    below: str


def side_by_side(panels: Sequence[Panel]) -> Image.Image:
    """Returns panels in rows of equal width, in grey if all pictures are."""
    columns = min(MAX_PANELS_IN_A_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    # Rows of about the same length.
    columns = math.ceil(len(panels) / rows)
    width = min(MAX_PANEL_WIDTH, SHEET_WIDTH // columns)
    inner = width - 2 * PANEL_MARGIN
    names = [drawable(panel.above[:MAX_WORDS]) for panel in panels]
    counts = [drawable(panel.below) for panel in panels]
    font = _font("".join([*names, *counts]), PANEL_FONT)
    wrapped = [_wrap(name, font, inner, MAX_NAME_LINES) for name in names]
    above = PANEL_LINE * max(map(len, wrapped)) + PANEL_MARGIN
    pictures = [_fit_width(panel.picture, inner) for panel in panels]
    height = above + max(picture.height for picture in pictures) + PANEL_LINE + PANEL_MARGIN
    mode = "L" if all(panel.picture.mode == "L" for panel in panels) else "RGB"
    if mode == "L":
        # Fewer greys make a much smaller film.
        pictures = [picture.point(_snap_grey) for picture in pictures]
    sheet = Image.new(mode, (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        left = i % columns * width + PANEL_MARGIN
        top = i // columns * height
        draw.multiline_text((left, top + above - 4), "\n".join(wrapped[i]), "black", font, anchor="ld", spacing=3)
        sheet.paste(picture.convert(mode), (left, top + above))
        draw.text((left, top + above + picture.height + 3), counts[i], "black", font)
    return sheet


def _snap_grey(level: int) -> int:
    """Returns the nearest of GREYS levels, from black to white."""
    return round(round(level / 255 * (GREYS - 1)) * 255 / (GREYS - 1))


def _fit_width(picture: Image.Image, width: int) -> Image.Image:
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def durations(number: int) -> list[int]:
    """Returns for how many milliseconds each of a film's frames is shown; the last one stays longer."""
    usual = FILM_TIME // max(1, number)
    usual = min(LONGEST_FRAME, max(SHORTEST_FRAME, usual // 10 * 10))
    return [usual] * (number - 1) + [LAST_FRAME]


def film_gif(frames: Sequence[Image.Image], max_bytes: int = MAX_BYTES) -> bytes:
    """Encodes a film of at most so many bytes: of a longer one fewer frames, at equal distances, or smaller ones."""
    frames = [frames[i] for i in evenly(len(frames), MAX_FRAMES)]
    while True:
        content = gif(frames, durations(len(frames)))
        if len(content) <= max_bytes or min(frames[0].size) < 64:
            return content
        excess = len(content) / max_bytes
        if len(frames) > MIN_FRAMES:
            fewer = max(MIN_FRAMES, int(0.9 * len(frames) / excess))
            frames = [frames[i] for i in evenly(len(frames), fewer)]
        else:
            shrink = 0.9 / math.sqrt(excess)
            size = (round(frames[0].width * shrink), round(frames[0].height * shrink))
            frames = [frame.resize(size, Image.Resampling.LANCZOS) for frame in frames]


def gif(pictures: Sequence[Image.Image], milliseconds: int | Sequence[int]) -> bytes:
    """Encodes an endless GIF; the same pictures give the same bytes.

    Args:
        pictures: the frames, all of one size. Those in colour share 256 colours, chosen from the first, the middle and
            the last one.
        milliseconds: the duration of a frame, or of each frame; multiples of 10.
    """
    if any(picture.mode != "L" for picture in pictures):
        pictures = list(_with_common_palette(pictures))
    duration = milliseconds if isinstance(milliseconds, int) else list(milliseconds)
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    return file.getvalue()


def film_mp4(frames: Sequence[Image.Image]) -> bytes | None:
    """Encodes a film as H.264, if PyAV is installed (`pip install 'gan_lab[video]'`); None if it is not."""
    try:
        from av import VideoFrame
        from av import open as open_video
    except ImportError:
        return None
    frames = [frames[i] for i in evenly(len(frames), MAX_FRAMES)]
    file = io.BytesIO()
    with open_video(file, "w", format="mp4") as container:
        # With several threads the bytes would not be the same each time.
        options = {"crf": "20", "preset": "veryfast", "threads": "1"}
        stream = container.add_stream("h264", rate=Fraction(MP4_RATE), options=options)
        # The encoder takes even sizes only.
        stream.width = frames[0].width // 2 * 2
        stream.height = frames[0].height // 2 * 2
        stream.pix_fmt = "yuv420p"
        for frame, milliseconds in zip(frames, durations(len(frames)), strict=True):
            pixels = np.asarray(frame.convert("RGB"))[: stream.height, : stream.width]
            for _ in range(max(1, round(milliseconds * MP4_RATE / 1000))):
                container.mux(stream.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _with_common_palette(pictures: Sequence[Image.Image]) -> Iterator[Image.Image]:
    """Yields pictures in colour with the same 256 colours: so they differ only where something has changed."""
    chosen = [pictures[0], pictures[len(pictures) // 2], pictures[-1]]
    pixels = np.concatenate([np.asarray(picture.convert("RGB")).reshape(-1, 3) for picture in chosen])
    numbers = pixels.astype(np.int64) @ (2**16, 2**8, 1)
    colours, counts = np.unique(numbers, return_counts=True)
    # Weighed by the root of their number: else a large white area would leave no colours for what stands on it.
    colours = np.repeat(colours, np.sqrt(counts).astype(np.int64))
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8)
    palette = Image.fromarray(rgb[None]).quantize(256, method=Image.Quantize.MEDIANCUT)
    for picture in pictures:
        yield picture.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)


def _draw_bar(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], progress: float, mode: str) -> None:
    """Fills a box from the left by a part in [0, 1]."""
    left, top, right, bottom = box

    def grey(level: int) -> int | tuple[int, int, int]:
        return level if mode == "L" else (level, level, level)

    draw.rectangle((left, top, right, bottom - 1), fill=grey(BAR_BACKGROUND))
    filled = round((right - left) * min(1.0, max(0.0, progress)))
    if filled:
        draw.rectangle((left, top, left + filled - 1, bottom - 1), fill=grey(BAR_GREY))


def _font(text: str, size: int = STRIP_FONT) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns a font that has the letters of a `drawable` text, as far as one font has them all."""
    file = font_file(text)
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, most: int) -> list[str]:
    """Breaks a text into at most so many lines of a width in pixels; what is too long ends with …"""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < most:
        number = 1
        while number < len(words) and font.getlength(" ".join(words[: number + 1])) <= width:
            number += 1
        line = " ".join(words[:number])
        words = words[number:]
        if words and len(lines) == most - 1:
            line += " …"
        while len(line) > 1 and font.getlength(line) > width:
            line = f"{line.removesuffix('…')[:-1]}…"
        lines.append(line)
    return lines
