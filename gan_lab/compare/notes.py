"""What a reader of a comparison has to know beside its numbers."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from gan_lab.compare import resampling
from gan_lab.compare.collect import LOST, Record
from gan_lab.compare.effects import Effect
from gan_lab.compare.factors import Factor, resolved, text
from gan_lab.compare.findings import Findings
from gan_lab.compare.questions import Variant
from gan_lab.evaluation.metrics.registry import shown_in

GROUPS = ("dataset", "loss", "activation", "norm", "optim", "latent", "model.generator", "model.discriminator")
KEYS = ("batch_size", "latent_dim", "trainer.precision")


def common(counted: Sequence[Record]) -> dict[str, str]:
    """Settings and conditions that all of the runs share, in words."""
    every = [_conditions(record) for record in counted]
    return {name: words for name, words in every[0].items() if words and all(each[name] == words for each in every)}


def _conditions(record: Record) -> dict[str, str]:
    found = {group: record.part(group) for group in GROUPS} | {"remedy": record.remedies()}
    found |= {"steps": _words(record.steps)}
    found |= {key: _words(resolved(record.settings, key)) for key in KEYS}
    found |= {metric.label: _words(record.metrics.get(metric.name)) for metric in shown_in("conditions")}
    return found | {name: _words(environment(record).get(name)) for name in ("device", "threads", "torch")}


def environment(record: Record) -> dict[str, Any]:
    found = record.summary.get("environment")
    return found if isinstance(found, dict) else {}


def notes(findings: Findings, found: Sequence[Factor], counted: Sequence[Record]) -> list[str]:
    """What can't be concluded comes first, then what the numbers are of."""
    sizes = Counter(findings.runs["variant"])
    told = [*_too_little(findings, sizes), *_lost(findings, sizes), *_together(found), *_dependent(findings)]
    if findings.design == "ladder":
        rungs = " → ".join(findings.names[variant] for variant in findings.variants)
        told.append(f"Read as a ladder, in the order of the run folders: {rungs}.")
    elif findings.design == "control":
        told.append("Each remedy is compared with none; between two remedies nothing was asked.")
    elif findings.design == "factorial":
        every = math.prod(len(set(values)) for values in zip(*findings.variants, strict=True))
        have, where = f"All {every}", ""
        if every > len(findings.variants):
            have, where = f"{len(findings.variants)} of {every}", ", as far as these have runs before and after it"
        told.append(
            f"{have} combinations of {', '.join(findings.factors)} have runs: the effect of a change is its mean over"
            f" the settings of the others{where}."
        )
    if findings.effects:
        told += _about_the_numbers(findings)
    elif findings.design == "pairs":
        told.append(
            f"{len(findings.variants):,} variants make {math.comb(len(findings.variants), 2):,} pairs, too many to be"
            " compared: corrected for so many, nothing would show. Name fewer runs."
        )
    if (findings.runs["member"] > 0).any():
        told.append("Replicas count as repetitions; seconds are of all replicas of a run together.")
    for name in ("device", "threads", "trainer.precision"):
        if len(several := dict.fromkeys(_conditions(record)[name] or "unknown" for record in counted)) > 1:
            told.append(
                f"The runs differ in {name} ({', '.join(several)}), which seconds depend on more than on variants."
            )
    return told


def _too_little(findings: Findings, sizes: Counter[str]) -> list[str]:
    """What so few runs can't answer."""
    few, many = min(sizes.values()), max(sizes.values())
    if findings.design == "one":
        told = ["All runs have the same settings: there is nothing to compare. Vary one, as in loss=mse,bce."]
        if many == 1:
            told.append(
                "It is one run only: how much runs differ from seed to seed isn't known. Repeat it with seed=1,2,3,4."
            )
        return told
    if many == 1:
        return [
            "One run per variant: what a change did can't be told from luck with the seed, so nothing can be concluded."
            " Repeat each with seed=0,1,2,3,4."
        ]
    told = []
    if few != many:
        told.append(
            f"The variants have {few} to {many} runs. Where spreads differ, unequal numbers give more false alarms than"
            " the p-values say."
        )
    tested = [effect for effect in findings.effects if effect.metric == findings.metrics[0] and effect.p is not None]
    tested = [effect for effect in tested if effect.compared.kind != "interaction"]
    counts = {variant: sizes[findings.names[variant]] for variant in findings.variants}
    if tested and all(_least_p(effect, counts) * effect.family > resampling.ALPHA for effect in tested):
        one = tested[0]
        needed = resampling.seeds_needed(1, 0, 2, one.settings, one.family)
        told.append(
            f"With so few runs no difference can be shown, however large, in {one.family} comparisons: at least"
            f" {needed} seeds per variant are needed for that."
        )
    return told


def _least_p(effect: Effect, counts: dict[Variant, int]) -> float:
    """The p of runs that the change separates fully."""
    pairs = [[counts.get(variant, 0) for variant in stratum] for stratum in effect.compared.strata]
    pairs = [pair for pair in pairs if all(pair)]
    splits = math.prod(math.comb(sum(pair), pair[0]) for pair in pairs)
    return max((2 if all(a == b for a, b in pairs) else 1) / splits, 1 / (resampling.DRAWS + 1))


def _lost(findings: Findings, sizes: Counter[str]) -> list[str]:
    """Variants that lost some runs: the rest may not be typical."""
    ended = findings.apart[findings.apart["status"].isin(LOST)]
    lost = Counter(variant for variant in ended["variant"] if variant) if len(ended) else Counter()
    return [
        f"{variant}: {n} of {n + sizes[variant]} runs don't count (failed, cut short or damaged)"
        + ("; the numbers are of the others." if sizes[variant] else ".")
        for variant, n in lost.items()
    ]


def _together(found: Sequence[Factor]) -> list[str]:
    told = []
    for factor in found:
        if factor.with_it:
            pieces = ", ".join(f"{value} with {more}" for value, more in factor.with_it.items())
            told.append(f"{factor.name}: {pieces}; what each of these did can't be told apart.")
        elif " + " in factor.name:
            told.append(f"{factor.name} always change together: what each of them did can't be told apart.")
    return told


def _dependent(findings: Findings) -> list[str]:
    """Factors of which each does something else where the other is another."""
    shown = [effect for effect, _ in findings.answers if effect.shown and effect.compared.kind == "interaction"]
    pairs = dict.fromkeys(tuple(change.factor for change in effect.compared.changes) for effect in shown)
    if not pairs:
        return []
    told = ", ".join(f"{first} and {second}" for first, second in pairs)
    return [
        f"What these do depends on each other: {told}. The effect of one alone is then a mean of different effects."
    ]


def _about_the_numbers(findings: Findings) -> list[str]:
    headline = findings.headline
    words = " and the ".join(findings.measures[metric].label for metric in headline)
    told = []
    more = sum(effect.metric in headline for effect in findings.effects) - len(findings.answers)
    if more:
        told.append(f"{more:,} more comparisons of the {words} are in effects.csv.")
    others = len({effect.metric for effect in findings.effects}) - len(headline)
    if all(effect.p is None for effect in findings.effects):
        return [*told, f"The answer is about the {words}; effects.csv has {others} more metrics."]
    told.append(
        f"The answer is about the {words}. p is of a permutation test of the runs, by Holm's correction for all"
        f" comparisons of that metric; effects.csv has {others} more metrics, over which false alarms add up."
    )
    told.append(
        f"[Brackets] are 95 % intervals: of means by bootstrap (BCa, {resampling.RESAMPLES:,} resamples of the runs),"
        " of shares of runs Clopper and Pearson's. They are of one comparison each, and of few runs too short: whether"
        " there is a difference is for p to say."
    )
    return told


def _words(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else text(value)
