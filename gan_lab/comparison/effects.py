"""Summaries of variants, and the effects of the changes between them with intervals, p-values and a conclusion.

A frame has a row per run, columns of short strings for the *factors* (what differs between the runs' configurations),
and a column per metric, of numbers, or of True and False for a share of runs. A *variant* is a combination of the
factors' values; its runs repeat it with other seeds and count as independent. Numbers that are missing or not finite
are left out and counted.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from gan_lab.comparison import resampling
from gan_lab.comparison.questions import Comparison, Variant, comparisons, variant_of_rows
from gan_lab.comparison.resampling import ALPHA, Sizes, Strata, sizes_of

# What the runs say about a comparison: that there is a difference; that there are too few seeds for the test to show
# any difference, however large; that a difference is likely but not shown; or that none is in sight.
Conclusion = Literal["difference", "too few seeds", "not shown", "no difference"]
# A difference that is smaller than this part of the spread is 0 but for rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Summary:
    """A variant's values of a metric.

    Attributes:
        variant: the variant.
        metric: the metric.
        n: number of runs with a value.
        missing: number of runs without one.
        values: the values.
        mean: None without a value.
        std: sample standard deviation (n − 1); None with fewer than two values.
        low: lower end of the 95 % interval of the mean or share; None where so few or such equal values define none.
        high: its upper end.
    """

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

    Pitfalls: an interval is for one comparison, and supposes normal means; `p_holm`, which is corrected for all
    comparisons and supposes no distribution, decides whether there is a difference. The correction is within a metric:
    over ten metrics false alarms add up, so one metric, the primary one, is chosen beforehand.

    Attributes:
        comparison: the question.
        metric: the metric.
        difference: mean after − mean before, averaged over settings.
        low: lower end of its 95 % interval (Welch's); None where a variant has one run or none has any spread.
        high: its upper end.
        g: Hedges' g, the difference in standard deviations between seeds; None where these are unknown or 0.
        constant: the value that all runs have; None where they differ.
        n_before: number of runs before the change; of an interaction those that count with −.
        n_after: number of runs after the change; of an interaction those that count with +.
        seeds: the smallest and the largest number of runs of a variant.
        missing: number of runs without a value.
        settings: number of settings in which every variant has a value.
        simple_effects: an interaction's two effects, of its first change without the second and with it; `difference`
            is the second minus the first. None for everything else.
        p: of this comparison by itself. None where every variant has one run: then the effect of a change cannot be
            distinguished from that of the seed, and nothing can be concluded.
        p_holm: `p` corrected for `family`; None where `p` is.
        family: number of tested comparisons in the same metric.
        conclusion: 'difference' if p_holm ≤ 0.05. Otherwise 'too few seeds' if no p could have been so small, 'not
            shown' if the effect is on one side of 0 with a confidence of 80 %, and 'no difference' if it isn't.
        seeds_needed: how many runs per variant would show the difference in 80 % of cases: the smallest and the largest
            number within the uncertainty of its size (see `resampling.effect_size_range`), more than there were where
            nothing was shown. The largest is None where the difference may be 0.
    """

    comparison: Comparison
    metric: str
    difference: float
    low: float | None
    high: float | None
    g: float | None
    constant: float | None
    n_before: int
    n_after: int
    seeds: tuple[int, int]
    missing: int
    settings: int
    simple_effects: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    family: int
    conclusion: Conclusion
    seeds_needed: tuple[int, int | None]

    @property
    def significant(self) -> bool:
        """Whether a difference was shown."""
        return self.conclusion == "difference"


@dataclass(frozen=True)
class Values:
    """A variant's finite values of a metric, and how many of its runs have none."""

    finite: np.ndarray
    missing: int


@dataclass(frozen=True)
class Question:
    """A comparison in one metric, with the values of the strata in which every variant has some."""

    comparison: Comparison
    metric: str
    strata: Strata
    missing: int

    @property
    def sizes(self) -> Sizes:
        return sizes_of(self.strata)

    @property
    def cell_sizes(self) -> list[int]:
        return list(itertools.chain.from_iterable(self.sizes))


@dataclass(frozen=True)
class Answer:
    """The numbers that answer a question; NaN where they are not defined."""

    difference: float
    low: float
    high: float
    p: float
    std: float


def summarise(frame: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str]) -> list[Summary]:
    """Returns every variant's values in every metric, variants as they appear.

    95 % intervals are Student's for a mean (see `resampling.welch_interval`), and Clopper and Pearson's exact ones for
    a share.
    """
    summaries = []
    variants = variant_of_rows(frame, factors)
    for metric in metrics:
        is_share = all(isinstance(value, bool | np.bool_) for value in frame[metric].dropna())
        for variant, values in _values_by_variant(variants, frame[metric]).items():
            summaries.append(_summary(variant, metric, values, is_share))
    return summaries


def compare(
    frame: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str], order: Sequence[Variant] | None = None
) -> list[Effect]:
    """Answers every comparison of the design in every metric; within a metric interactions come last, largest first.

    Settings in which a variant has no value at all are left out, and so are comparisons without any other setting.
    """
    design_comparisons = comparisons(frame, factors, order)
    variants = variant_of_rows(frame, factors)
    questions = []
    for metric in metrics:
        values = _values_by_variant(variants, frame[metric])
        for comparison in design_comparisons:
            question = _question(comparison, metric, values)
            if question.strata:
                questions.append(question)
    # With fewer draws than this the smallest possible p could not pass Holm's correction.
    draws = max(resampling.DRAWS, math.ceil(len(design_comparisons) / ALPHA))
    answers = _answers(questions, draws)
    pairs_by_metric: dict[str, list[tuple[Question, Answer]]] = {metric: [] for metric in metrics}
    for question, answer in zip(questions, answers, strict=True):
        pairs_by_metric[question.metric].append((question, answer))
    effects = []
    for pairs in pairs_by_metric.values():
        effects += _effects(pairs)
    return effects


def _values_by_variant(variants: list[Variant], column: pd.Series) -> dict[Variant, Values]:
    """Returns every variant's values, variants as they appear; `variants` and `column` have an entry per run."""
    numbers: dict[Variant, list[float]] = {variant: [] for variant in variants}
    for variant, number in zip(variants, column.astype(float), strict=True):
        numbers[variant].append(number)
    values = {}
    for variant, variant_numbers in numbers.items():
        array = np.array(variant_numbers)
        finite = array[np.isfinite(array)]
        values[variant] = Values(finite, missing=len(array) - len(finite))
    return values


def _summary(variant: Variant, metric: str, values: Values, is_share: bool) -> Summary:
    """Returns a variant's summary in a metric; `is_share` says that its values are 0 and 1."""
    n = len(values.finite)
    mean = np.nan
    std = np.nan
    low = np.nan
    high = np.nan
    if n:
        mean = values.finite.mean()
    if n > 1:
        std = values.finite.std(ddof=1)
    if n and is_share:
        # Student's t gives no interval where all runs agree, which is the most frequent case of a share.
        low, high = binomtest(int(values.finite.sum()), n).proportion_ci(0.95, method="exact")
    elif n:
        low, high = resampling.welch_interval([[values.finite[None]]])[:, 0]
    return Summary(
        variant=variant,
        metric=metric,
        n=n,
        missing=values.missing,
        values=tuple(values.finite.tolist()),
        mean=_none_if_nan(mean),
        std=_none_if_nan(std),
        low=_none_if_nan(low),
        high=_none_if_nan(high),
    )


def _question(comparison: Comparison, metric: str, values: dict[Variant, Values]) -> Question:
    """Gathers a comparison's values; strata in which a variant has none are left out."""
    no_run = Values(np.empty(0), missing=0)
    strata = []
    missing = 0
    for stratum in comparison.strata:
        cells = [values.get(variant, no_run) for variant in stratum]
        missing += sum(cell.missing for cell in cells)
        if all(len(cell.finite) for cell in cells):
            strata.append([cell.finite for cell in cells])
    return Question(comparison, metric, strata, missing)


def _answers(questions: list[Question], draws: int) -> list[Answer]:
    """Returns the questions' answers in their order.

    Questions with the same numbers of runs share their permutations and are computed together, which makes thousands of
    comparisons affordable.
    """
    rows_by_sizes: dict[Sizes, list[int]] = {}
    for i, question in enumerate(questions):
        rows_by_sizes.setdefault(question.sizes, []).append(i)
    answers: dict[int, Answer] = {}
    for rows in rows_by_sizes.values():
        # All of these are arrays with an entry per question: `(C,)`.
        strata = _stacked([questions[i].strata for i in rows])
        difference = resampling.mean_difference(strata)
        low, high = resampling.welch_interval(strata)
        p = resampling.permutation_p(strata, draws)
        std = resampling.pooled_std(strata)
        for i, *numbers in zip(rows, difference, low, high, p, std, strict=True):
            answers[i] = Answer(*numbers)
    return [answers[i] for i in range(len(questions))]


def _stacked(strata_of_questions: list[Strata]) -> Strata:
    """Returns the strata of C questions of equal sizes as strata of cells `(C, n)`."""
    stacked = []
    for strata in zip(*strata_of_questions, strict=True):
        stacked.append([np.stack(cells) for cells in zip(*strata, strict=True)])
    return stacked


def _effects(pairs: list[tuple[Question, Answer]]) -> list[Effect]:
    """Returns one metric's effects: p-values are corrected for all of its tested comparisons."""
    p_values = []
    for question, answer in pairs:
        if _is_tested(question):
            p_values.append(answer.p)
    # One for each tested question, in their order.
    corrected = iter(resampling.holm(np.array(p_values)))
    effects = []
    interactions = []
    for question, answer in pairs:
        p_holm = next(corrected) if _is_tested(question) else None
        effect = _effect(question, answer, p_holm, family=len(p_values), planned=len(pairs))
        if effect.comparison.kind == "interaction":
            interactions.append(effect)
        else:
            effects.append(effect)
    interactions.sort(key=lambda effect: -abs(effect.difference))
    return effects + interactions


def _is_tested(question: Question) -> bool:
    """Whether there is a test: where every variant has one run, there is no spread to compare a difference with."""
    return max(question.cell_sizes) > 1


def _effect(question: Question, answer: Answer, p_holm: float | None, family: int, planned: int) -> Effect:
    """Returns the effect in a question's metric.

    Args:
        question: the comparison with its values.
        answer: its numbers.
        p_holm: the corrected p; None where nothing was tested.
        family: number of p-values that the correction was for.
        planned: number of comparisons in the metric, of which some may not have been tested.
    """
    sizes = np.array(question.cell_sizes)
    signs = resampling.contrast_weights(question.sizes)
    # What is not tested has no p, although the permutations give one.
    p = None
    if p_holm is not None:
        p = float(answer.p)
        p_holm = float(p_holm)
    g = None
    # The spread is NaN where every variant has one run.
    if answer.std > ROUNDING * abs(answer.difference):
        g = float(resampling.hedges_g(answer.difference, answer.std, question.sizes))
    seeds_needed = _seeds_needed(question, answer, g, planned)
    conclusion = _conclusion(question, p_holm, family, seeds_needed)
    if conclusion != "difference":
        # An estimate must not say that as few seeds as there were would have been enough.
        more = int(sizes.min()) + 1
        fewest, most = seeds_needed
        seeds_needed = (max(fewest, more), None if most is None else max(most, more))
    values = np.concatenate([cell for cells in question.strata for cell in cells])
    return Effect(
        comparison=question.comparison,
        metric=question.metric,
        difference=float(answer.difference),
        low=_none_if_nan(answer.low),
        high=_none_if_nan(answer.high),
        g=g,
        constant=float(values[0]) if np.ptp(values) == 0 else None,
        n_before=int(sizes[signs < 0].sum()),
        n_after=int(sizes[signs > 0].sum()),
        seeds=(int(sizes.min()), int(sizes.max())),
        missing=question.missing,
        settings=len(question.strata),
        simple_effects=_simple_effects(question.strata),
        p=p,
        p_holm=p_holm,
        family=family,
        conclusion=conclusion,
        seeds_needed=seeds_needed,
    )


def _seeds_needed(question: Question, answer: Answer, g: float | None, planned: int) -> tuple[int, int | None]:
    """Returns the smallest and the largest number of runs per variant that would show the difference.

    The largest is None where the difference may be 0.
    """
    design = (len(question.strata[0]), len(question.strata), planned)
    least = resampling.least_seeds(*design)
    if g is None:
        # Runs without any spread are separate, if they differ; of one run per variant the spread is unknown.
        is_apart = answer.std == 0 and abs(answer.difference) > 0
        return least, least if is_apart else None
    nearest, farthest = resampling.effect_size_range(abs(g), question.sizes)
    most = None
    if nearest > 0:
        most = resampling.seeds_needed(nearest, *design)
    return resampling.seeds_needed(farthest, *design), most


def _conclusion(
    question: Question, p_holm: float | None, family: int, seeds_needed: tuple[int, int | None]
) -> Conclusion:
    """Returns what the runs say, see `Effect.conclusion`."""
    if p_holm is not None and p_holm <= ALPHA:
        return "difference"
    if p_holm is None or resampling.smallest_p(question.sizes) * family > ALPHA:
        return "too few seeds"
    if seeds_needed[1] is None:
        return "no difference"
    return "not shown"


def _simple_effects(strata: Strata) -> tuple[float, float] | None:
    """Returns an interaction's first effect without its second change and with it; None for everything else."""
    if len(strata[0]) < 4:
        return None
    # The cells are: neither change, the second, the first, both.
    without_second = [[cells[0][None], cells[2][None]] for cells in strata]
    with_second = [[cells[1][None], cells[3][None]] for cells in strata]
    return (
        float(resampling.mean_difference(without_second)[0]),
        float(resampling.mean_difference(with_second)[0]),
    )


def _none_if_nan(number: float) -> float | None:
    if math.isnan(number):
        return None
    return float(number)
