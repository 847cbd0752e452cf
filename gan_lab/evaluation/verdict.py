"""The verdict: does the generator make everything that the data contain, does it look like the data, does it copy them?

A `VerdictEvaluator` takes samples and computes the metrics of `gan_lab.evaluation.metrics.registry` against one
dataset, and the same for fresh real data, as a reference. `words` says what the numbers mean, `sentences` puts it into
sentences.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import MAX_SHUFFLED, Dataset, choose
from gan_lab.evaluation import words
from gan_lab.evaluation.classifier import LabelClassifier
from gan_lab.evaluation.feature_spaces import Features, PrincipalComponents, RandomNetwork, classifier_for, features_of
from gan_lab.evaluation.metrics import modes
from gan_lab.evaluation.metrics.custom import UserMetric, measure
from gan_lab.evaluation.metrics.memorization import copy_limit
from gan_lab.evaluation.metrics.neighbours import nearest
from gan_lab.evaluation.metrics.registry import MetricInputs, MetricValues, Undefined, compute
from gan_lab.evaluation.metrics.two_sample import GlanceFeatures, PointFeatures, shrink
from gan_lab.evaluation.readers import CHANNELS, COMPONENTS, MAX_HELDOUT, MIN_HELDOUT, Reading, reader_for
from gan_lab.evaluation.sentences import Measured, ModeNames, sentence

FEATURE_BATCH = 1_000  # training samples put into feature space per batch
MAX_COMPARED = 2_500  # samples of each side that are compared in feature space
MAX_TRAIN_COMPARED = 10_000  # training images that are compared in feature space
MAX_TRAIN_IMAGES = 60_000  # training images that samples are compared with as possible originals of copies
MAX_WITHIN = 10_000  # samples and training samples that are compared within their modes, but `MANY_PER_MODE` per mode
MANY_PER_MODE = 60
NO_COUNTS = torch.zeros(0)


@dataclass
class EvaluationResult:
    """What was measured and what it means.

    Attributes:
        metrics: the values by name, as in `summary.json`; None where a number is undefined.
        undefined: the reason for each None.
        real: the values of fresh real data, for the metrics where these are informative; of modes and KL divergences
            those of as many draws from the data's shares, see `gan_lab.evaluation.metrics.modes.of_real_samples`.
        counts: samples in each mode as the first reader sees them, as papers count, `(modes,)`; empty without modes.
        verdict: `collapse` (covered, partial, collapsed, unknown), `within_modes` (varied, narrow, collapsed, unknown),
            `copies` (True, False, None), `likeness` (good, borderline, poor, unknown), `sentence`.
        features: the name of the space in which samples were compared.
        reference: the real samples with which they were compared in it, in words.
    """

    metrics: MetricValues
    undefined: dict[str, str]
    real: MetricValues
    counts: Tensor
    verdict: dict[str, Any]
    features: str
    reference: str = ""


def protocol_samples(dataset: Dataset) -> int:
    """Returns the number of samples that papers take.

    VEEGAN (Srivastava et al. 2017): 2,500 in the plane, 26,000 for the 1,000 modes of stacked images. Else 10,000. More
    of data with so many modes that a missing one could not be told from bad luck.
    """
    number = 2_500
    if len(dataset.classes) >= 1000:
        number = 26_000
    elif len(dataset.shape) == 3:
        number = 10_000
    if not dataset.has_modes:
        return number
    return max(number, modes.samples_needed(len(dataset.classes)))


def too_few_samples(samples: int | None, dataset: Dataset) -> str:
    """Says before measuring that these samples would be too few to say anything about the modes; "" if they aren't.

    Args:
        samples: how many will be evaluated; None: as many as papers take.
        dataset: what they are compared with.
    """
    if samples is None or not dataset.has_modes:
        return ""
    total = len(dataset.classes)
    needed = modes.samples_needed(total)
    if samples >= needed:
        return ""
    return (
        f"samples={samples:,} are too few to tell a missing one of {total:,} modes from bad luck: the verdict can only"
        f" be 'unknown', or that modes are missing. {needed:,} are needed."
    )


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

    Fresh real data are measured in the same way: one half of the held-out samples is the reference of both, the other
    half are fresh.

    Args:
        dataset: what the generator learns to imitate.
        label_classifier: labels images; None for points, whose mode is the nearest, and for data without labels.
        features: the space in which samples are compared.
        user_metrics: the user's own metrics by name.

    Attributes:
        shares: the training data's share of each mode, `(modes,)` float64; empty for data without modes.
        max_compared: how many samples are compared in feature space.
        train: features of training samples, of at most 10,000 images, `(m, F)`.
        heldout: features of real samples that were not trained on, `(h, F)`.
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
        counts = NO_COUNTS
        if dataset.has_modes:
            counts = dataset.train.label_counts(len(dataset.classes))
        self.shares = counts.double() / counts.sum()
        self._heldout_indices = choose(dataset.heldout, 2 * MAX_COMPARED, make_generator(0, "judge/heldout"))
        # One half of the held-out samples is the reference, and as many training samples and fakes are compared.
        half = len(self._heldout_indices) // 2
        self.max_compared = min(len(dataset.train), half, protocol_samples(dataset), MAX_COMPARED)
        self.heldout = self.features(self.heldout_samples)
        self.reader = reader_for(dataset, label_classifier)
        is_image = len(dataset.shape) == 3
        number = MAX_TRAIN_IMAGES if is_image else MAX_SHUFFLED
        self._train_indices = choose(dataset.train, number, make_generator(0, "judge"))
        compared = self._train_indices
        if is_image:
            compared = compared[:MAX_TRAIN_COMPARED]
        self.train = torch.cat([self.features(dataset.train[batch]) for batch in compared.split(FEATURE_BATCH)])

    @functools.cached_property
    def _train_points(self) -> Tensor:
        """Possible originals in the space in which the samples of a mode are compared, when first needed."""
        batches = self._train_indices.split(FEATURE_BATCH)
        return torch.cat([self.reader.points(self.dataset.train[indices]) for indices in batches])

    @functools.cached_property
    def real(self) -> MetricValues:
        """The metrics of fresh real data, computed when first needed: a training need not wait for them to start."""
        inputs = self._feature_inputs(self.heldout[self._reference_size :])
        samples = self.heldout_samples
        if len(samples):
            inputs |= self._reading_inputs(_Samples(samples), self.reader(samples))
            if self.dataset.centres is not None:
                inputs["near_centre"] = inputs["in_range"].double()
        metrics, _ = compute(inputs, kinds=("result",))
        user_values, _ = self._user_metrics_of(samples[: self.max_compared])
        return metrics | user_values

    @property
    def reference(self) -> str:
        """What samples are compared with in feature space, in words: a network may know training samples by heart."""
        kind = "images" if len(self.dataset.shape) == 3 else "points"
        return f"{self._reference_size:,} held-out {kind}, which the features have not learnt"

    @property
    def _channels(self) -> int:
        """How many single images a sample is a stack of."""
        return 1 if self.dataset.base is None else CHANNELS

    @property
    def _reference_size(self) -> int:
        return len(self.heldout) // 2

    @property
    def heldout_samples(self) -> Tensor:
        """Real samples that were not trained on, `(h, *shape)`; read anew each time, because they may be large."""
        return self.dataset.heldout[self._heldout_indices]

    @property
    def heldout_labels(self) -> Tensor:
        """The classes of `heldout_samples`, `(h,)` int64."""
        return self.dataset.heldout.labels_of(self._heldout_indices)

    def nearest_originals(self, samples: Tensor) -> Tensor:
        """Returns for each sample the nearest training sample, `(n, *shape)`: of images by their main components."""
        _, neighbours = nearest(self.reader.points(samples), self._train_points, 1)
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
        inputs, _ = self._mode_inputs(_Samples(samples), target_labels)
        metrics, undefined = compute(inputs)
        return metrics, undefined, inputs.get("counts", NO_COUNTS)

    def glance(self, samples: Tensor) -> tuple[MetricValues, str]:
        """Computes the metrics of `mode_metrics`, and the verdict's word for collapse as far as these tell it.

        Args:
            samples: `(n, *shape)`.
        """
        inputs, _ = self._mode_inputs(_Samples(samples), None)
        metrics, _ = compute(inputs)
        return metrics, words.collapse_word(metrics, self.shares, inputs.get("valid_counts", NO_COUNTS))

    def evaluate(self, samples: Tensor, target_labels: Tensor | None = None) -> EvaluationResult:
        """Computes all metrics and the verdict.

        Args:
            samples: `(n, *shape)`, in any order.
            target_labels: the classes in the latent vectors of a conditional GAN, `(n,)`.
        """
        checked = _Samples(samples)
        finite = checked.finite
        inputs, reading = self._mode_inputs(checked, target_labels)
        # In random order: files of other programs may be sorted by class, and some metrics take the first samples.
        order = torch.randperm(len(finite), generator=make_generator(0, "judge/order"))
        compared = finite[order[: self.max_compared]]
        fake = torch.zeros(0, self.train.shape[1])
        if reading is not None:
            fake = self.features(compared)
            inputs |= self._within_inputs(reading, order)
            inputs |= self._two_sample_inputs(finite, order[: 2 * MAX_COMPARED])
        inputs |= self._feature_inputs(fake)
        if not self.dataset.has_modes:
            inputs["fake_without_modes"] = fake
        if self.label_classifier is not None:
            inputs["classifier_accuracy"] = self.label_classifier.accuracy
        metrics, undefined = compute(inputs)
        user_values, user_reasons = self._user_metrics_of(compared)
        metrics |= user_values
        undefined |= user_reasons
        verdict = self._verdict(metrics, undefined, inputs)
        counts = inputs.get("counts", NO_COUNTS)
        real = dict(self.real)
        if self.dataset.has_modes and len(samples):
            real |= modes.of_real_samples(self.shares, len(samples))
        return EvaluationResult(metrics, undefined, real, counts, verdict, self.features.name, self.reference)

    def _mode_inputs(self, samples: "_Samples", target_labels: Tensor | None) -> tuple[MetricInputs, Reading | None]:
        """Returns what counting modes needs, and what the readers see in the finite samples; None without any."""
        inputs: MetricInputs = {"samples": samples.values, "is_finite": samples.is_finite}
        reading = None
        if len(samples.finite):
            reading = self.reader(samples.finite)
            inputs |= self._reading_inputs(samples, reading)
        if not self.dataset.has_modes:
            return inputs, reading
        total = len(self.dataset.classes)
        # A sample that belongs to no mode, because it is not finite or too far from all, keeps the label −1.
        labels = torch.full((len(samples.values),), -1)
        if reading is not None:
            labels[samples.is_finite] = reading.modes
        if self.dataset.centres is not None and reading is not None:
            labels[~inputs["in_range"]] = -1
            inputs["near_centre"] = inputs["in_range"].double()
        inputs["labels"] = labels
        if target_labels is not None:
            inputs["target_labels"] = target_labels
        inputs["counts"] = modes.mode_counts(labels, total)
        inputs["shares"] = self.shares
        inputs["uniform_shares"] = torch.full((total,), 1 / total, dtype=torch.float64)
        inputs["valid_counts"] = torch.zeros(total, dtype=torch.int64)
        if reading is not None:
            inputs |= self._count_inputs(reading)
        return inputs, reading

    def _reading_inputs(self, samples: "_Samples", reading: Reading) -> MetricInputs:
        """Returns what the readers' metrics need; samples that are not finite are junk.

        Args:
            samples: all.
            reading: of the finite ones.
        """
        inputs: MetricInputs = {"in_range": torch.zeros(0, dtype=torch.bool)}
        if reading.has_limit:
            inputs["in_range"] = samples.flags_of_all(reading.in_range)
        if self.dataset.centres is not None:
            assert self.dataset.std is not None
            # The modes' shape is known, and with it the limit.
            inputs["reference_size"] = 0
            inputs["offsets"] = (samples.finite - self.dataset.centres[reading.modes]) / self.dataset.std
            inputs["number_of_modes"] = len(self.dataset.centres)
            inputs["read_modes"] = reading.modes
            return inputs
        inputs["reference_size"] = min(MAX_HELDOUT, len(self.dataset.heldout))
        if self.dataset.has_modes:
            inputs["read_modes"] = reading.modes
            inputs["second_modes"] = reading.second_modes
            inputs["second_in_range"] = inputs["in_range"]
        if self.dataset.has_modes and reading.has_limit:
            inputs["second_in_range"] = samples.flags_of_all(reading.second_in_range)
        return inputs

    def _count_inputs(self, reading: Reading) -> MetricInputs:
        """Returns the samples of each mode that are one, of labelled images also as each reader alone sees them."""
        inputs: MetricInputs = {"valid_counts": self._counts(reading.modes, reading.is_valid, reading.junk)}
        # The nearest centre is the only reader of points.
        if self.dataset.centres is None:
            inputs["first_counts"] = self._counts(reading.modes, reading.in_range, reading.junk)
            inputs["second_counts"] = self._counts(reading.second_modes, reading.second_in_range, reading.second_junk)
        return inputs

    def _counts(self, labels: Tensor, is_counted: Tensor, junk: float) -> Tensor:
        """Returns the samples of each mode, `(M,)`.

        Args:
            labels: their modes, `(n,)`.
            is_counted: which ones count, `(n,)`.
            junk: the share of junk; if it is most of them, what remains is junk that fell among the real samples.
        """
        if junk > modes.NO_MODE_JUNK:
            return torch.zeros(len(self.shares), dtype=torch.int64)
        return modes.mode_counts(labels[is_counted], len(self.shares))

    def _within_inputs(self, reading: Reading, order: Tensor) -> MetricInputs:
        """Returns what the metrics within the modes need, and the test for copies.

        Args:
            reading: of n samples.
            order: in which the first of these are taken, `(n,)`.
        """
        total = max(1, len(self.shares))
        most = max(MAX_WITHIN, MANY_PER_MODE * total)
        valid = order[reading.is_valid[order]][:most]
        return {
            "points": reading.points[valid],
            "point_modes": reading.modes[valid],
            "train_points": self._train_points[:most],
            "train_modes": self._labels_of_train(most),
            **self._heldout_inputs,
            "number_of_modes": total,
            "tested_points": reading.points[order[:MAX_COMPARED]],
            "original_points": self._train_points,
            "copy_limit": self._copy_limit,
            "compared_share": len(self._train_points) / len(self.dataset.train),
        }

    def _labels_of_train(self, most: int) -> Tensor:
        if not self.dataset.has_modes:
            return torch.zeros(min(most, len(self._train_points)), dtype=torch.int64)
        return self.dataset.train.labels_of(self._train_indices[:most])

    @functools.cached_property
    def _heldout_inputs(self) -> MetricInputs:
        """Held-out samples as centres of coverage within modes; none where they are too few to say anything."""
        part = self.dataset.heldout
        if self.dataset.centres is not None or len(part) < MIN_HELDOUT:
            return {}
        number = max(MAX_HELDOUT, 10 * len(self.shares))
        indices = choose(part, number, make_generator(0, "judge/centres"))
        points = torch.cat([self.reader.points(part[batch]) for batch in indices.split(FEATURE_BATCH)])
        labels = torch.zeros(len(indices), dtype=torch.int64)
        if self.dataset.has_modes:
            labels = part.labels_of(indices)
        return {"heldout_points": points, "heldout_modes": labels}

    @functools.cached_property
    def _copy_limit(self) -> float:
        return copy_limit(self._train_points)

    @functools.cached_property
    def _glance_spaces(self) -> tuple[RandomNetwork, PrincipalComponents]:
        """The spaces in which the two-sample test sees images."""
        shape = shrink(torch.zeros(1, *self.dataset.shape)).shape[1:]
        return RandomNetwork(tuple(shape)), PrincipalComponents(self.dataset, COMPONENTS)

    def _two_sample_features(self) -> Callable[[Tensor], Tensor]:
        """Returns the features of the two-sample test; its noise begins anew for each verdict."""
        if len(self.dataset.shape) == 3:
            return GlanceFeatures(*self._glance_spaces)
        return PointFeatures(self.dataset.train[self._train_indices[:MAX_COMPARED]])

    def _two_sample_inputs(self, samples: Tensor, order: Tensor) -> MetricInputs:
        """Returns what the two-sample test learns on, training samples and fakes, and what it is asked about.

        Args:
            samples: finite ones, `(n, *shape)`.
            order: which of these are taken, the first half to learn on, `(k,)`.
        """
        features = self._two_sample_features()
        train = self._train_indices[:MAX_COMPARED]
        heldout = self._heldout_indices[:MAX_COMPARED]
        number = min(len(order) // 2, len(train))
        # One set after the other: together they take several times the memory.
        real_to_learn = features(self.dataset.train[train[:number]])
        fake_to_learn = features(samples[order[:number]])
        real_to_test = features(self.dataset.heldout[heldout])
        fake_to_test = features(samples[order[number:]])
        return {
            "two_sample_train": (real_to_learn, fake_to_learn),
            "two_sample_test": (real_to_test, fake_to_test),
        }

    def _feature_inputs(self, fake: Tensor) -> MetricInputs:
        half = self._reference_size
        return {
            "fake": fake,
            # As many as fakes: the metrics that compare the two depend on both numbers.
            "real": self.heldout[: min(half, max(len(fake), 1))],
            "train": self.train,
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

    def _verdict(self, metrics: MetricValues, undefined: dict[str, str], inputs: MetricInputs) -> dict[str, Any]:
        """Returns the verdict's words and its sentence."""
        valid = inputs.get("valid_counts", NO_COUNTS)
        verdict = {
            "collapse": words.collapse_word(metrics, self.shares, valid),
            "within_modes": words.within_word(metrics),
            "likeness": words.likeness_word(metrics, self.real, self._channels),
            "copies": words.copies_word(metrics),
        }
        readers = []
        if "second_counts" in inputs:
            readers.append(self._words_of_reader(metrics, inputs, inputs["first_counts"], inputs["in_range"]))
            readers.append(self._words_of_reader(metrics, inputs, inputs["second_counts"], inputs["second_in_range"]))
        names = ModeNames(self.dataset.classes, modes_noun(self.dataset), _sample_noun(self.dataset))
        measured = Measured(metrics, undefined, self.real, self.shares, valid, names, self._channels)
        return {**verdict, "sentence": sentence(verdict, measured, readers)}

    def _words_of_reader(
        self, metrics: MetricValues, inputs: MetricInputs, counts: Tensor, in_range: Tensor
    ) -> tuple[str, str]:
        """Returns the words for collapse and likeness if one of the readers alone read the samples.

        Args:
            metrics: of both together.
            inputs: of both together.
            counts: samples in each mode that lie among the real ones, `(M,)`.
            in_range: whether each sample does, `(N,)`.
        """
        seen_alone: MetricInputs = {
            "samples": inputs["samples"],
            "shares": self.shares,
            "reference_size": inputs["reference_size"],
            "valid_counts": counts,
            "in_range": in_range,
        }
        values = metrics | compute(seen_alone)[0]
        return words.collapse_word(values, self.shares, counts), words.likeness_word(values, self.real, self._channels)


class _Samples:
    """Samples, some of which may have NaN or infinite numbers.

    Attributes:
        values: all of them, `(N, *shape)`.
        is_finite: which ones have no such number, `(N,)` bool.
        finite: those, `(n, *shape)`; no copy if all are finite.
    """

    def __init__(self, values: Tensor):
        self.values = values
        batches = values.flatten(1).split(FEATURE_BATCH)
        self.is_finite = torch.cat([batch.isfinite().all(1) for batch in batches])
        self.finite = values if self.is_finite.all() else values[self.is_finite]

    def flags_of_all(self, flags: Tensor) -> Tensor:
        """Returns flags of all samples, `(N,)` bool, from those of the finite ones; False for the others."""
        every_flag = self.is_finite.clone()
        every_flag[self.is_finite] = flags
        return every_flag


def modes_noun(dataset: Dataset) -> str:
    """Returns what a dataset's modes are called, in the plural."""
    if dataset.centres is not None:
        return "modes"
    return "digits" if dataset.classes == list("0123456789") else "classes"


def _sample_noun(dataset: Dataset) -> str:
    return "image" if len(dataset.shape) == 3 else "point"
