"""Frames that follow a path through latent vectors. Nothing here writes files."""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gan_lab.data.dataset import Dataset
from gan_lab.explore import figures
from gan_lab.plotting.samples import draw_window
from gan_lab.plotting.style import Figure, drawable, font_file, shorten

FRAME_WIDTH = 280  # pixels of an image's frame
MIN_FRAME_HEIGHT = 40  # for a row of numbers, which is much wider than high
CAPTION_HEIGHT = 44  # pixels below the picture
FONT_SIZE = 15
TRAIL = 12  # earlier positions that are drawn behind a point in the plane
POINT_RADIUS = 6
TRAIL_RADIUS = 3


def frames(samples: Tensor, captions: Sequence[str], dataset: Dataset) -> list[Image.Image]:
    """Draws one frame per sample, with the caption below.

    Args:
        samples: `(n, *shape)`: images, points in the plane, which are drawn over the true centres, or vectors, each
            drawn as a row of cells.
        captions: n captions of one or two lines.
        dataset: gives the centres and the limits of the axes for points.
    """
    if dataset.shape == (2,):
        return _point_frames(samples, captions, dataset)
    captioned_frames = []
    for image, caption in zip(figures.as_images(samples), captions, strict=True):
        pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        picture = Image.fromarray(pixels)
        height = max(MIN_FRAME_HEIGHT, round(FRAME_WIDTH * picture.height / picture.width))
        # Enlarged without smoothing: the pixels that G generates stay visible.
        enlarged = picture.resize((FRAME_WIDTH, height), Image.Resampling.NEAREST)
        captioned_frames.append(_captioned(enlarged, caption))
    return captioned_frames


def _captioned(picture: Image.Image, caption: str) -> Image.Image:
    """Returns a picture with white space and a caption below it."""
    frame = Image.new("RGB", (picture.width, picture.height + CAPTION_HEIGHT), "white")
    frame.paste(picture)
    lines = [shorten(line, figures.MAX_CAPTION) for line in drawable(caption).split("\n")]
    text = "\n".join(lines)
    # Pillow's own font has hardly any other letters.
    file = None if text.isascii() else font_file(text)
    font = ImageFont.truetype(file, FONT_SIZE) if file else ImageFont.load_default(FONT_SIZE)
    middle = (picture.width / 2, picture.height + CAPTION_HEIGHT / 2)
    ImageDraw.Draw(frame).text(middle, text, "black", font, anchor="mm", align="center")
    return frame


def _point_frames(points: Tensor, captions: Sequence[str], dataset: Dataset) -> list[Image.Image]:
    """Draws the true centres once; each frame adds a point and the trail behind it."""
    figure = Figure(figsize=(4, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    draw_window(axes, dataset)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    background = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels = axes.transData.transform(points.nan_to_num(0, 0, 0).numpy())
    # matplotlib counts rows from below, an image from above.
    pixels[:, 1] = background.height - pixels[:, 1]
    captioned_frames = []
    for index, caption in enumerate(captions):
        frame = background.copy()
        draw = ImageDraw.Draw(frame)
        # The oldest point first, so that later ones cover it; the older, the paler.
        for age in range(min(TRAIL, index), 0, -1):
            shade = (120 + 8 * age, 160 + 5 * age, 220)
            _draw_disc(draw, pixels[index - age], TRAIL_RADIUS, shade)
        _draw_disc(draw, pixels[index], POINT_RADIUS, "black")
        captioned_frames.append(_captioned(frame, caption))
    return captioned_frames


def _draw_disc(draw: ImageDraw.ImageDraw, centre: np.ndarray, radius: int, colour: str | tuple[int, int, int]) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
