"""Curves over the steps of a training: losses and D's outputs. Nothing here knows files or training."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from gan_lab.gan.losses import Loss
from gan_lab.plotting.style import IDEAL_COLOUR, Figure

Table = Mapping[str, np.ndarray]  # the columns of metrics.csv, each `(rows,)`; NaN where a row has no value

# Columns of metrics.csv, in the order in which they are drawn, and their names in the legend.
D_LOSSES = {"loss/d_real": "D on real", "loss/d_fake": "D on fakes"}
G_LOSSES = {"loss/g": "G"}
D_OUTPUTS = {"score/real": "on real", "score/fake": "on fakes"}


def loss_curves(metrics: Table, loss: Loss) -> Figure:
    """Draws D's losses and, below, G's, with the value at the optimum as a line (course notes, S10).

    Dots, grid and ticks are those of the book. With replicas the curves are means, in a band from the lowest to the
    highest.

    Args:
        metrics: the columns of metrics.csv, a value for each log.
        loss: gives the values at the optimum and the range of the axis.
    """
    figure = Figure(figsize=(16, 10), layout="constrained")
    d_axes, g_axes = figure.subplots(2, 1, sharex=True)
    _draw_losses(d_axes, metrics, D_LOSSES, loss.upper_bound)
    d_axes.set(title="D's loss", ylabel="loss")
    _draw_ideal(d_axes, loss.loss_at_optimum)
    _draw_legend(d_axes)
    _draw_losses(g_axes, metrics, G_LOSSES, loss.upper_bound)
    g_axes.set(title="G's loss", ylabel="loss")
    _draw_ideal(g_axes, loss.g_loss_at_optimum)
    _draw_legend(g_axes)
    return figure


def score_curves(metrics: Table, loss: Loss) -> Figure:
    """Draws D's mean output on real samples and on fakes; at the optimum both have the same value, if there is one.

    Args:
        metrics: the columns of metrics.csv, a value for each log.
        loss: says what D's output means.
    """
    figure = Figure(figsize=(16, 5), layout="constrained")
    axes = figure.subplots()
    limits: tuple[float, float] | None = None
    scale = "higher: more real"
    if loss.d_output_is_probability:
        limits = (0, 1)
        scale = "1: real, 0: fake"
    _draw_dots(axes, metrics, D_OUTPUTS, limits, ticks=None)
    _draw_bands(axes, metrics, list(D_OUTPUTS))
    axes.set(title=f"D's mean output ({scale})", ylabel="mean output")
    _draw_ideal(axes, loss.d_output_at_optimum)
    _draw_legend(axes)
    return figure


def _draw_losses(axes: Axes, metrics: Table, names: dict[str, str], upper_bound: float | None) -> None:
    bottom, top = _loss_limits(np.stack([metrics[name] for name in names]), upper_bound)
    ticks = None
    if bottom == 0:
        book_ticks = [0, 0.25, 0.5]
        if not upper_bound:
            book_ticks += [1.0, 5.0]
        ticks = [tick for tick in book_ticks if tick <= top]
    _draw_dots(axes, metrics, names, (bottom, top), ticks)
    _draw_bands(axes, metrics, list(names))


def _loss_limits(values: np.ndarray, upper_bound: float | None) -> tuple[float, float]:
    """Returns the limits of a loss axis: from 0, lower for negative losses, to the bound or above most values."""
    finite = values[np.isfinite(values)]
    low = high = 0.0
    if finite.size:
        # Without the most extreme 1%, which would flatten all the others.
        low, high = np.quantile(finite, (0.005, 0.995)) * 1.1
    return min(0.0, float(low)), upper_bound or max(1.0, float(high))


def _draw_dots(
    axes: Axes,
    metrics: Table,
    names: dict[str, str],
    limits: tuple[float, float] | None,
    ticks: Sequence[float] | None,
) -> None:
    steps = metrics["step"]
    # The book's 0.1 for thousands of dots, and darker for few.
    alpha = min(0.6, max(0.1, 150 / max(1, len(steps))))
    for column, name in names.items():
        axes.plot(steps, metrics[column], alpha=alpha, marker=".", linewidth=0.7, label=name)
    axes.grid(True)
    axes.set(xlabel="step", ylim=limits)
    if ticks is not None:
        axes.set_yticks(ticks)


def _draw_bands(axes: Axes, metrics: Table, columns: Sequence[str]) -> None:
    """Draws a band from the lowest to the highest member around each curve; nothing without replicas."""
    for i, column in enumerate(columns):
        members = [metrics[name] for name in metrics if re.fullmatch(f"{re.escape(column)}/[0-9]+", name)]
        if not members:
            continue
        # One entry in the legend is enough for all bands of a panel.
        is_last = i == len(columns) - 1
        label = f"lowest to highest of {len(members)} members" if is_last else None
        # fmin and fmax leave out NaN, which members that failed have.
        lowest = np.fmin.reduce(members)
        highest = np.fmax.reduce(members)
        axes.fill_between(metrics["step"], lowest, highest, color=f"C{i}", alpha=0.15, linewidth=0, label=label)


def _draw_ideal(axes: Axes, value: float | None) -> None:
    if value is not None:
        axes.axhline(value, color=IDEAL_COLOUR, linestyle="--", linewidth=1, label=f"ideal {value:.4g}")


def _draw_legend(axes: Axes) -> None:
    """Draws the legend above the curves, with opaque symbols."""
    legend = axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
