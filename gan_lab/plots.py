"""Pictures of samples, losses and scores, as matplotlib figures. Nothing here knows files or training."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid

from gan_lab.data import Dataset
from gan_lab.losses import Loss

D_COLOUR, REAL_COLOUR, FAKE_COLOUR, IDEAL_COLOUR = "C0", "C0", "C1", "0.25"


def samples(fake: Tensor, real: Tensor, dataset: Dataset, title: str) -> Figure:
    """Generated samples beside real ones: image grids, a scatter for points in the plane, else lines.

    Args:
        fake, real: `(n, *shape)`.
        title: of the generated side.
    """
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    for axes, values, name in zip(figure.subplots(1, 2), (fake, real), (title, "real"), strict=True):
        axes.set_title(name)
        draw(axes, values, dataset)
    return figure


def draw(axes: Axes, values: Tensor, dataset: Dataset) -> None:
    """Samples `(n, *shape)`: an image grid, a scatter for points in the plane, else lines."""
    if len(dataset.shape) == 3:
        _draw_images(axes, values)
    elif dataset.shape == (2,):
        _draw_points(axes, values, dataset)
    else:
        axes.plot(np.arange(1, dataset.shape[0] + 1), values.T, ".-", color="C0", alpha=0.3)
        axes.set(xlabel="position", ylabel="value", ylim=(-0.05, 1.05), xticks=range(1, dataset.shape[0] + 1))


def tile(images: Tensor, edge: float = 0.5) -> Tensor:
    """Images `(n, C, H, W)` in [0, 1] in a near-square grid `(3, H', W')`; missing or infinite values are black.

    Args:
        edge: how bright the lines between them are.
    """
    images = torch.nan_to_num(images, 0, 0, 0).clamp(0, 1)
    return make_grid(images, nrow=int(np.ceil(np.sqrt(len(images)))), padding=1, pad_value=edge)


def _draw_images(axes: Axes, images: Tensor) -> None:
    axes.imshow(tile(images).permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.axis("off")


def _draw_points(axes: Axes, points: Tensor, dataset: Dataset) -> None:
    """Points over the true centres."""
    axes.scatter(points[:, 0], points[:, 1], s=4, alpha=0.4, color="C0", linewidths=0, label="samples")
    draw_window(axes, dataset)
    _say_outside(axes, points)
    axes.legend(loc="upper right", fontsize="small")


def draw_window(axes: Axes, dataset: Dataset) -> None:
    """The true centres; the window is the real data's, so that pictures can be compared."""
    real = dataset.train[torch.arange(len(dataset.train))]
    low, high = real.min(0).values, real.max(0).values
    if dataset.centres is not None:
        x, y = dataset.centres.T
        axes.scatter(x, y, s=90, marker="o", facecolors="none", edgecolors="C3", label="true centres", zorder=4)
    margin = 0.15 * (high - low)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xlabel="x", ylabel="y")


def _say_outside(axes: Axes, points: Tensor) -> None:
    low, high = (torch.tensor(ends) for ends in zip(axes.get_xlim(), axes.get_ylim(), strict=True))
    outside = ((points < low) | (points > high)).any(1).sum().item()
    if outside:
        axes.text(0.02, 0.02, f"{outside} of {len(points)} samples lie outside", transform=axes.transAxes, color="C3")


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
    draw_window(axes, dataset)
    _say_outside(axes, points)
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


def labels(counts: Tensor, shares: Tensor, classes: Sequence[str], title: str) -> Figure:
    """How often each mode is made, beside the data's own shares; past 50 modes sorted, without names.

    Args:
        counts: `(modes,)` samples in each mode.
        shares: `(modes,)` the data's shares, which sum to 1.
    """
    made = (counts / max(1, int(counts.sum()))).numpy()
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    if len(classes) <= 50:
        place = np.arange(len(classes))
        axes.bar(place - 0.2, made, 0.4, color=FAKE_COLOUR, label="generated")
        axes.bar(place + 0.2, shares.numpy(), 0.4, color=REAL_COLOUR, label="data")
        axes.set_xticks(place, list(classes), rotation=0 if len(classes) <= 12 else 90)
    else:
        axes.plot(np.sort(made)[::-1], color=FAKE_COLOUR, label="generated")
        axes.plot(np.sort(shares.numpy())[::-1], color=REAL_COLOUR, label="data")
        axes.set(xlabel="modes, the most frequent first")
    axes.set(ylabel="share of the samples")
    axes.set_title(title, loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    return figure


def neighbours(fake: Tensor, originals: Tensor) -> Figure:
    """Samples above the training images nearest to them (S17): a copy would look the same twice."""
    figure = Figure(figsize=(1.0 * len(fake) + 0.5, 2.6), layout="constrained")
    for row, (values, name) in enumerate(((fake, "generated"), (originals, "nearest training image"))):
        axes = figure.add_subplot(2, 1, row + 1)
        axes.set_title(name, fontsize="medium")
        grid = make_grid(torch.nan_to_num(values, 0, 0, 0).clamp(0, 1), nrow=len(values), padding=1, pad_value=0.5)
        axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.axis("off")
    return figure


def backqueries(columns: Mapping[str, Sequence[Tensor]], names: Sequence[str]) -> Figure:
    """A row per label, a column per source of images (S1); where a source has none of a label, its place stays empty.

    Args:
        columns: by heading, for each label `(n, C, H, W)` in [0, 1], n ≥ 0.
        names: the labels'.
    """
    widths = [max(1, *(len(images) for images in column)) for column in columns.values()]
    size = (0.95 * sum(widths) + 0.3 * len(widths) + 0.7, len(names) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    places = figure.subplots(len(names), len(columns), squeeze=False, width_ratios=widths)
    for column, (heading, rows) in enumerate(columns.items()):
        places[0, column].set_title("\n".join(textwrap.wrap(heading, 10 * widths[column] + 2)), fontsize="medium")
        for row, images in enumerate(rows):
            axes = places[row, column]
            axes.set(xticks=[], yticks=[], frame_on=False, anchor="W" if widths[column] > 1 else "C")
            if len(images):
                grid = make_grid(images.clamp(0, 1), nrow=widths[column], padding=1, pad_value=1)
                axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")
            else:
                axes.text(0, 0.5, "none", transform=axes.transAxes, color="0.5", verticalalignment="center")
    for axes, name in zip(places[:, 0], names, strict=True):
        axes.set_ylabel(name, rotation=0, horizontalalignment="right", verticalalignment="center")
    return figure


def heatmap(steps: Sequence[int], outputs: Tensor) -> Figure:
    """How G's output changed during training (S9): steps along the x-axis, dark is high.

    Args:
        steps: when each output was taken.
        outputs: `(len(steps), dims)`.
    """
    figure = Figure(figsize=(max(6, 0.6 * len(steps) + 2), 4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(outputs.T.numpy(), interpolation="none", cmap="Blues", vmin=0, vmax=1, aspect="auto")
    shown = range(0, len(steps), max(1, len(steps) // 10))
    axes.set(title="G's output during training", xlabel="step", ylabel="position in the pattern")
    axes.set_xticks(list(shown), [f"{steps[i]:,}" for i in shown])
    axes.set_yticks(range(outputs.shape[1]), [str(i + 1) for i in range(outputs.shape[1])])
    figure.colorbar(image, label="value")
    return figure


def losses(metrics: pd.DataFrame, loss: Loss) -> Figure:
    """D's and G's loss over the steps with the loss's ideal value as a line (S10): dots, grid, the book's ticks."""
    figure = Figure(figsize=(16, 10), layout="constrained")
    panels = {"D": ["loss/d_real", "loss/d_fake"], "G": ["loss/g"]}
    names = {"loss/d_real": "D on real", "loss/d_fake": "D on fakes", "loss/g": "G"}
    for axes, (player, columns) in zip(figure.subplots(2, 1, sharex=True), panels.items(), strict=True):
        table = metrics.set_index("step")[columns].rename(columns=names)
        finite = table.to_numpy()[np.isfinite(table.to_numpy())]
        top = loss.ceiling or max(1.0, float(np.quantile(finite, 0.995)) * 1.1 if finite.size else 0)
        ticks = [0, 0.25, 0.5, *([] if loss.ceiling else [1.0, 5.0])]
        _draw_curves(axes, table, ylim=(0, top), ticks=[t for t in ticks if t <= top])
        axes.set(title=f"{player}'s loss", ylabel="loss")
        _draw_ideal(axes, loss.equilibrium)
        _legend(axes)
    return figure


def scores(metrics: pd.DataFrame, loss: Loss) -> Figure:
    """D's mean answer on real samples and on fakes over the steps; at the ideal both are the neutral answer."""
    figure = Figure(figsize=(16, 5), layout="constrained")
    axes = figure.subplots()
    names = {"score/real": "on real", "score/fake": "on fakes"}
    table = metrics.set_index("step")[list(names)].rename(columns=names)
    _draw_curves(axes, table, ylim=(0, 1) if loss.neutral_answer == 0.5 else None, ticks=None)
    axes.set(title="D's mean answer (1: real, 0: fake)", ylabel="mean answer")
    _draw_ideal(axes, loss.neutral_answer)
    _legend(axes)
    return figure


def _draw_curves(
    axes: Axes, table: pd.DataFrame, ylim: tuple[float, float] | None, ticks: Sequence[float] | None
) -> None:
    alpha = min(0.6, max(0.1, 150 / max(1, len(table))))  # the book's 0.1 for thousands of dots, darker for few
    table.plot(ax=axes, ylim=ylim, yticks=ticks, alpha=alpha, marker=".", linewidth=0.7, grid=True, legend=False)
    axes.set_xlabel("step")


def _draw_ideal(axes: Axes, value: float | None) -> None:
    if value is not None:
        axes.axhline(value, color=IDEAL_COLOUR, linestyle="--", linewidth=1, label=f"ideal {value:.4g}")


def _legend(axes: Axes) -> None:
    legend = axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)  # above the curves
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
