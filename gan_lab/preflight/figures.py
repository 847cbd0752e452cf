"""The figures of the four checks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gan_lab.data.dataset import Dataset
from gan_lab.gan.losses import Loss
from gan_lab.plotting.samples import draw_samples, image_grid
from gan_lab.plotting.style import (
    D_COLOUR,
    FAKE_COLOUR,
    IDEAL_COLOUR,
    REAL_COLOUR,
    Figure,
    class_label,
    drawable,
    plain_powers,
)
from gan_lab.preflight.objective import NETWORKS, Update

# Inches of a figure with three panels, and with two.
SIZE = (15, 4.8)
SIZE_OF_TWO = (10.5, 4.8)
# Of more classes a chart shows the sizes without names.
MAX_NAMED_CLASSES = 50
# Vectors in a heatmap, and images in a grid.
HEATMAP_ROWS = 10
GRID_IMAGES = 25
BINS = 40
WHITE_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}


def data(real: Tensor, dataset: Dataset) -> Figure:
    """Draws check 1: samples, the distribution of their values, and the size of each class.

    Args:
        real: training samples `(n, *shape)`.
        dataset: the data.
    """
    panels = 2
    size = SIZE_OF_TWO
    if dataset.classes:
        panels = 3
        size = SIZE
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, panels)
    draw_samples(axes[0], real, dataset)
    axes[0].set_title(f"{len(real):,} random training samples")
    _draw_histogram(axes[1], {"the data": real}, [REAL_COLOUR])
    axes[1].set(title="Distribution of their values", xlabel="value", ylabel="fraction of the values")
    if dataset.classes:
        _draw_class_sizes(axes[2], dataset)
    return figure


def _draw_class_sizes(axes: Axes, dataset: Dataset) -> None:
    """Draws the number of training samples of each class: named bars, or a sorted curve of many classes."""
    counts = dataset.train.label_counts(len(dataset.classes)).numpy()
    if len(counts) > MAX_NAMED_CLASSES:
        axes.plot(np.sort(counts)[::-1], color=REAL_COLOUR)
        axes.set(xlabel=f"{len(counts):,} classes, the largest first", ylabel="samples", ylim=(0, None))
        axes.grid(axis="y", alpha=0.4)
    else:
        axes.barh(range(len(counts)), counts, color=REAL_COLOUR)
        names = [class_label(number, name) for number, name in enumerate(dataset.classes)]
        axes.set_yticks(range(len(counts)), names, fontsize=min(10, 200 / len(counts)))
        label = "class"
        if dataset.centres is not None:
            label = "centre of the mode"
        # The first class is at the top.
        axes.set(xlabel="samples", ylabel=label, ylim=(len(counts) - 0.5, -0.5))
        axes.grid(axis="x", alpha=0.4)
    axes.set_title("Training samples per class")


def discriminator_against_noise(
    rows: Sequence[Mapping[str, float]], outputs: Sequence[tuple[Tensor, Tensor]], loss: Loss, noise: str
) -> Figure:
    """Draws check 2: D's losses over the steps, and its outputs before and after the training.

    Args:
        rows: the log's row of each step.
        outputs: D's outputs on real samples `(n,)` and on noise `(n,)`: before, and after.
        loss: gives the scale of the outputs and the optimum.
        noise: a description of the noise.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    curves, before, after = figure.subplots(1, 3)
    table = pd.DataFrame(list(rows), columns=["loss/d_real", "loss/d_fake"]).astype(float)
    steps = table.index + 1
    dots = {"alpha": 0.35, "markersize": 4}
    curves.plot(steps, table["loss/d_real"], ".", color=REAL_COLOUR, label="on real samples", **dots)
    curves.plot(steps, table["loss/d_fake"], ".", color=FAKE_COLOUR, label="on noise", **dots)
    curves.set(title=f"D's loss (noise: {noise})", xlabel="step", ylabel="loss")
    if loss.loss_at_optimum is not None:
        curves.axhline(loss.loss_at_optimum, color=IDEAL_COLOUR, linestyle="--", linewidth=1)
        curves.annotate(
            f"D cannot tell them apart: {loss.loss_at_optimum:.3g}",
            (1, loss.loss_at_optimum),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="center",
            fontsize="small",
            bbox=WHITE_BOX,
        )
        curves.set_ylim(0, None)
    curves.grid(alpha=0.4)
    curves.legend(loc="upper right", markerscale=2)
    # Probabilities have the same axis before and after, so that the two can be compared.
    limits = None
    if loss.d_output_is_probability:
        limits = (0.0, 1.0)
    for axes, (real, fake), when in zip((before, after), outputs, ("before", "after"), strict=True):
        values = {
            f"on held-out real samples, mean {real.mean():.2f}": real,
            f"on noise, mean {fake.mean():.2f}": fake,
        }
        _draw_histogram(axes, values, [REAL_COLOUR, FAKE_COLOUR], limits)
        axes.set(title=f"D's output {when} training", xlabel=_output_label(loss), ylabel="fraction of the samples")
        axes.legend(loc="upper center", fontsize="small")
    return figure


def _output_label(loss: Loss) -> str:
    """Returns the label of an axis of D's outputs."""
    if loss.d_output_is_probability:
        return "D's output (1: real, 0: fake)"
    return "D's output"


def untrained_generator(fake: Tensor, z: Tensor, real: Tensor, dataset: Dataset, stds: tuple[float, float]) -> Figure:
    """Draws check 3: samples of the untrained G, real samples, and the distribution of the values of both.

    Args:
        fake: G's samples `(n, *shape)`.
        z: their latent vectors `(n, latent_dim)`.
        real: training samples `(m, *shape)`.
        dataset: the data.
        stds: the standard deviations over G's samples and over the data, averaged over the positions.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    fake_axes, real_axes, histogram = figure.subplots(1, 3)
    constant = bool((z == z[0]).all())
    if len(dataset.shape) == 3:
        _draw_images(fake_axes, fake)
        _draw_images(real_axes, real)
    elif dataset.shape == (2,):
        draw_samples(fake_axes, fake, dataset)
        draw_samples(real_axes, real, dataset)
    else:
        limits = (real.min().item(), real.max().item())
        if dataset.bounded:
            limits = (0.0, 1.0)
        # Equal latent vectors give equal rows: one is enough.
        rows = 1 if constant else HEATMAP_ROWS
        _draw_heatmap(fake_axes, fake[:rows], limits)
        _draw_heatmap(real_axes, real[:HEATMAP_ROWS], limits)
        figure.colorbar(real_axes.images[0], ax=real_axes, label="value", shrink=0.8)
    if constant:
        fake_axes.set_title(f"G's output for z = {z[0, 0]:.4g}, always the same")
    else:
        fake_axes.set_title(f"G's output for different z, standard deviation {stds[0]:.2g}")
    real_axes.set_title(f"Real samples, standard deviation {stds[1]:.2g}")
    _draw_histogram(histogram, {"the untrained G": fake, "the data": real}, [FAKE_COLOUR, REAL_COLOUR])
    histogram.set(title="Distribution of the values", xlabel="value", ylabel="fraction of the values")
    histogram.legend()
    return figure


def _draw_images(axes: Axes, images: Tensor) -> None:
    """Draws the first images `(n, C, H, W)` as a grid."""
    grid = image_grid(images[:GRID_IMAGES], edge=1)
    axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.axis("off")


def objective(updates: Sequence[Update], phases: Sequence[tuple[str, str]], loss: Loss) -> Figure:
    """Draws check 4: the gradients that each phase sends to D and to G, and D's loss over its output.

    Args:
        updates: what each optimizer step of one training step saw and changed; fewer than the phases if it stopped.
        phases: the phases' names, and the network that each trains, "D" or "G".
        loss: the loss to draw.
    """
    names = []
    if updates:
        names = list(updates[0].gradients)
    # All weight tensors have a line, whatever their number.
    height = max(SIZE[1], 0.2 * len(names) + 1.5)
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    *panels, curve = figure.subplots(1, len(phases) + 1, width_ratios=[1] * len(phases) + [1.4])
    limits = _gradient_limits(updates)
    for index, (axes, (phase, network)) in enumerate(zip(panels, phases, strict=True)):
        if index < len(updates):
            _draw_gradients(axes, names, updates[index], limits, labelled=index == 0)
        frozen = "G" if network == "D" else "D"
        axes.set_title(f"{phase}: {network} is trained, {frozen} is not", fontsize="medium")
    draw_loss(curve, loss)
    return figure


def _gradient_limits(updates: Sequence[Update]) -> tuple[float, float]:
    """Returns the limits of the gradients' axis, the same for all phases, with room for words on both sides."""
    # The axis is logarithmic, so 0 has no place on it.
    sizes: list[float] = []
    for update in updates:
        sizes += [size for size in update.gradients.values() if size and np.isfinite(size)]
    return min(sizes, default=1) / 3, max(sizes, default=1) * 30


def _draw_gradients(
    axes: Axes, names: Sequence[str], update: Update, limits: tuple[float, float], labelled: bool
) -> None:
    """Draws a dot for each weight tensor at its largest gradient, and says whether the tensor moved.

    No bars: a logarithmic axis has no 0 at which they could begin.
    """
    # At the right edge of the panel, on a tensor's line.
    right_edge: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "ha": "right", "fontsize": 7}
    left: dict[str, Any] = {"va": "center", "fontsize": 7, "color": "0.5"}
    for row, name in enumerate(names):
        size = update.gradients[name]
        colour = D_COLOUR if name.startswith(NETWORKS["D"]) else FAKE_COLOUR
        if size:
            axes.plot(size, row, "o", color=colour)
        elif size is None:
            axes.text(limits[0] * 1.2, row, "no gradient", **left)
        else:
            axes.text(limits[0] * 1.2, row, "0", **left)
        if name in update.moved:
            axes.text(0.98, row, "moved", color="black", **right_edge)
        elif size:
            axes.text(0.98, row, "did not move", color="C3", **right_edge)
    # Only the first panel names the tensors: all have the same lines.
    labels = []
    if labelled:
        labels = [_short_name(name) for name in names]
    axes.set(xscale="log", xlim=limits, ylim=(len(names) - 0.5, -0.5), xlabel="largest absolute gradient")
    plain_powers(axes.xaxis)
    axes.set_yticks(range(len(names)), labels, fontsize=7)
    axes.grid(alpha=0.4)


def _short_name(name: str) -> str:
    """Returns e.g. `D: 0.weight` for `discriminator.layers.0.weight`."""
    network = "D" if name.startswith(NETWORKS["D"]) else "G"
    _, _, tensor_name = name.partition(".")
    return drawable(f"{network}: {tensor_name.replace('layers.', '')}")


def draw_loss(axes: Axes, loss: Loss) -> None:
    """Draws D's loss: over its output, with the optimum; of a paired loss over the difference of two scores."""
    # 201 batches of one sample.
    scores = torch.linspace(-4, 4, 201)[:, None]
    axes.set(title=f"D's loss ({type(loss).__name__})", ylabel="loss")
    axes.grid(alpha=0.4)
    if loss.paired:
        both_terms = torch.stack(loss.d(scores, torch.zeros_like(scores))).sum(0)
        axes.plot(scores[:, 0], both_terms[:, 0], color=D_COLOUR, label="for a pair, both terms")
        axes.set_xlabel("score of the real sample − score of the fake")
        axes.legend(loc="upper center")
        return
    outputs = loss.d_output(scores)
    axes.plot(outputs, loss.d_real(scores), color=REAL_COLOUR, label="for a real sample")
    axes.plot(outputs, loss.d_fake(scores), color=FAKE_COLOUR, label="for a fake")
    if loss.loss_at_optimum is not None and loss.d_output_at_optimum is not None:
        optimum = (loss.d_output_at_optimum, loss.loss_at_optimum)
        axes.plot(*optimum, "o", color="black", zorder=3)
        axes.annotate(
            f"optimum: output {optimum[0]:g},\nloss {optimum[1]:.3g}",
            optimum,
            xytext=(0, 40),
            textcoords="offset points",
            ha="center",
            arrowprops={"arrowstyle": "->"},
        )
    axes.set_xlabel(_output_label(loss))
    axes.legend(loc="upper center")


def _draw_heatmap(axes: Axes, vectors: Tensor, limits: tuple[float, float]) -> None:
    """Draws vectors `(n, dims)` as rows of cells, the higher the darker; short ones with their numbers."""
    low, high = limits
    axes.imshow(vectors.numpy(), cmap="Blues", vmin=low, vmax=high, aspect="auto", interpolation="none")
    axes.set(xlabel="position", ylabel="sample", yticks=range(len(vectors)), xticks=range(vectors.shape[1]))
    axes.set_xticklabels([str(i + 1) for i in range(vectors.shape[1])])
    axes.set_yticklabels([str(i + 1) for i in range(len(vectors))])
    # The numbers of longer vectors would not fit into their cells.
    if vectors.shape[1] <= 8:
        for (y, x), value in np.ndenumerate(vectors.numpy()):
            is_dark = value > low + 0.6 * (high - low)
            colour = "white" if is_dark else "black"
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", color=colour)


def _draw_histogram(
    axes: Axes, values: Mapping[str, Tensor], colours: Sequence[str], limits: tuple[float, float] | None = None
) -> None:
    """Draws the distributions of several tensors' finite values, as fractions, in the same bins.

    Args:
        axes: where to draw.
        values: tensors of any shape, by their labels.
        colours: one for each tensor.
        limits: of the bins; None for the smallest and the largest value.
    """
    finite = {}
    for label, tensor in values.items():
        finite[label] = tensor[tensor.isfinite()].flatten().double().numpy()
    all_values = np.concatenate(list(finite.values()))
    if limits is None and all_values.size:
        limits = (all_values.min(), all_values.max())
    low, high = limits or (0.0, 1.0)
    # Equal values need a bin of some width.
    if high <= low:
        high = low + 1
    edges = np.linspace(low, high, BINS + 1)
    for (label, numbers), colour in zip(finite.items(), colours, strict=True):
        weights = np.full(len(numbers), 1 / max(1, len(numbers)))
        axes.hist(numbers, edges.tolist(), weights=weights, color=colour, alpha=0.6, label=label)
    # Room for a legend.
    axes.set_ylim(0, axes.get_ylim()[1] * 1.2)
    axes.grid(alpha=0.4)
