"""The verdict: does the generator make all that the data hold, does it look like the data, does it copy them?

A judge is handed samples, measures them against a dataset by the protocols of `gan_lab.evaluation.metrics.registry`, and says in words what
the numbers mean. Fresh real data, measured in the same way and number, stand beside.
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
from gan_lab.evaluation.classifier import LabelClassifier
from gan_lab.evaluation.feature_spaces import Features, classifier_for, features_of
from gan_lab.evaluation.metrics import fidelity, memorization, modes
from gan_lab.evaluation.metrics.custom import Metric, measure
from gan_lab.evaluation.metrics.neighbours import nearest
from gan_lab.evaluation.metrics.registry import Undefined

BATCH = 1_000  # training samples put into feature space at once
COMPARED = 2_500  # at most so many samples of each side are compared in feature space
REFERENCE = 60_000  # at most so many training images stand for all as possible originals of a copy

# What makes the words; each is a judgement of ours, the numbers stand beside it.
ALL_MODES = 0.98  # covered: at least this share of the modes (of 1,000, chance leaves even real data 3 short)
FEW_MODES = 0.5  # collapsed: at most this share of the modes is made at half its due or more
UNEVEN = 0.2  # partial: further from the data's own label distribution than this (KL, nats)
LITTLE_COVERAGE, LESS_COVERAGE = 0.25, 0.6  # without modes: collapsed, partial below this share of real data's coverage
UNLIKE = 0.75  # poor: below this share of what real data reach in high quality (in the plane) or in precision
ONE_POINT = 0.01  # variety (pairwise distance) below this share of the data's: one sample, over and over
COPIED_CT, COPIED_AUTHENTICITY = -3.0, 0.5  # copies: C_T below, and authenticity below this share of real data's

Metrics = dict[str, float | int | None]


@dataclass
class EvaluationResult:
    """What was measured and what it means.

    Attributes:
        metrics: named as in `summary.json`; None where a number isn't defined.
        undefined: the reason for each None.
        real: what fresh real data score, for those metrics in which that isn't obvious.
        counts: samples in each mode, `(modes,)`; empty without modes.
        verdict: `collapse` (covered, partial, collapsed), `copies`, `likeness` (good, poor), `sentence`.
        features: the space in which samples were compared, by its plain name.
    """

    metrics: Metrics
    undefined: dict[str, str]
    real: Metrics
    counts: Tensor
    verdict: dict[str, Any]
    features: str


def protocol_samples(dataset: Dataset) -> int:
    """How many samples papers take: 2,500 in the plane (VEEGAN), 26,000 for 1,000 modes (VEEGAN), else 10,000."""
    return 26_000 if len(dataset.classes) >= 1000 else 10_000 if len(dataset.shape) == 3 else 2_500


def evaluator_for(
    dataset: Dataset, cache_dir: Path, features: str | None = None, own: Mapping[str, Metric] | None = None
) -> "VerdictEvaluator":
    """The judge of a dataset, with its evaluator (trained and kept in `cache_dir`) for labelled images.

    Args:
        features: in which space samples are compared, see `gan_lab.evaluation.feature_spaces.features_of`.
        own: metrics of a user's own, by name.

    Raises:
        LabError: if these data don't allow that space.
    """
    network = classifier_for(dataset, cache_dir)
    return VerdictEvaluator(dataset, network, features_of(dataset, network, features), own)


class VerdictEvaluator:
    """Measures samples against one dataset.

    Real data stand beside as what half of the held-out samples score against the other half, where a metric needs both.

    Args:
        dataset: what the generator was to imitate.
        evaluator: labels images; None for others.
        features: the space in which samples are compared.
        own: metrics of a user's own, by name.
    """

    def __init__(
        self,
        dataset: Dataset,
        label_classifier: LabelClassifier | None,
        features: Features,
        own: Mapping[str, Metric] | None = None,
    ):
        self.dataset, self.label_classifier, self.features, self.own = dataset, label_classifier, features, own or {}
        self.compared = min(len(dataset.train), len(dataset.heldout), protocol_samples(dataset), COMPARED)
        counts = dataset.train.label_counts(len(dataset.classes)) if dataset.classes else torch.zeros(0)
        self.shares = counts.double() / counts.sum()
        self._originals = choose(
            dataset.train, REFERENCE if len(dataset.shape) == 3 else MAX_SHUFFLED, make_generator(0, "judge")
        )
        self.train = torch.cat([self.features(dataset.train[indices]) for indices in self._originals.split(BATCH)])
        self._heldout = choose(dataset.heldout, self.compared, make_generator(0, "judge/heldout"))
        self.heldout_samples = dataset.heldout[self._heldout]
        self.heldout = self.features(self.heldout_samples)

    @functools.cached_property
    def real(self) -> Metrics:
        """What fresh real data score; not before it is asked for, as a training's start needn't wait for it."""
        half = len(self.heldout) // 2
        real, _ = self._compare(self.heldout, self.heldout[:half], self.heldout[half:])
        if self.dataset.centres is not None:
            good = modes.assign_modes(self.heldout, self.dataset.centres, _std(self.dataset))[1]
            real["high_quality"] = good.float().mean().item()
        return real | self._own(self.heldout_samples)[0]

    @property
    def heldout_labels(self) -> Tensor:
        """The classes of `heldout_samples`, `(n,)`."""
        return self.dataset.heldout.labels_of(self._heldout)

    def nearest_originals(self, samples: Tensor) -> Tensor:
        """For each sample the training sample nearest to it in feature space, `(n, *shape)`."""
        return self.dataset.train[self._originals[nearest(self.features(samples), self.train, 1)[1][:, 0]]]

    def count_modes(self, samples: Tensor, asked: Tensor | None = None) -> tuple[Metrics, dict[str, str], Tensor]:
        """The mode metrics alone, which are quick: metrics, reasons for what is undefined, counts `(modes,)`.

        Args:
            samples: `(n, *shape)`.
            asked: of a conditional GAN, the class that each was to be of, `(n,)`.
        """
        whole = torch.isfinite(samples.flatten(1)).all(1)
        finite = samples[whole]
        metrics, undefined = _attempts({"samples": lambda: len(samples), "finite": lambda: len(finite) / len(samples)})
        total = len(self.dataset.classes)
        if not total:
            return metrics, undefined, torch.zeros(0)
        labels = torch.full((len(samples),), -1)
        if len(finite) and self.dataset.centres is not None:
            nearest_mode, good = modes.assign_modes(finite, self.dataset.centres, _std(self.dataset))
            metrics["high_quality"] = good.sum().item() / len(samples)
            labels[whole] = torch.where(good, nearest_mode, -1)
        elif len(finite):
            assert self.label_classifier is not None
            labels[whole] = self.label_classifier.labels(finite)
        if asked is not None:
            metrics["class_accuracy"] = modes.class_accuracy(labels, asked)
        counts = modes.mode_counts(labels, total)
        uniform = torch.full((total,), 1 / total, dtype=torch.float64)
        more, reasons = _attempts(
            {
                "modes": lambda: modes.captured(counts),
                "modes_total": lambda: total,
                "modes_robust": lambda: modes.captured_robustly(counts, self.shares),
                "kl_uniform": lambda: modes.kl(counts, uniform),
                "kl_data": lambda: modes.kl(counts, self.shares),
            }
        )
        return metrics | more, undefined | reasons, counts

    def evaluate(self, samples: Tensor, asked: Tensor | None = None) -> EvaluationResult:
        """Everything, of samples `(n, *shape)`; see `count_modes`."""
        metrics, undefined, counts = self.count_modes(samples, asked)
        finite = samples[torch.isfinite(samples.flatten(1)).all(1)][: self.compared]
        fake = self.features(finite) if len(finite) else torch.zeros(0, self.train.shape[1])
        half = len(self.heldout) // 2  # C_T grows with the number of samples: as many as for the real data
        more, reasons = self._compare(fake, self.heldout[:half], fake[:half])
        metrics |= more | {"compared": len(fake)}
        if not len(counts):
            bins, unbinned = _attempts({("ndb", "js"): lambda: modes.ndb(fake, self.train)})
            metrics, reasons = metrics | bins, reasons | unbinned
        if self.label_classifier:
            metrics["evaluator_accuracy"] = self.label_classifier.accuracy
        own, unmeasured = self._own(finite)
        metrics, reasons = metrics | own, reasons | unmeasured
        verdict = self._verdict(metrics, counts)
        return EvaluationResult(metrics, undefined | reasons, self.real, counts, verdict, self.features.name)

    def _compare(self, fake: Tensor, heldout: Tensor, suspects: Tensor) -> tuple[Metrics, dict[str, str]]:
        """Fidelity and variety of `fake`; whether `suspects` are nearer to the training data than `heldout` are."""
        real = self.train[: len(fake)]  # as many of each: these metrics depend on both numbers
        return _attempts(
            {
                ("precision", "recall"): lambda: fidelity.precision_recall(real, fake),
                ("density", "coverage"): lambda: fidelity.density_coverage(real, fake),
                "frechet_distance": lambda: fidelity.frechet_distance(real, fake),
                "pairwise_ratio": lambda: fidelity.pairwise_ratio(real, fake),
                "ct": lambda: memorization.c_t(self.train, heldout, suspects),
                "authenticity": lambda: memorization.authenticity(self.train, suspects),
            }
        )

    def _own(self, samples: Tensor) -> tuple[Metrics, dict[str, str]]:
        """The user's metrics of samples `(n, *shape)` beside as many training samples."""
        if not self.own:
            return {}, {}
        real = self.dataset.train[self._originals[: len(samples)]]
        return _attempts({name: functools.partial(measure, own, samples, real) for name, own in self.own.items()})

    def _verdict(self, metrics: Metrics, counts: Tensor) -> dict[str, Any]:
        """The words; thresholds stand at the top of this file."""
        collapse, what = self._collapse(metrics, counts)
        likeness, how = self._likeness(metrics)
        variety = metrics.get("pairwise_ratio")
        ct, authenticity, usual = metrics.get("ct"), metrics.get("authenticity"), self.real.get("authenticity")
        copies = False
        copying = "Whether it copies the training data can't be said"
        if variety is not None and variety < ONE_POINT:
            likeness, how = "poor", ""
            copying = "The samples are all alike, so that neither their likeness to the data nor copying can be told"
        elif ct is not None and authenticity is not None and usual is not None:
            copies = ct < COPIED_CT and authenticity < COPIED_AUTHENTICITY * usual
            copying = ("Copies" if copies else "Does not copy") + " the training data"
            copying += f" (C_T {ct:.1f}; authenticity {authenticity:.2f}, real data {usual:.2f})"
        right, obeys = metrics.get("class_accuracy"), ""
        if right is not None:
            obeys = f"{right:.0%} of the samples are read as the class that was asked for."
        sentence = " ".join(filter(None, (what, obeys, how, copying))) + "."
        return {"collapse": collapse, "copies": copies, "likeness": likeness, "sentence": sentence}

    def _collapse(self, metrics: Metrics, counts: Tensor) -> tuple[str, str]:
        if not metrics["finite"]:
            return "collapsed", "Collapsed: the generator's output is not finite."
        if not len(counts):
            coverage, usual = metrics.get("coverage"), self.real.get("coverage")
            if coverage is None or not usual:
                return "collapsed", "Collapsed, as far as can be told: coverage isn't defined for these samples."
            word = "covered" if coverage >= LESS_COVERAGE * usual else "partial"
            word = "collapsed" if coverage < LITTLE_COVERAGE * usual else word
            space = f"real data {usual:.2f}; compared by {self.features.name}"
            return word, f"{word.capitalize()}: coverage {coverage:.2f} ({space})."
        total, robust, kl = len(counts), int(metrics["modes_robust"] or 0), metrics["kl_data"]
        uneven = kl is None or kl > UNEVEN
        word = "partial" if robust < ALL_MODES * total or uneven else "covered"
        word = "collapsed" if robust <= FEW_MODES * total else word
        names = ""
        if robust < total <= 25:  # the shorter of two lists: what is made, or what is missing
            few = robust <= total / 2
            enough = modes.robust(counts, self.shares)
            which = [name for name, made in zip(self.dataset.classes, enough, strict=True) if made == few]
            names = f" ({'only' if few else 'too few'} {', '.join(which)})" if which else ""
        distance = "" if kl is None else f"; KL {kl:.3f} from the data's own shares"
        return word, (
            f"{word.capitalize()}: {metrics['modes'] or 0:,} of {total:,} modes seen in {metrics['samples']:,} samples,"
            f" {robust:,} made at half their due or more{names}{distance}."
        )

    def _likeness(self, metrics: Metrics) -> tuple[str, str]:
        name, words = ("high_quality", "within 3σ of a mode")
        if name not in metrics:
            name, words = "precision", "among the real ones (precision)"
        value, usual = metrics.get(name), self.real.get(name)
        if value is None or usual is None:
            return "poor", "Whether the samples look like the data can't be said."
        like = value >= UNLIKE * usual
        return (
            "good" if like else "poor",
            f"{'Looks' if like else 'Does not look'} like the data: {value:.0%} of the samples lie {words}, "
            f"of real data {usual:.0%}.",
        )


def _std(dataset: Dataset) -> float:
    assert dataset.std is not None
    return dataset.std


def _attempts(ways: dict[Any, Callable[[], Any]]) -> tuple[Metrics, dict[str, str]]:
    """Each metric's value, or None and the reason; a key may name several that come together."""
    metrics: Metrics = {}
    reasons: dict[str, str] = {}
    for names, way in ways.items():
        group = names if isinstance(names, tuple) else (names,)
        try:
            values = way()
            metrics |= dict(zip(group, values if isinstance(names, tuple) else (values,), strict=True))
        except Undefined as reason:
            metrics |= dict.fromkeys(group)
            reasons |= dict.fromkeys(group, str(reason))
    return metrics, reasons
