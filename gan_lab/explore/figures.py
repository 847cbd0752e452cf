"""Latent vector experiments as figures: captioned samples, paths in the plane, shares. Nothing here knows files."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import torch
from torch import Tensor

from gan_lab.data.dataset import Dataset
from gan_lab.plotting import plots
from gan_lab.plotting.style import Figure


def as_images(samples: Tensor) -> Tensor:
    """Images `(n, 3, H, W)` in [0, 1] of images `(n, C, H, W)`, or of vectors `(n, d)`: a row of d cells, dark is high.

    Missing or infinite values are 0.
    """
    values = torch.nan_to_num(samples, 0, 0, 0).clamp(0, 1)
    if values.ndim == 4:
        return values.expand(-1, 3, -1, -1) if values.shape[1] == 1 else values
    colours = torch.from_numpy(matplotlib.colormaps["Blues"](values.numpy())[..., :3])  # (n, d, 3)
    return colours.movedim(-1, 1).unsqueeze(2)


def captioned(
    rows: Sequence[Tensor], above: Sequence[Sequence[str]], below: Sequence[Sequence[str]], title: str
) -> Figure:
    """Samples in rows, each with a name above and what it is read as below.

    Args:
        rows: images `(n, C, H, W)` or vectors `(n, d)`, each row as long as its captions.
        below: two lines at most.
    """
    inches, side, gap, text = 1.15, 0.9, 0.2, 0.32  # of a column; then in columns: a sample, room above and below it
    images = [as_images(samples) for samples in rows]
    shape = min(1.0, max(0.25, images[0].shape[2] / images[0].shape[3]))
    columns, pitch = max(4, *map(len, rows)), side * shape + gap + text
    lines = textwrap.wrap(title, int(columns * inches / 0.075))
    head = 0.14 * len(lines)
    height = head + pitch * len(rows)
    figure = Figure(figsize=(columns * inches, height * inches))
    axes = figure.add_axes((0, 0, 1, 1))
    for row, (samples, over, under) in enumerate(zip(images, above, below, strict=True)):
        top = head + row * pitch + gap
        for column, (image, name, reading) in enumerate(zip(samples, over, under, strict=True)):
            extent = (column + (1 - side) / 2, column + (1 + side) / 2, top + side * shape, top)
            axes.imshow(image.permute(1, 2, 0).numpy(), extent=extent, interpolation="nearest")
            small, smaller = (min(8.0, 130 / max(1, *map(len, words.split("\n")))) for words in (name, reading))
            axes.text(column + 0.5, top - 0.03, name, ha="center", va="bottom", fontsize=small, weight="bold")
            axes.text(column + 0.5, top + side * shape + 0.03, reading, ha="center", va="top", fontsize=smaller)
    axes.set(xlim=(0, columns), ylim=(height, 0))
    axes.axis("off")
    axes.text(0.05, 0.03, "\n".join(lines), va="top", fontsize=9)
    return figure


def path(
    points: Tensor, marks: Sequence[tuple[str, Sequence[int]]], line: Tensor | None, dataset: Dataset, title: str
) -> Figure:
    """Points in the plane over the true centres; those along a line from dark to light in their order.

    Args:
        points: `(n, 2)`.
        marks: names and the points that each stands for, drawn in a colour of their own.
        line: points `(m, 2)` that a line leads through, or None.
    """
    figure = Figure(figsize=(6.4, 6), layout="constrained")
    axes = figure.subplots()
    if line is not None:
        axes.plot(line[:, 0], line[:, 1], color="0.7", linewidth=0.8, zorder=1)
        axes.scatter(points[:, 0], points[:, 1], s=12, c=np.arange(len(points)), cmap="viridis", zorder=2)
    for number, (name, indices) in enumerate(marks):
        x, y = points[list(indices)].T
        axes.scatter(
            x,
            y,
            s=min(40, max(8, 2000 / len(points))),
            color=f"C{number}",
            marker="os^Dv"[number % 5],
            alpha=0.8,
            zorder=3,
            label=name,
        )
    plots.draw_window(axes, dataset)
    plots.say_outside(axes, points)
    axes.legend(loc="upper right", fontsize="small")
    axes.set_title("\n".join(textwrap.wrap(title, 85)), loc="left", fontsize=9)
    return figure


def shares(groups: Mapping[str, Sequence[tuple[str, float, float, float]]], title: str) -> Figure:
    """Shares with their intervals, one colour per group.

    Args:
        groups: by name: of each of the same things, in the same order, its name, share, and the interval's ends.
    """
    figure = Figure(figsize=(7, 1.2 + 0.25 * sum(map(len, groups.values()))), layout="constrained")
    axes = figure.subplots()
    for number, (group, lines) in enumerate(groups.items()):
        names, middle, low, high = zip(*lines, strict=True)
        y = np.arange(len(lines)) + 0.2 * (number - (len(groups) - 1) / 2)
        spread = np.maximum(0, [np.subtract(middle, low), np.subtract(high, middle)])
        axes.errorbar(middle, y, xerr=spread, fmt="os^Dv"[number % 5], color=f"C{number}", capsize=3, label=group)
        axes.set_yticks(range(len(lines)), names)
    axes.invert_yaxis()
    axes.set(xlim=(-0.02, 1.02), xlabel="share of the samples read so, with its exact 95 % interval")
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(axis="x", alpha=0.4)
    axes.legend(fontsize="small")
    figure.suptitle("\n".join(textwrap.wrap(title, 88)), x=0.01, ha="left", fontsize=9)
    return figure
