"""What a sweep will be able to show, said before it starts: from the numbers of its variants, seeds and comparisons."""

import math
from collections.abc import Mapping, Sequence

from gan_lab.comparison import resampling
from gan_lab.comparison.questions import CONTROL_FACTOR
from gan_lab.config.schema import is_factor

# An experiment of this folder changes one setting of the one before it.
LADDER = "experiment/ladder"
NO_REMEDY = ("[]", "{}", "none", "null")
# Runs that differ in these are not compared.
CONDITIONS = ("steps", "dataset")


def describe_plan(swept: Mapping[str, Sequence[str]], seeds: Sequence[int], replicas: int) -> str:
    """Says what a sweep can show, and how many seeds would do if it can show nothing.

    Args:
        swept: the values of each swept key, as the command line has them.
        seeds: the seeds of each variant's jobs.
        replicas: the number of GANs in each job.

    Returns:
        A sentence; '' if the sweep compares nothing.
    """
    levels = {}
    for key, values in swept.items():
        if is_factor(key) and key not in CONDITIONS and len(set(values)) > 1:
            levels[key] = list(dict.fromkeys(values))
    if not levels:
        return ""
    variants = math.prod(len(values) for values in levels.values())
    comparisons = number_of_comparisons(levels)
    # Of a factorial design, the effect with the fewest settings of the other factors is the hardest to show.
    settings = variants // max(len(values) for values in levels.values())
    runs = number_of_seeds(seeds, replicas)
    size = f"{variants:,} variants × {_plural(runs, 'seed')}, {_plural(comparisons, 'comparison')}"
    least = resampling.least_seeds(2, settings, comparisons)
    if runs < least:
        more = f"replicas={least}"
        if len(seeds) > 1:
            more = f"seed={seeds[0]} {more}"
        return f"{size}: too few seeds to tell, however large a difference is; {least} seeds would do: {more}"
    effect = resampling.smallest_effect(runs, 2, settings, comparisons)
    if effect is None:
        return f"{size}: enough to show a large difference."
    return f"{size}: enough to show a difference of {effect:.1f} standard deviations between seeds (in 80 % of cases)."


def number_of_comparisons(levels: Mapping[str, Sequence[str]]) -> int:
    """Returns how many comparisons `questions.comparisons` will make in a metric, of runs that all finish.

    Several factors are crossed. Of a single one, remedies are compared with none, rungs of the ladder with the one
    before, and everything else in pairs.
    """
    changes = [len(values) - 1 for values in levels.values()]
    if len(changes) > 1:
        # Each value against the factor's first one, and the interactions of all such changes of two factors.
        return sum(changes) + (sum(changes) ** 2 - sum(number**2 for number in changes)) // 2
    (key,) = levels
    is_control = key == CONTROL_FACTOR and any(value in NO_REMEDY for value in levels[key])
    if is_control or key == LADDER:
        return changes[0]
    return math.comb(changes[0] + 1, 2)


def number_of_seeds(seeds: Sequence[int], replicas: int) -> int:
    """Returns how many runs of a variant will be compared: a job that shares a seed with an earlier one is left out."""
    taken: set[int] = set()
    for seed in seeds:
        members = set(range(seed, seed + replicas))
        if not members & taken:
            taken |= members
    return len(taken)


def _plural(number: int, noun: str) -> str:
    """Returns '1 seed' or '3 seeds'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
