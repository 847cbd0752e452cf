"""Backquery (S1): the image that a trained classifier holds to be a label's ideal, measured beside the data and a GAN.

Two methods. `inverse` runs a sigmoid network backwards through its transposed weights (Rashid, *Make Your Own Neural
Network*); `gradient` climbs from a grey image to one that the evaluator network is sure of.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from gan_lab.commands.sigmoid_classifier import OFF, ON, SigmoidNetwork, sigmoid_network, targets
from gan_lab.core.csv_table import write_csv
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.rng import make_generator
from gan_lab.core.terminal import join_lines
from gan_lab.data.dataset import Dataset
from gan_lab.evaluation.classifier import LabelClassifier, label_classifier
from gan_lab.evaluation.metrics.pixels import correlations, variety
from gan_lab.plotting import plots
from gan_lab.training.callbacks.evaluation import draw
from gan_lab.training.gan_module import GANModule

METHODS = ("inverse", "gradient")
START, STEPS, RATE = 0.5, 100, 0.05  # of `gradient`: all pixels grey, so many steps of Adam
BRIGHTNESS, VARIATION = 1.0, 4.0  # the weights of its regulariser
REPEATS = 3  # how often each label is asked: the answers must not differ by a bit
COMPARED = 100  # images of a label at most whose distances make the variety of data and GAN
DRAWN = 2_000  # samples of the GAN among which those of a label are looked for
SHOWN = 6  # of these in the picture, per label
PAIRS = {"pairs": "backquery's", "data_pairs": "the data's", "gan_pairs": "the GAN's"}


@dataclass
class Findings:
    """What backquery gave.

    Attributes:
        names: of the labels asked for.
        images: per method `(labels, C, H, W)` in [0, 1].
        means: the mean training image of each label, `(labels, C, H, W)`.
        samples: the GAN's samples of each label, `(n, C, H, W)` with n ≥ 0; None without a GAN.
        rows: a dict per label and method, see `measure`; with the variety of data and GAN.
        about: the accuracies of the networks and the settings.
    """

    names: list[str]
    images: dict[str, Tensor]
    means: Tensor
    samples: list[Tensor] | None
    rows: list[dict[str, Any]]
    about: dict[str, Any]

    def columns(self) -> dict[str, list[Tensor]]:
        """The picture's: per heading, for each label, images `(n, C, H, W)`."""
        shown = {f"by {method}": list(images[:, None]) for method, images in self.images.items()}
        shown["mean training image"] = list(self.means[:, None])
        return shown | ({"the GAN's samples": [each[:SHOWN] for each in self.samples]} if self.samples else {})


@torch.no_grad()
def inverse(network: SigmoidNetwork, answers: Tensor) -> Tensor:
    """Images `(n, pixels)` in [0.01, 0.99] that a network's answers `(n, classes)` in (0, 1) lead back to.

    Layer by layer: the logit undoes the sigmoid, the transposed weights stand in for an inverse, and a linear rescaling
    puts the result where a sigmoid can have been (Rashid, *Make Your Own Neural Network*).
    """
    hidden = rescaled(answers.logit() @ network.second)
    return rescaled(hidden.logit() @ network.first)


def rescaled(values: Tensor) -> Tensor:
    """Each row `(n, d)` moved linearly into [0.01, 0.99]; a row of equal values becomes 0.5."""
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    share = (values - low) / (high - low)
    return OFF + (ON - OFF) * torch.where(high > low, share, 0.5)


def gradient(classifier: LabelClassifier, shape: tuple[int, ...], steps: int = STEPS) -> Tensor:
    """For each class the image that the evaluator likes best, `(classes, *shape)` in [0, 1].

    Adam climbs log p(class | image) − 1 · mean x² − 4 · (mean |vertical difference| + mean |horizontal difference|)
    for a fixed number of steps from a grey of 0.5, clamped after each: without the regulariser (Mahendran and Vedaldi
    2015) the image is noise. Nothing is random.
    """
    x = torch.full((classifier.classes, *shape), START, requires_grad=True)
    optimiser = torch.optim.Adam([x], RATE)
    for _ in range(steps):
        likely = classifier.network(x).log_softmax(1).diagonal().sum()
        variation = sum(x.diff(dim=axis).abs().mean((1, 2, 3)).sum() for axis in (-2, -1))
        brightness = x.square().mean((1, 2, 3)).sum()
        optimiser.zero_grad()
        (BRIGHTNESS * brightness + VARIATION * variation - likely).backward()
        optimiser.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    return x.detach()


def chosen(label: str, classes: Sequence[str]) -> list[int]:
    """The class numbers that `label` means: all of them, or one by its number or name.

    Raises:
        LabError: if there is no such class.
    """
    if label == "all":
        return list(range(len(classes)))
    names = [name.lower() for name in classes]
    if label.lower() in names:
        return [names.index(label.lower())]
    if label.isdecimal() and int(label) < len(classes):
        return [int(label)]
    known = ", ".join(name if name == str(n) else f"{n} ({name})" for n, name in enumerate(classes))
    raise LabError(f"There is no label={label}.", f"Choose from: all, {known}.")


def measure(
    answers: Sequence[Tensor], label: int, means: Tensor, classifier: LabelClassifier, classes: Sequence[str]
) -> dict[str, Any]:
    """What several answers `(C, H, W)` to one label are like.

    Args:
        means: each class's mean training image, `(classes, C, H, W)`.

    Returns:
        `same_bits`: whether all are equal; `correlation` with the own class's mean and `correlation_other`, the highest
        with another class's, which `likest_other` is (None for a flat image); `read_as` and `confidence`: the
        evaluator's; `variety` over `pairs`.
    """
    r = correlations(answers[0][None], means)[0].nan_to_num(-torch.inf)
    rest = r.index_fill(0, torch.tensor(label), -torch.inf)
    confidence, read_as = classifier.network(answers[0][None]).softmax(1)[0].max(0)
    distance, pairs = variety(torch.stack(list(answers)))
    return {
        "same_bits": all(torch.equal(answers[0], answer) for answer in answers),
        "correlation": r[label].item() if r[label].isfinite() else None,
        "correlation_other": rest.max().item() if rest.max().isfinite() else None,
        "likest_other": classes[int(rest.argmax())],
        "read_as": classes[int(read_as)],
        "confidence": confidence.item(),
        "variety": distance,
        "pairs": pairs,
    }


def backquery(
    dataset: Dataset, label: str, methods: Sequence[str], cache_dir: str, module: GANModule | None = None
) -> Findings:
    """Asks each label by each method, several times, and measures the answers.

    Args:
        label: `all`, or a class's number or name.
        methods: some of METHODS.
        module: a GAN of the same data, to stand beside.

    Raises:
        LabError: for data without images and labels, stacked data, a class without images, or an unknown label.
    """
    of_class = _indices(dataset)
    labels = chosen(label, dataset.classes)
    classifier = label_classifier(dataset, cache_dir)
    means = torch.stack([dataset.train[indices].mean(0) for indices in of_class])
    about: dict[str, Any] = {"evaluator_accuracy": classifier.accuracy}
    answers: dict[str, list[Tensor]] = {}  # each of all classes, whichever are asked for: the same bits then, too
    if "inverse" in methods:
        network, about["sigmoid_network_accuracy"] = sigmoid_network(dataset, cache_dir)
        asked = targets(torch.arange(classifier.classes), classifier.classes)
        answers["inverse"] = [inverse(network, asked).view_as(means) for _ in range(REPEATS)]
    if "gradient" in methods:
        repeats = tqdm(range(REPEATS), desc="climbing to the evaluator's ideals", disable=None)
        answers["gradient"] = [gradient(classifier, dataset.shape) for _ in repeats]
        about["gradient"] = {
            "start": START, "steps": STEPS, "rate": RATE, "brightness": BRIGHTNESS, "variation": VARIATION
        }  # fmt: skip
    samples = _samples(module, classifier, labels) if module else None
    rows = []
    for place, n in enumerate(labels):
        some = torch.randperm(len(of_class[n]), generator=make_generator(0, "backquery/data"))[:COMPARED]
        beside = {"data": dataset.train[of_class[n][some]]}
        beside |= {"gan": samples[place][:COMPARED]} if samples else {}
        spread = {name: variety(images) for name, images in beside.items()}
        for method, each in answers.items():
            row = {"label": n, "class": dataset.classes[n], "method": method}
            row |= measure([images[n] for images in each], n, means, classifier, dataset.classes)
            rows.append(row | {f"{name}_variety": value for name, (value, _) in spread.items()})
            rows[-1] |= {f"{name}_pairs": pairs for name, (_, pairs) in spread.items()}
    images = {method: each[0][labels] for method, each in answers.items()}
    return Findings([dataset.classes[n] for n in labels], images, means[labels], samples, rows, about)


def _indices(dataset: Dataset) -> list[Tensor]:
    """The training images of each class, by their numbers."""
    kinds = "Take dataset=mnist, fashion_mnist or digits."
    if dataset.base is not None:
        raise LabError("Backquery asks for one label; a stacked image has three.", kinds)
    if len(dataset.shape) != 3 or dataset.train.labels is None:
        raise LabError("Backquery needs images with labels; this dataset has none.", kinds)
    found = [torch.where(dataset.train.labels == n)[0] for n in range(len(dataset.classes))]
    if missing := [name for name, indices in zip(dataset.classes, found, strict=True) if not len(indices)]:
        raise LabError(f"The training data have no image of {', '.join(missing)}.", "Backquery needs all classes.")
    return found


def _samples(module: GANModule, classifier: LabelClassifier, labels: Sequence[int]) -> list[Tensor]:
    """The GAN's samples that the evaluator reads as each label, of DRAWN ones."""
    drawn = draw(module, DRAWN, "backquery")
    drawn = drawn[drawn.flatten(1).isfinite().all(1)]
    read = classifier.labels(drawn) if len(drawn) else torch.zeros(0)
    return [drawn[read == n] for n in labels]


def conclusion(rows: Sequence[dict[str, Any]]) -> str:
    """The notes' claim, as far as these numbers bear it out."""
    parts = []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        one = all(row["same_bits"] for row in mine)
        found = [row["correlation"] for row in mine if row["correlation"] is not None]
        nearest = sum(_nearest_to_its_own(row) for row in mine)
        span = f" (correlation {min(found):.2f} to {max(found):.2f})" if found else ""
        read = sum(row["read_as"] == row["class"] for row in mine)
        parts.append(
            f"by {method} it gives {'one image per label' if one else 'not always the same image for a label'}, likest"
            f" its own class's mean image for {nearest} of {len(mine)} labels{span} and read as its label for {read}"
        )
    said = f"Backquery: {'; '.join(parts)}. The variety within a label is {max(row['variety'] for row in rows):.3g}"
    beside = [f"{_mean(rows, 'data_variety')} in the data"]
    if "gan_variety" in rows[0]:
        beside.append(f"{_mean(rows, 'gan_variety')} in the GAN's samples")
    return f"{said}, against {' and '.join(beside)}."


def _nearest_to_its_own(row: dict[str, Any]) -> bool:
    own, other = row["correlation"], row["correlation_other"]
    return own is not None and (other is None or own > other)


def _mean(rows: Sequence[dict[str, Any]], key: str) -> str:
    """Over the labels for which there is such a value, in words."""
    values = {row["label"]: row[key] for row in rows if row[key] is not None}
    return f"{sum(values.values()) / len(values):.3g}" if values else "no measurable one"


def describe(findings: Findings) -> str:
    """The numbers as a table, and the conclusion."""
    lines = [
        f"{'label':<12} {'method':<9} {'same bits':>9} {'r own mean':>11} {'r highest other':>16} {'read as':>16}"
        f" {'variety':>8} {'data':>6} {'GAN':>6}"
    ]
    for row in findings.rows:
        other = f"{_cell(row['correlation_other'])} ({row['likest_other']})"
        read = f"{row['read_as']} ({row['confidence']:.0%})"
        lines.append(
            f"{row['class']:<12} {row['method']:<9} {'yes' if row['same_bits'] else 'no':>9}"
            f" {_cell(row['correlation']):>11} {other:>16} {read:>16}"
            f" {_cell(row['variety']):>8} {_cell(row['data_variety']):>6} {_cell(row.get('gan_variety')):>6}"
        )
    counts = [f"{_span(findings.rows, key)} of {name}" for key, name in PAIRS.items() if key in findings.rows[0]]
    lines.append("r: Pearson's correlation over the pixels. Variety: the mean pixel distance of two images of a label,")
    lines.append(f"over {', '.join(counts)} pairs per label.")
    return join_lines([*lines, conclusion(findings.rows)])


def _span(rows: Sequence[dict[str, Any]], key: str) -> str:
    low, high = min(row[key] for row in rows), max(row[key] for row in rows)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def write(findings: Findings, folder: Path, about: dict[str, Any]) -> list[Path]:
    """Writes `backquery.png`, `.csv` and `.json` into the folder; `about` goes into the last one, too."""
    paths = [folder / f"backquery.{kind}" for kind in ("png", "csv", "json")]
    with atomic(paths[0]) as path:
        plots.backqueries(findings.columns(), findings.names).savefig(path)
    with atomic(paths[1]) as path:
        write_csv(pd.DataFrame(findings.rows), path)
    content = {**about, **findings.about, "conclusion": conclusion(findings.rows), "rows": findings.rows}
    with atomic(paths[2]) as path:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return paths
