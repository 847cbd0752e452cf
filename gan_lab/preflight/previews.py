"""The pictures of the pre-flight checks, as matplotlib figures."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gan_lab.data.dataset import Dataset
from gan_lab.gan.losses import Loss
from gan_lab.plotting import plots
from gan_lab.plotting.plots import D_COLOUR, FAKE_COLOUR, IDEAL_COLOUR, REAL_COLOUR
from gan_lab.plotting.style import Figure, plain_powers
from gan_lab.preflight.objective import PLAYERS, Update

NAMED = 50  # classes at most that have names in a chart
WHITE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
ROWS = 10  # vectors in a heat map
GRID = 25  # images beside others


def data(real: Tensor, dataset: Dataset) -> Figure:
    """Check 1: samples, the distribution of their values, samples per class.

    Args:
        real: `(n, *shape)` of the training samples.
    """
    figure = Figure(figsize=(15 if dataset.classes else 10.5, 4.8), layout="constrained")
    axes = figure.subplots(1, 3 if dataset.classes else 2)
    plots.draw(axes[0], real, dataset)
    axes[0].set_title(f"{len(real):,} training samples, taken at random")
    _histogram(axes[1], {"the data": real}, [REAL_COLOUR])
    axes[1].set(title="Which values they hold", xlabel="value", ylabel="share of the values")
    if dataset.classes:
        counts = dataset.train.label_counts(len(dataset.classes)).numpy()
        many = len(counts) > NAMED
        names = dataset.classes
        if many:
            axes[2].plot(np.sort(counts)[::-1], color=REAL_COLOUR)
            axes[2].set(xlabel=f"{len(counts):,} classes, the largest first", ylabel="samples", ylim=(0, None))
        else:
            axes[2].barh(range(len(counts)), counts, color=REAL_COLOUR)
            axes[2].set_yticks(range(len(counts)), names, fontsize=min(10, 200 / len(counts)))
            label = "centre of the class" if dataset.centres is not None else "class"
            axes[2].set(xlabel="samples", ylabel=label, ylim=(len(counts) - 0.5, -0.5))
        axes[2].set_title("Training samples in each class")
        axes[2].grid(axis="y" if many else "x", alpha=0.4)
    return figure


def against_noise(
    rows: Sequence[Mapping[str, float]], answers: Sequence[tuple[Tensor, Tensor]], loss: Loss, noise: str
) -> Figure:
    """Check 2: D's losses over the steps, and its answers before and after.

    Args:
        rows: D's losses, a row a step, as the log has them.
        answers: on real and on noise samples, `(n,)` each; before, and after.
        noise: what the noise is, in words.
    """
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    curve, *both = figure.subplots(1, 3)
    table = pd.DataFrame(list(rows), columns=["loss/d_real", "loss/d_fake"]).astype(float)
    for column, name, colour in (
        ("loss/d_real", "on real samples", REAL_COLOUR),
        ("loss/d_fake", "on noise", FAKE_COLOUR),
    ):
        curve.plot(table.index + 1, table[column], ".", color=colour, alpha=0.35, markersize=4, label=name)
    if loss.loss_at_optimum is not None:
        curve.axhline(loss.loss_at_optimum, color=IDEAL_COLOUR, linestyle="--", linewidth=1)
        place = {"xy": (1, loss.loss_at_optimum), "xycoords": ("axes fraction", "data")}
        curve.annotate(
            f"can't tell them apart: {loss.loss_at_optimum:.3g}",
            **place,
            ha="right",
            va="center",
            fontsize="small",
            bbox=WHITE,
        )
    curve.set(title=f"D's loss (noise: {noise})", xlabel="step", ylabel="loss (0: D is always right)")
    if loss.loss_at_optimum is not None:
        curve.set_ylim(0, None)
    curve.grid(alpha=0.4)
    curve.legend(loc="upper right", markerscale=2)
    for axes, (real, fake), when in zip(both, answers, ("before training", "after training"), strict=True):
        values = {
            f"on held-out real samples, mean {real.mean():.2f}": real,
            f"on noise, mean {fake.mean():.2f}": fake,
        }
        _histogram(axes, values, [REAL_COLOUR, FAKE_COLOUR], (0, 1) if loss.d_output_is_probability else None)
        scale = " (1: real, 0: not)" if loss.d_output_is_probability else ""
        axes.set(title=f"D's answers {when}", xlabel=f"answer{scale}", ylabel="share of the samples")
        axes.legend(loc="upper center", fontsize="small")
    return figure


def generator(fake: Tensor, z: Tensor, real: Tensor, dataset: Dataset, spreads: tuple[float, float]) -> Figure:
    """Check 3: what the untrained G makes, beside real samples; the values of both.

    Args:
        fake: `(n, *shape)` for the latent vectors `z` `(n, latent_dim)`.
        real: `(m, *shape)`.
        spreads: standard deviation over G's samples and over the data, averaged over the positions.
    """
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    made, shown, values = figure.subplots(1, 3)
    constant = bool((z == z[0]).all())
    vectors = len(dataset.shape) == 1 and dataset.shape != (2,)
    if vectors:
        rows = fake[:1] if constant else fake[:ROWS]
        low, high = (0.0, 1.0) if dataset.bounded else (real.min().item(), real.max().item())
        _heat(made, rows, low, high)
        _heat(shown, real[:ROWS], low, high)
        figure.colorbar(shown.images[0], ax=shown, label="value", shrink=0.8)
    for axes, samples in ((made, fake), (shown, real)):
        if len(dataset.shape) == 3:
            axes.imshow(plots.tile(samples[:GRID], edge=1).permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.axis("off")
        elif not vectors:
            plots.draw(axes, samples, dataset)
    number = f"to {z[0, 0]:.4g}, always the same" if constant else f"to different z, varying by {spreads[0]:.2g}"
    made.set_title(f"G's answer {number}")
    shown.set_title(f"Real samples, varying by {spreads[1]:.2g}")
    _histogram(values, {"the untrained G": fake, "the data": real}, [FAKE_COLOUR, REAL_COLOUR])
    values.set(title="Which values they hold", xlabel="value", ylabel="share of the values")
    values.legend()
    return figure


def objective(updates: Sequence[Update], phases: Sequence[tuple[str, str]], loss: Loss) -> Figure:
    """Check 4: how large the gradients are that each phase sends to D and to G; D's loss over its answer.

    Args:
        updates: what each optimiser step of one training step saw.
        phases: their names, and whose turn it is.
    """
    names = list(updates[0].gradients) if updates else []
    figure = Figure(figsize=(15, max(4.8, 0.2 * len(names) + 1.5)), layout="constrained")
    *panels, curve = figure.subplots(1, len(phases) + 1, width_ratios=[1] * len(phases) + [1.4])
    sizes = [size for update in updates for size in update.gradients.values() if size and np.isfinite(size)]
    for index, (axes, (phase, player)) in enumerate(zip(panels, phases, strict=True)):
        if index < len(updates):
            _gradients(axes, names, updates[index], (min(sizes, default=1) / 3, max(sizes, default=1) * 30), index == 0)
        other = "G" if player == "D" else "D"
        axes.set_title(f"{phase}: {player}'s turn, {other} rests", fontsize="medium")
    _loss_over_answers(curve, loss)
    return figure


def _gradients(axes: Axes, names: Sequence[str], update: Update, limits: tuple[float, float], labelled: bool) -> None:
    for row, name in enumerate(names):
        size, of_d = update.gradients[name], name.startswith(PLAYERS["D"])
        if size:
            axes.barh(row, size, left=0, color=D_COLOUR if of_d else FAKE_COLOUR)
        else:
            text = "no gradient" if size is None else "0"
            axes.text(limits[0] * 1.2, row, text, va="center", fontsize=7, color="0.5")
        if size or name in update.moved:
            words, colour = ("moved", "black") if name in update.moved else ("doesn't move", "C3")
            place = axes.get_yaxis_transform()
            axes.text(0.98, row, words, transform=place, va="center", ha="right", fontsize=7, color=colour)
    axes.set(xscale="log", xlim=limits, ylim=(len(names) - 0.5, -0.5), xlabel="its largest gradient")
    plain_powers(axes.xaxis)
    short = [
        f"{'D' if n.startswith(PLAYERS['D']) else 'G'}: {n.partition('.')[2].replace('layers.', '')}" for n in names
    ]
    axes.set_yticks(range(len(names)), short if labelled else [], fontsize=7)
    axes.grid(axis="x", alpha=0.4)


def _loss_over_answers(axes: Axes, loss: Loss) -> None:
    scores = torch.linspace(-4, 4, 201)[:, None]  # as many batches of one sample
    if loss.paired:
        pair = torch.stack(loss.d(scores, torch.zeros_like(scores))).sum(0)
        axes.plot(scores[:, 0], pair[:, 0], color=D_COLOUR, label="on a pair, both terms")
        axes.set(title=f"D's loss ({type(loss).__name__})", xlabel="real sample's score − fake's", ylabel="loss")
        axes.grid(alpha=0.4)
        axes.legend(loc="upper center")
        return
    answers = loss.d_output(scores)
    axes.plot(answers, loss.d_real(scores), color=REAL_COLOUR, label="on a real sample")
    axes.plot(answers, loss.d_fake(scores), color=FAKE_COLOUR, label="on a fake")
    if loss.loss_at_optimum is not None and loss.d_output_at_optimum is not None:
        axes.plot(loss.d_output_at_optimum, loss.loss_at_optimum, "o", color="black", zorder=3)
        axes.annotate(
            f"ideal: D can't tell\nanswer {loss.d_output_at_optimum:g}, loss {loss.loss_at_optimum:.3g}",
            (loss.d_output_at_optimum, loss.loss_at_optimum),
            xytext=(0, 40),
            textcoords="offset points",
            ha="center",
            arrowprops={"arrowstyle": "->"},
        )
    scale = " (1: real, 0: fake)" if loss.d_output_is_probability else ""
    axes.set(title=f"D's loss ({type(loss).__name__})", xlabel=f"D's answer{scale}", ylabel="loss")
    axes.grid(alpha=0.4)
    axes.legend(loc="upper center")


def _heat(axes: Axes, rows: Tensor, low: float, high: float) -> None:
    """Vectors `(n, dims)` as rows, dark is high; with the numbers where there is room."""
    axes.imshow(rows.numpy(), cmap="Blues", vmin=low, vmax=high, aspect="auto", interpolation="none")
    axes.set(xlabel="position", ylabel="sample", yticks=range(len(rows)), xticks=range(rows.shape[1]))
    axes.set_xticklabels([str(i + 1) for i in range(rows.shape[1])])
    axes.set_yticklabels([str(i + 1) for i in range(len(rows))])
    if rows.shape[1] <= 8:
        for (y, x), value in np.ndenumerate(rows.numpy()):
            dark = value > low + 0.6 * (high - low)
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", color="white" if dark else "black")


def _histogram(
    axes: Axes, values: Mapping[str, Tensor], colours: Sequence[str], limits: tuple[float, float] | None = None
) -> None:
    """Shares of the finite values, in bins that all of them have in common."""
    finite = {name: each[each.isfinite()].flatten().double().numpy() for name, each in values.items()}
    everything = np.concatenate(list(finite.values()))
    low, high = limits or ((everything.min(), everything.max()) if everything.size else (0.0, 1.0))
    edges = np.linspace(low, high if high > low else low + 1, 41)
    for (name, each), colour in zip(finite.items(), colours, strict=True):
        weights = np.full(len(each), 1 / max(1, len(each)))
        axes.hist(each, edges.tolist(), weights=weights, color=colour, alpha=0.6, label=name)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.2)  # room for a legend
    axes.grid(alpha=0.4)
