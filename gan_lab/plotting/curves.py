"""Curves over the steps of a training: losses, D's outputs and modes. Nothing here knows files or training."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gan_lab.plotting.style import FAILURE_COLOUR, FAKE_COLOUR, IDEAL_COLOUR, REAL_COLOUR, Figure

# A page draws modes without torch, which takes seconds to import.
if TYPE_CHECKING:
    from gan_lab.gan.losses import Loss

Table = Mapping[str, np.ndarray]  # the columns of metrics.csv, each `(rows,)`; NaN where a row has no value

# Columns of metrics.csv, in the order in which they are drawn, and their names in the legend.
D_LOSSES = {"loss/d_real": "D on real", "loss/d_fake": "D on fakes"}
G_LOSSES = {"loss/g": "G"}
D_OUTPUTS = {"score/real": "on real", "score/fake": "on fakes"}
MODES = "metric/modes_valid"
TOTAL = "metric/modes_total"
SAMPLES = "metric/samples"
COVERAGE = "metric/coverage"
# The share of the samples that lie among the real ones: near a Gaussian's centre, or 1 less the junk.
HIGH_QUALITY = "metric/high_quality"
JUNK = "metric/junk"

# A picture is as wide as half of a page or as a phone, on which its numbers have to be legible.
WIDTH = 6.4  # inches
DPI = 150
# Inches around the panels: for tick labels, for the last of these, for a title with its legend, and for the steps.
LEFT = 0.6
RIGHT = 0.15
HEAD = 0.55
FOOT = 0.55
# Ticks of the book, and up to which value they are continued in halves; above, numbers as they come.
BOOK_TICKS = [0, 0.25, 0.5]
MAX_HALVES = 2.5


def loss_curves(metrics: Table, loss: "Loss") -> Figure:
    """Draws D's losses and, below, G's, with the value at the optimum as a line (course notes, S10).

    Dots, grid and ticks are those of the book. With replicas the curves are means, in a band from the lowest to the
    highest.

    Args:
        metrics: the columns of metrics.csv, a value for each log.
        loss: gives the values at the optimum and the range of the axis.
    """
    figure, (d_axes, g_axes) = _panels([2, 2])
    _draw_losses(d_axes, metrics, D_LOSSES, loss.upper_bound)
    _draw_ideal(d_axes, loss.loss_at_optimum)
    _draw_head(d_axes, "D's loss")
    _draw_losses(g_axes, metrics, G_LOSSES, loss.upper_bound)
    _draw_ideal(g_axes, loss.g_loss_at_optimum)
    _draw_head(g_axes, "G's loss")
    _label_steps(g_axes)
    return figure


def score_curves(metrics: Table, loss: "Loss") -> Figure:
    """Draws D's mean output on real samples and on fakes; at the optimum both have the same value, if there is one.

    Args:
        metrics: the columns of metrics.csv, a value for each log.
        loss: says what D's output means.
    """
    figure, (axes,) = _panels([2.2])
    limits: tuple[float, float] | None = None
    scale = "higher: more real"
    if loss.d_output_is_probability:
        limits = (0, 1)
        scale = "1: real, 0: fake"
    _draw_dots(axes, metrics, D_OUTPUTS, limits, ticks=None)
    _draw_bands(axes, metrics, list(D_OUTPUTS))
    _draw_ideal(axes, loss.d_output_at_optimum)
    _draw_head(axes, f"D's mean output ({scale})")
    _label_steps(axes)
    return figure


def mode_curves(metrics: Table, failing_since: int | None = None) -> Figure | None:
    """Draws how many modes G made at each evaluation, and below it how many of its samples lie among the real ones.

    With replicas there is a thin line for each and a thick one for the mean. How many samples the numbers are of stands
    in the picture: few samples miss rare modes.

    Args:
        metrics: the columns of metrics.csv; rows without an evaluation have NaN there.
        failing_since: the steps from this one on are shaded; None: none are.

    Returns:
        None without an evaluation. Data without modes have only the lower panel.
    """
    shares = _shares_among_real(metrics)
    columns = [name for name in (MODES, shares, COVERAGE) if _has_values(metrics, name)]
    if not columns:
        return None
    has_modes = columns[0] == MODES
    figure, axes = _panels([2, 2] if has_modes else [2])
    if failing_since is not None:
        for panel in axes:
            panel.axvspan(failing_since, metrics["step"][-1], color=FAILURE_COLOUR, alpha=0.2, linewidth=0)
    if has_modes:
        _draw_modes(axes[0], metrics)
    lowest = axes[-1]
    if shares:
        _draw_evaluations(lowest, metrics, shares, "share among the real samples", color=FAKE_COLOUR)
    if _has_values(metrics, COVERAGE):
        _draw_evaluations(lowest, metrics, COVERAGE, "coverage, at the end", color=REAL_COLOUR)
    lowest.set(ylim=(0, 1))
    lowest.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    _draw_head(lowest, "Likeness and coverage")
    _label_steps(lowest)
    lowest.set_xlabel(f"step ({_sample_counts(metrics)})")
    return figure


def _panels(heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Returns a figure with panels below each other that share the axis of steps.

    They have fixed places: to find these, matplotlib would lay out everything before it draws: a quarter of the time.

    Args:
        heights: of the panels, in inches.
    """
    total = sum(heights) + HEAD * len(heights) + FOOT
    figure = Figure(figsize=(WIDTH, total), dpi=DPI)
    panels: list[Axes] = []
    top = total
    for height in heights:
        top -= HEAD + height
        place = (LEFT / WIDTH, top / total, (WIDTH - LEFT - RIGHT) / WIDTH, height / total)
        panels.append(figure.add_axes(place, sharex=panels[0] if panels else None))
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    return figure, panels


def _has_values(metrics: Table, name: str) -> bool:
    return name in metrics and bool(np.isfinite(metrics[name]).any())


def _shares_among_real(metrics: Table) -> str:
    """Returns the column that says how many samples lie among the real ones; '' if there is none."""
    return next((name for name in (HIGH_QUALITY, JUNK) if _has_values(metrics, name)), "")


def _draw_modes(axes: Axes, metrics: Table) -> None:
    total = float(np.nanmax(metrics[TOTAL])) if _has_values(metrics, TOTAL) else float(np.nanmax(metrics[MODES]))
    _draw_evaluations(axes, metrics, MODES, "modes made", color=FAKE_COLOUR)
    axes.axhline(total, color=IDEAL_COLOUR, linestyle="--", linewidth=1, label=f"{total:,.0f} in the data")
    axes.set(ylim=(0, 1.05 * total))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    _draw_head(axes, "Modes")


def _draw_evaluations(axes: Axes, metrics: Table, column: str, label: str, color: str) -> None:
    """Draws a metric at each evaluation; of replicas their mean, and each of them as a thin line."""
    members = _members(metrics, column)
    for values in members:
        _draw_line(axes, metrics["step"], _higher_is_better(column, values), color=color, linewidth=0.7, alpha=0.6)
    if members:
        label = f"{label} (mean of {len(members)})"
    values = _higher_is_better(column, metrics[column])
    _draw_line(axes, metrics["step"], values, color=color, linewidth=1.8, marker="o", markersize=4, label=label)
    axes.grid(True)


def _draw_line(axes: Axes, steps: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Draws a line through the rows that have a value; what lies on the edge is not cut off."""
    has_value = np.isfinite(values)
    axes.plot(steps[has_value], values[has_value], clip_on=False, zorder=3, **style)


def _higher_is_better(column: str, values: np.ndarray) -> np.ndarray:
    return 1 - values if column.startswith(JUNK) else values


def _sample_counts(metrics: Table) -> str:
    """Says of how many samples each value is: 'a value is of 1,000 samples, the last of 10,000'."""
    counts = metrics.get(SAMPLES, np.zeros(0))
    counts = counts[np.isfinite(counts)]
    if not len(counts):
        return "of an unknown number of samples"
    text = f"a value is of {counts[0]:,.0f} samples"
    if counts[-1] != counts[0]:
        text += f", the last of {counts[-1]:,.0f}"
    return text


def _draw_losses(axes: Axes, metrics: Table, names: dict[str, str], upper_bound: float | None) -> None:
    values = [metrics[name] for name in names]
    for name in names:
        values += _members(metrics, name)
    ticks = _loss_ticks(np.stack(values), upper_bound)
    _draw_dots(axes, metrics, names, (ticks[0], ticks[-1]), ticks)
    _draw_bands(axes, metrics, list(names))


def _loss_ticks(values: np.ndarray, upper_bound: float | None) -> list[float]:
    """Returns the ticks of a loss axis, of which the first and the last are its ends.

    They are the book's from 0 to 1, and go on to the bound or above most values; below 0 for negative losses.
    """
    finite = values[np.isfinite(values)]
    low = high = 0.0
    if finite.size:
        # Without the most extreme 1%, which would flatten all the others.
        low, high = np.quantile(finite, (0.005, 0.995))
    bottom = min(0.0, float(low))
    top = upper_bound or max(1.0, float(high))
    if bottom < 0 or top > MAX_HALVES:
        return list(map(float, MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(bottom, top)))
    halves = np.arange(1, np.ceil(2 * top) / 2 + 0.25, 0.5)
    return [*BOOK_TICKS, *halves.tolist()]


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
    axes.set(ylim=limits)
    if ticks is not None:
        axes.set_yticks(ticks)


def _draw_bands(axes: Axes, metrics: Table, columns: Sequence[str]) -> None:
    """Draws a band from the lowest to the highest member around each curve; nothing without replicas."""
    for i, column in enumerate(columns):
        members = _members(metrics, column)
        if not members:
            continue
        # One entry in the legend is enough for all bands of a panel.
        is_last = i == len(columns) - 1
        label = f"lowest to highest of {len(members)} members" if is_last else None
        # fmin and fmax leave out NaN, which members that failed have.
        lowest = np.fmin.reduce(members)
        highest = np.fmax.reduce(members)
        axes.fill_between(metrics["step"], lowest, highest, color=f"C{i}", alpha=0.2, linewidth=0, label=label)


def _members(metrics: Table, column: str) -> list[np.ndarray]:
    """Returns a column's values of each replica; none without replicas."""
    return [metrics[name] for name in metrics if re.fullmatch(f"{re.escape(column)}/[0-9]+", name)]


def _draw_ideal(axes: Axes, value: float | None) -> None:
    if value is not None:
        axes.axhline(value, color=IDEAL_COLOUR, linestyle="--", linewidth=1, label=f"ideal {value:.4g}")


def _draw_head(axes: Axes, title: str) -> None:
    """Draws the title and, below it, the legend: faint dots with opaque symbols, bands as they are."""
    axes.set_title(title, loc="left", pad=20)
    legend = axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        frameon=False,
        fontsize="small",
        borderpad=0.2,
        columnspacing=1,
    )
    for handle in legend.legend_handles:
        if isinstance(handle, Line2D):
            handle.set_alpha(1)


def _label_steps(axes: Axes) -> None:
    """Labels the axis of steps, which begins at 0 and has room for the last dot."""
    axes.set(xlabel="step")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
