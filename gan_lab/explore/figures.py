"""Figures of latent vector experiments: captioned samples, points in the plane, fractions. They write no files."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gan_lab.data.dataset import Dataset
from gan_lab.explore.predictions import PredictionCount
from gan_lab.plotting.samples import GRID_PADDING, annotate_outside, draw_window, image_grid
from gan_lab.plotting.style import Figure, drawable, shorten

MARKERS = "os^Dv"
# Characters in a line of a caption.
MAX_CAPTION = 40

# Sizes of a captioned grid in inches: a column's width, and about the width of a letter of the title.
COLUMN_INCHES = 1.15
LETTER_INCHES = 0.075
# A sample of a sheet without captions.
SHEET_INCHES = 0.42
# Sizes of a captioned grid in units of a column's width; a caption below has two lines.
SAMPLE_WIDTH = 0.9
CAPTION_ABOVE = 0.2
CAPTION_BELOW = 0.32
TITLE_LINE = 0.14
CAPTION_GAP = 0.03


def as_images(samples: Tensor) -> Tensor:
    """Converts samples to RGB images `(n, 3, H, W)` in [0, 1]; missing or infinite values become 0.

    Args:
        samples: images `(n, C, H, W)`, or vectors `(n, d)`, which become a row of d cells each: the higher, the darker.
    """
    values = torch.nan_to_num(samples, 0, 0, 0).clamp(0, 1)
    if values.ndim == 4 and values.shape[1] == 1:
        return values.expand(-1, 3, -1, -1)
    if values.ndim == 4:
        return values
    colours = matplotlib.colormaps["Blues"](values.numpy())[..., :3]
    # (n, d, 3) -> (n, 3, 1, d)
    return torch.from_numpy(colours).movedim(-1, 1).unsqueeze(2)


def captioned_grid(
    rows: Sequence[Tensor], above: Sequence[Sequence[str]], below: Sequence[Sequence[str]], title: str
) -> Figure:
    """Draws rows of samples with a caption above and below each sample.

    Args:
        rows: images `(n, C, H, W)` or vectors `(n, d)`, each row as long as its captions.
        above: one line for each sample.
        below: at most two lines for each sample.
        title: above the grid; it is wrapped.
    """
    image_rows = [as_images(samples) for samples in rows]
    image_height, image_width = image_rows[0].shape[2:]
    # Fewer columns would leave too little room for the title.
    columns = max(4, *map(len, rows))
    # At least a quarter as high as wide: else a row of numbers would be a thin line.
    sample_height = SAMPLE_WIDTH * min(1.0, max(0.25, image_height / image_width))
    row_height = sample_height + CAPTION_ABOVE + CAPTION_BELOW
    title_lines = textwrap.wrap(title, int(columns * COLUMN_INCHES / LETTER_INCHES))
    title_height = TITLE_LINE * len(title_lines)
    height = title_height + row_height * len(rows)
    figure = Figure(figsize=(columns * COLUMN_INCHES, height * COLUMN_INCHES))
    axes = figure.add_axes((0, 0, 1, 1))
    for row, (images, row_above, row_below) in enumerate(zip(image_rows, above, below, strict=True)):
        top = title_height + row * row_height + CAPTION_ABOVE
        bottom = top + sample_height
        for column, (image, over, under) in enumerate(zip(images, row_above, row_below, strict=True)):
            left = column + (1 - SAMPLE_WIDTH) / 2
            axes.imshow(
                image.permute(1, 2, 0).numpy(),
                extent=(left, left + SAMPLE_WIDTH, bottom, top),
                interpolation="nearest",
            )
            _draw_caption(axes, over, column + 0.5, top - CAPTION_GAP, va="bottom", weight="bold")
            _draw_caption(axes, under, column + 0.5, bottom + CAPTION_GAP, va="top", weight="normal")
    axes.set(xlim=(0, columns), ylim=(height, 0))
    axes.axis("off")
    axes.text(0.05, 0.03, "\n".join(title_lines), va="top", fontsize=9)
    return figure


def sheet(samples: Tensor, names: Sequence[str], title: str) -> Figure:
    """Draws many samples close together, as nearly square as possible; each row is named after its first sample.

    Args:
        samples: images `(n, C, H, W)` or vectors `(n, d)`.
        names: of the n samples.
        title: it is wrapped.
    """
    images = as_images(samples)
    height, width = images.shape[2:]
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    cell_height = SHEET_INCHES * min(2.0, max(0.25, height / width))
    figure = Figure(figsize=(SHEET_INCHES * columns + 1.2, cell_height * rows + 0.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(image_grid(images).permute(1, 2, 0).numpy(), interpolation="nearest", aspect="auto")
    middles = [GRID_PADDING + row * (height + GRID_PADDING) + height / 2 for row in range(rows)]
    axes.set_yticks(middles, [drawable(names[row * columns]) for row in range(rows)], fontsize=8)
    axes.set(xticks=[], frame_on=False)
    axes.tick_params(length=0)
    axes.set_title(
        "\n".join(textwrap.wrap(title, max(40, int(columns * SHEET_INCHES / LETTER_INCHES)))), loc="left", fontsize=9
    )
    return figure


def _draw_caption(axes: Axes, text: str, x: float, y: float, va: str, weight: str) -> None:
    """Writes a caption so small that its longest line fits into the column; a line that is far too long is cut."""
    lines = [shorten(line, MAX_CAPTION) for line in drawable(text).split("\n")]
    longest_line = max(1, *map(len, lines))
    axes.text(x, y, "\n".join(lines), ha="center", va=va, fontsize=min(8.0, 130 / longest_line), weight=weight)


def scatter(
    points: Tensor, groups: Sequence[tuple[str, Sequence[int]]], line: Tensor | None, dataset: Dataset, title: str
) -> Figure:
    """Draws points in the plane over the true centres; points along a line get darker colours first, lighter ones last.

    Args:
        points: `(n, 2)`.
        groups: names and indices of points that share a colour and a place in the legend.
        line: points `(m, 2)` that a line connects, or None.
        dataset: gives the centres and the limits of the axes.
        title: it is wrapped.
    """
    figure = Figure(figsize=(6.4, 6), layout="constrained")
    axes = figure.subplots()
    if line is not None:
        axes.plot(line[:, 0], line[:, 1], color="0.7", linewidth=0.8, zorder=1)
        axes.scatter(points[:, 0], points[:, 1], s=12, c=np.arange(len(points)), cmap="viridis", zorder=2)
    for number, (name, indices) in enumerate(groups):
        x, y = points[list(indices)].T
        axes.scatter(
            x,
            y,
            s=min(40, max(8, 2000 / len(points))),
            color=f"C{number}",
            marker=MARKERS[number % len(MARKERS)],
            alpha=0.8,
            zorder=3,
            label=name,
        )
    draw_window(axes, dataset)
    annotate_outside(axes, points)
    axes.legend(loc="upper right", fontsize="small")
    axes.set_title("\n".join(textwrap.wrap(title, 85)), loc="left", fontsize=9)
    return figure


def fractions(counts: Mapping[str, Sequence[PredictionCount]], title: str) -> Figure:
    """Draws which fraction of the samples has each predicted label, with 95% intervals and one colour per result.

    Args:
        counts: by the name of the result, the counts of the same labels in the same order.
        title: it is wrapped.
    """
    number_of_lines = sum(map(len, counts.values()))
    figure = Figure(figsize=(7, 1.2 + 0.25 * number_of_lines), layout="constrained")
    axes = figure.subplots()
    for number, (name, group) in enumerate(counts.items()):
        bounds = np.array([(count.low, count.fraction, count.high) for count in group])
        low, middle, high = bounds.T
        # The results of one label are drawn a little above each other, around its line.
        offset = 0.2 * (number - (len(counts) - 1) / 2)
        axes.errorbar(
            middle,
            np.arange(len(group)) + offset,
            # At a fraction of 0 or 1 rounding may make a distance negative, which matplotlib refuses.
            xerr=np.maximum(0, [middle - low, high - middle]),
            fmt=MARKERS[number % len(MARKERS)],
            color=f"C{number}",
            capsize=3,
            label=f"{name} ({group[0].total:,})",
        )
        predictions = [shorten(drawable(count.prediction), MAX_CAPTION) for count in group]
        axes.set_yticks(range(len(group)), predictions)
    axes.invert_yaxis()
    axes.set(xlim=(-0.02, 1.02), xlabel="fraction of the samples with this predicted label, exact 95% interval")
    axes.xaxis.set_major_formatter(lambda fraction, _: f"{fraction:.0%}")
    axes.grid(axis="x", alpha=0.4)
    axes.legend(fontsize="small")
    figure.suptitle("\n".join(textwrap.wrap(title, 88)), x=0.01, ha="left", fontsize=9)
    return figure
