"""Backquery (S1): the image that a trained classifier finds ideal for a label, measured against the data and a GAN.

There are two methods. `inverse` runs a sigmoid network backwards through its transposed weights (Rashid, *Make Your Own
Neural Network*); `gradient` starts from a grey image and climbs to one of which the label classifier is sure.
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
from gan_lab.plotting.samples import backqueries
from gan_lab.training.gan_module import GANModule
from gan_lab.training.sampling import fresh_samples

METHODS = ("inverse", "gradient")
# Settings of `gradient`: the grey of all pixels at first, the number of Adam's steps and their rate,
START = 0.5
STEPS = 100
RATE = 0.05
# and the weights of its regulariser.
BRIGHTNESS = 1.0
VARIATION = 4.0

REPEATS = 3  # runs of each method: the images have to be identical
MAX_COMPARED = 100  # images of a label whose distances give the variety of the data and of the GAN
GAN_SAMPLES = 2_000  # samples of the GAN, among which those of a label are looked for
MAX_PICTURED = 6  # of these in the picture, per label
# Columns that count pairs of images, and whose they are.
PAIR_COLUMNS = {"pairs": "backquery's", "data_pairs": "the data's", "gan_pairs": "the GAN's"}

Row = dict[str, Any]


@dataclass
class Findings:
    """The result of backquery.

    Attributes:
        names: of the labels.
        images: per method `(labels, C, H, W)` in [0, 1].
        means: the mean training image of each label, `(labels, C, H, W)`.
        samples: the GAN's samples of each label, `(n, C, H, W)` with n ≥ 0; None without a GAN.
        rows: one per label and method, see `measure`; with the variety of data and GAN.
        about: the accuracies of the networks, and the settings.
    """

    names: list[str]
    images: dict[str, Tensor]
    means: Tensor
    samples: list[Tensor] | None
    rows: list[Row]
    about: dict[str, Any]

    def columns(self) -> dict[str, list[Tensor]]:
        """Returns the columns of the picture: by heading, the images `(n, C, H, W)` of each label."""
        columns = {}
        for method, images in self.images.items():
            columns[f"by {method}"] = list(images.unsqueeze(1))
        columns["mean training image"] = list(self.means.unsqueeze(1))
        if self.samples:
            columns["the GAN's samples"] = [samples[:MAX_PICTURED] for samples in self.samples]
        return columns


@torch.no_grad()
def inverse(network: SigmoidNetwork, outputs: Tensor) -> Tensor:
    """Runs a network backwards, from outputs `(n, classes)` in (0, 1) to images `(n, pixels)` in [0.01, 0.99].

    In each layer the logit undoes the sigmoid, the transposed weights serve as an inverse, and a linear rescaling
    brings the result into the range of a sigmoid (Rashid, *Make Your Own Neural Network*).
    """
    hidden = rescale(outputs.logit() @ network.second)
    return rescale(hidden.logit() @ network.first)


def rescale(values: Tensor) -> Tensor:
    """Rescales each row `(n, d)` linearly to [0.01, 0.99]; a row of equal values becomes 0.5."""
    low = values.amin(1, keepdim=True)
    high = values.amax(1, keepdim=True)
    fraction = (values - low) / (high - low)
    return OFF + (ON - OFF) * torch.where(high > low, fraction, 0.5)


def gradient(classifier: LabelClassifier, shape: tuple[int, ...], steps: int = STEPS) -> Tensor:
    """Finds the image that the classifier likes best for each class.

    Adam climbs log p(class | image) − 1 · mean x² − 4 · (mean |vertical difference| + mean |horizontal difference|),
    and pixels are clamped to [0, 1] after each step. Without the regulariser (Mahendran and Vedaldi 2015) the image is
    noise. Nothing is random.

    Args:
        classifier: of the data.
        shape: of an image, `(C, H, W)`.
        steps: of Adam, from a grey of 0.5.

    Returns:
        `(classes, *shape)` in [0, 1].
    """
    x = torch.full((classifier.classes, *shape), START, requires_grad=True)
    optimizer = torch.optim.Adam([x], RATE)
    for _ in range(steps):
        log_likelihood = classifier.network(x).log_softmax(1).diagonal().sum()
        horizontal = x.diff(dim=-1).abs().mean((1, 2, 3)).sum()
        vertical = x.diff(dim=-2).abs().mean((1, 2, 3)).sum()
        brightness = x.square().mean((1, 2, 3)).sum()
        optimizer.zero_grad()
        (BRIGHTNESS * brightness + VARIATION * (vertical + horizontal) - log_likelihood).backward()
        optimizer.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    return x.detach()


def class_numbers(label: str, classes: Sequence[str]) -> list[int]:
    """Returns the class numbers that a label means.

    Args:
        label: `all`, or a class's name (in upper or lower case) or number; a name counts before a number.
        classes: all names.

    Raises:
        LabError: if there is no such class.
    """
    if label == "all":
        return list(range(len(classes)))
    lowercase_names = [name.lower() for name in classes]
    if label.lower() in lowercase_names:
        return [lowercase_names.index(label.lower())]
    if label.isdecimal() and int(label) < len(classes):
        return [int(label)]
    choices = []
    for number, name in enumerate(classes):
        choices.append(name if name == str(number) else f"{number} ({name})")
    raise LabError(
        f"There is no label={label}.", f"Choose from: all, {', '.join(choices)}.", code="unknown", key="label"
    )


def measure(
    images: Sequence[Tensor], label: int, means: Tensor, classifier: LabelClassifier, classes: Sequence[str]
) -> Row:
    """Measures the images `(C, H, W)` that several runs of a method gave for a label.

    Args:
        images: one of each run.
        label: the class number.
        means: each class's mean training image, `(classes, C, H, W)`.
        classifier: of the data.
        classes: their names.

    Returns:
        `same_bits`: whether all images are equal; `correlation` with the mean of the image's class;
        `correlation_other`: the highest correlation with another class's mean, and `likest_other`, which class that is
        (correlations are None for a flat image); `read_as` and `confidence`: the classifier's answer to the image;
        `variety` over `pairs` of images.
    """
    first = images[0]
    r = correlations(first[None], means)[0].nan_to_num(-torch.inf)
    r_others = r.index_fill(0, torch.tensor(label), -torch.inf)
    confidence, answer = classifier.network(first[None]).softmax(1)[0].max(0)
    distance, pairs = variety(torch.stack(list(images)))
    return {
        "same_bits": all(torch.equal(first, image) for image in images),
        "correlation": _finite(r[label]),
        "correlation_other": _finite(r_others.max()),
        "likest_other": classes[int(r_others.argmax())],
        "read_as": classes[int(answer)],
        "confidence": confidence.item(),
        "variety": distance,
        "pairs": pairs,
    }


def _finite(value: Tensor) -> float | None:
    return value.item() if value.isfinite() else None


def backquery(
    dataset: Dataset, label: str, methods: Sequence[str], cache_dir: str, module: GANModule | None = None
) -> Findings:
    """Finds the ideal images of labels by each method, several times, and measures them.

    Args:
        dataset: images with labels.
        label: `all`, or a class's number or name.
        methods: some of METHODS.
        cache_dir: where trained networks are stored.
        module: a GAN of the same data, for comparison.

    Raises:
        LabError: for data without images and labels, stacked data, a class without images, or an unknown label.
    """
    indices_of_class = _indices_of_class(dataset)
    labels = class_numbers(label, dataset.classes)
    classifier = label_classifier(dataset, cache_dir)
    means = torch.stack([dataset.train[indices].mean(0) for indices in indices_of_class])
    about: dict[str, Any] = {"evaluator_accuracy": classifier.accuracy}
    # Always of all classes: the images of a label have the same bits whichever labels the user asks for.
    answers: dict[str, list[Tensor]] = {}
    if "inverse" in methods:
        network, about["sigmoid_network_accuracy"] = sigmoid_network(dataset, cache_dir)
        outputs = targets(torch.arange(classifier.classes), classifier.classes)
        answers["inverse"] = [inverse(network, outputs).view_as(means) for _ in range(REPEATS)]
    if "gradient" in methods:
        repeats = tqdm(range(REPEATS), desc="climbing to the classifier's ideals", disable=None)
        answers["gradient"] = [gradient(classifier, dataset.shape) for _ in repeats]
        about["gradient"] = {
            "start": START,
            "steps": STEPS,
            "rate": RATE,
            "brightness": BRIGHTNESS,
            "variation": VARIATION,
        }
    samples = _samples_of_labels(module, classifier, labels) if module else None
    rows = []
    for position, number in enumerate(labels):
        varieties = {"data": variety(_some_images(dataset, indices_of_class[number]))}
        if samples is not None:
            varieties["gan"] = variety(samples[position][:MAX_COMPARED])
        for method, repeated_images in answers.items():
            images_of_label = [images[number] for images in repeated_images]
            row = {"label": number, "class": dataset.classes[number], "method": method}
            row |= measure(images_of_label, number, means, classifier, dataset.classes)
            row |= _variety_columns(varieties)
            rows.append(row)
    names = [dataset.classes[number] for number in labels]
    first_images = {method: repeated_images[0][labels] for method, repeated_images in answers.items()}
    return Findings(names, first_images, means[labels], samples, rows, about)


def _variety_columns(varieties: dict[str, tuple[float | None, int]]) -> Row:
    """Returns the columns of the mean distance and of the number of pairs, for the data and the GAN."""
    columns: Row = {}
    for source, (distance, _pairs) in varieties.items():
        columns[f"{source}_variety"] = distance
    for source, (_distance, pairs) in varieties.items():
        columns[f"{source}_pairs"] = pairs
    return columns


def _indices_of_class(dataset: Dataset) -> list[Tensor]:
    """Returns the indices of each class's training images.

    Raises:
        LabError: for data without images and labels, stacked data, or a class without images.
    """
    hint = "Take dataset=mnist, fashion_mnist or digits."
    if dataset.base is not None:
        raise LabError(
            "Backquery is about one label; a stacked image has three.", hint, code="unsupported", key="dataset"
        )
    if len(dataset.shape) != 3 or dataset.train.labels is None:
        raise LabError(
            "Backquery needs images with labels; this dataset has none.", hint, code="unsupported", key="dataset"
        )
    indices_of_class = []
    empty_classes = []
    for number, name in enumerate(dataset.classes):
        indices = torch.where(dataset.train.labels == number)[0]
        indices_of_class.append(indices)
        if not len(indices):
            empty_classes.append(name)
    if empty_classes:
        raise LabError(
            f"The training data have no image of {', '.join(empty_classes)}.",
            "Backquery needs images of all classes.",
            code="unsupported",
            key="dataset",
        )
    return indices_of_class


def _some_images(dataset: Dataset, indices: Tensor) -> Tensor:
    """Returns the training images at `MAX_COMPARED` of the indices, chosen at random."""
    order = torch.randperm(len(indices), generator=make_generator(0, "backquery/data"))
    return dataset.train[indices[order[:MAX_COMPARED]]]


def _samples_of_labels(module: GANModule, classifier: LabelClassifier, labels: Sequence[int]) -> list[Tensor]:
    """Returns, of `GAN_SAMPLES` finite samples, those that the classifier reads as each label."""
    samples = fresh_samples(module, GAN_SAMPLES, "backquery")
    samples = samples[samples.flatten(1).isfinite().all(1)]
    predicted = classifier.labels(samples) if len(samples) else torch.zeros(0)
    return [samples[predicted == number] for number in labels]


def conclusion(rows: Sequence[Row]) -> str:
    """Returns the claim of the notes (S1), as far as these numbers support it."""
    methods = dict.fromkeys(row["method"] for row in rows)
    parts = [_conclusion_of_method(method, [row for row in rows if row["method"] == method]) for method in methods]
    highest_variety = max(row["variety"] for row in rows)
    comparisons = f"{_mean(rows, 'data_variety')} in the data"
    if "gan_variety" in rows[0]:
        comparisons += f" and {_mean(rows, 'gan_variety')} in the GAN's samples"
    return f"Backquery: {'; '.join(parts)}. The variety within a label is {highest_variety:.3g}, against {comparisons}."


def _conclusion_of_method(method: str, rows: Sequence[Row]) -> str:
    always_the_same = all(row["same_bits"] for row in rows)
    number_of_images = "one image per label" if always_the_same else "not always the same image for a label"
    nearest = sum(_is_nearest_to_its_class(row) for row in rows)
    recognised = sum(row["read_as"] == row["class"] for row in rows)
    values = [row["correlation"] for row in rows if row["correlation"] is not None]
    span = f" (correlation {min(values):.2f} to {max(values):.2f})" if values else ""
    return (
        f"{method} gives {number_of_images}; for {nearest} of {len(rows)} labels it is most like the mean image of its "
        f"own class{span}, and for {recognised} the classifier recognises the label"
    )


def _is_nearest_to_its_class(row: Row) -> bool:
    correlation = row["correlation"]
    highest_other = row["correlation_other"]
    if correlation is None:
        return False
    return highest_other is None or correlation > highest_other


def _mean(rows: Sequence[Row], key: str) -> str:
    """Returns, as text, the mean over the labels that have a value."""
    values = {row["label"]: row[key] for row in rows if row[key] is not None}
    if not values:
        return "no measurable one"
    return f"{sum(values.values()) / len(values):.3g}"


def describe(findings: Findings) -> str:
    """Returns the numbers as a table, and the conclusion."""
    rows = findings.rows
    lines = [
        f"{'label':<12} {'method':<9} {'same bits':>9} {'r own mean':>11} {'r highest other':>16} {'classified as':>16}"
        f" {'variety':>8} {'data':>6} {'GAN':>6}"
    ]
    for row in rows:
        same_bits = "yes" if row["same_bits"] else "no"
        other = f"{_cell(row['correlation_other'])} ({row['likest_other']})"
        answer = f"{row['read_as']} ({row['confidence']:.0%})"
        lines.append(
            f"{row['class']:<12} {row['method']:<9} {same_bits:>9}"
            f" {_cell(row['correlation']):>11} {other:>16} {answer:>16}"
            f" {_cell(row['variety']):>8} {_cell(row['data_variety']):>6} {_cell(row.get('gan_variety')):>6}"
        )
    pair_counts = []
    for key, owner in PAIR_COLUMNS.items():
        if key in rows[0]:
            pair_counts.append(f"{_range(rows, key)} of {owner}")
    lines.append("r: Pearson's correlation over the pixels. Variety: the mean pixel distance of two images of a label,")
    lines.append(f"over {', '.join(pair_counts)} pairs per label.")
    lines.append(conclusion(rows))
    return join_lines(lines)


def _range(rows: Sequence[Row], key: str) -> str:
    low = min(row[key] for row in rows)
    high = max(row[key] for row in rows)
    if low == high:
        return f"{low:,}"
    return f"{low:,} to {high:,}"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def write(findings: Findings, folder: Path, about: dict[str, Any]) -> list[Path]:
    """Writes `backquery.png`, `.csv` and `.json` into a folder.

    Args:
        findings: what to write.
        folder: is made if it doesn't exist.
        about: further entries of the JSON file.

    Returns:
        The paths of the three files.

    Raises:
        OSError: if the disk is full, read-only or broken.
    """
    picture_path = folder / "backquery.png"
    table_path = folder / "backquery.csv"
    json_path = folder / "backquery.json"
    with atomic(picture_path) as path:
        backqueries(findings.columns(), findings.names).savefig(path)
    with atomic(table_path) as path:
        write_csv(pd.DataFrame(findings.rows), path)
    content = {**about, **findings.about, "conclusion": conclusion(findings.rows), "rows": findings.rows}
    with atomic(json_path) as path:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
    return [picture_path, table_path, json_path]
