"""What all pictures have in common: the figure, colours, and numbers on logarithmic axes."""

from typing import Any

import matplotlib
import matplotlib.figure
from matplotlib.axis import Axis
from matplotlib.ticker import LogFormatter

D_COLOUR = "C0"
REAL_COLOUR = "C0"
FAKE_COLOUR = "C1"
IDEAL_COLOUR = "0.25"


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that writes a text with a $ in it as it is, instead of parsing it as a formula.

    Names of runs and classes can contain any characters, and a part of them may not even be a valid formula.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        # Set for good, not only while a figure is drawn: an axis creates its tick labels when the figure is saved.
        matplotlib.rcParams["text.parse_math"] = False
        super().__init__(*args, **kwargs)


def plain_powers(axis: Axis) -> None:
    """Writes the numbers of a logarithmic axis as 10,000 rather than as the formula 10⁴."""
    axis.set_major_formatter(_PlainLogFormatter())
    axis.set_minor_formatter(_PlainLogFormatter(minor_thresholds=(0, 0)))


class _PlainLogFormatter(LogFormatter):
    """Labels the same ticks as matplotlib's formatter, with plain numbers."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        is_labelled = bool(super().__call__(x, pos))
        return f"{x:,g}" if is_labelled else ""
