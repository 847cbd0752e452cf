"""What a reader has to know to understand a comparison's numbers."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from gan_lab.comparison import resampling
from gan_lab.comparison.collect import LOST, Record
from gan_lab.comparison.effects import Summary
from gan_lab.comparison.factors import REMEDY, Factor, remedy_names, resolve, value_text
from gan_lab.comparison.findings import Findings
from gan_lab.comparison.sentences import is_count, topic
from gan_lab.evaluation.metrics.registry import Metric, shown_in

# Groups and keys whose values are listed where all runs share them.
GROUPS = ("dataset", "loss", "activation", "norm", "optim", "latent", "model.generator", "model.discriminator")
KEYS = ("batch_size", "latent_dim", "trainer.precision")
ENVIRONMENT = ("device", "threads", "torch", "engine")
# Conditions that change how long a run takes.
SPEED_CONDITIONS = ("device", "threads", "trainer.precision", "engine")
JOINT_D_UPDATE = "joint_d_update"  # in a configuration as it was asked for, in a summary as it was


def common_conditions(records: Sequence[Record]) -> dict[str, str]:
    """Returns the settings and conditions that all of the runs share, in words."""
    conditions = [_conditions(record) for record in records]
    common = {}
    for name, value in conditions[0].items():
        values = {run_conditions[name] for run_conditions in conditions}
        if value and len(values) == 1:
            common[name] = value
    return common


def notes(findings: Findings, factors: Sequence[Factor], records: Sequence[Record]) -> list[str]:
    """Returns what cannot be concluded, then how the numbers were obtained.

    Args:
        findings: without its notes.
        factors: what differs between the runs.
        records: the compared runs.
    """
    sizes = Counter(findings.runs["variant"])
    return [
        *_too_few_runs(findings, sizes),
        *_ceilings(findings),
        *_lost_runs(findings, sizes),
        *_unknown_verdicts(findings),
        *_confounded(factors),
        *_updates_of_d(findings, records),
        *_engines(findings, records),
        *_interacting(findings),
        *_design(findings),
        *_method(findings),
        *_replicas(findings),
        *_speed(records),
    ]


def _conditions(record: Record) -> dict[str, str]:
    """Returns a run's settings and conditions by name; '' for what is unknown."""
    conditions = {group: record.component(group) for group in GROUPS}
    conditions["remedy"] = record.remedies()
    conditions["steps"] = _text(record.steps)
    for key in KEYS:
        conditions[key] = _text(resolve(record.settings, key))
    for metric in shown_in("conditions"):
        conditions[metric.label] = _text(record.metrics.get(metric.name))
    environment = record.summary.get("environment")
    if not isinstance(environment, dict):
        environment = {}
    for name in ENVIRONMENT:
        conditions[name] = _text(environment.get(name))
    return conditions


def _text(value: Any) -> str:
    """Returns a value in words: integers with thousands separators, '' for None."""
    if value is None:
        return ""
    # In Python a bool is an int.
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value_text(value)


def _too_few_runs(findings: Findings, sizes: Counter[str]) -> list[str]:
    """Returns what so few runs cannot answer."""
    smallest = min(sizes.values())
    largest = max(sizes.values())
    if findings.design == "one":
        messages = ["All runs have the same settings: there is nothing to compare. Vary one, for example loss=mse,bce."]
        if largest == 1:
            messages.append(
                "There is only one run, so the variation between seeds is unknown. Repeat it with seed=1,2,3,4."
            )
        return messages
    if largest == 1:
        return [
            "There is one run per variant: the effect of a change can't be distinguished from that of the seed, so"
            " nothing can be concluded. Repeat each variant with seed=0,1,2,3,4."
        ]
    messages = []
    if smallest != largest:
        messages.append(
            f"The variants have {smallest} to {largest} runs. Where their spreads differ, unequal numbers of runs cause"
            " more false alarms than the p-values suggest."
        )
    effects = [effect for effect in findings.effects_in(findings.metrics[0]) if effect.comparison.kind != "interaction"]
    if effects and all(effect.conclusion == "too few seeds" for effect in effects):
        settings = min(effect.settings for effect in effects)
        needed = resampling.least_seeds(2, settings, effects[0].family)
        messages.append(
            f"With so few runs no difference can be shown, however large it is, in {effects[0].family} comparisons:"
            f" that takes at least {needed} seeds per variant (replicas={needed})."
        )
    return messages


def _ceilings(findings: Findings) -> list[str]:
    """Names the variants of which every run reached the largest possible count, which can't tell them apart."""
    messages = []
    for metric in findings.headline:
        measure = findings.measures[metric]
        at_ceiling = []
        for summary in findings.summaries:
            if summary.metric == metric and summary.n and _is_ceiling(summary, measure):
                at_ceiling.append(findings.names[summary.variant])
        if len(at_ceiling) > 1:
            total = measure.unit.removeprefix("out of ")
            messages.append(
                f"{'; '.join(at_ceiling)}: every run reached {total} of {total}. The number of {measure.label} can't"
                " tell these variants apart, and the effect of each may be larger than this count shows."
            )
    return messages


def _is_ceiling(summary: Summary, measure: Metric) -> bool:
    """Whether every run has the largest possible count."""
    return is_count(measure) and all(measure.unit == f"out of {value:g}" for value in summary.values)


def _unknown_verdicts(findings: Findings) -> list[str]:
    """Returns how many runs have no known verdict, which count neither as collapsed nor as not."""
    runs = findings.runs
    unknown = int((runs["collapse"] == "unknown").sum())
    if not unknown:
        return []
    return [
        f"The verdict on {unknown:,} of {len(runs):,} runs is unknown, because too few samples were evaluated or held"
        " out: they are left out of the share of collapsed runs."
    ]


def _lost_runs(findings: Findings, sizes: Counter[str]) -> list[str]:
    """Names the variants that lost some runs: the others may not be typical."""
    if findings.excluded.empty:
        return []
    lost_runs = findings.excluded[findings.excluded["status"].isin(LOST) & (findings.excluded["variant"] != "")]
    messages = []
    for variant, n in Counter(lost_runs["variant"]).items():
        message = f"{variant}: {n} of {n + sizes[variant]} runs are not compared (failed, interrupted or damaged)"
        if sizes[variant]:
            message += "; the numbers are those of the others"
        messages.append(f"{message}.")
    return messages


def _confounded(factors: Sequence[Factor]) -> list[str]:
    """Names what always changes together."""
    messages = []
    for factor in factors:
        if factor.comes_with:
            pieces = [f"{value} with {settings}" for value, settings in factor.comes_with.items()]
            messages.append(f"{factor.name}: {', '.join(pieces)}; their effects can't be separated.")
        elif " + " in factor.name:
            messages.append(f"{factor.name} always change together: their effects can't be separated.")
    return messages


def _updates_of_d(findings: Findings, records: Sequence[Record]) -> list[str]:
    """Says in which variants a remedy or a loss has changed how D is updated, where others kept what was asked for.

    A penalty, for example, needs real samples and fakes in one update of D. The summary has what was trained, the
    configuration what was asked for.
    """
    together: set[str] = set()
    one_after_the_other: set[str] = set()
    for record in records:
        is_joint = record.summary.get(JOINT_D_UPDATE)
        if record.variant is None or record.settings.get(JOINT_D_UPDATE) is not False:
            continue
        if is_joint is True:
            together.add(findings.names[record.variant])
        elif is_joint is False:
            one_after_the_other.add(findings.names[record.variant])
    if not together or not one_after_the_other:
        return []
    return [
        "The variants also differ in how D is updated: in one update on real samples and fakes together"
        f" ({_listed(together, findings)}), or in two, on one after the other"
        f" ({_listed(one_after_the_other, findings)}). What this does can't be separated from what the change does;"
        " joint_d_update=true in all of them would hold it equal."
    ]


def _engines(findings: Findings, records: Sequence[Record]) -> list[str]:
    """Says which engine trained which variants, if it was not the same for all."""
    variants: dict[str, set[str]] = {}
    for record in records:
        engine = _conditions(record)["engine"]
        if record.variant is not None and engine:
            variants.setdefault(engine, set()).add(findings.names[record.variant])
    if len(variants) < 2:
        return []
    engines = [f"{engine}: {_listed(names, findings)}" for engine, names in sorted(variants.items())]
    return [
        f"The variants were trained by different engines ({'; '.join(engines)}). They compute the same step with other"
        " rounding, which is as good as another seed; engine=autograd in all of them would hold it equal."
    ]


def _listed(names: set[str], findings: Findings) -> str:
    """Returns names of variants in the order of the comparison."""
    return ", ".join(findings.names[variant] for variant in findings.variants if findings.names[variant] in names)


def _interacting(findings: Findings) -> list[str]:
    """Names the factors whose effects depend on each other."""
    pairs: dict[str, None] = {}
    for effect, _ in findings.answers:
        if effect.significant and effect.comparison.kind == "interaction":
            first, second = effect.comparison.changes
            pairs[f"{first.factor} and {second.factor}"] = None
    if not pairs:
        return []
    return [
        f"The effects of these factors depend on each other: {', '.join(pairs)}. The effect of a single one is a mean"
        " of different effects."
    ]


def _design(findings: Findings) -> list[str]:
    """Says what was compared with what."""
    if findings.design == "ladder":
        rungs = " → ".join(findings.names[variant] for variant in findings.variants)
        return [f"The variants form a ladder, in the order of their folders: {rungs}."]
    if findings.design == "control":
        message = "Each remedy is compared with no remedy; remedies are not compared with each other."
        position = findings.factors.index(REMEDY)
        remedies = {remedy_names(variant[position]) for variant in findings.variants}
        if len(remedies) < len(findings.variants):
            message += (
                " The sentence of a remedy with several strengths is about the best one in that metric; p is corrected"
                " for all strengths, and so for this choice. A mean that was chosen for being the highest is somewhat"
                " too high."
            )
        return [message]
    if findings.design != "factorial":
        return []
    levels = [set(values) for values in zip(*findings.variants, strict=True)]
    combinations = math.prod(map(len, levels))
    factors = ", ".join(findings.factors)
    if len(findings.variants) == combinations:
        return [
            f"All {combinations} combinations of {factors} have runs. The effect of a change is averaged over all"
            " settings of the other factors."
        ]
    return [
        f"{len(findings.variants)} of {combinations} combinations of {factors} have runs. The effect of a change is"
        " averaged over the settings of the other factors that have runs before and after the change."
    ]


def _method(findings: Findings) -> list[str]:
    """Says how p-values and intervals were computed, and what else effects.csv has."""
    if not findings.effects and findings.design == "pairs":
        variants = len(findings.variants)
        return [
            f"{variants:,} variants make {math.comb(variants, 2):,} pairs, too many to compare: after a correction for"
            " so many comparisons hardly any difference would be shown. Name fewer runs."
        ]
    if not findings.effects:
        return []
    topics = " and ".join(topic(findings.measures[metric]) for metric in findings.headline)
    messages = []
    # Not every effect gets a sentence, see `comparison.MAX_PAIR_SENTENCES`.
    headline_effects = [effect for effect in findings.effects if effect.metric in findings.headline]
    omitted = len(headline_effects) - len(findings.answers)
    if omitted:
        messages.append(f"{omitted:,} more comparisons of {topics} are in effects.csv.")
    other_metrics = len({effect.metric for effect in findings.effects}) - len(findings.headline)
    if all(effect.p is None for effect in findings.effects):
        return [*messages, f"The sentences are about {topics}; effects.csv has {other_metrics} more metrics."]
    messages.append(
        f"The sentences are about {topics}. p comes from a permutation test of the runs, with Holm's correction for all"
        " comparisons of the same metric. The primary metric was chosen beforehand; all others are secondary,"
        f" effects.csv has {other_metrics} more, and false alarms add up over them."
    )
    messages.append(
        "[Brackets] are 95 % intervals: Welch's t intervals for means and their differences, Clopper and Pearson's for"
        " shares of runs. Each is for a single comparison; whether there is a difference, p decides, which is corrected"
        " for all. g is Hedges' g: the difference in standard deviations between seeds. Ranges of seeds have a"
        " confidence of 80 %. docs/statistics.md shows how often all of these are right."
    )
    return messages


def _replicas(findings: Findings) -> list[str]:
    if not (findings.runs["member"] > 0).any():
        return []
    return ["Replicas count as repetitions; the seconds are those of all replicas of a run together."]


def _speed(records: Sequence[Record]) -> list[str]:
    """Names the conditions in which the runs differ and that make their times incomparable."""
    conditions = [_conditions(record) for record in records]
    messages = []
    for name in SPEED_CONDITIONS:
        values = list(dict.fromkeys(condition[name] or "unknown" for condition in conditions))
        if len(values) > 1:
            messages.append(f"The runs differ in {name} ({', '.join(values)}), so their seconds can't be compared.")
    return messages
