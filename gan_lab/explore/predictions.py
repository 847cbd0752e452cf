"""Label predictions for samples (the class of an image, the nearest mode of a point) and how often each one occurs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import binomtest, fisher_exact
from torch import Tensor

from gan_lab.comparison.numbers import format_p
from gan_lab.comparison.resampling import ALPHA
from gan_lab.core.errors import LabError
from gan_lab.data.dataset import Dataset
from gan_lab.evaluation.classifier import LabelClassifier, label_classifier
from gan_lab.evaluation.metrics.modes import assign_modes


class LabelPredictor:
    """Predicts the labels of samples of one dataset.

    The label classifier predicts the class of an image. The label of a point is the nearest mode of the mixture, if the
    point lies within 3σ of that mode's centre.

    Attributes:
        classifier: the label classifier of image data; None for other data.
        can_predict: whether the dataset consists of labelled images or is a mixture of several Gaussians.
        no_label: the name for samples without a label.
    """

    def __init__(self, dataset: Dataset, cache_dir: str | Path):
        self.dataset = dataset
        self.classifier: LabelClassifier | None = None
        # All points of a single mode, as of the 1010 pattern, would have the same label.
        self.can_predict = dataset.centres is not None and len(dataset.classes) > 1
        self.no_label = "no mode"
        if len(dataset.shape) == 3 and dataset.classes:
            self.classifier = label_classifier(dataset, cache_dir)
            self.can_predict = True
            self.no_label = "not finite"

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Predicts labels and confidences.

        Args:
            samples: `(N, *shape)`.

        Returns:
            Labels `(N,)`, int64, and confidences `(N,)` in [0, 1]. The confidence is the probability that the label
            classifier gives to the class (see `LabelClassifier.labels_and_confidences`), or 1 for a point near a mode.
            The label is −1 and the confidence 0 for samples that are not finite, for points far from all modes, and
            for all samples of data without classes.
        """
        labels = torch.full((len(samples),), -1)
        confidences = torch.zeros(len(samples))
        finite = samples.flatten(1).isfinite().all(1)
        if not self.can_predict or not finite.any():
            return labels, confidences
        if self.classifier is not None:
            labels[finite], confidences[finite] = self.classifier.labels_and_confidences(samples[finite])
            return labels, confidences
        assert self.dataset.centres is not None
        assert self.dataset.std is not None
        nearest, near_enough = assign_modes(samples, self.dataset.centres, self.dataset.std)
        return torch.where(near_enough, nearest, labels), near_enough.float()

    def class_name(self, label: int) -> str:
        """Returns the name of a class, or `no_label` for −1."""
        if label < 0:
            return self.no_label
        return self.dataset.classes[label]

    def parse_label(self, key: str, word: str) -> int:
        """Finds the class that a word names, see `Dataset.class_number`.

        Raises:
            LabError: if labels cannot be predicted for these data, or if there is no such class.
        """
        if not self.can_predict:
            raise LabError(
                f"{key}={word}: {word} is not the seed of a vector, and these data have no classes to choose from.",
                "Name vectors by their seeds: a=1 b=2.",
                code="unsupported",
                key=key,
            )
        return self.dataset.class_number(key, word, "Name one of them, or a vector by its seed (0, 1, 2 …).")


@dataclass(frozen=True)
class PredictionCount:
    """How many samples have a certain predicted label.

    Attributes:
        prediction: the label in words.
        count: the number of samples with this label.
        total: the number of all samples.
        low, high: the exact 95% confidence interval of the fraction `count / total` (Clopper and Pearson 1934).
        confidence: the mean confidence of the samples with this label; None if there are none, or if it is not known.
    """

    prediction: str
    count: int
    total: int
    low: float
    high: float
    confidence: float | None

    @property
    def fraction(self) -> float:
        return self.count / self.total

    def __str__(self) -> str:
        text = f"{self.count:,} of {self.total:,} ({self.fraction:.0%}, 95% interval {self.low:.0%}–{self.high:.0%})"
        if self.confidence is not None:
            text += f", mean confidence {self.confidence:.2f}"
        return text


def count_predictions(
    labels: Tensor, confidences: Tensor | None, target_labels: Sequence[int], names: Sequence[str]
) -> list[PredictionCount]:
    """Counts how often each target label is predicted, how often any of them, and how often none of them.

    Args:
        labels: predicted labels `(N,)`, N > 0, see `LabelPredictor`.
        confidences: their confidences `(N,)`, or None to leave them out.
        target_labels: distinct labels.
        names: the names of the target labels.

    Returns:
        One count per target label; one of all target labels together if there are several; and one of all others.
    """
    in_targets = torch.isin(labels, torch.tensor(target_labels))
    masks = []
    for label, name in zip(target_labels, names, strict=True):
        masks.append((name, labels == label))
    if len(target_labels) > 1:
        masks.append((" or ".join(names), in_targets))
        masks.append(("neither", ~in_targets))
    else:
        masks.append(("another or none", ~in_targets))
    counts = []
    for name, mask in masks:
        hits = int(mask.sum())
        interval = binomtest(hits, len(labels)).proportion_ci(0.95, method="exact")
        confidence = None
        if hits and confidences is not None:
            confidence = confidences[mask].mean().item()
        counts.append(PredictionCount(name, hits, len(labels), float(interval.low), float(interval.high), confidence))
    return counts


def compare_counts(name: str, result: PredictionCount, fresh: PredictionCount) -> str:
    """Says whether results have a predicted label more often than fresh samples, by Fisher's exact test (two-sided).

    Args:
        name: what the results are, e.g. `a + b`.
        result: the count of the results.
        fresh: the count of samples of fresh latent vectors, for the same label.
    """
    table = [[count.count, count.total - count.count] for count in (result, fresh)]
    p = fisher_exact(table).pvalue
    comparison = "about as often as fresh vectors"
    if p <= ALPHA and result.fraction > fresh.fraction:
        comparison = "more often than fresh vectors"
    elif p <= ALPHA:
        comparison = "less often than fresh vectors"
    fractions = f"{result.fraction:.0%} of {result.total:,}, {fresh.fraction:.0%} of {fresh.total:,}"
    return f"{name} is classified as {result.prediction} {comparison} ({fractions}; {format_p(p)})."
