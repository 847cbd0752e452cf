"""What is wrong with a trained GAN, since when, and by which numbers: from the files of its run alone."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gan_lab.comparison.collect import Record, as_number
from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_TABLE, read_bytes
from gan_lab.core.run_folder import Run
from gan_lab.evaluation.metrics.modes import NO_MODE_JUNK

# The kinds of failure, the gravest first: of several that are found, the first is the main one.
FAILURES = (
    "blow-up",
    "junk",
    "one mode",
    "missing modes",
    "collapsed within modes",
    "D wins",
    "oscillation",
    "slow",
)
# D ranks a real sample above a fake in more than this share of pairs: its loss on fakes is then nearly flat for G.
FLAT_AUC = 0.99
# A number of modes that falls by more than this share of all modes between evaluations, twice or more, oscillates.
SWING = 0.2
MIN_SWINGS = 2
# Coverage or modes that grew by more than this share in the last third of the training are still growing.
STILL_GROWING = 0.1
# A sample of one image has no distances: the mean distance of fakes relative to that of real ones.
ONE_IMAGE = 0.1


class Evaluation(NamedTuple):
    """What one evaluation during the training counted.

    Attributes:
        step: after which.
        modes: modes made; NaN for data without modes.
        total: of how many.
        junk: share of samples outside the data, in [0, 1]; NaN where it is not measured.
    """

    step: int
    modes: float
    total: float
    junk: float


@dataclass(frozen=True)
class Symptom:
    """One failure, as the numbers show it.

    Attributes:
        failure: one of `FAILURES`.
        sentence: what it is, with its numbers.
        since: the step of the first evaluation from which on it holds; None where that is unknown.
    """

    failure: str
    sentence: str
    since: int | None = None


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        symptoms: the main one first; empty for a healthy run.
        verdict: the verdict's sentences.
        copies: whether the samples are copies of training data, which is no collapse.
    """

    symptoms: list[Symptom] = field(default_factory=list)
    verdict: str = ""
    copies: bool = False

    @property
    def is_healthy(self) -> bool:
        return not self.symptoms

    @property
    def failures(self) -> list[str]:
        """The kinds of failure, the main one first."""
        return [symptom.failure for symptom in self.symptoms]

    def as_json(self) -> dict[str, Any]:
        """Returns what cure.json keeps."""
        main = self.symptoms[0] if self.symptoms else Symptom("", "")
        return {
            "healthy": self.is_healthy,
            "failure": main.failure,
            "failures": self.failures,
            "since": main.since,
            "sentences": [symptom.sentence for symptom in self.symptoms],
        }


def examine(record: Record) -> Examination:
    """Examines a run.

    Args:
        record: the run, which ended or failed by NaN.

    Raises:
        LabError: if the run wasn't judged: it was interrupted, or its samples were too few for a verdict.
    """
    verdict = record.summary.get("verdict")
    verdict = verdict if isinstance(verdict, dict) else {}
    error = str(record.summary.get("error") or "")
    if record.status == "failed" and ("NaN" in error or "infinity" in error):
        sentence = f"It blew up: {error.partition(chr(10))[0]}"
        return Examination([Symptom("blow-up", sentence, _steps(record))])
    if record.status != "finished":
        raise LabError(
            f"{record.run.folder} has not been trained to its end, so it has no verdict: {record.reason}.",
            "Train it on first: python train.py resume=<run folder>",
            code="missing",
            key="run",
        )
    if verdict.get("collapse") in (None, "unknown"):
        raise LabError(
            f"{record.run.folder} has no verdict on collapse, so nothing can be cured.",
            "Train it with more samples in the evaluation: callbacks.verdict.samples=null takes as many as papers do.",
            code="missing",
            key="run",
        )
    sentence = str(verdict.get("sentence") or "")
    evaluations = read_evaluations(record.run)
    symptoms = _symptoms(verdict, record.metrics, evaluations, _steps(record))
    symptoms.sort(key=lambda symptom: FAILURES.index(symptom.failure))
    return Examination(symptoms, sentence, verdict.get("copies") is True)


def _symptoms(
    verdict: Mapping[str, Any], metrics: Mapping[str, Any], evaluations: Sequence[Evaluation], steps: int
) -> list[Symptom]:
    """Returns what is wrong with a judged GAN, in any order; possible causes, such as D's win, only with a failure."""
    failures = _failures(verdict, metrics, evaluations)
    if not failures:
        return []
    return [*failures, *_causes(verdict, metrics, evaluations, steps)]


def _failures(
    verdict: Mapping[str, Any], metrics: Mapping[str, Any], evaluations: Sequence[Evaluation]
) -> list[Symptom]:
    """Returns what is wrong with the samples."""
    made = as_number(metrics.get("modes_valid"))
    total = as_number(metrics.get("modes_total"))
    junk = as_number(metrics.get("junk"))
    ratio = as_number(metrics.get("pairwise_ratio"))
    # To make the only mode there is, is the aim: it can't collapse within it.
    within = verdict.get("within_modes") if total != 1 else ""
    is_collapsed = verdict.get("collapse") == "collapsed"
    if is_collapsed and junk > NO_MODE_JUNK and not made > 0:
        since = _since(evaluations, lambda evaluation: evaluation.junk > NO_MODE_JUNK)
        from_when = _from(since, evaluations)
        symptoms = [Symptom("junk", f"{junk:.0%} of the samples lie outside the data{from_when}.", since)]
        if ratio < ONE_IMAGE:
            symptoms.append(Symptom("one mode", _sameness(ratio), since))
        return symptoms
    if is_collapsed and total > 1 and made <= 1 and (made == 1 or ratio < ONE_IMAGE):
        since = _since(evaluations, lambda evaluation: evaluation.modes <= 1)
        sentence = f"It makes {made:,.0f} of {total:,.0f} modes{_from(since, evaluations)}."
        if ratio < ONE_IMAGE:
            sentence += f" {_sameness(ratio)}"
        return [Symptom("one mode", sentence, since)]
    if verdict.get("collapse") in ("collapsed", "partial"):
        return [_missing_modes(verdict, metrics, evaluations)]
    if within in ("collapsed", "narrow"):
        return [Symptom("collapsed within modes", _narrowness(metrics))]
    if verdict.get("likeness") == "poor":
        auc = as_number(metrics.get("two_sample_auc"))
        evidence = ""
        if math.isfinite(auc):
            evidence = f": a classifier tells them apart (AUC {auc:.2f}; 0.5 if they were alike)"
        return [Symptom("slow", f"All modes are made, but the samples are not like the data{evidence}.")]
    return []


def _sameness(ratio: float) -> str:
    """Returns how alike the samples are, by the mean distance between two of them relative to that of real ones."""
    return f"All samples are nearly the same: two of them are {ratio:.1%} as far apart as two real ones."


def _missing_modes(
    verdict: Mapping[str, Any], metrics: Mapping[str, Any], evaluations: Sequence[Evaluation]
) -> Symptom:
    """Returns the symptom of a generator that makes a part of the data."""
    made = as_number(metrics.get("modes_valid"))
    total = as_number(metrics.get("modes_total"))
    if not total > 1:
        coverage = as_number(metrics.get("coverage"))
        return Symptom("missing modes", f"It makes a part of what the data contain: coverage {coverage:.2f}.")
    if made >= total:
        sentence = str(verdict.get("sentence") or "").partition(". ")[0].removesuffix(".")
        return Symptom("missing modes", f"It makes all modes, but not as often as the data have them. {sentence}.")
    since = _since(evaluations, lambda evaluation: evaluation.modes < evaluation.total)
    which = str(verdict.get("sentence") or "").partition(". ")[0].partition(": ")[2].removesuffix(".")
    sentence = f"It makes {made:,.0f} of {total:,.0f} modes{_from(since, evaluations)}"
    return Symptom("missing modes", f"{sentence}: {which}." if which else f"{sentence}.", since)


def _narrowness(metrics: Mapping[str, Any]) -> str:
    """Returns how much less the samples of a mode differ than the data's."""
    width = as_number(metrics.get("mode_width"))
    variety = as_number(metrics.get("variety_within"))
    coverage = as_number(metrics.get("coverage_within"))
    numbers = []
    for name, value in (("width", width), ("variety", variety), ("coverage", coverage)):
        if math.isfinite(value):
            numbers.append(f"{name} {value:.2f}")
    return f"All modes are made, but within them there is less than in the data ({', '.join(numbers)}; 1 if equal)."


def _causes(
    verdict: Mapping[str, Any], metrics: Mapping[str, Any], evaluations: Sequence[Evaluation], steps: int
) -> list[Symptom]:
    """Returns what goes with a failure, and may be its cause."""
    symptoms = []
    auc = as_number(metrics.get("d_auc"))
    if verdict.get("balance") == "D is winning" or auc > FLAT_AUC:
        sentence = "D wins: it tells fakes from real samples"
        if math.isfinite(auc):
            sentence = f"D wins: it ranks a real sample above a fake in {auc:.0%} of pairs"
        if auc > FLAT_AUC:
            sentence += ", so its answers change little where G could improve"
        symptoms.append(Symptom("D wins", f"{sentence}."))
    swings = _swings(evaluations)
    if swings >= MIN_SWINGS:
        lowest = min(evaluation.modes for evaluation in evaluations[1:])
        highest = max(evaluation.modes for evaluation in evaluations)
        sentence = f"It oscillates: the modes made fell {swings} times, between {highest:,.0f} and {lowest:,.0f}."
        symptoms.append(Symptom("oscillation", sentence))
    earlier = [evaluation for evaluation in evaluations if evaluation.step <= 2 * steps / 3]
    last = evaluations[-1] if evaluations else None
    if earlier and last and last.total > 1:
        growth = last.modes - max(evaluation.modes for evaluation in earlier)
        if growth > STILL_GROWING * last.total:
            sentence = f"It was still learning: {growth:,.0f} of its modes came in the last third of the steps."
            symptoms.append(Symptom("slow", f"{sentence} Longer training may be all that it needs."))
    return symptoms


def _swings(evaluations: Sequence[Evaluation]) -> int:
    """Returns how often the number of modes fell by more than `SWING` from the highest since the last fall."""
    swings = 0
    highest = 0.0
    for evaluation in evaluations:
        if evaluation.modes < highest - SWING * evaluation.total:
            swings += 1
            highest = evaluation.modes
        highest = max(highest, evaluation.modes)
    return swings


def _since(evaluations: Sequence[Evaluation], fails: Any) -> int | None:
    """Returns the step of the first of the evaluations at the end that all fail; None if the last one doesn't."""
    since = None
    for evaluation in reversed(evaluations):
        if not fails(evaluation):
            break
        since = evaluation.step
    return since


def _from(since: int | None, evaluations: Sequence[Evaluation]) -> str:
    """Returns since when a failure holds, to be read after it; "" where that is unknown."""
    if since is None:
        return ""
    if since == evaluations[0].step:
        return ", from the first evaluation to the last"
    if since == evaluations[-1].step:
        return f", at the end only: not yet at step {evaluations[-2].step:,}"
    return f", at every evaluation from step {since:,} on"


def _steps(record: Record) -> int:
    return record.steps or 0


def read_evaluations(run: Run) -> list[Evaluation]:
    """Reads from metrics.csv what the evaluations during a training counted; [] where it can't be read."""
    evaluations = []
    try:
        text = read_bytes(run.metrics, MAX_TABLE).decode("utf-8")
        for row in csv.DictReader(io.StringIO(text, newline="")):
            if not row.get("metric/samples"):
                continue
            numbers = [float(row.get(f"metric/{name}") or math.nan) for name in ("modes_valid", "modes_total", "junk")]
            evaluations.append(Evaluation(int(row["step"]), *numbers))
    except (OSError, LabError, ValueError, LookupError, TypeError, OverflowError, csv.Error):
        return []
    return evaluations
