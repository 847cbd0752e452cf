"""A comparison's charts as SVG text, sharp at every size, or as PNG; equal for equal numbers. No files, no torch.

The colours are distinct for colour-blind eyes (Okabe and Ito), and no meaning depends on colour only.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter
from PIL import Image

from gan_lab.core.terminal import printable
from gan_lab.plotting.style import Figure

BLUE = "#0072B2"
SKY = "#56B4E9"
RED = "#D55E00"
GREY = "#666666"
LINE_COLOURS = (BLUE, RED, SKY, GREY)


class LineStyle(NamedTuple):
    """How a column of metrics.csv is drawn."""

    name: str
    colour: str
    dashes: str


LOSSES = {
    "loss/d_real": LineStyle("D on real", BLUE, "-"),
    "loss/d_fake": LineStyle("D on fakes", SKY, "--"),
    "loss/g": LineStyle("G", RED, "-"),
}
MODES = "metric/modes_valid"
# With more classes than this the bars are sorted and have no numbers.
MAX_NUMBERED_BARS = 50
# Characters in a line of a label.
LABEL_WIDTH = 29

# Heights of a chart's panels in inches.
LOSS_HEIGHT = 1.75
MODES_HEIGHT = 1.0

_style = matplotlib.rc_context(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        # Without it, every drawing has other ids.
        "svg.hashsalt": "gan_lab",
        "grid.alpha": 0.35,
        "legend.frameon": False,
        "legend.borderpad": 0,
        "legend.columnspacing": 1,
        "legend.handlelength": 1.5,
    }
)


class ForestLine(NamedTuple):
    """An effect in a forest plot.

    Attributes:
        label: what was changed.
        reason: why the difference was not shown; '' if it was.
        numbers: the difference with its interval, in words.
        difference: the difference.
        low: lower end of its interval; None if it has none.
        high: upper end.
        significant: whether the difference is shown.
        better: see `sentences.is_improvement`.
    """

    label: str
    reason: str
    numbers: str
    difference: float
    low: float | None
    high: float | None
    significant: bool
    better: bool | None


class ProgressPanel(NamedTuple):
    """A metric in a chart of progress.

    Attributes:
        label: what it is.
        curves: its values, by the names of the repetitions; the index is what has been spent.
        real: the value of as many real samples; None if unknown.
        logarithmic: whether the axis is.
    """

    label: str
    curves: Mapping[str, "pd.Series[float]"]
    real: float | None
    logarithmic: bool


@_style
def forest(lines: Sequence[ForestLine], axis: str, higher_is_better: bool | None) -> Figure:
    """Draws effects with their intervals, one below the other; full dots are significant, hollow ones have a reason.

    Args:
        lines: the effects, from top to bottom.
        axis: label of the axis.
        higher_is_better: which side is marked as better; None: neither.
    """
    labels = [textwrap.wrap(printable(line.label), LABEL_WIDTH) or [""] for line in lines]
    # In inches: each line of the label and the reason, and below them the dot with its interval.
    heights = np.array(
        [0.32 + 0.13 * len(label) + 0.17 * bool(line.reason) for label, line in zip(labels, lines, strict=True)]
    )
    total_height = heights.sum()
    figure = Figure(figsize=(3.9, 0.75 + total_height))
    axes = figure.add_axes((0.03, 0.5 / figure.get_figheight(), 0.94, total_height / figure.get_figheight()))
    bottoms = total_height - heights.cumsum()
    for line, label, bottom, height in zip(lines, labels, bottoms, heights, strict=True):
        _draw_forest_line(axes, line, "\n".join(label), bottom, height)
    # The axis shows 0, no difference, whatever the effects are.
    ends = [0.0]
    for line in lines:
        ends.append(line.difference)
        if line.low is not None and line.high is not None:
            ends += [line.low, line.high]
    low = min(ends)
    high = max(ends)
    margin = 0.06 * (high - low) or 1
    axes.set(xlim=(low - margin, high + margin), ylim=(0, total_height), yticks=[], xlabel=axis)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    if higher_is_better is not None:
        _mark_better_side(axes, higher_is_better)
    return figure


def _draw_forest_line(axes: Axes, line: ForestLine, label: str, bottom: float, height: float) -> None:
    """Draws an effect between `bottom` and `bottom + height`: label and numbers above, dot and interval below."""
    colours = {None: GREY, True: BLUE, False: RED}
    colour = colours[line.better]
    linewidth = 1.2
    weight = "normal"
    face = "white"
    if line.significant:
        linewidth = 2
        weight = "bold"
        face = colour
    y = bottom + 0.17
    if line.low is not None and line.high is not None:
        axes.plot([line.low, line.high], [y, y], color=colour, linewidth=linewidth)
    axes.plot(line.difference, y, "o", color=colour, markersize=6, markerfacecolor=face)
    # The white box keeps the grid out of the words.
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "top"}
    place["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    top = bottom + height - 0.04
    axes.text(0, top, label, ha="left", weight=weight, **place)
    axes.text(1, top, line.numbers, ha="right", weight="normal", **place)
    if line.reason:
        axes.text(0, bottom + 0.4, line.reason, ha="left", color=GREY, style="italic", size="small", **place)
    # The line at 0 does not cross the label.
    axes.plot([0, 0], [bottom, bottom + 0.31], color="black", linewidth=0.8, zorder=1)


def _mark_better_side(axes: Axes, higher_is_better: bool) -> None:
    """Writes at the end of the axis where an effect is for the better."""
    place: dict[str, Any] = {"transform": axes.transAxes, "va": "bottom", "style": "italic"}
    if higher_is_better:
        axes.text(1, 1, "better →", ha="right", **place)
    else:
        axes.text(0, 1, "← better", ha="left", **place)


@_style
def curves(bands: Mapping[str, pd.DataFrame], ideal: float | None, top: float, max_modes: float) -> str:
    """Draws losses, and below them the modes, over the steps; returns SVG.

    Args:
        bands: by column of metrics.csv: index step, columns mean, low, high.
        ideal: the loss when D can't tell real from fake; None if unknown.
        top: upper end of the losses' axis.
        max_modes: largest number of modes.
    """
    heights = {}
    if any(column in bands for column in LOSSES):
        heights["loss"] = LOSS_HEIGHT
    if MODES in bands:
        heights["modes"] = MODES_HEIGHT
    figure = Figure(figsize=(4.2, 0.45 + sum(heights.values())), layout="constrained")
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=list(heights.values()))
    panels: dict[str, Axes] = dict(zip(heights, grid.flat, strict=True))
    if "loss" in panels:
        _draw_losses(panels["loss"], bands, ideal, top)
    if "modes" in panels:
        # Dots at the end of an axis are not cut off.
        _draw_band(panels["modes"], bands[MODES], "modes", color="black", marker=".", linewidth=1.2, clip_on=False)
        panels["modes"].set(ylim=(0, max_modes * 1.05), ylabel="modes made")
        panels["modes"].yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    lowest = list(panels.values())[-1]
    lowest.set(xlabel="step", xlim=(0, None))
    lowest.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    lowest.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    for axes in panels.values():
        axes.grid()
    return svg(figure)


@_style
def progress(panels: Sequence[ProgressPanel], unit: str) -> Figure:
    """Draws how metrics came to their last values, one below the other: a line for each repetition.

    A few of them have names; many have one colour.

    Args:
        panels: the metrics.
        unit: of the horizontal axis.
    """
    figure = Figure(figsize=(6.0, 0.5 + 1.9 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=True):
        named = len(panel.curves) <= len(LINE_COLOURS)
        for i, (name, curve) in enumerate(panel.curves.items()):
            colour = LINE_COLOURS[i] if named else BLUE
            label = name if named else f"each of {len(panel.curves)} seeds" if i == 0 else None
            axes.plot(curve.index, curve, ".-", label=label, color=colour, linewidth=1.1, alpha=1 if named else 0.6)
        if panel.real is not None:
            axes.axhline(panel.real, color="black", linestyle=":", linewidth=1.1, label="as many real samples")
        if panel.logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(0, None)
        axes.set_ylabel("\n".join(textwrap.wrap(printable(panel.label), LABEL_WIDTH)))
        axes.grid(which="both")
    # Above the panels, so that it never covers a curve.
    grid.flat[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    grid.flat[-1].set(xlabel=printable(unit), xlim=(0, None))
    return figure


def _draw_losses(axes: Axes, bands: Mapping[str, pd.DataFrame], ideal: float | None, top: float) -> None:
    """Draws D's losses on real and on generated samples and G's loss, with the ideal as a dotted line."""
    for column, style in LOSSES.items():
        if column in bands:
            _draw_band(axes, bands[column], style.name, color=style.colour, linestyle=style.dashes, linewidth=1.2)
    if ideal is not None:
        axes.axhline(ideal, color="black", linestyle=":", linewidth=1, label=f"ideal {ideal:.3g}")
    axes.set(ylim=(0, top), ylabel="loss")
    # Above the panel, so that it never covers a curve.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)


def _draw_band(axes: Axes, band: pd.DataFrame, label: str, color: str, **line: Any) -> None:
    """Draws the mean as a line, and the range from the smallest to the largest as a band."""
    axes.fill_between(band.index, band["low"], band["high"], color=color, alpha=0.18, linewidth=0)
    axes.plot(band.index, band["mean"], label=label, color=color, **line)


@_style
def labels(shares: np.ndarray, top: float) -> str:
    """Draws how often each class was generated: means over the runs as bars, and a dot for each run; returns SVG.

    Args:
        shares: `(runs, classes)`, each row sums to 1.
        top: upper end of the axis.
    """
    figure = Figure(figsize=(4.2, 1.7), layout="constrained")
    axes = figure.subplots()
    classes = shares.shape[1]
    if classes > MAX_NUMBERED_BARS:
        descending = np.sort(shares, axis=1)[:, ::-1]
        band = pd.DataFrame({"mean": descending.mean(0), "low": descending.min(0), "high": descending.max(0)})
        _draw_band(axes, band, "generated", color=RED)
        axes.set(xlabel=f"{classes:,} classes, the most frequent first")
    else:
        axes.bar(np.arange(classes), shares.mean(0), 0.75, color=RED, alpha=0.75)
        if len(shares) > 1:
            axes.plot(np.arange(classes), shares.T, ".", color="black", alpha=0.5, markersize=4, clip_on=False)
        axes.set(xlabel="class", xticks=range(0, classes, 1 + classes // 16))
    axes.set(ylim=(0, top), ylabel="share")
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    return svg(figure)


@_style
def sheet(pictures: Sequence[tuple[str, Image.Image]]) -> Figure:
    """Draws pictures of about the same form side by side, each below its name.

    Three are in a row; of more than six wide pictures four, of more than nine others six.
    """
    form = max(image.height / image.width for _, image in pictures)
    columns = 3
    width = 2.0
    if form < 0.8:
        columns = 4 if len(pictures) > 6 else 3
        width = 3.0
    elif len(pictures) > 9:
        columns = 6
    columns = min(len(pictures), columns)
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(width * columns, rows * (width * form + 0.45)), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, (name, image) in zip(figure.axes, pictures, strict=False):
        axes.imshow(image)
        axes.set_title("\n".join(textwrap.wrap(printable(name), LABEL_WIDTH)), fontsize="small")
    return figure


@_style
def png(figure: Figure) -> bytes:
    """Returns a figure as PNG, without the name of the program that drew it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


@_style
def svg(figure: Figure) -> str:
    """Returns a figure as SVG, without the date, which would make equal charts differ."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return text.getvalue()
