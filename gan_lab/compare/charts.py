"""A comparison's charts as SVG text, sharp at every size, or as PNG; equal for equal numbers. No files, no torch.

Colours are told apart by colour-blind eyes (Okabe and Ito), and never carry a meaning alone.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from PIL import Image

from gan_lab.core.terminal import printable
from gan_lab.plotting.style import Figure

BLUE, SKY, RED, GREY = "#0072B2", "#56B4E9", "#D55E00", "#666666"
LOSSES = {  # column of metrics.csv → name, colour, line
    "loss/d_real": ("D on real", BLUE, "-"),
    "loss/d_fake": ("D on fakes", SKY, "--"),
    "loss/g": ("G", RED, "-"),
}
MODES = "metric/modes"
NAMED_BARS = 50  # past so many classes the bars are sorted and go without numbers
_style = matplotlib.rc_context(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "gan_lab",  # else every drawing has ids of its own
        "grid.alpha": 0.35,
        "legend.frameon": False,
        "legend.borderpad": 0,
        "legend.columnspacing": 1,
        "legend.handlelength": 1.5,
    }
)


class Line(NamedTuple):
    """An effect in a forest plot; `better` as in `sentences.helped`."""

    label: str
    numbers: str
    difference: float
    low: float | None
    high: float | None
    shown: bool
    better: bool | None


@_style
def forest(lines: Sequence[Line], axis: str, more_is_better: bool | None) -> Figure:
    """Effects with their intervals, one below the other; full dots are shown differences, hollow ones are not."""
    labels = [textwrap.wrap(printable(line.label), 29) or [""] for line in lines]
    heights = np.array([0.32 + 0.13 * len(label) for label in labels])
    figure = Figure(figsize=(3.9, 0.75 + heights.sum()))
    axes = figure.add_axes((0.03, 0.5 / figure.get_figheight(), 0.94, heights.sum() / figure.get_figheight()))
    bottoms = heights.sum() - heights.cumsum()
    for line, label, bottom, height in zip(lines, labels, bottoms, heights, strict=True):
        colour = GREY if line.better is None else BLUE if line.better else RED
        y = bottom + 0.17
        if line.low is not None and line.high is not None:
            axes.plot([line.low, line.high], [y, y], color=colour, linewidth=2 if line.shown else 1.2)
        axes.plot(line.difference, y, "o", color=colour, markersize=6, markerfacecolor=None if line.shown else "white")
        across = axes.get_yaxis_transform()
        weight, clear = "bold" if line.shown else "normal", {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        for side, align, words in ((0, "left", "\n".join(label)), (1, "right", line.numbers)):
            place: dict[str, Any] = {"transform": across, "va": "top", "ha": align, "bbox": clear}
            axes.text(side, bottom + height - 0.04, words, weight=weight if side == 0 else "normal", **place)
        axes.plot([0, 0], [bottom, bottom + 0.31], color="black", linewidth=0.8, zorder=1)  # not through the label
    ends = [end for line in lines for end in (line.difference, line.low, line.high) if end is not None]
    low, high = min(0, *ends), max(0, *ends)
    margin = 0.06 * (high - low) or 1
    axes.set(xlim=(low - margin, high + margin), ylim=(0, heights.sum()), yticks=[], xlabel=axis)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    if more_is_better is not None:
        side, text = (1, "better →") if more_is_better else (0, "← better")
        axes.text(side, 1, text, transform=axes.transAxes, va="bottom", ha="right" if side else "left", style="italic")
    return figure


@_style
def curves(bands: Mapping[str, pd.DataFrame], ideal: float | None, top: float, most_modes: float) -> str:
    """Losses, and below them the modes, over the steps.

    Args:
        bands: by column of metrics.csv: index step, columns mean, low, high.
        ideal: of the losses.
        top: of the losses' axis.
        most_modes: of the modes' axis.
    """
    losses = {column: look for column, look in LOSSES.items() if column in bands}
    parts = [part for part, there in (("loss", bool(losses)), ("modes", MODES in bands)) if there]
    figure = Figure(figsize=(4.2, 0.45 + 1.75 * ("loss" in parts) + 1.0 * ("modes" in parts)), layout="constrained")
    ratios = [1.75 if part == "loss" else 1.0 for part in parts]
    drawn = figure.subplots(len(parts), 1, sharex=True, squeeze=False, height_ratios=ratios).flat
    panels: dict[str, Axes] = dict(zip(parts, drawn, strict=True))
    if "loss" in panels:
        for column, (name, colour, style) in losses.items():
            _band(panels["loss"], bands[column], name, color=colour, linestyle=style, linewidth=1.2)
        if ideal is not None:
            panels["loss"].axhline(ideal, color="black", linestyle=":", linewidth=1, label=f"ideal {ideal:.3g}")
        panels["loss"].set(ylim=(0, top), ylabel="loss")
        panels["loss"].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    if "modes" in panels:
        _band(panels["modes"], bands[MODES], "modes", color="black", marker=".", linewidth=1.2)
        panels["modes"].set(ylim=(0, most_modes * 1.05), ylabel="modes")
        panels["modes"].yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    last = panels[parts[-1]]
    last.set(xlabel="step", xlim=(0, None))
    last.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    last.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    for axes in panels.values():
        axes.grid()
    return svg(figure)


def _band(axes: Axes, band: pd.DataFrame, label: str, color: str, **look: object) -> None:
    axes.fill_between(band.index, band["low"], band["high"], color=color, alpha=0.18, linewidth=0)
    axes.plot(band.index, band["mean"], label=label, color=color, **look)  # type: ignore[arg-type]


@_style
def labels(shares: np.ndarray, top: float) -> str:
    """How often each class was made: means over the runs as bars, and a dot for each run.

    Args:
        shares: `(runs, classes)`, each row sums to 1.
        top: of the axis.
    """
    figure = Figure(figsize=(4.2, 1.7), layout="constrained")
    axes = figure.subplots()
    classes = shares.shape[1]
    if classes > NAMED_BARS:
        shares = np.sort(shares, axis=1)[:, ::-1]
        steps = pd.DataFrame({"mean": shares.mean(0), "low": shares.min(0), "high": shares.max(0)})
        _band(axes, steps, "generated", color=RED)
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
    """Pictures of about the same form beside each other, each below its name; wide ones four in a row, others three, or
    six of more than nine."""
    form = max(image.height / image.width for _, image in pictures)
    most, width = (4, 3.0) if form < 0.8 else (3 if len(pictures) <= 9 else 6, 2.0)
    across = min(len(pictures), most)
    down = -(-len(pictures) // across)
    figure = Figure(figsize=(width * across, down * (width * form + 0.45)), layout="constrained")
    for axes in figure.subplots(down, across, squeeze=False).flat:
        axes.set_axis_off()
    for axes, (name, image) in zip(figure.axes, pictures, strict=False):
        axes.imshow(image)
        axes.set_title("\n".join(textwrap.wrap(printable(name), 29)), fontsize="small")
    return figure


@_style
def png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


@_style
def svg(figure: Figure) -> str:
    """Only what is drawn: without the date, which would make equal charts differ."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return text.getvalue()
