"""Pictures of what the discriminator D answers, and where it sends the generator's samples. Nothing here knows files or
training.

Points in the plane are drawn over D's answer as a coloured surface, as GAN Lab does in the browser (Kahng et al. 2019,
arXiv:1809.01587); images beside a map of the gradient that D sends to their pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, TwoSlopeNorm
from matplotlib.lines import Line2D
from torch import Tensor

from gan_lab.plotting.samples import MAX_COLUMNS, annotate_outside, displayable, draw_row, label_row, outside_text
from gan_lab.plotting.style import Figure

# From "fake" over D's neutral answer to "real".
ANSWER_COLOURS = LinearSegmentedColormap.from_list("answers", ["#f5a455", "#fbd3ab", "#ffffff", "#b5d3ee", "#6ba6da"])
# From "darker" over "as it is" to "brighter".
PULL_COLOURS = matplotlib.colormaps["PiYG"]
REAL_POINT_COLOUR = "#0b3c74"
FAKE_POINT_COLOUR = "#a63a00"
LATENT_LINE_COLOUR = "0.35"
POINT_SIZE = 9

# Inches of the picture of single samples.
ROW_WIDTH = 9.0
MIN_ROW_HEIGHT = 0.25
ANSWER_HEIGHT = 0.45  # below a row
NAME_WIDTH = 1.2
BAR_WIDTH = 1.2
TITLE_HEIGHT = 0.4
STRONG_QUANTILE = 0.95  # of the sizes of gradients: this and stronger ones have the full colour
CELL = 6  # pixels of a number of a vector

# Scores without a scale of their own: colours span so much on both sides of the neutral score.
SCORE_SPAN = 3.0
# An arrow is at most this part of the window long; it is half as long where a step across the window, if the slope
# stayed the same, would change G's loss by HALF_LENGTH_SLOPE. So lengths mean the same in all pictures of a training.
LONGEST_ARROW = 0.12
HALF_LENGTH_SLOPE = 4.0

Window = tuple[float, float, float, float]  # left, right, bottom, top


@dataclass(frozen=True)
class AnswerScale:
    """What D's answers mean.

    Attributes:
        is_probability: whether an answer is the probability that a sample is real.
        neutral: the answer that says neither real nor fake, drawn in white.
        is_absolute: whether `neutral` is the same throughout a training; if not, the level of the answers is
            arbitrary, and `neutral` is in the middle between real and generated samples.
    """

    is_probability: bool
    neutral: float
    is_absolute: bool


@dataclass(frozen=True)
class Landscape:
    """D's answers in a window of the plane, and G's samples in it.

    Attributes:
        window: left, right, bottom and top.
        answers: D's answers at the points of a regular grid over the window, `(rows, columns)`; row 0 is the lowest.
        scale: what they mean.
        real: real samples, `(n, 2)`.
        fakes: G's samples, `(m, 2)`.
        starts: where arrows begin, `(a, 2)`; a may be 0.
        pulls: −∂(G's loss)/∂x at these points, `(a, 2)`.
        latent_lines: G's samples along lines of a regular grid of latent vectors, `(lines, points, 2)`; may be empty.
    """

    window: Window
    answers: Tensor
    scale: AnswerScale
    real: Tensor
    fakes: Tensor
    starts: Tensor
    pulls: Tensor
    latent_lines: Tensor


@dataclass(frozen=True)
class SampleAnswers:
    """D's answers for single samples that are images or vectors.

    Attributes:
        fakes: G's samples, `(n, *shape)`.
        fake_answers: D's answers for them, `(n,)`.
        pulls: −∂(G's loss)/∂x for each of them, `(n, *shape)`; n may be 0 here.
        real: real samples, `(n, *shape)`.
        real_answers: D's answers for them, `(n,)`.
        scale: what answers mean.
    """

    fakes: Tensor
    fake_answers: Tensor
    pulls: Tensor
    real: Tensor
    real_answers: Tensor
    scale: AnswerScale


class SurfaceFigure:
    """A figure of a landscape, which can be replaced by a later one of the same training.

    Limits and colours stay the same, so that pictures can be compared; the layout is computed once.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(7.2, 6.6), layout="constrained")
        self._axes = self.figure.subplots()
        self._surface: SurfaceArtists | None = None

    def show(self, landscape: Landscape, title: str) -> Figure:
        """Draws a landscape in place of the earlier one, and returns the figure, to be saved before the next call."""
        if self._surface is None:
            self._surface = SurfaceArtists(self._axes, landscape)
            self._surface.add_legend(self.figure)
        else:
            self.figure.set_layout_engine("none")
            self._surface.update(landscape)
        self._axes.set_title(title)
        return self.figure


class SurfacePanels:
    """A figure of the landscapes of several GANs that are trained together, each in a panel.

    Args:
        number: of GANs.
    """

    def __init__(self, number: int):
        columns = min(MAX_COLUMNS, number)
        rows = math.ceil(number / columns)
        self.figure = Figure(figsize=(3.2 * columns + 0.8, 3.2 * rows + 0.9), layout="constrained")
        self._axes = [self.figure.add_subplot(rows, columns, i + 1) for i in range(number)]
        self._surfaces: list[SurfaceArtists] = []

    def show(self, landscapes: Sequence[Landscape], names: Sequence[str], title: str) -> Figure:
        """Draws landscapes in place of earlier ones, and returns the figure, to be saved before the next call."""
        if not self._surfaces:
            for axes, landscape in zip(self._axes, landscapes, strict=True):
                self._surfaces.append(SurfaceArtists(axes, landscape))
                axes.set(xlabel="", ylabel="")
            self._surfaces[0].add_legend(self.figure)
        else:
            self.figure.set_layout_engine("none")
            for surface, landscape in zip(self._surfaces, landscapes, strict=True):
                surface.update(landscape)
        for axes, name in zip(self._axes, names, strict=True):
            axes.set_title(name, fontsize="medium")
        self.figure.suptitle(title)
        return self.figure


class SurfaceArtists:
    """What is drawn of a landscape into axes.

    Args:
        axes: empty ones.
        landscape: the first one; later ones have the same window and as many arrows.
    """

    def __init__(self, axes: Axes, landscape: Landscape):
        self._axes = axes
        self._scale = landscape.scale
        left, right, bottom, top = landscape.window
        self._image = axes.imshow(
            np.zeros((1, 1)),
            cmap=ANSWER_COLOURS,
            norm=colour_limits(landscape.scale),
            origin="lower",
            extent=landscape.window,
            interpolation="bilinear",
        )
        self._latent_lines = LineCollection([], colors=LATENT_LINE_COLOUR, linewidths=0.6, alpha=0.5)
        axes.add_collection(self._latent_lines, autolim=False)
        self._real = axes.scatter([], [], s=POINT_SIZE, color=REAL_POINT_COLOUR, linewidths=0)
        self._fakes = axes.scatter([], [], s=POINT_SIZE, color=FAKE_POINT_COLOUR, alpha=0.5, linewidths=0)
        number = len(landscape.starts)
        self._arrows = axes.quiver(
            *np.zeros((4, number)),
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.0035,
            headwidth=4,
            color="black",
        )
        self._outside = annotate_outside(axes, landscape.fakes)
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xlabel="x", ylabel="y")
        self.update(landscape)

    def update(self, landscape: Landscape) -> None:
        """Draws a landscape in place of the earlier one."""
        left, right, bottom, top = landscape.window
        scale = landscape.scale
        answers = landscape.answers.numpy()
        self._image.set_data(answers if scale.is_absolute else answers - scale.neutral)
        self._latent_lines.set_segments(list(landscape.latent_lines.numpy()))
        self._real.set_offsets(landscape.real.numpy())
        self._fakes.set_offsets(landscape.fakes.numpy())
        self._arrows.set_offsets(landscape.starts.numpy())
        arrows = arrow_lengths(landscape.pulls, max(right - left, top - bottom))
        self._arrows.set_UVC(*arrows.T.numpy())
        self._outside.set_text(outside_text(landscape.fakes, landscape.window))

    def add_legend(self, figure: Figure) -> None:
        """Adds a colour bar and a legend to the figure that these axes, or others like them, are in."""
        scale = self._scale
        bar = figure.colorbar(
            self._image, ax=figure.axes, extend="neither" if scale.is_probability else "both", pad=0.02
        )
        if scale.is_probability:
            bar.set_label("D's answer: probability that a sample here is real")
            bar.set_ticks([0, scale.neutral, 1], labels=["0\nfake", f"{scale.neutral:g}", "1\nreal"])
        elif scale.is_absolute:
            bar.set_label(f"D's score of a sample here; {scale.neutral:g}: neither real nor fake")
        else:
            bar.set_label("D's score of a sample here; 0: halfway between real and generated ones")
        dot: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 5}
        entries = [
            Line2D([], [], color=REAL_POINT_COLOUR, label="real", **dot),
            Line2D([], [], color=FAKE_POINT_COLOUR, label="generated", **dot),
        ]
        if self._arrows.N:
            entries.append(Line2D([], [], color="black", marker=">", markevery=(1, 1), label="where D pulls them"))
        if self._latent_lines.get_segments():
            entries.append(Line2D([], [], color=LATENT_LINE_COLOUR, linewidth=1, label="G's map of its latent grid"))
        figure.legend(handles=entries, loc="outside lower center", ncols=4, frameon=False, columnspacing=1.4)


def draw_answers(answers: SampleAnswers, title: str) -> Figure:
    """Draws D's answer under each sample, and between generated and real ones how D would change the generated ones.

    Colours of a change are on one scale for all samples, that of the root of its size; the strongest 5 % of all numbers
    have the full colour.
    """
    number = len(answers.fakes)
    fakes = as_pictures(answers.fakes)
    rows: list[tuple[str, Tensor, Tensor | None]] = [
        ("generated", fakes, answers.fake_answers),
        ("real", as_pictures(answers.real), answers.real_answers),
    ]
    has_pulls = len(answers.pulls) > 0
    if has_pulls:
        rows.insert(1, ("what D\nwould change", _pull_pictures(answers.pulls), None))
    picture_height = ROW_WIDTH / number * fakes.shape[-2] / fakes.shape[-1]
    row_height = max(MIN_ROW_HEIGHT, picture_height)
    width = NAME_WIDTH + ROW_WIDTH + BAR_WIDTH
    height = TITLE_HEIGHT + len(rows) * (row_height + ANSWER_HEIGHT)
    # Placed by hand: to find a layout would take most of the time.
    figure = Figure(figsize=(width, height))
    bottoms = []
    for i, (name, pictures, values) in enumerate(rows):
        bottom = height - TITLE_HEIGHT - i * (row_height + ANSWER_HEIGHT) - row_height
        bottoms.append(bottom)
        axes = figure.add_axes((NAME_WIDTH / width, bottom / height, ROW_WIDTH / width, row_height / height))
        draw_row(axes, pictures)
        label_row(axes, name)
        if values is not None:
            _write_answers(axes, values, answers.scale, pictures.shape[-1])
    if has_pulls:
        bar_height = min(row_height + ANSWER_HEIGHT, height / 2)
        bar_left = NAME_WIDTH + ROW_WIDTH + 0.25
        bar_bottom = bottoms[1] + row_height / 2 - bar_height / 2
        bar_axes = figure.add_axes((bar_left / width, bar_bottom / height, 0.15 / width, bar_height / height))
        bar = figure.colorbar(ScalarMappable(Normalize(-1, 1), PULL_COLOURS), cax=bar_axes)
        bar.set_ticks([-1, 0, 1], labels=["darker", "as it is", "brighter"])
    meaning = "D's score of it, the higher the more real"
    if answers.scale.is_probability:
        meaning = "the probability, as D sees it, that it is real"
    figure.suptitle(f"{title}. Under each sample: {meaning}", fontsize="medium", y=1 - 0.15 / height)
    return figure


def _write_answers(axes: Axes, values: Tensor, scale: AnswerScale, side: int) -> None:
    """Writes D's answers under a row of pictures that are `side` pixels wide, in the colours of a surface."""
    shown = values if scale.is_absolute else values - scale.neutral
    norm = colour_limits(scale)
    for i, value in enumerate(values.tolist()):
        axes.annotate(
            f"{value:.2f}",
            ((i + 0.5) * (side + 1) / (len(values) * (side + 1) + 1), 0),
            xycoords="axes fraction",
            xytext=(0, -6),
            textcoords="offset points",
            fontsize=9,
            horizontalalignment="center",
            verticalalignment="top",
            bbox={"facecolor": ANSWER_COLOURS(norm(shown[i].item())), "edgecolor": "none", "pad": 2},
        )


def as_pictures(samples: Tensor) -> Tensor:
    """Returns images `(n, C, H, W)` as they are, and vectors `(n, d)` as rows of d cells, dark for high values."""
    if samples.ndim == 4:
        return displayable(samples)
    cells = 1 - displayable(samples)
    return cells[:, None, None, :].repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)


def _pull_pictures(pulls: Tensor) -> Tensor:
    """Returns gradients `(n, *shape)` as pictures `(n, 3, H, W)`: colour channels are added up."""
    pulls = torch.nan_to_num(pulls, 0, 0, 0)
    if pulls.ndim == 4:
        brightness = pulls.sum(1)
    else:
        # Cells are dark for high values.
        brightness = -pulls[:, None, :].repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    # Pixels that are the same in all data have gradients far above the others': the root lets these be seen, too.
    strong = max(float(np.quantile(brightness.abs().numpy(), STRONG_QUANTILE)), 1e-30)
    sizes = (brightness.abs() / strong).sqrt()
    colours = PULL_COLOURS(Normalize(-1, 1)((brightness.sign() * sizes).numpy()))
    return torch.from_numpy(colours[..., :3]).float().permute(0, 3, 1, 2)


def colour_limits(scale: AnswerScale) -> Normalize:
    """Returns the ends of the colour bar; white is the neutral answer."""
    if scale.is_absolute and 0 < scale.neutral < 1:
        return TwoSlopeNorm(scale.neutral, 0, 1)
    if scale.is_absolute:
        return Normalize(scale.neutral - 1, scale.neutral + 1)
    return Normalize(-SCORE_SPAN, SCORE_SPAN)


def arrow_lengths(pulls: Tensor, width: float) -> Tensor:
    """Scales gradients to arrows whose lengths are bounded, and grow with the gradients' lengths.

    Args:
        pulls: −∂(G's loss)/∂x, `(n, 2)`.
        width: of the window, in units of x.

    Returns:
        Arrows `(n, 2)` in units of x: with u = ‖pull‖ · width, the change of the loss over the width of the window,
        they are LONGEST_ARROW · width · u / (u + HALF_LENGTH_SLOPE) long; where a pull is not finite, 0.
    """
    pulls = torch.nan_to_num(pulls, 0, 0, 0)
    lengths = pulls.norm(dim=1, keepdim=True)
    return pulls * (LONGEST_ARROW * width * width / (lengths * width + HALF_LENGTH_SLOPE))
