"""What the judgements of several replicas say together: means, the worst word and how many members it is of."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import torch

from gan_lab.evaluation.verdict import EvaluationResult, Metrics

WORST = {
    "collapse": ("collapsed", "partial", "covered"),
    "likeness": ("poor", "good"),
    "copies": (True, False),
}
NAMED = 10  # members at most that are named by their seeds


def mean(rows: Sequence[Mapping[str, Any]]) -> Metrics:
    """Of each number the mean over the rows that have it; None where it is None in all of them."""
    return {
        name: (values[0] if len(set(values)) == 1 else fmean(values)) if values else None
        for name, values in _columns(rows).items()
    }


def spread(rows: Sequence[Mapping[str, Any]]) -> Metrics:
    """Of each number the standard deviation over the rows that have it; None for fewer than two."""
    return {name: stdev(values) if len(values) > 1 else None for name, values in _columns(rows).items()}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name, value in row.items() if not isinstance(value, str))
    return {name: [row[name] for row in rows if row.get(name) is not None] for name in names}


def balance(words: Sequence[str]) -> str:
    """'balanced' if all are; else the more frequent of the other words."""
    return Counter([word for word in words if word != "balanced"] or words).most_common(1)[0][0]


def combine(judgements: Mapping[int, EvaluationResult], replicas: int, seed: int) -> EvaluationResult:
    """One judgement of all members: mean metrics, counts of all, the worst of each word, and a sentence with how many.

    Args:
        judgements: by member, at least one; what isn't there blew up.
        replicas: how many members there are.
        seed: the first one's.
    """
    of = list(judgements.values())
    undefined = {name: reason for each in of for name, reason in each.undefined.items()}
    metrics = mean([each.metrics for each in of])
    verdict = {
        key: next(word for word in words if any(each.verdict[key] == word for each in of))
        for key, words in WORST.items()
    }
    verdict["sentence"] = _sentence(judgements, replicas, seed)
    return EvaluationResult(
        metrics,
        {name: reason for name, reason in undefined.items() if metrics[name] is None},
        of[0].real,
        torch.stack([each.counts for each in of]).sum(0),
        verdict,
        of[0].features,
    )


def _sentence(judgements: Mapping[int, EvaluationResult], replicas: int, seed: int) -> str:
    members: dict[str, list[int]] = {word: [] for word in reversed(WORST["collapse"])}  # type: ignore[misc]
    for i, result in judgements.items():
        members[result.verdict["collapse"]].append(i)
    members["blown up"] = [i for i in range(replicas) if i not in judgements]
    told: list[str] = []
    for word, which in members.items():
        if which and not told:
            told = [f"{word} in {len(which)} of {replicas} members"]
        elif which:
            seeds = ", ".join(str(seed + i) for i in which[:NAMED]) + ", …" * (len(which) > NAMED)
            told.append(f"{word} in {len(which)} (seed {seeds})")
    sentences = [", ".join(told)]
    of = list(judgements.values())
    if len(of[0].counts):
        made = [int(each.metrics["modes_robust"] or 0) for each in of]
        sentences.append(
            f"Modes made at half their due or more: {fmean(made):.3g} of {len(of[0].counts):,} on average,"
            f" {min(made):,} to {max(made):,}"
        )
    if (right := mean([each.metrics for each in of]).get("class_accuracy")) is not None:
        sentences.append(f"On average {right:.0%} of the samples are read as the class that was asked for")
    like = sum(each.verdict["likeness"] == "good" for each in of)
    copying = sum(each.verdict["copies"] for each in of)
    sentences.append(f"Looks like the data in {like} of {len(of)}, copies the training data in {copying or 'none'}")
    return ". ".join(sentence[0].upper() + sentence[1:] for sentence in sentences) + "."
