"""What all pictures have in common: a name with a $ in it is a name, no formula that may not even be one."""

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

__all__ = ["Figure", "plain_powers"]

# For good, not within drawing functions only: an axis writes its numbers when the figure is saved.
matplotlib.rcParams["text.parse_math"] = False


class _Plain(LogFormatter):
    """Labels as many numbers of a logarithmic axis as matplotlib would."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:,g}" if super().__call__(x, pos) else ""


def plain_powers(axis: Axis) -> None:
    """Writes the numbers of a logarithmic axis plainly: else they are formulas, 10^4."""
    axis.set_major_formatter(_Plain())
    axis.set_minor_formatter(_Plain(minor_thresholds=(0, 0)))
