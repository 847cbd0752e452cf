"""Which remedy helped: summaries of variants, and comparisons between them.

A frame has a row per run, columns of short strings for the *factors* (what differs between the runs' configs), and a
column per metric, of numbers, or of True and False for a share of runs. A *variant* is a combination of the factors'
values; its runs repeat it with other seeds and count as independent. Numbers that are missing or not finite are left
out and counted.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from gan_lab.compare import resampling
from gan_lab.compare.questions import Comparison, Variant, comparisons, keys
from gan_lab.compare.resampling import ALPHA, Sizes, Strata, sizes_of

NO_RUN = np.empty(0), 0


@dataclass(frozen=True)
class Summary:
    """A variant's values of a metric; `std` has n − 1 below; None is what so few or such equal values don't define."""

    variant: Variant
    metric: str
    n: int
    missing: int
    values: tuple[float, ...]
    mean: float | None
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Effect:
    """The answer to a comparison in one metric.

    `difference` is after − before, [`low`, `high`] its 95 % bootstrap interval (None where a variant has one run, or
    none has any spread). `n_before` and `n_after` are the runs on either side (of an interaction: those that count with
    − and with +), `seeds` the fewest and the most runs of a variant, `missing` the runs without a number, `settings`
    the strata with numbers everywhere. `parts` are an interaction's two effects, of its first change without the second
    and with it: `difference` is the second less the first; None for what is no interaction.

    `p` is of this comparison alone, `p_holm` corrected for the `family`, all comparisons of the same metric; `shown`
    says that p_holm ≤ 0.05. Both are None where every variant has one run: then nothing can be concluded, for what a
    change does can't be told from luck with that seed. `seeds_needed` per variant: see `resampling.seeds_needed`, and
    more than the fewest where nothing was shown; None where the spread is unknown or the difference 0.

    Pitfalls: an interval is of one comparison and of few runs, where it is too short (5 normal values: it holds the
    truth in about 84 % of cases), so whether there is a difference is for `p_holm` to say. The correction is within a
    metric: over ten metrics false alarms add up.
    """

    compared: Comparison
    metric: str
    difference: float
    low: float | None
    high: float | None
    n_before: int
    n_after: int
    seeds: tuple[int, int]
    missing: int
    settings: int
    parts: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    family: int
    shown: bool
    seeds_needed: int | None


def summarise(frame: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str]) -> list[Summary]:
    """Every variant's values in every metric, variants as they appear.

    95 % intervals: of a mean by bootstrap (see `resampling.interval`), of a share Clopper and Pearson's exact one.
    """
    summaries, variants = [], keys(frame, factors)
    for metric in metrics:
        share = all(isinstance(value, bool | np.bool_) for value in frame[metric].dropna())
        for variant, (values, missing) in _runs(variants, frame[metric]).items():
            n, low, high = len(values), np.nan, np.nan
            if n and share:
                low, high = binomtest(int(values.sum()), n).proportion_ci(0.95, method="exact")
            elif n:
                low, high = resampling.interval([[values[None]]])[:, 0]
            mean, std = values.mean() if n else np.nan, values.std(ddof=1) if n > 1 else np.nan
            numbers = [_defined(number) for number in (mean, std, low, high)]
            summaries.append(Summary(variant, metric, n, missing, tuple(values.tolist()), *numbers))
    return summaries


def compare(
    frame: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str], order: Sequence[Variant] | None = None
) -> list[Effect]:
    """Every comparison of the design in every metric; in each metric interactions come last, the largest first.

    Left out are settings where a variant has no number at all, and comparisons without any other setting.
    """
    questions, variants = comparisons(frame, factors, order), keys(frame, factors)
    asked: dict[str, list[tuple[Comparison, int, Strata]]] = {}
    alike: dict[Sizes, list[Strata]] = {}  # equal sizes are answered together
    for metric in metrics:
        runs = _runs(variants, frame[metric])
        asked[metric] = []
        for question in questions:
            cells = [[runs.get(variant, NO_RUN) for variant in stratum] for stratum in question.strata]
            strata = [[values for values, _ in stratum] for stratum in cells if all(len(each[0]) for each in stratum)]
            missing = sum(without for stratum in cells for _, without in stratum)
            if strata:
                asked[metric].append((question, missing, strata))
                alike.setdefault(sizes_of(strata), []).append(strata)
    draws = max(resampling.DRAWS, math.ceil(len(questions) / ALPHA))  # else no p could pass Holm's correction
    answers = {sizes: iter(_answers(members, draws)) for sizes, members in alike.items()}
    return [
        effect
        for metric, family in asked.items()
        for effect in _effects(metric, [(*question, next(answers[sizes_of(question[2])])) for question in family])
    ]


def _runs(keys: list[Variant], column: pd.Series) -> dict[Variant, tuple[np.ndarray, int]]:
    """Every variant's finite numbers, and how many runs have none."""
    rows: dict[Variant, list[float]] = {key: [] for key in keys}
    for key, value in zip(keys, column.astype(float), strict=True):
        rows[key].append(value)
    finite = {key: np.array([value for value in values if math.isfinite(value)]) for key, values in rows.items()}
    return {key: (finite[key], len(values) - len(finite[key])) for key, values in rows.items()}


def _answers(members: list[Strata], draws: int) -> list[tuple[float, ...]]:
    """Difference, interval, p and spread of comparisons with equally many runs in each cell."""
    strata = [
        [np.stack([member[i][j] for member in members]) for j in range(len(cells))]
        for i, cells in enumerate(members[0])
    ]
    numbers = resampling.effect(strata), *resampling.interval(strata), resampling.permutation_p(strata, draws)
    return list(zip(*numbers, resampling.spread(strata), strict=True))


def _effects(metric: str, answered: list[tuple[Comparison, int, Strata, tuple[float, ...]]]) -> list[Effect]:
    """One metric's effects, from questions, runs without a number, the others' numbers, and `_answers`."""
    most = [max(itertools.chain(*sizes_of(strata))) for _, _, strata, _ in answered]
    tested = [i for i, runs in enumerate(most) if runs > 1]
    family = len(tested)
    corrected = dict(zip(tested, resampling.holm(np.array([answered[i][3][3] for i in tested])), strict=True))
    effects = []
    for i, (compared, missing, strata, (difference, low, high, p, spread)) in enumerate(answered):
        p_holm = corrected.get(i)
        shown = p_holm is not None and bool(p_holm <= ALPHA)
        sizes = list(itertools.chain(*sizes_of(strata)))
        signs = np.tile(resampling.SIGNS[len(strata[0])], len(strata))
        needed = None
        if p_holm is not None and abs(difference) > 1e-12 * spread:
            needed = resampling.seeds_needed(difference, spread, len(strata[0]), len(strata), family)
            needed = needed if shown else max(needed, min(sizes) + 1)
        effects.append(
            Effect(
                compared=compared,
                metric=metric,
                difference=float(difference),
                low=_defined(low),
                high=_defined(high),
                n_before=sum(n for n, sign in zip(sizes, signs, strict=True) if sign < 0),
                n_after=sum(n for n, sign in zip(sizes, signs, strict=True) if sign > 0),
                seeds=(min(sizes), most[i]),
                missing=missing,
                settings=len(strata),
                parts=_parts(strata),
                p=None if p_holm is None else float(p),
                p_holm=None if p_holm is None else float(p_holm),
                family=family,
                shown=shown,
                seeds_needed=needed,
            )
        )
    interactions = [effect for effect in effects if effect.compared.kind == "interaction"]
    others = [effect for effect in effects if effect.compared.kind != "interaction"]
    return others + sorted(interactions, key=lambda effect: -abs(effect.difference))


def _parts(strata: Strata) -> tuple[float, float] | None:
    """Of squares: the first change's effect without the second change, and with it."""
    if len(strata[0]) < 4:
        return None
    without, whole = ([[cells[i][None], cells[i + 2][None]] for cells in strata] for i in (0, 1))
    return float(resampling.effect(without)[0]), float(resampling.effect(whole)[0])


def _defined(number: float) -> float | None:
    return None if math.isnan(number) else float(number)
