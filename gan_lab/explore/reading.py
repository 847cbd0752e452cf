"""What samples are read as: a digit by the evaluator, a Gaussian by its distance; and how often, with intervals."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import binomtest
from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.data.dataset import Dataset
from gan_lab.evaluation.classifier import label_classifier
from gan_lab.evaluation.metrics.modes import assign_modes

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LISTED = 30  # of more classes a message names the first and the last


class Reader:
    """Reads samples of one dataset.

    Attributes:
        able: whether it can: the data are labelled images, or a mixture of Gaussians.
        unread: what a sample is called that is read as nothing.
    """

    def __init__(self, dataset: Dataset, cache_dir: str | Path):
        images = len(dataset.shape) == 3 and bool(dataset.classes)
        self.dataset, self.label_classifier = dataset, label_classifier(dataset, cache_dir) if images else None
        self.able = images or dataset.centres is not None
        self.unread = "no number" if images else "no mode"

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Classes and confidences of samples `(N, *shape)`.

        Of images the evaluator's likeliest class and its probability, see `LabelClassifier.readings`; of points the nearest
        centre, with confidence 1, if they lie within 3σ of it.

        Returns:
            `(N,)` int64, −1 for what is read as nothing: samples that aren't finite, points far from all centres, all
            samples of data without classes; `(N,)` in [0, 1].
        """
        labels, confidences = torch.full((len(samples),), -1), torch.zeros(len(samples))
        finite = samples.flatten(1).isfinite().all(1)
        if not (self.able and finite.any()):
            return labels, confidences
        if self.label_classifier:
            labels[finite], confidences[finite] = self.label_classifier.readings(samples[finite])
            return labels, confidences
        assert self.dataset.centres is not None
        assert self.dataset.std is not None
        nearest, good = assign_modes(samples, self.dataset.centres, self.dataset.std)
        return torch.where(good, nearest, labels), good.float()

    def name(self, label: int) -> str:
        return self.dataset.classes[label] if label >= 0 else self.unread

    def class_of(self, word: str) -> int:
        """The class that a word names: as the data call it, by its number, or `five` for 5.

        Raises:
            LabError: if these samples can't be read, or there is no such class: it names those that there are.
        """
        if not self.able:
            raise LabError(
                f"{word} is no vector's number, and these data have no classes that could be read.",
                "Name vectors by number: a=1 b=2.",
            )
        classes = self.dataset.classes
        names = {name.lower(): number for number, name in enumerate(classes)}
        by_word = str(WORDS.index(word.lower())) if word.lower() in WORDS else word.lower()
        if by_word in names:
            return names[by_word]
        if re.fullmatch("[0-9]+", word) and int(word) < len(classes):
            return int(word)
        shown = classes if len(classes) <= LISTED else [*classes[:3], "…", classes[-1]]
        raise LabError(
            f"There is no class {word} in these data. Their classes: {', '.join(shown)}.",
            "Name one of them, or a vector by number (0, 1, 2 …).",
        )


@dataclass(frozen=True)
class Count:
    """How often samples were read as something.

    Attributes:
        reading: what they were read as.
        count, total: so many of so many.
        low, high: the exact 95 % interval of the share (Clopper and Pearson 1934).
        confidence: the mean of those read so, or None.
    """

    reading: str
    count: int
    total: int
    low: float
    high: float
    confidence: float | None

    def __str__(self) -> str:
        share = f"{self.count:,} of {self.total:,} ({self.count / self.total:.0%}, 95 % interval "
        share += f"{self.low:.0%}–{self.high:.0%})"
        return share + (f", mean confidence {self.confidence:.2f}" if self.confidence is not None else "")


def count(labels: Tensor, confidences: Tensor | None, wanted: Sequence[int], names: Sequence[str]) -> list[Count]:
    """How often each class is read, how often one of them if they are several, and how often another or none.

    Args:
        labels, confidences: `(N,)`, N > 0, as `Reader` gives them; no confidences where they aren't of interest.
        wanted: different classes.
        names: theirs.
    """
    among = torch.isin(labels, torch.tensor(wanted))
    sets = [(name, labels == number) for number, name in zip(wanted, names, strict=True)]
    if len(wanted) > 1:
        sets.append((" or ".join(names), among))
    sets.append(("neither" if len(wanted) > 1 else "another or none", ~among))
    counts = []
    for name, which in sets:
        hits = int(which.sum())
        interval = binomtest(hits, len(labels)).proportion_ci(0.95, method="exact")
        mean = confidences[which].mean().item() if hits and confidences is not None else None
        counts.append(Count(name, hits, len(labels), float(interval.low), float(interval.high), mean))
    return counts
