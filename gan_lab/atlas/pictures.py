"""The map of all effects."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.patches import Rectangle

from gan_lab.atlas.cells import COVERAGE, SMALL, Answer, Cell
from gan_lab.atlas.plan import PLACES, Place
from gan_lab.plotting.style import Figure

# Red for harm and blue for help differ for colour-blind eyes, too.
COLOURS = matplotlib.colormaps["RdBu"]
LIGHT = 0.55  # of the colour range: numbers on darker cells are white
# Inches.
ROW_HEIGHT = 0.24
COLUMN_WIDTH = 0.62
LABEL_WIDTH = 1.9

_style = matplotlib.rc_context({"font.size": 8, "svg.hashsalt": "gan_lab"})


def rows_of_map(cells: Sequence[Cell], outcome: str = COVERAGE) -> list[str]:
    """Returns the treatments, those with the largest mean difference at equal time first."""
    differences: dict[str, list[float]] = {}
    for cell in cells:
        differences.setdefault(cell.treatment, []).append(cell.equal_time[outcome].difference)
    return sorted(differences, key=lambda name: -float(np.mean(differences[name])))


def places_of(cells: Sequence[Cell]) -> list[Place]:
    """Returns the places of all cells, in the order of the design."""
    found = {cell.place for cell in cells}
    return [place for place in PLACES if place in found]


def limit_of(cells: Sequence[Cell], outcome: str = COVERAGE) -> float:
    """Returns the largest difference, up or down, with which the colours end."""
    return max([0.1, *(abs(cell.equal_time[outcome].difference) for cell in cells)])


@_style
def map_of(cells: Sequence[Cell], outcome: str = COVERAGE) -> Figure:
    """Draws the effects at equal time: a row per treatment, a column per data set and base.

    A cell is coloured by its difference. Bold numbers help or harm; others are pale, with a dot if the difference is
    small, else with a question mark. Cells that were left out are empty.
    """
    treatments = rows_of_map(cells, outcome)
    columns = places_of(cells)
    limit = limit_of(cells, outcome)
    width = LABEL_WIDTH + COLUMN_WIDTH * len(columns) + 0.2
    height = ROW_HEIGHT * len(treatments) + 1.55
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes(
        (
            LABEL_WIDTH / width,
            0.8 / height,
            COLUMN_WIDTH * len(columns) / width,
            ROW_HEIGHT * len(treatments) / height,
        )
    )
    norm = TwoSlopeNorm(0, -limit, limit)
    for cell in cells:
        x = columns.index(cell.place)
        y = treatments.index(cell.treatment)
        _draw_cell(axes, x, y, cell.equal_time[outcome], norm)
    axes.set(xlim=(0, len(columns)), ylim=(len(treatments), 0))
    names = [name.replace("_", " ") for name in treatments]
    axes.set_yticks(np.arange(len(treatments)) + 0.5, names)
    axes.set_xticks(np.arange(len(columns)) + 0.5, [base.replace("_", " ") for _, base in columns])
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for dataset in dict.fromkeys(dataset for dataset, _ in columns):
        positions = [i for i, (name, _) in enumerate(columns) if name == dataset]
        middle = (positions[0] + positions[-1] + 1) / 2
        axes.annotate(
            dataset.replace("_", " "), (middle, 0), (0, 20), textcoords="offset points", ha="center", weight="bold"
        )
        axes.axvline(positions[0], color="black", linewidth=0.8)
    bar = figure.add_axes((LABEL_WIDTH / width, 0.55 / height, 0.3, 0.1 / height))
    mappable = matplotlib.cm.ScalarMappable(norm, COLOURS)
    figure.colorbar(mappable, cax=bar, orientation="horizontal", label=f"difference of {outcome}")
    legend = f"bold: helps or harms    ·: smaller than {SMALL}    ?: can't tell    empty: left out"
    figure.text(0.995, 0.3 / height, legend, ha="right", va="bottom")
    return figure


def _draw_cell(axes: Axes, x: int, y: int, answer: Answer, norm: TwoSlopeNorm) -> None:
    """Draws an answer in the unit square at (x, y)."""
    shown = answer.conclusion in ("helps", "harms")
    position = float(norm(answer.difference))
    red, green, blue, _ = COLOURS(position)
    alpha = 1.0 if shown else 0.35
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=(red, green, blue, alpha), edgecolor="white", linewidth=0.8))
    mark = {"small": " ·", "unclear": " ?"}.get(answer.conclusion, "")
    is_dark = shown and abs(2 * position - 1) > LIGHT
    axes.text(
        x + 0.5,
        y + 0.52,
        f"{answer.difference:+.2f}{mark}".replace("-", "−"),
        ha="center",
        va="center",
        weight="bold" if shown else "normal",
        color="white" if is_dark else "black",
    )
