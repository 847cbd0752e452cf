"""The verdict: does the generator make everything that the data contain, does it look like the data, does it copy them?

A `VerdictEvaluator` takes samples, computes the metrics of `gan_lab.evaluation.metrics.registry` against one dataset,
and says in words what the numbers mean. It computes the same metrics for fresh real data, as a reference.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import MAX_SHUFFLED, Dataset, choose
from gan_lab.evaluation.classifier import LabelClassifier
from gan_lab.evaluation.feature_spaces import Features, classifier_for, features_of
from gan_lab.evaluation.metrics import modes
from gan_lab.evaluation.metrics.custom import UserMetric, measure
from gan_lab.evaluation.metrics.neighbours import nearest
from gan_lab.evaluation.metrics.registry import MetricInputs, MetricValues, Undefined, compute

FEATURE_BATCH = 1_000  # training samples put into feature space per batch
MAX_COMPARED = 2_500  # samples of each side that are compared in feature space
MAX_TRAIN_IMAGES = 60_000  # training images that samples are compared with as possible originals of copies
MAX_NAMED_MODES = 25  # of more modes the sentence gives numbers, not names

# The thresholds of the verdict. They are this project's own choice; the sentence gives the numbers, too.
COVERED_MODES = 0.98  # covered: at least this share of modes (of 1,000, chance leaves even real data 3 short)
COLLAPSED_MODES = 0.5  # collapsed: at most this share of modes has at least half of its expected count
UNEVEN_KL = 0.2  # partial: KL divergence (nats) from the training data's shares above this
COVERED_COVERAGE = 0.6  # without modes, covered: at least this fraction of real data's coverage
COLLAPSED_COVERAGE = 0.25  # without modes, collapsed: less than this fraction of real data's coverage
GOOD_LIKENESS = 0.75  # good: at least this fraction of real data's share of high quality (plane) or precision
SAME_SAMPLE_RATIO = 0.01  # all samples (nearly) identical: variety (`pairwise_ratio`) below this
COPIES_CT = -3.0  # copies: C_T below this, and ...
COPIES_AUTHENTICITY = 0.5  # ... authenticity below this fraction of real data's

NUMBER_WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass
class EvaluationResult:
    """What was measured and what it means.

    Attributes:
        metrics: the values by name, as in `summary.json`; None where a number is undefined.
        undefined: the reason for each None.
        real: the values of fresh real data, for the metrics where these are informative.
        counts: samples in each mode, `(modes,)`; empty for data without modes.
        verdict: `collapse` (covered, partial, collapsed), `copies` (bool), `likeness` (good, poor), `sentence`.
        features: the name of the space in which samples were compared.
    """

    metrics: MetricValues
    undefined: dict[str, str]
    real: MetricValues
    counts: Tensor
    verdict: dict[str, Any]
    features: str


def protocol_samples(dataset: Dataset) -> int:
    """Returns the number of samples that papers take.

    VEEGAN (Srivastava et al. 2017): 2,500 in the plane, 26,000 for the 1,000 modes of stacked images. Else 10,000.
    """
    if len(dataset.classes) >= 1000:
        return 26_000
    if len(dataset.shape) == 3:
        return 10_000
    return 2_500


def evaluator_for(
    dataset: Dataset,
    cache_dir: Path,
    features: str | None = None,
    user_metrics: Mapping[str, UserMetric] | None = None,
) -> "VerdictEvaluator":
    """Returns the evaluator of a dataset; for labelled images with their label classifier, which is kept in a file.

    Args:
        cache_dir: the folder of the label classifier's file.
        features: the space in which samples are compared, see `gan_lab.evaluation.feature_spaces.features_of`.
        user_metrics: the user's own metrics by name.

    Raises:
        LabError: if these data do not allow that space.
    """
    label_classifier = classifier_for(dataset, cache_dir)
    space = features_of(dataset, label_classifier, features, Path(cache_dir))
    return VerdictEvaluator(dataset, label_classifier, space, user_metrics)


class VerdictEvaluator:
    """Measures samples against one dataset.

    Fresh real data are measured in the same way: the held-out samples; where a metric needs held-out samples to compare
    with, one half of them against the other half.

    Args:
        dataset: what the generator learns to imitate.
        label_classifier: labels images; None for points, whose mode is the nearest, and for data without labels.
        features: the space in which samples are compared.
        user_metrics: the user's own metrics by name.

    Attributes:
        shares: the training data's share of each mode, `(modes,)` float64; empty for data without modes.
        train: features of the training samples, `(m, F)`.
        heldout_samples: real samples that were not trained on, `(h, *shape)`.
        heldout: their features, `(h, F)`.
    """

    def __init__(
        self,
        dataset: Dataset,
        label_classifier: LabelClassifier | None,
        features: Features,
        user_metrics: Mapping[str, UserMetric] | None = None,
    ):
        self.dataset = dataset
        self.label_classifier = label_classifier
        self.features = features
        self.user_metrics = user_metrics or {}
        # Without modes, counts and shares are empty.
        counts = torch.zeros(0)
        if dataset.has_modes:
            counts = dataset.train.label_counts(len(dataset.classes))
        self.shares = counts.double() / counts.sum()
        self.max_compared = min(len(dataset.train), len(dataset.heldout), protocol_samples(dataset), MAX_COMPARED)
        is_image = len(dataset.shape) == 3
        number = MAX_TRAIN_IMAGES if is_image else MAX_SHUFFLED
        self._train_indices = choose(dataset.train, number, make_generator(0, "judge"))
        batches = self._train_indices.split(FEATURE_BATCH)
        self.train = torch.cat([self.features(dataset.train[indices]) for indices in batches])
        self._heldout_indices = choose(dataset.heldout, self.max_compared, make_generator(0, "judge/heldout"))
        self.heldout_samples = dataset.heldout[self._heldout_indices]
        self.heldout = self.features(self.heldout_samples)

    @functools.cached_property
    def real(self) -> MetricValues:
        """The metrics of fresh real data, computed when first needed: a training need not wait for them to start."""
        # The held-out samples are both sides of C_T here, which needs real samples on both.
        half = len(self.heldout) // 2
        inputs = self._feature_inputs(self.heldout, heldout_half=self.heldout[:half], fake_half=self.heldout[half:])
        if self.dataset.centres is not None:
            _, near_centre = modes.assign_modes(self.heldout, self.dataset.centres, _std(self.dataset))
            # float32, where the samples' flags are float64: the value stays the same to the bit as in earlier versions.
            inputs["near_centre"] = near_centre.float()
        metrics, _ = compute(inputs, kinds=("result",))
        user_values, _ = self._user_metrics_of(self.heldout_samples)
        return metrics | user_values

    @property
    def heldout_labels(self) -> Tensor:
        """The classes of `heldout_samples`, `(h,)` int64."""
        return self.dataset.heldout.labels_of(self._heldout_indices)

    def nearest_originals(self, samples: Tensor) -> Tensor:
        """Returns for each sample the nearest training sample in feature space, `(n, *shape)`."""
        _, neighbours = nearest(self.features(samples), self.train, 1)
        return self.dataset.train[self._train_indices[neighbours[:, 0]]]

    def mode_metrics(
        self, samples: Tensor, target_labels: Tensor | None = None
    ) -> tuple[MetricValues, dict[str, str], Tensor]:
        """Computes the metrics that need no feature space, which is quick: mostly those of modes.

        Args:
            samples: `(n, *shape)`.
            target_labels: the classes in the latent vectors of a conditional GAN, `(n,)`.

        Returns:
            The values, the reasons for undefined ones, and the samples in each mode `(modes,)`, empty without modes.
        """
        inputs = self._mode_inputs(samples, target_labels)
        metrics, undefined = compute(inputs)
        return metrics, undefined, inputs.get("counts", torch.zeros(0))

    def evaluate(self, samples: Tensor, target_labels: Tensor | None = None) -> EvaluationResult:
        """Computes all metrics and the verdict.

        Args:
            samples: `(n, *shape)`.
            target_labels: the classes in the latent vectors of a conditional GAN, `(n,)`.
        """
        inputs = self._mode_inputs(samples, target_labels)
        is_finite = torch.isfinite(samples.flatten(1)).all(1)
        finite_samples = samples[is_finite][: self.max_compared]
        fake = torch.zeros(0, self.train.shape[1])
        if len(finite_samples):
            fake = self.features(finite_samples)
        # C_T grows with the number of samples: as many as for the real data, which have only two halves.
        half = len(self.heldout) // 2
        inputs.update(self._feature_inputs(fake, heldout_half=self.heldout[:half], fake_half=fake[:half]))
        if not self.dataset.has_modes:
            inputs["fake_without_modes"] = fake
        if self.label_classifier is not None:
            inputs["classifier_accuracy"] = self.label_classifier.accuracy
        metrics, undefined = compute(inputs)
        user_values, user_reasons = self._user_metrics_of(finite_samples)
        metrics |= user_values
        undefined |= user_reasons
        counts = inputs.get("counts", torch.zeros(0))
        verdict = self._verdict(metrics, counts)
        return EvaluationResult(metrics, undefined, self.real, counts, verdict, self.features.name)

    def _mode_inputs(self, samples: Tensor, target_labels: Tensor | None) -> MetricInputs:
        inputs: MetricInputs = {"samples": samples}
        if not self.dataset.has_modes:
            return inputs
        total = len(self.dataset.classes)
        is_finite = torch.isfinite(samples.flatten(1)).all(1)
        # A sample that belongs to no mode, because it is not finite or too far from all, keeps the label −1.
        labels = torch.full((len(samples),), -1)
        if is_finite.any() and self.dataset.centres is not None:
            nearest_mode, near_centre = modes.assign_modes(samples, self.dataset.centres, _std(self.dataset))
            labels = torch.where(near_centre, nearest_mode, -1)
            inputs["near_centre"] = near_centre.double()
        elif is_finite.any():
            assert self.label_classifier is not None
            labels[is_finite] = self.label_classifier.labels(samples[is_finite])
        inputs["labels"] = labels
        if target_labels is not None:
            inputs["target_labels"] = target_labels
        inputs["counts"] = modes.mode_counts(labels, total)
        inputs["shares"] = self.shares
        inputs["uniform_shares"] = torch.full((total,), 1 / total, dtype=torch.float64)
        return inputs

    def _feature_inputs(self, fake: Tensor, heldout_half: Tensor, fake_half: Tensor) -> MetricInputs:
        return {
            "fake": fake,
            # As many training samples as fakes: the metrics that compare the two depend on both numbers.
            "real": self.train[: len(fake)],
            "train": self.train,
            "heldout_half": heldout_half,
            "fake_half": fake_half,
        }

    def _user_metrics_of(self, samples: Tensor) -> tuple[MetricValues, dict[str, str]]:
        """Computes the user's metrics of samples `(n, *shape)` and as many training samples."""
        values: MetricValues = {}
        reasons: dict[str, str] = {}
        if not self.user_metrics:
            return values, reasons
        # As many real samples, for metrics that depend on the number.
        real = self.dataset.train[self._train_indices[: len(samples)]]
        for name, metric in self.user_metrics.items():
            try:
                values[name] = measure(metric, samples, real)
            except Undefined as reason:
                values[name] = None
                reasons[name] = str(reason)
        return values, reasons

    def _verdict(self, metrics: MetricValues, counts: Tensor) -> dict[str, Any]:
        """Returns the verdict's labels and its sentence; the thresholds are at the top of this file."""
        collapse, sentence = self._collapse(metrics, counts)
        sentences = [sentence]
        class_accuracy = metrics.get("class_accuracy")
        if class_accuracy is not None:
            sentences.append(f"{class_accuracy:.0%} of the samples belong to the requested class.")
        variety = metrics.get("pairwise_ratio")
        if variety is not None and variety < SAME_SAMPLE_RATIO:
            # Equal samples may all lie near one real sample, or far from all: neither says anything about the data.
            likeness = "poor"
            copies = False
            sentences.append(
                "The samples are all alike, so whether they look like the data or copy them cannot be determined."
            )
        else:
            likeness, sentence = self._likeness(metrics)
            sentences.append(sentence)
            copies, sentence = self._copies(metrics)
            sentences.append(sentence)
        return {"collapse": collapse, "copies": copies, "likeness": likeness, "sentence": " ".join(sentences)}

    def _collapse(self, metrics: MetricValues, counts: Tensor) -> tuple[str, str]:
        """Returns covered, partial or collapsed, and the sentences for it."""
        if not metrics["finite"]:
            return "collapsed", "Collapsed: all samples are NaN or infinite."
        if len(counts):
            return self._collapse_by_modes(metrics, counts)
        return self._collapse_by_coverage(metrics)

    def _collapse_by_coverage(self, metrics: MetricValues) -> tuple[str, str]:
        coverage = metrics.get("coverage")
        real_coverage = self.real.get("coverage")
        if coverage is None or not real_coverage:
            return "collapsed", "Collapsed, as far as can be determined: coverage is not defined for these samples."
        if coverage < COLLAPSED_COVERAGE * real_coverage:
            word = "collapsed"
        elif coverage < COVERED_COVERAGE * real_coverage:
            word = "partial"
        else:
            word = "covered"
        reference = f"real data {real_coverage:.2f}; compared by {self.features.name}"
        return word, f"{word.capitalize()}: coverage {coverage:.2f} ({reference})."

    def _collapse_by_modes(self, metrics: MetricValues, counts: Tensor) -> tuple[str, str]:
        total = len(counts)
        robust = int(metrics["modes_robust"] or 0)
        kl = metrics["kl_data"]
        if robust <= COLLAPSED_MODES * total:
            word = "collapsed"
        elif robust < COVERED_MODES * total or kl is None or kl > UNEVEN_KL:
            word = "partial"
        else:
            word = "covered"
        noun = _mode_noun(self.dataset)
        captured = metrics["modes"] or 0
        verb = "occurs" if captured == 1 else "occur"
        statement = f"{word.capitalize()}: {_statement(robust, total, noun)}{self._names(robust, counts)}."
        evidence = (
            f"{captured:,} of {total:,} {noun} {verb} in {metrics['samples']:,} samples,"
            f" {robust:,} with at least half of the expected count"
        )
        if kl is not None:
            evidence += f"; KL divergence from the data's shares {kl:.3f}"
        return word, f"{statement} {evidence}."

    def _names(self, robust: int, counts: Tensor) -> str:
        """Returns the names of the modes that are made or of those that are missing, whichever are fewer."""
        total = len(counts)
        if robust in (0, total) or total > MAX_NAMED_MODES:
            return ""
        # The shorter of the two lists.
        names_made = robust <= total / 2
        is_named = modes.robust(counts, self.shares) == names_made
        names = [self.dataset.classes[i] for i in is_named.nonzero().flatten().tolist()]
        if names_made:
            return f": {', '.join(names)}"
        return f"; missing or rare: {', '.join(names)}"

    def _likeness(self, metrics: MetricValues) -> tuple[str, str]:
        """Returns good or poor, and the sentence for it."""
        # In the plane the true modes are known, which is more exact than the balls of precision.
        name = "precision"
        words = "among real ones (precision)"
        if "high_quality" in metrics:
            name = "high_quality"
            words = "within 3σ of a mode"
        value = metrics.get(name)
        real_value = self.real.get(name)
        if value is None or real_value is None:
            return "poor", "Whether the samples look like the data cannot be determined."
        evidence = f"{value:.0%} of them lie {words}, {real_value:.0%} of real samples do"
        if value >= GOOD_LIKENESS * real_value:
            return "good", f"The samples look like the data: {evidence}."
        return "poor", f"The samples do not look like the data: {evidence}."

    def _copies(self, metrics: MetricValues) -> tuple[bool, str]:
        """Returns whether the samples copy the training data, and the sentence for it."""
        ct = metrics.get("ct")
        authenticity = metrics.get("authenticity")
        real_authenticity = self.real.get("authenticity")
        if ct is None or authenticity is None or real_authenticity is None:
            return False, "Whether they copy the training data cannot be determined."
        copies = ct < COPIES_CT and authenticity < COPIES_AUTHENTICITY * real_authenticity
        words = "copy" if copies else "do not copy"
        evidence = f"C_T {ct:.1f}; authenticity {authenticity:.2f}, real data {real_authenticity:.2f}"
        return copies, f"They {words} the training data ({evidence})."


def _std(dataset: Dataset) -> float:
    assert dataset.std is not None
    return dataset.std


def _mode_noun(dataset: Dataset) -> str:
    """Returns what a dataset's modes are called, in the plural."""
    if dataset.centres is not None:
        return "modes"
    if dataset.classes == list("0123456789"):
        return "digits"
    return "classes"


def _statement(robust: int, total: int, noun: str) -> str:
    """Returns 'it makes one of the ten digits'."""
    if robust == total:
        return f"it makes all {_number(total, total)} {noun}"
    return f"it makes {_number(robust, total)} of the {_number(total, total)} {noun}"


def _number(number: int, total: int) -> str:
    """Returns a number as a word if it counts modes of at most ten, else in figures."""
    if number == 0 or total < len(NUMBER_WORDS):
        return NUMBER_WORDS[number]
    return f"{number:,}"
