"""Frames that follow a path through latent vectors, and the GIF that they make. Nothing here knows files."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gan_lab.data.dataset import Dataset
from gan_lab.explore import figures
from gan_lab.plotting import plots
from gan_lab.plotting.style import Figure

SIDE = 280  # pixels of a frame's picture
CAPTION = 44  # pixels below it
TRAIL = 12  # points in the plane leave so many behind


def frames(samples: Tensor, captions: Sequence[str], dataset: Dataset) -> list[Image.Image]:
    """A frame per sample `(n, *shape)`, caption below: an image, a point over the true centres, a row of numbers."""
    if dataset.shape == (2,):
        return _point_frames(samples, captions, dataset)
    made = []
    for image, caption in zip(figures.as_images(samples), captions, strict=True):
        picture = Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
        size = (SIDE, max(40, round(SIDE * picture.height / picture.width)))
        made.append(_captioned(picture.resize(size, Image.Resampling.NEAREST), caption))
    return made


def gif(pictures: Sequence[Image.Image], milliseconds: int) -> bytes:
    """An endless GIF; each frame is shown that long, a multiple of 10 ms. The same frames give the same bytes."""
    file = io.BytesIO()
    first, *rest = pictures
    first.save(file, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
    return file.getvalue()


def _captioned(picture: Image.Image, caption: str) -> Image.Image:
    frame = Image.new("RGB", (picture.width, picture.height + CAPTION), "white")
    frame.paste(picture)
    place = (picture.width / 2, picture.height + CAPTION / 2)
    ImageDraw.Draw(frame).text(place, caption, "black", ImageFont.load_default(15), anchor="mm", align="center")
    return frame


def _point_frames(points: Tensor, captions: Sequence[str], dataset: Dataset) -> list[Image.Image]:
    """The centres are drawn once; each frame adds a dot and the trail behind it."""
    figure = Figure(figsize=(4, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    plots.draw_window(axes, dataset)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    background = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels = axes.transData.transform(points.nan_to_num(0, 0, 0).numpy())
    pixels[:, 1] = background.height - pixels[:, 1]
    made = []
    for index, caption in enumerate(captions):
        frame = background.copy()
        draw = ImageDraw.Draw(frame)
        for back in range(min(TRAIL, index), -1, -1):
            (x, y), radius = pixels[index - back], 6 if back == 0 else 3
            shade = "black" if back == 0 else (120 + 8 * back, 160 + 5 * back, 220)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)
        made.append(_captioned(frame, caption))
    return made
