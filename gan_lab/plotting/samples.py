"""Pictures of samples. Nothing here knows files or training.

How samples are drawn follows from their shape: images `(C, H, W)` as a grid, points in the plane `(2,)` as a scatter
plot, other vectors `(d,)` as lines.
"""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gan_lab.data.dataset import Dataset
from gan_lab.plotting.style import FAKE_COLOUR, REAL_COLOUR, Figure, class_label, drawable, shorten

# Pixels between the images of a grid, and around it.
GRID_PADDING = 1

# Pixels in the picture of two grids of images.
GRID_SIDE = 540  # of a grid, at most
GRID_MARGIN = 10  # around it
TITLE_SIZE = 17
TITLE_GAP = 8  # between a grid and its title

# About the width of a letter.
LETTER_INCHES = 0.1

# Panels in a row of the picture of several GANs.
MAX_COLUMNS = 4

# The picture of mode frequencies names at most this many modes, and above MAX_HORIZONTAL_NAMES turns the names.
MAX_NAMED_MODES = 50
MAX_HORIZONTAL_NAMES = 12
# Characters that fit below it side by side, if all names are as long as the longest.
MAX_HORIZONTAL_CHARACTERS = 110


def compare_samples(
    fake: Tensor,
    real: Tensor,
    dataset: Dataset,
    title: str,
    fake_classes: Tensor | None = None,
    real_classes: Tensor | None = None,
) -> Figure:
    """Draws generated samples on the left and real ones on the right.

    Args:
        fake: `(n, *shape)`.
        real: `(n, *shape)`.
        dataset: the data, which have this shape.
        title: above the generated samples.
        fake_classes: classes of the generated samples, to be shown as `draw_samples` does.
        real_classes: classes of the real samples, likewise.
    """
    return Comparison(real, dataset, real_classes).show(fake, title, fake_classes)


class Comparison:
    """A figure like that of `compare_samples`, in which generated samples can be replaced by others.

    Real samples are drawn, and both panels laid out, only once; that is half of the time.

    Args:
        real, dataset, real_classes: as for `compare_samples`.
    """

    def __init__(self, real: Tensor, dataset: Dataset, real_classes: Tensor | None = None):
        self.dataset = dataset
        self.figure = Figure(figsize=(11, 5.8), layout="constrained")
        self._fake_axes, real_axes = self.figure.subplots(1, 2)
        real_axes.set_title("real")
        draw_samples(real_axes, real, dataset, real_classes)
        self._is_shown = False

    def show(self, fake: Tensor, title: str, fake_classes: Tensor | None = None) -> Figure:
        """Draws generated samples in place of earlier ones, and returns the figure, to be saved before the next call.

        Args:
            fake, title, fake_classes: as for `compare_samples`.
        """
        if self._is_shown:
            self.figure.set_layout_engine("none")
            self._fake_axes.clear()
        self._is_shown = True
        self._fake_axes.set_title(title)
        draw_samples(self._fake_axes, fake, self.dataset, fake_classes)
        return self.figure


def compare_images(fake: Tensor, real: Tensor, title: str) -> Image.Image:
    """Draws a grid of generated images on the left and one of real images on the right, in a tenth of a figure's time.

    Args:
        fake: `(n, C, H, W)`.
        real: `(n, C, H, W)`.
        title: above the generated images.

    Returns:
        About 1,100 × 580 pixels, grey or in colour as the images are.
    """
    mode = "L" if fake.shape[1] == 1 else "RGB"
    grids = []
    for images in (fake, real):
        pixels = (image_grid(images) * 255).round().byte().permute(1, 2, 0).numpy()
        grids.append(_fit(Image.fromarray(pixels).convert(mode), GRID_SIDE))
    panel_width = max(grid.width for grid in grids) + 2 * GRID_MARGIN
    top = TITLE_SIZE + TITLE_GAP + GRID_MARGIN
    height = top + max(grid.height for grid in grids) + GRID_MARGIN
    picture = Image.new(mode, (2 * panel_width, height), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(TITLE_SIZE)
    for i, (grid, heading) in enumerate(zip(grids, (title, "real"), strict=True)):
        middle = i * panel_width + panel_width // 2
        picture.paste(grid, (middle - grid.width // 2, top))
        draw.text((middle, top - TITLE_GAP), heading, "black", font, anchor="ms")
    return picture


def _fit(image: Image.Image, side: int) -> Image.Image:
    """Enlarges an image by a whole number, or shrinks it, so that no side is longer than `side` pixels."""
    longest = max(image.size)
    if longest <= side:
        factor = side // longest
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, round(length * side / longest)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def compare_members(
    fakes: Sequence[Tensor],
    names: Sequence[str],
    real: Tensor,
    dataset: Dataset,
    title: str,
    classes: Sequence[Tensor | None] | None = None,
) -> Figure:
    """Draws the samples of several GANs, and real ones after them: a row of images for each, otherwise a panel.

    Args:
        fakes: samples of each GAN, `(n, *shape)`.
        names: of the GANs.
        real: `(n, *shape)`.
        dataset: the data, which have this shape.
        title: above the picture.
        classes: `(n,)`, classes of each GAN's samples and of the real ones, to be shown; for images they have to be
            the same in each row.
    """
    sets = [*fakes, real]
    set_names = [*names, "real"]
    set_classes = classes or [None] * len(sets)
    if _are_images(dataset):
        figure = _rows_of_images(sets, set_names, dataset, set_classes[-1])
    else:
        figure = _panels(sets, set_names, dataset, set_classes)
    figure.suptitle(title)
    return figure


def _rows_of_images(
    sets: Sequence[Tensor], names: Sequence[str], dataset: Dataset, column_classes: Tensor | None
) -> Figure:
    columns = len(sets[-1])
    names = [shorten(drawable(name)) for name in names]
    figure = Figure(figsize=(1.5 + 0.6 * columns, 0.5 + 0.65 * len(sets)), layout="constrained")
    rows = figure.subplots(len(sets), 1)
    for axes, images, name in zip(rows, sets, names, strict=True):
        draw_row(axes, images)
        label_row(axes, name)
    if column_classes is not None:
        _name_classes(rows[-1].set_xticks, column_classes, sets[-1].shape[-1], dataset)
    return figure


def _panels(sets: Sequence[Tensor], names: Sequence[str], dataset: Dataset, classes: Sequence[Tensor | None]) -> Figure:
    columns = min(MAX_COLUMNS, len(sets))
    rows = math.ceil(len(sets) / columns)
    figure = Figure(figsize=(3.6 * columns, 3.6 * rows + 0.4), layout="constrained")
    for i, (values, name) in enumerate(zip(sets, names, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1, title=name)
        draw_samples(axes, values, dataset, classes[i])
        # One legend, in the first panel, is enough.
        if i > 0 and axes.legend_:
            axes.legend_.remove()
        axes.label_outer()
    return figure


def draw_samples(axes: Axes, values: Tensor, dataset: Dataset, classes: Tensor | None = None) -> None:
    """Draws samples as a grid of images, a scatter plot or lines.

    Args:
        axes: where to draw.
        values: `(n, *shape)`.
        dataset: the data, which have this shape.
        classes: `(n,)`, the classes to show. Points are coloured by them. Images have to be sorted by class, with
            equally many of each, and get a row for each class. Lines don't show them.
    """
    if _are_images(dataset):
        _draw_images(axes, values, dataset, classes)
    elif dataset.shape == (2,):
        _draw_points(axes, values, dataset, classes)
    else:
        positions = np.arange(1, dataset.shape[0] + 1)
        axes.plot(positions, values.T, ".-", color="C0", alpha=0.3)
        axes.set(xlabel="position", ylabel="value", ylim=(-0.05, 1.05), xticks=positions)


def image_grid(images: Tensor, edge: float = 0.5, classes: Tensor | None = None) -> Tensor:
    """Arranges images in one image, as nearly square as possible.

    Args:
        images: `(n, C, H, W)` in [0, 1]; NaN and infinite pixels become black.
        edge: brightness of the lines between the images.
        classes: `(n,)`; if given, the images have to be sorted by class, with equally many of each, and the grid has
            a row for each class.

    Returns:
        `(3, height, width)`.
    """
    columns = math.ceil(math.sqrt(len(images)))
    if classes is not None:
        columns = len(classes) // len(classes.unique())
    return tile(displayable(images), columns, edge)


def tile(images: Tensor, columns: int, edge: float) -> Tensor:
    """Puts images `(n, C, H, W)` side by side, row by row.

    Args:
        columns: images in a row.
        edge: brightness of the lines between the images, and of what is left of the last row.

    Returns:
        `(3, height, width)`; grey images have three equal channels.
    """
    number, _, height, width = images.shape
    columns = min(columns, number)
    cell_height = height + GRID_PADDING
    cell_width = width + GRID_PADDING
    rows = math.ceil(number / columns)
    grid = images.new_full((3, rows * cell_height + GRID_PADDING, columns * cell_width + GRID_PADDING), edge)
    for i, image in enumerate(images):
        top = i // columns * cell_height + GRID_PADDING
        left = i % columns * cell_width + GRID_PADDING
        grid[:, top : top + height, left : left + width] = image
    return grid


def _are_images(dataset: Dataset) -> bool:
    return len(dataset.shape) == 3


def displayable(images: Tensor) -> Tensor:
    """Returns images with all pixels in [0, 1]; NaN and infinite ones are black."""
    return torch.nan_to_num(images, 0, 0, 0).clamp(0, 1)


def _show(axes: Axes, grid: Tensor) -> None:
    """Shows an image `(C, H, W)`."""
    axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")


def _draw_images(axes: Axes, images: Tensor, dataset: Dataset, classes: Tensor | None) -> None:
    _show(axes, image_grid(images, classes=classes))
    if classes is None:
        axes.axis("off")
    else:
        axes.set(xticks=[], frame_on=False)
        _name_classes(axes.set_yticks, classes.unique_consecutive(), images.shape[-2], dataset)


def draw_row(axes: Axes, images: Tensor) -> None:
    _show(axes, tile(displayable(images), len(images), edge=0.5))
    axes.set(xticks=[], yticks=[], frame_on=False)


def label_row(axes: Axes, name: str) -> None:
    """Writes a name to the left of a row of images."""
    axes.set_ylabel(name, rotation=0, horizontalalignment="right", verticalalignment="center")


def _name_classes(set_ticks: Callable[..., Any], classes: Tensor, side: int, dataset: Dataset) -> None:
    """Writes the names of classes at the rows, or columns, of a grid of images.

    Args:
        set_ticks: `set_yticks` of the axes for rows, `set_xticks` for columns.
        classes: `(rows,)`.
        side: pixels of an image in that direction.
        dataset: has the names.
    """
    distance = side + GRID_PADDING
    middles = [GRID_PADDING + i * distance + side / 2 for i in range(len(classes))]
    names = [class_label(number, dataset.classes[number]) for number in classes.tolist()]
    set_ticks(middles, names)


def _draw_points(axes: Axes, points: Tensor, dataset: Dataset, classes: Tensor | None) -> None:
    """Draws points and the true centres of their modes."""
    label = "samples"
    colours: list[Any] = ["C0"]
    if classes is not None:
        label = "samples, coloured by class"
        colours = _class_colours(classes, len(dataset.classes))
    axes.scatter(points[:, 0], points[:, 1], s=4, alpha=0.4, c=colours, linewidths=0, label=label)
    draw_window(axes, dataset)
    annotate_outside(axes, points)
    axes.legend(loc="upper right", fontsize="small")


def _class_colours(classes: Tensor, number: int) -> list[Any]:
    """Returns a colour for each sample: distinct ones for up to 10 classes, else neighbouring ones of a colour map."""
    if number <= 10:
        return [matplotlib.colormaps["tab10"](label) for label in classes.tolist()]
    return [matplotlib.colormaps["turbo"](label / number) for label in classes.tolist()]


def window_of(dataset: Dataset) -> tuple[float, float, float, float]:
    """Returns left, right, bottom and top of the range of real points in the plane, with a margin."""
    real = dataset.train[torch.arange(len(dataset.train))]
    low = real.min(0).values
    high = real.max(0).values
    margin = 0.15 * (high - low)
    left, bottom = (low - margin).tolist()
    right, top = (high + margin).tolist()
    return left, right, bottom, top


def draw_window(axes: Axes, dataset: Dataset) -> None:
    """Limits the axes to the range of the real data, so that pictures can be compared, and draws the true centres."""
    if dataset.centres is not None:
        x, y = dataset.centres.T
        axes.scatter(x, y, s=90, marker="o", facecolors="none", edgecolors="C3", label="true centres", zorder=4)
    left, right, bottom, top = window_of(dataset)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xlabel="x", ylabel="y")


def annotate_outside(axes: Axes, points: Tensor) -> Text:
    """Writes into the picture how many of the points `(n, 2)` are beyond its limits, if any; returns that text."""
    text = outside_text(points, (*axes.get_xlim(), *axes.get_ylim()))
    return axes.text(0.02, 0.02, text, transform=axes.transAxes, color="C3")


def outside_text(points: Tensor, window: tuple[float, float, float, float]) -> str:
    """Says how many of the points `(n, 2)` are outside of a window (left, right, bottom, top); "" if none are."""
    left, right, bottom, top = window
    low = torch.tensor([left, bottom])
    high = torch.tensor([right, top])
    outside = ((points < low) | (points > high)).any(1).sum().item()
    return f"{outside} of {len(points)} samples lie outside" if outside else ""


def mode_frequencies(counts: Tensor, real_fractions: Tensor, classes: Sequence[str], title: str) -> Figure:
    """Draws how often each mode is generated, next to its frequency in the data.

    Above 50 modes the frequencies are sorted and the modes have no names.

    Args:
        counts: number of samples in each mode, `(modes,)`.
        real_fractions: fraction of the data in each mode, `(modes,)`; they sum to 1.
        classes: names of the modes.
        title: above the picture.
    """
    fake_fractions = (counts / max(1, int(counts.sum()))).numpy()
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    if len(classes) <= MAX_NAMED_MODES:
        positions = np.arange(len(classes))
        axes.bar(positions - 0.2, fake_fractions, 0.4, color=FAKE_COLOUR, label="generated")
        axes.bar(positions + 0.2, real_fractions.numpy(), 0.4, color=REAL_COLOUR, label="data")
        names = [class_label(number, name) for number, name in enumerate(classes)]
        is_narrow = len(names) * max(map(len, names)) <= MAX_HORIZONTAL_CHARACTERS
        rotation = 0 if is_narrow and len(names) <= MAX_HORIZONTAL_NAMES else 90
        axes.set_xticks(positions, names, rotation=rotation)
    else:
        axes.plot(np.sort(fake_fractions)[::-1], color=FAKE_COLOUR, label="generated")
        axes.plot(np.sort(real_fractions.numpy())[::-1], color=REAL_COLOUR, label="data")
        axes.set(xlabel="modes, the most frequent first")
    axes.set(ylabel="fraction of samples")
    axes.set_title(title, loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    return figure


def nearest_neighbours(fake: Tensor, originals: Tensor) -> Figure:
    """Draws samples above the training images nearest to them: a copy looks like its original (course notes, S17).

    Args:
        fake: `(n, C, H, W)`.
        originals: the nearest training image of each, `(n, C, H, W)`.
    """
    figure = Figure(figsize=(1.0 * len(fake) + 0.5, 2.6), layout="constrained")
    fake_axes, original_axes = figure.subplots(2, 1)
    fake_axes.set_title("generated", fontsize="medium")
    draw_row(fake_axes, fake)
    original_axes.set_title("nearest training image", fontsize="medium")
    draw_row(original_axes, originals)
    return figure


def backqueries(columns: Mapping[str, Sequence[Tensor]], names: Sequence[str]) -> Figure:
    """Draws images for labels: a row for each label, a column for each source of images (course notes, S1).

    Args:
        columns: by the heading of the column, the images for each label, `(n, C, H, W)` in [0, 1]; n can be 0, for
            which the picture says "none".
        names: of the labels.
    """
    widths = []
    for images_of_labels in columns.values():
        widths.append(max(1, *(len(images) for images in images_of_labels)))
    names = [shorten(drawable(name)) for name in names]
    size = (0.95 * sum(widths) + 0.3 * len(widths) + 0.5 + LETTER_INCHES * max(map(len, names)), len(names) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(names), len(columns), squeeze=False, width_ratios=widths)
    for column, (heading, images_of_labels) in enumerate(columns.items()):
        width = widths[column]
        wrapped = textwrap.wrap(heading, 10 * width + 2)
        panels[0, column].set_title("\n".join(wrapped), fontsize="medium")
        for axes, images in zip(panels[:, column], images_of_labels, strict=True):
            _draw_backquery(axes, images, width)
    for axes, name in zip(panels[:, 0], names, strict=True):
        label_row(axes, name)
    return figure


def _draw_backquery(axes: Axes, images: Tensor, width: int) -> None:
    """Draws the images of one label and one source, in a row with place for `width` of them."""
    anchor = "W" if width > 1 else "C"
    axes.set(xticks=[], yticks=[], frame_on=False, anchor=anchor)
    if len(images):
        _show(axes, tile(images.clamp(0, 1), width, edge=1))
    else:
        axes.text(0, 0.5, "none", transform=axes.transAxes, color="0.5", verticalalignment="center")


def output_history(steps: Sequence[int], outputs: Tensor) -> Figure:
    """Draws how G's output changed during training as a heat map, dark for high values (course notes, S9).

    Args:
        steps: at which the outputs were taken, along the x-axis.
        outputs: `(len(steps), dims)` in [0, 1].
    """
    figure = Figure(figsize=(max(6, 0.6 * len(steps) + 2), 4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(outputs.T.numpy(), interpolation="none", cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set(title="G's output during training", xlabel="step", ylabel="position in the pattern")
    # About ten labels on the x-axis, whatever the number of steps.
    labelled = list(range(0, len(steps), max(1, len(steps) // 10)))
    axes.set_xticks(labelled, [f"{steps[i]:,}" for i in labelled])
    dims = outputs.shape[1]
    axes.set_yticks(range(dims), [str(i + 1) for i in range(dims)])
    figure.colorbar(image, label="value")
    return figure
