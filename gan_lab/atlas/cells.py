"""What each treatment did in each place: the cells of the atlas, and the answers in each of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from gan_lab.atlas.plan import EQUAL_STEPS, EQUAL_TIME, NONE, PUBLISHED, STEPS, TUNING, Costs, Place, treatments
from gan_lab.comparison import resampling
from gan_lab.comparison.resampling import ALPHA

# The outcomes: the primary one, and the share of the modes that are made.
COVERAGE = "coverage"
MADE = "modes made"
OUTCOMES = (COVERAGE, MADE)
# Differences within these bounds are called small, in both outcomes.
SMALL = 0.05
# A place in which no GAN, treated or not, has a mean coverage of this much can't tell treatments apart.
FLOOR = 0.05
# A cell with fewer runs on one side is left out: they have no spread.
LEAST_SEEDS = 2
# Random permutations of a test: the smallest p is then a 20th of Holm's first level.
DRAWS_PER_COMPARISON = 20 / ALPHA

Conclusion = Literal["helps", "harms", "small", "unclear"]


@dataclass(frozen=True)
class Answer:
    """A treatment compared with none, in one outcome.

    Attributes:
        control_mean: mean without it.
        mean: mean with it.
        low: lower end of the 95 % interval of the difference (Welch).
        high: its upper end.
        p: of the permutation test of this comparison by itself.
        p_holm: corrected for all cells.
        equivalence_p: of two one-sided tests (Welch) against a difference of `SMALL` or more, corrected for all cells.
        seeds: runs without it and with it.
        conclusion: 'helps' or 'harms' if p_holm ≤ 0.05 and the difference is at least `SMALL`; else 'small' if
            equivalence_p ≤ 0.05, 'unclear' if it isn't.
    """

    control_mean: float
    mean: float
    low: float
    high: float
    p: float
    p_holm: float
    equivalence_p: float
    seeds: tuple[int, int]
    conclusion: Conclusion = "unclear"

    @property
    def difference(self) -> float:
        """Mean with the treatment, minus that without."""
        return self.mean - self.control_mean


@dataclass(frozen=True)
class Cell:
    """A treatment in a place.

    Attributes:
        place: data set and base.
        group: of the treatment: remedy, loss, norm, …
        treatment: its name.
        strength: the chosen one.
        cost: time of a step relative to one without it.
        steps: of the training at equal time.
        failed: trainings at equal time that NaN or infinity ended.
        equal_time: by outcome.
        equal_steps: by outcome; empty where that was not trained.
    """

    place: Place
    group: str
    treatment: str
    strength: str
    cost: float
    steps: int
    failed: int
    equal_time: Mapping[str, Answer] = field(default_factory=dict)
    equal_steps: Mapping[str, Answer] = field(default_factory=dict)


class Pair(NamedTuple):
    """The values of runs to compare."""

    control: np.ndarray
    values: np.ndarray


def cells(table: pd.DataFrame, costs: Costs) -> list[Cell]:
    """Returns the cells of a table (`table.COLUMNS`).

    Corrections are for all cells together, in each outcome, at equal time and at equal steps.

    Args:
        table: a row for each GAN; those of other stages than the reported ones are not used.
        costs: of the treatments.

    Raises:
        KeyError: if a cost is missing.
    """
    by_time = table[table["stage"] == EQUAL_TIME]
    by_steps = table[table["stage"] == EQUAL_STEPS]
    found: list[Cell] = []
    pairs_at_equal_time: dict[str, list[Pair]] = {outcome: [] for outcome in OUTCOMES}
    pairs_at_equal_steps: dict[str, list[Pair]] = {outcome: [] for outcome in OUTCOMES}
    with_equal_steps = []
    for (dataset, base, name, strength), rows in _groups(by_time, ["dataset", "base", "treatment", "strength"]):
        place = Place(dataset, base)
        control = _select(by_time, place, NONE, PUBLISHED)
        if name == NONE or min(len(control), len(rows)) < LEAST_SEEDS:
            continue
        modes = float(control["modes_total"].max())
        steps = int(rows["steps"].iloc[0])
        cell = Cell(
            place=place,
            group=next(treatment.group for treatment in treatments(place) if treatment.name == name),
            treatment=name,
            strength=strength,
            cost=costs[dataset, name, strength],
            steps=steps,
            failed=int((rows["error"] != "").sum()),
        )
        same = rows if steps == STEPS else _select(by_steps, place, name, strength)
        if len(same) >= LEAST_SEEDS:
            with_equal_steps.append(len(found))
        for outcome in OUTCOMES:
            without = values_of(control, outcome, modes)
            pairs_at_equal_time[outcome].append(Pair(without, values_of(rows, outcome, modes)))
            if len(same) >= LEAST_SEEDS:
                pairs_at_equal_steps[outcome].append(Pair(without, values_of(same, outcome, modes)))
        found.append(cell)
    answers_at_equal_time = {outcome: answers(pairs) for outcome, pairs in pairs_at_equal_time.items()}
    answers_at_equal_steps = {outcome: answers(pairs) for outcome, pairs in pairs_at_equal_steps.items()}
    answered = []
    for i, cell in enumerate(found):
        at_equal_time = {outcome: answers_at_equal_time[outcome][i] for outcome in OUTCOMES}
        at_equal_steps = {}
        if i in with_equal_steps:
            j = with_equal_steps.index(i)
            at_equal_steps = {outcome: answers_at_equal_steps[outcome][j] for outcome in OUTCOMES}
        answered.append(replace(cell, equal_time=at_equal_time, equal_steps=at_equal_steps))
    return answered


def values_of(rows: pd.DataFrame, outcome: str, modes: float) -> np.ndarray:
    """Returns an outcome of each row, in [0, 1].

    Args:
        rows: of a table.
        outcome: coverage, or the share of the modes that are made.
        modes: of the data.
    """
    if outcome == COVERAGE:
        return rows[COVERAGE].to_numpy(float)
    return rows["modes_valid"].to_numpy(float) / modes


def answers(pairs: Sequence[Pair]) -> list[Answer]:
    """Compares each pair, and corrects for all of them."""
    if not pairs:
        return []
    # The smallest p that the draws leave possible must pass Holm's correction with ease.
    draws = max(resampling.DRAWS, math.ceil(DRAWS_PER_COMPARISON * len(pairs)))
    positions_by_sizes: dict[tuple[int, int], list[int]] = {}
    for i, pair in enumerate(pairs):
        positions_by_sizes.setdefault((len(pair.control), len(pair.values)), []).append(i)
    found: dict[int, Answer] = {}
    for sizes, positions in positions_by_sizes.items():
        # One stratum of two cells, each `(C, n)`, for the C pairs of these sizes.
        controls = np.stack([pairs[i].control for i in positions])
        values = np.stack([pairs[i].values for i in positions])
        strata = [[controls, values]]
        difference = resampling.mean_difference(strata)
        low, high = resampling.welch_interval(strata)
        p = resampling.permutation_p(strata, draws)
        for n, i in enumerate(positions):
            found[i] = Answer(
                control_mean=float(controls[n].mean()),
                mean=float(values[n].mean()),
                # Without any spread the interval is the difference itself.
                low=float(np.nan_to_num(low[n], nan=difference[n])),
                high=float(np.nan_to_num(high[n], nan=difference[n])),
                p=float(p[n]),
                p_holm=float(p[n]),
                equivalence_p=equivalence_test(pairs[i]),
                seeds=sizes,
            )
    p_holm = resampling.holm(np.array([found[i].p for i in range(len(pairs))]))
    equivalence_p = resampling.holm(np.array([found[i].equivalence_p for i in range(len(pairs))]))
    corrected = []
    for i in range(len(pairs)):
        corrected.append(_concluded(replace(found[i], p_holm=float(p_holm[i]), equivalence_p=float(equivalence_p[i]))))
    return corrected


def equivalence_test(pair: Pair) -> float:
    """Returns the p of two one-sided tests against a difference of means of `SMALL` or more (Schuirmann 1987).

    The larger one of the p-values of Welch's tests against −SMALL and +SMALL. Without any spread it is 0 or 1.
    """
    difference = pair.values.mean() - pair.control.mean()
    variances = []
    for runs in pair:
        # Equal values have a variance of nothing but rounding.
        spread = runs.var(ddof=1) if np.ptp(runs) > 0 else 0.0
        variances.append(spread / len(runs))
    variance = sum(variances)
    if variance == 0:
        return 0.0 if abs(difference) < SMALL else 1.0
    squares = sum(part**2 / (len(runs) - 1) for part, runs in zip(variances, pair, strict=True))
    margin = (SMALL - abs(difference)) / math.sqrt(variance)
    return float(special.stdtr(variance**2 / squares, -margin))


def _concluded(answer: Answer) -> Answer:
    """Returns an answer with its conclusion."""
    conclusion: Conclusion = "unclear"
    if answer.p_holm <= ALPHA and abs(answer.difference) >= SMALL:
        conclusion = "helps" if answer.difference > 0 else "harms"
    elif answer.equivalence_p <= ALPHA:
        conclusion = "small"
    return replace(answer, conclusion=conclusion)


def floor_places(found: Sequence[Cell]) -> list[Place]:
    """Returns the places in which no GAN, treated or not, has a mean coverage of `FLOOR`: they say nothing."""
    highest: dict[Place, float] = {}
    for cell in found:
        answer = cell.equal_time[COVERAGE]
        highest[cell.place] = max(highest.get(cell.place, 0.0), answer.mean, answer.control_mean)
    return [place for place, mean in highest.items() if mean < FLOOR]


def best_strengths(table: pd.DataFrame) -> pd.DataFrame:
    """Chooses the strength of each treatment in each place, by the runs of the tuning.

    Returns:
        A row for each place, treatment and strength: `dataset`, `base`, `treatment`, `strength`, `mean` (coverage),
        `seeds`, and `chosen`: whether its mean is the highest; of equal ones the first in `plan.treatments` is chosen,
            the published one where there is one.
    """
    rows = []
    for (dataset, base, name, strength), runs in _groups(
        table[table["stage"] == TUNING], ["dataset", "base", "treatment", "strength"]
    ):
        rows.append((dataset, base, name, strength, float(runs[COVERAGE].mean()), len(runs)))
    tried = pd.DataFrame(rows, columns=["dataset", "base", "treatment", "strength", "mean", "seeds"])
    tried["chosen"] = False
    for (dataset, base, _), strengths in _groups(tried, ["dataset", "base", "treatment"]):
        order = [(one.name, one.strength) for one in treatments(Place(dataset, base))]
        keys = zip(strengths["treatment"], strengths["strength"], strict=True)
        ordered = strengths.assign(position=[order.index(key) for key in keys])
        best = ordered.sort_values(["mean", "position"], ascending=[False, True]).index[0]
        tried.loc[best, "chosen"] = True
    return tried


def rank_agreement(found: Sequence[Cell], places: Sequence[Place]) -> tuple[pd.DataFrame, float]:
    """Returns how far the order of the treatments by their difference at equal time is the same from place to place.

    Args:
        found: the cells.
        places: that are compared.

    Returns:
        A table of the differences of coverage, a row per treatment that has a cell in all these places, a column per
        place; and Kendall's W of these (Kendall & Babington Smith 1939), corrected for ties: 1 if all places have the
        same order, near 0 if they have none in common.
    """
    by_place: dict[Place, dict[str, float]] = {place: {} for place in places}
    for cell in found:
        if cell.place in by_place:
            by_place[cell.place][cell.treatment] = cell.equal_time[COVERAGE].difference
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


def _groups(table: pd.DataFrame, keys: list[str]) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """Returns the rows of each combination of texts, in the order in which they appear."""
    return [(tuple(map(str, key)), rows) for key, rows in table.groupby(keys, sort=False)]


def _select(table: pd.DataFrame, place: Place, name: str, strength: str) -> pd.DataFrame:
    is_chosen = (table["dataset"] == place.dataset) & (table["base"] == place.base)
    return table[is_chosen & (table["treatment"] == name) & (table["strength"] == strength)]
