"""Pictures of samples, losses and scores, as matplotlib figures. Nothing here knows files or training."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torchvision.utils import make_grid

from gan_lab.data.dataset import Dataset
from gan_lab.gan.losses import Loss
from gan_lab.plotting.style import Figure

D_COLOUR, REAL_COLOUR, FAKE_COLOUR, IDEAL_COLOUR = "C0", "C0", "C1", "0.25"


def samples(
    fake: Tensor, real: Tensor, dataset: Dataset, title: str, classes: Sequence[Tensor | None] = (None, None)
) -> Figure:
    """Generated samples beside real ones: image grids, a scatter for points in the plane, else lines.

    Args:
        fake, real: `(n, *shape)`.
        title: of the generated side.
        classes: of both, to be shown: see `draw`.
    """
    figure = Figure(figsize=(11, 5.8), layout="constrained")
    for axes, values, name, own in zip(figure.subplots(1, 2), (fake, real), (title, "real"), classes, strict=True):
        axes.set_title(name)
        draw(axes, values, dataset, own)
    return figure


def members(
    fakes: Sequence[Tensor],
    names: Sequence[str],
    real: Tensor,
    dataset: Dataset,
    title: str,
    classes: Sequence[Tensor | None] | None = None,
) -> Figure:
    """The samples of several GANs, and real ones behind them: a row of images each, else a panel each.

    Args:
        fakes: of each GAN `(n, *shape)`.
        names: theirs.
        real: `(n, *shape)`.
        classes: of each, and of the real ones, `(n,)`, where they are to be shown; of images the same in each row.
    """
    sets, labels, own = [*fakes, real], [*names, "real"], classes or [None] * (len(fakes) + 1)
    if len(dataset.shape) == 3:
        figure = Figure(figsize=(1.5 + 0.6 * len(real), 0.5 + 0.65 * len(sets)), layout="constrained")
        for axes, images, name in zip(figure.subplots(len(sets), 1), sets, labels, strict=True):
            _draw_row(axes, images)
            axes.set_ylabel(name, rotation=0, horizontalalignment="right", verticalalignment="center")
        if own[-1] is not None:
            _name(axes.set_xticks, own[-1], real.shape[-1], dataset)
    else:
        across = min(4, len(sets))
        down = -(-len(sets) // across)
        figure = Figure(figsize=(3.6 * across, 3.6 * down + 0.4), layout="constrained")
        for place, (values, name, which) in enumerate(zip(sets, labels, own, strict=True)):
            axes = figure.add_subplot(down, across, place + 1, title=name)
            draw(axes, values, dataset, which)
            if place and axes.legend_:
                axes.legend_.remove()
            axes.label_outer()
    figure.suptitle(title)
    return figure


def draw(axes: Axes, values: Tensor, dataset: Dataset, classes: Tensor | None = None) -> None:
    """Samples `(n, *shape)`: an image grid, a scatter for points in the plane, else lines.

    Args:
        classes: `(n,)`; points are coloured by them. Images come class by class, equally many of each: a row a class.
    """
    if len(dataset.shape) == 3:
        _draw_images(axes, values, dataset, classes)
    elif dataset.shape == (2,):
        _draw_points(axes, values, dataset, classes)
    else:
        axes.plot(np.arange(1, dataset.shape[0] + 1), values.T, ".-", color="C0", alpha=0.3)
        axes.set(xlabel="position", ylabel="value", ylim=(-0.05, 1.05), xticks=range(1, dataset.shape[0] + 1))


def tile(images: Tensor, edge: float = 0.5, classes: Tensor | None = None) -> Tensor:
    """Images `(n, C, H, W)` in [0, 1] in a near-square grid `(3, H', W')`; missing or infinite values are black.

    Args:
        edge: how bright the lines between them are.
        classes: `(n,)`, class by class, equally many of each: makes the grid have a row a class.
    """
    images = torch.nan_to_num(images, 0, 0, 0).clamp(0, 1)
    across = int(np.ceil(np.sqrt(len(images)))) if classes is None else len(classes) // len(classes.unique())
    return make_grid(images, nrow=across, padding=1, pad_value=edge)


def _draw_images(axes: Axes, images: Tensor, dataset: Dataset, classes: Tensor | None) -> None:
    axes.imshow(tile(images, classes=classes).permute(1, 2, 0).numpy(), interpolation="nearest")
    if classes is None:
        axes.axis("off")
    else:
        axes.set(xticks=[], frame_on=False)
        _name(axes.set_yticks, classes.unique_consecutive(), images.shape[-2], dataset)


def _name(set_ticks: Callable[..., Any], classes: Tensor, side: int, dataset: Dataset) -> None:
    """Writes each class's name beside its row, or below its column, of a grid of images."""
    set_ticks([1 + i * (side + 1) + side / 2 for i in range(len(classes))], [dataset.classes[c] for c in classes])


def _draw_points(axes: Axes, points: Tensor, dataset: Dataset, classes: Tensor | None) -> None:
    """Points over the true centres."""
    label, colours = "samples", ["C0"]
    if classes is not None:
        few, total = len(dataset.classes) <= 10, len(dataset.classes)
        palette = matplotlib.colormaps["tab10" if few else "turbo"]
        label, colours = "samples, a colour a class", [palette(c if few else c / total) for c in classes.tolist()]
    axes.scatter(points[:, 0], points[:, 1], s=4, alpha=0.4, c=colours, linewidths=0, label=label)
    draw_window(axes, dataset)
    say_outside(axes, points)
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


def say_outside(axes: Axes, points: Tensor) -> None:
    """How many points the window leaves out."""
    low, high = (torch.tensor(ends) for ends in zip(axes.get_xlim(), axes.get_ylim(), strict=True))
    outside = ((points < low) | (points > high)).any(1).sum().item()
    if outside:
        axes.text(0.02, 0.02, f"{outside} of {len(points)} samples lie outside", transform=axes.transAxes, color="C3")


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
        _draw_row(axes, values)
    return figure


def _draw_row(axes: Axes, images: Tensor) -> None:
    grid = make_grid(torch.nan_to_num(images, 0, 0, 0).clamp(0, 1), nrow=len(images), padding=1, pad_value=0.5)
    axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set(xticks=[], yticks=[], frame_on=False)


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
    """D's and G's loss over the steps with the loss's ideal value as a line (S10): dots, grid, the book's ticks.

    Of replicas the mean, in a band from the lowest to the highest.
    """
    figure = Figure(figsize=(16, 10), layout="constrained")
    panels = {"D": ["loss/d_real", "loss/d_fake"], "G": ["loss/g"]}
    names = {"loss/d_real": "D on real", "loss/d_fake": "D on fakes", "loss/g": "G"}
    for axes, (player, columns) in zip(figure.subplots(2, 1, sharex=True), panels.items(), strict=True):
        table = metrics.set_index("step")[columns].rename(columns=names)
        finite = table.to_numpy()[np.isfinite(table.to_numpy())]
        low, high = np.quantile(finite, (0.005, 0.995)) * 1.1 if finite.size else (0.0, 0.0)
        top, bottom = loss.upper_bound or max(1.0, float(high)), min(0.0, float(low))  # some losses go below 0
        ticks = [0, 0.25, 0.5, *([] if loss.upper_bound else [1.0, 5.0])]
        _draw_curves(axes, table, ylim=(bottom, top), ticks=[t for t in ticks if t <= top] if bottom == 0 else None)
        _draw_bands(axes, metrics, columns)
        axes.set(title=f"{player}'s loss", ylabel="loss")
        _draw_ideal(axes, loss.loss_at_optimum if player == "D" else loss.g_loss_at_optimum)
        _legend(axes)
    return figure


def scores(metrics: pd.DataFrame, loss: Loss) -> Figure:
    """D's mean answer on real samples and on fakes over the steps; at the ideal both are the neutral answer, if any."""
    figure = Figure(figsize=(16, 5), layout="constrained")
    axes = figure.subplots()
    names = {"score/real": "on real", "score/fake": "on fakes"}
    table = metrics.set_index("step")[list(names)].rename(columns=names)
    _draw_curves(axes, table, ylim=(0, 1) if loss.d_output_is_probability else None, ticks=None)
    _draw_bands(axes, metrics, list(names))
    scale = "1: real, 0: fake" if loss.d_output_is_probability else "higher: more real"
    axes.set(title=f"D's mean answer ({scale})", ylabel="mean answer")
    _draw_ideal(axes, loss.d_output_at_optimum)
    _legend(axes)
    return figure


def _draw_curves(
    axes: Axes, table: pd.DataFrame, ylim: tuple[float, float] | None, ticks: Sequence[float] | None
) -> None:
    alpha = min(0.6, max(0.1, 150 / max(1, len(table))))  # the book's 0.1 for thousands of dots, darker for few
    table.plot(ax=axes, ylim=ylim, yticks=ticks, alpha=alpha, marker=".", linewidth=0.7, grid=True, legend=False)
    axes.set_xlabel("step")


def _draw_bands(axes: Axes, metrics: pd.DataFrame, columns: Sequence[str]) -> None:
    """Around each curve, which is the mean of replicas, a band from their lowest to their highest; else nothing."""
    for i, column in enumerate(columns):
        members = metrics.filter(regex=f"^{column}/[0-9]+$")
        if len(members.columns):
            label = f"lowest to highest of {len(members.columns)}" if i == len(columns) - 1 else None
            ends = members.min(axis=1), members.max(axis=1)
            axes.fill_between(metrics["step"], *ends, color=f"C{i}", alpha=0.15, linewidth=0, label=label)


def _draw_ideal(axes: Axes, value: float | None) -> None:
    if value is not None:
        axes.axhline(value, color=IDEAL_COLOUR, linestyle="--", linewidth=1, label=f"ideal {value:.4g}")


def _legend(axes: Axes) -> None:
    legend = axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False)  # above the curves
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
