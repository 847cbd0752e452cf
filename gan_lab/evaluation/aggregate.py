"""Aggregates the evaluations of several replicas: mean metrics, the worst verdict and its count."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import torch

from gan_lab.evaluation.metrics.registry import MetricValues, metric_of
from gan_lab.evaluation.verdict import EvaluationResult

# The labels of a verdict, the worst one first; what cannot be determined counts only if nothing else is known.
COLLAPSE = ("collapsed", "partial", "covered", "unknown")
WITHIN_MODES = ("collapsed", "narrow", "varied", "unknown")
LIKENESS = ("poor", "borderline", "good", "unknown")
MAX_SEEDS = 10  # members that a sentence names by their seeds


def mean(rows: Sequence[Mapping[str, Any]]) -> MetricValues:
    """Returns for each name the mean over the rows that have a number; None where it is None in all of them."""
    means: MetricValues = {}
    for name, values in _columns(rows).items():
        if not values:
            means[name] = None
        elif len(set(values)) == 1:
            means[name] = values[0]  # exact, and an int stays one
        else:
            means[name] = fmean(values)
    return means


def spread(rows: Sequence[Mapping[str, Any]]) -> MetricValues:
    """Returns for each name the standard deviation (n − 1) over the rows with a number; None for fewer than two."""
    return {name: stdev(values) if len(values) > 1 else None for name, values in _columns(rows).items()}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns the numbers of each name, in the order of the rows."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str):
                continue
            column = columns.setdefault(name, [])
            if value is not None:
                column.append(value)
    return columns


def balance(words: Sequence[str]) -> str:
    """Returns 'balanced' if all members are, else the most frequent other word."""
    unbalanced = [word for word in words if word != "balanced"]
    return Counter(unbalanced or words).most_common(1)[0][0]


def combine(results: Mapping[int, EvaluationResult], replicas: int, seed: int) -> EvaluationResult:
    """Returns one result for all members: mean metrics, the counts of all, the worst labels, and a summary sentence.

    Args:
        results: by member, at least one; a missing member failed.
        replicas: the number of members.
        seed: the first member's; member i has `seed + i`.
    """
    members = list(results.values())
    metrics = mean([result.metrics for result in members])
    undefined: dict[str, str] = {}
    for result in members:
        for name, reason in result.undefined.items():
            if metrics[name] is None:
                undefined[name] = reason
    verdicts = [result.verdict for result in members]
    verdict = {
        "collapse": _worst(COLLAPSE, [verdict["collapse"] for verdict in verdicts]),
        "within_modes": _worst(WITHIN_MODES, [verdict["within_modes"] for verdict in verdicts]),
        "likeness": _worst(LIKENESS, [verdict["likeness"] for verdict in verdicts]),
        "copies": _any_copies([verdict["copies"] for verdict in verdicts]),
        "sentence": _sentence(results, metrics, replicas, seed),
    }
    counts = torch.stack([result.counts for result in members]).sum(0)
    first = members[0]
    return EvaluationResult(metrics, undefined, first.real, counts, verdict, first.features, first.reference)


def _worst(order: Sequence[str], words: Sequence[str]) -> str:
    return min(words, key=order.index)


def _any_copies(copies: Sequence[bool | None]) -> bool | None:
    """Returns whether one of the members copies; None if that cannot be said of any."""
    known = [value for value in copies if value is not None]
    return any(known) if known else None


def _sentence(results: Mapping[int, EvaluationResult], metrics: MetricValues, replicas: int, seed: int) -> str:
    members = list(results.values())
    sentences = [_collapse(results, replicas, seed)]
    if len(members[0].counts):
        made = [int(result.metrics["modes_valid"] or 0) for result in members]
        label = metric_of("modes_valid").label.capitalize()
        total = len(members[0].counts)
        made_modes = f"{label}: {fmean(made):.3g} of {total:,} on average, {min(made):,} to {max(made):,}"
        if metrics.get("agreement") is not None:
            made_modes += f"; the readers agree on {metrics['agreement']:.0%} of the samples"
        sentences.append(f"{made_modes}.")
    narrow = [word for word in WITHIN_MODES[:2] for result in members if result.verdict["within_modes"] == word]
    if narrow:
        parts = [f"{word} in {count}" for word, count in Counter(narrow).items()]
        sentences.append(f"Within their modes {' and '.join(parts)} of {len(members)} members.")
    class_accuracy = metrics.get("class_accuracy")
    if class_accuracy is not None:
        sentences.append(f"On average {class_accuracy:.0%} of the samples belong to the requested class.")
    sentences += _about_samples([result.verdict for result in members])
    return " ".join(sentences)


def _about_samples(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns in how many members the samples look like the data and copy them, of those of which that is known."""
    sentences = []
    likeness = [verdict["likeness"] for verdict in verdicts if verdict["likeness"] != "unknown"]
    if likeness:
        good = likeness.count("good")
        sentences.append(f"The samples look like the data in {good} of {len(likeness)} members.")
    copies = [verdict["copies"] for verdict in verdicts if verdict["copies"] is not None]
    if copies:
        sentences.append(f"They copy the training data in {sum(copies) or 'none'} of {len(copies)} members.")
    return sentences


def _collapse(results: Mapping[int, EvaluationResult], replicas: int, seed: int) -> str:
    """Returns how many members have each label; those of all labels but the first are named by their seeds."""
    members: dict[str, list[int]] = {word: [] for word in reversed(COLLAPSE)}
    for i, result in results.items():
        members[result.verdict["collapse"]].append(i)
    members["failed with NaN or infinity"] = [i for i in range(replicas) if i not in results]
    parts: list[str] = []
    for word, numbers in members.items():
        if not numbers:
            continue
        if not parts:
            parts.append(f"{word.capitalize()} in {len(numbers)} of {replicas} members")
            continue
        seeds = ", ".join(str(seed + i) for i in numbers[:MAX_SEEDS])
        if len(numbers) > MAX_SEEDS:
            seeds += ", …"
        parts.append(f"{word} in {len(numbers)} (seed {seeds})")
    return ", ".join(parts) + "."
