"""What each treatment did to each base on each data set: the cells of the atlas, and the answer in each of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from gan_lab.atlas.table import NONE, is_tuning
from gan_lab.comparison import resampling
from gan_lab.comparison.resampling import ALPHA

METRIC = "coverage"
# Differences of coverage within these bounds are taken for equal: a tenth of what the best remedies add.
SMALL = 0.05
# A control that had this much less time than the treatment still counts as having had as much.
TIME_TOLERANCE = 0.1
# Random permutations of a test: the smallest p is then a 20th of Holm's first level.
DRAWS_PER_COMPARISON = 20 / ALPHA

Conclusion = Literal["helps", "harms", "small", "unclear"]
# The time of a step relative to one without a treatment, by data set, treatment and strength.
Costs = Mapping[tuple[str, str, str], float]


@dataclass(frozen=True)
class Answer:
    """A treatment compared with none.

    Attributes:
        control_steps: of the runs without it.
        control_mean: their mean coverage.
        difference: mean coverage with it, minus that without.
        low: lower end of the 95 % interval of the difference (Welch).
        high: its upper end.
        p: of the permutation test of this comparison by itself.
        p_holm: corrected for all cells.
        seeds: runs without it and with it.
        conclusion: 'helps' or 'harms' if p_holm ≤ 0.05; else 'small' if the interval is within ±SMALL, 'unclear' if
            it isn't.
    """

    control_steps: int
    control_mean: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    seeds: tuple[int, int]
    conclusion: Conclusion = "unclear"


NO_ANSWER = Answer(0, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, (0, 0))


@dataclass(frozen=True)
class Cell:
    """A treatment of a base on a data set.

    Attributes:
        dataset: the data.
        base: what was treated.
        group: of the treatment: remedy, loss or norm.
        treatment: its name.
        strength: weak, published or strong.
        steps: of the training.
        mean: mean coverage.
        cost: time of a step relative to that without it.
        failed: trainings that NaN or infinity ended.
        is_matched: whether there are untreated runs with as much time; else those with most steps are compared.
        equal_time: compared with untreated runs that had at least as much time.
        equal_steps: compared with untreated runs of as many steps.
    """

    dataset: str
    base: str
    group: str
    treatment: str
    strength: str
    steps: int
    mean: float
    cost: float
    failed: int
    is_matched: bool
    equal_time: Answer = NO_ANSWER
    equal_steps: Answer = NO_ANSWER

    @property
    def place(self) -> tuple[str, str]:
        """The data set and the base."""
        return self.dataset, self.base


def cells(table: pd.DataFrame, costs: Costs) -> list[Cell]:
    """Returns the cells of a table (`table.COLUMNS`), in the order in which they appear.

    Holm's correction is for all cells together, of the comparisons at equal time and at equal steps each.
    Cells without untreated runs of as many steps are left out.

    Args:
        table: a row for each GAN; those of the tuning are not used.
        costs: of the treatments; 1 for those that it does not name.
    """
    reported = table[~is_tuning(table)]
    untreated = reported[reported["treatment"] == NONE]
    treated = reported[reported["treatment"] != NONE]
    found = []
    at_equal_time = []
    at_equal_steps = []
    keys = ["dataset", "base", "group", "treatment", "strength", "steps"]
    for key, rows in treated.groupby(keys, sort=False):
        dataset, base, group, treatment, strength, number = map(str, key)
        steps = int(number)
        controls = untreated[(untreated["dataset"] == dataset) & (untreated["base"] == base)]
        control_by_steps = {}
        for control_steps in controls["steps"].unique():
            control_by_steps[int(control_steps)] = controls.loc[controls["steps"] == control_steps, METRIC]
        if steps not in control_by_steps:
            continue
        cost = costs.get((dataset, treatment, strength), 1.0)
        enough = [number for number in sorted(control_by_steps) if number >= steps * (cost - TIME_TOLERANCE)]
        matched_steps = enough[0] if enough else max(control_by_steps)
        values = rows[METRIC]
        found.append(
            Cell(
                dataset,
                base,
                group,
                treatment,
                strength,
                steps=steps,
                mean=float(values.mean()),
                cost=cost,
                failed=int((rows["error"] != "").sum()),
                is_matched=bool(enough),
            )
        )
        at_equal_time.append(Pair(matched_steps, control_by_steps[matched_steps].to_numpy(), values.to_numpy()))
        at_equal_steps.append(Pair(steps, control_by_steps[steps].to_numpy(), values.to_numpy()))
    answered = []
    for cell, of_time, of_steps in zip(found, _answers(at_equal_time), _answers(at_equal_steps), strict=True):
        answered.append(replace(cell, equal_time=of_time, equal_steps=of_steps))
    return answered


class Pair(NamedTuple):
    """Runs to compare.

    Attributes:
        control_steps: of those without a treatment.
        control: their values.
        values: those with it.
    """

    control_steps: int
    control: np.ndarray
    values: np.ndarray


def _answers(pairs: Sequence[Pair]) -> list[Answer]:
    """Compares each pair, and corrects for all of them."""
    # The smallest p that the draws leave possible must pass Holm's correction with ease.
    draws = max(resampling.DRAWS, math.ceil(DRAWS_PER_COMPARISON * len(pairs)))
    positions_by_sizes: dict[tuple[int, int], list[int]] = {}
    for i, pair in enumerate(pairs):
        positions_by_sizes.setdefault((len(pair.control), len(pair.values)), []).append(i)
    answers: dict[int, Answer] = {}
    for sizes, positions in positions_by_sizes.items():
        # One stratum of two cells, each `(C, n)`, for the C pairs of these sizes.
        controls = np.stack([pairs[i].control for i in positions])
        values = np.stack([pairs[i].values for i in positions])
        strata = [[controls, values]]
        difference = resampling.mean_difference(strata)
        low, high = resampling.welch_interval(strata)
        p = resampling.permutation_p(strata, draws)
        for n, i in enumerate(positions):
            answers[i] = Answer(
                control_steps=pairs[i].control_steps,
                control_mean=float(pairs[i].control.mean()),
                difference=float(difference[n]),
                # Without any spread the interval is the difference itself.
                low=float(np.nan_to_num(low[n], nan=difference[n])),
                high=float(np.nan_to_num(high[n], nan=difference[n])),
                p=float(p[n]),
                p_holm=float(p[n]),
                seeds=sizes,
            )
    corrected = resampling.holm(np.array([answers[i].p for i in range(len(pairs))]))
    return [_concluded(replace(answers[i], p_holm=float(p_holm))) for i, p_holm in enumerate(corrected)]


def _concluded(answer: Answer) -> Answer:
    """Returns an answer with its conclusion."""
    conclusion: Conclusion = "unclear"
    if answer.p_holm <= ALPHA:
        conclusion = "helps" if answer.difference > 0 else "harms"
    elif answer.low >= -SMALL and answer.high <= SMALL:
        conclusion = "small"
    return replace(answer, conclusion=conclusion)


def best_strengths(table: pd.DataFrame) -> pd.DataFrame:
    """Chooses the strength of each treatment on each data set, by the runs of the tuning.

    Returns:
        A row for each treatment and data set: `dataset`, `treatment`, the mean coverage over all bases and seeds in the
        columns of the strengths (NaN where there is no such strength), and `chosen`, the one with the highest mean; of
        equal ones the published one.
    """
    tuning = table[is_tuning(table)]
    tuning = tuning[tuning["treatment"] != NONE]
    # The mean of each base first: a base counts as much as another one, however many runs it has.
    by_base = tuning.groupby(["dataset", "treatment", "strength", "base"])[METRIC].mean()
    means = by_base.groupby(level=[0, 1, 2]).mean().unstack("strength")
    order = [name for name in ("published", "weak", "strong") if name in means]
    chosen = means[order].idxmax(axis=1)
    return means.assign(chosen=chosen).reset_index()


def rank_agreement(found: list[Cell]) -> tuple[pd.DataFrame, float]:
    """Returns how far the order of the treatments by their difference at equal time is the same from place to place.

    Returns:
        A table of the differences, a row per treatment that has a cell in all places, a column per place; and Kendall's
        W of these (Kendall & Babington Smith 1939), corrected for ties: 1 if all places have the same order, near 0
        if they have none in common.
    """
    by_place: dict[tuple[str, str], dict[str, float]] = {}
    for cell in found:
        by_place.setdefault(cell.place, {})[cell.treatment] = cell.equal_time.difference
    differences = pd.DataFrame(by_place).dropna()
    return differences, kendall_w(differences.to_numpy())


def kendall_w(values: np.ndarray) -> float:
    """Returns Kendall's coefficient of concordance of `(items, judges)`, corrected for ties; NaN if nothing differs."""
    ranks = pd.DataFrame(values).rank().to_numpy()
    items, judges = ranks.shape
    sums = ranks.sum(axis=1)
    ties = 0.0
    for column in ranks.T:
        _, counts = np.unique(column, return_counts=True)
        ties += float((counts**3 - counts).sum())
    denominator = judges**2 * (items**3 - items) - judges * ties
    if denominator == 0:
        return float("nan")
    return float(12 * ((sums - sums.mean()) ** 2).sum() / denominator)
