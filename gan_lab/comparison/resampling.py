"""Differences of means: Welch's intervals, permutation tests, effect sizes, and how many runs a test needs.

Everything here works on `Strata`. A *stratum* is one setting of the factors that do not change; it is a list of cells.
A *cell* holds the runs of one variant as an array `(C, n)`: C questions that are answered together, n ≥ 1 runs each.
A stratum has

- one cell for a mean,
- two cells, before and after, for the effect of a change,
- four cells for an interaction: neither change, the second, the first, both.

The difference within a stratum is the sum of its cells' means with the signs of `SIGNS` (with four cells: a difference
of differences). The difference over several strata is the unweighted mean of theirs, whatever their sizes. Every random
draw starts from the same seed, so that equal runs give equal numbers. docs/statistics.md shows how often intervals
cover the truth, and how often tests give a false alarm.
"""

import itertools
import math
from statistics import NormalDist

import numpy as np
from scipy import special

Strata = list[list[np.ndarray]]
Sizes = tuple[tuple[int, ...], ...]

ALPHA = 0.05
POWER = 0.8
# Confidence of the range of effect sizes from which the numbers of runs that a test needs are derived.
RANGE_CONFIDENCE = 0.8
# A permutation test enumerates up to so many arrangements, which makes it exact; of more it draws some.
MOST_SPLITS = 20_000
DRAWS = 9_999
# Numbers that are held in memory at the same time.
BATCH_NUMBERS = 4_000_000
# Least part of the sum of squares that may be left within permuted cells: less could be rounding.
LEAST_RESIDUAL = 1e-6

# By the number of cells in a stratum: the sign of each cell's mean in the difference, …
SIGNS = {1: np.array([1]), 2: np.array([-1, 1]), 4: np.array([1, -1, -1, 1])}
# … and the design matrix (a row per cell) of what is not tested: the mean, and of four cells both main effects.
NUISANCE = {
    2: np.ones((2, 1)),
    4: np.array([[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]),
}


def sizes_of(strata: Strata) -> Sizes:
    """Returns the number of runs in every cell, stratum by stratum."""
    sizes = []
    for cells in strata:
        sizes.append(tuple(cell.shape[-1] for cell in cells))
    return tuple(sizes)


def mean_difference(strata: Strata) -> np.ndarray:
    """Returns the difference of means, after − before, averaged over strata: `(C,)`."""
    differences = []
    for cells in strata:
        difference = 0
        for sign, cell in zip(SIGNS[len(cells)], cells, strict=True):
            difference = difference + sign * cell.mean(-1)
        differences.append(difference)
    return np.mean(differences, axis=0)


def pooled_std(strata: Strata) -> np.ndarray:
    """Returns the runs' standard deviation within their cells, pooled over cells: `(C,)`.

    NaN where every cell has one run, because nothing is known of the spread then.
    """
    cells = _all_cells(strata)
    sum_of_squares = np.zeros(len(cells[0]))
    degrees_of_freedom = 0
    for cell in cells:
        runs = cell.shape[-1]
        sum_of_squares = sum_of_squares + cell.var(-1) * runs
        # Each cell's mean is estimated, which costs one degree of freedom.
        degrees_of_freedom += runs - 1
    if degrees_of_freedom == 0:
        return np.full(len(cells[0]), np.nan)
    return np.sqrt(sum_of_squares / degrees_of_freedom)


def welch_interval(strata: Strata) -> np.ndarray:
    """Returns the bounds of the 95 % interval of the difference: `(2, C)`.

    difference ± t √(Σ vᵢ) with vᵢ = cᵢ² sᵢ² / nᵢ, where cᵢ is the weight of cell i in the difference, and t the 0.975
    quantile of Student's t with (Σ vᵢ)² / Σ (vᵢ² / (nᵢ − 1)) degrees of freedom (Satterthwaite 1946, Welch 1947). Of
    one cell it is Student's interval; of two cells, that of `scipy.stats.ttest_ind` with `equal_var=False`.

    The bounds are NaN where a cell has one run, or where no cell has any spread.
    """
    cells = _all_cells(strata)
    sizes = [cell.shape[-1] for cell in cells]
    if min(sizes) == 1:
        return np.full((2, len(cells[0])), np.nan)
    variances = []
    for weight, cell in zip(contrast_weights(sizes_of(strata)), cells, strict=True):
        # Equal values have a variance of nothing but rounding.
        spread = np.where(np.ptp(cell, axis=-1) > 0, cell.var(-1, ddof=1), 0)
        variances.append(weight**2 * spread / cell.shape[-1])
    variance = np.sum(variances, axis=0)
    squares = sum(part**2 / (runs - 1) for part, runs in zip(variances, sizes, strict=True))
    # Without any spread this is 0 / 0, which is the NaN that is meant.
    with np.errstate(invalid="ignore"):
        half_width = special.stdtrit(variance**2 / squares, 1 - ALPHA / 2) * np.sqrt(variance)
    difference = mean_difference(strata)
    return np.stack([difference - half_width, difference + half_width])


def contrast_weights(sizes: Sizes) -> np.ndarray:
    """Returns the weight of each cell's mean in the difference over all strata: `(cells,)`, stratum by stratum."""
    return np.concatenate([SIGNS[len(stratum_sizes)] for stratum_sizes in sizes]) / len(sizes)


def hedges_g(difference: float, std: float, sizes: Sizes) -> float:
    """Returns the difference in standard deviations within cells, corrected for its bias with few runs.

    g = J difference / std with J = 1 − 3 / (4 f − 1), where f is the degrees of freedom of `std` (Hedges 1981).

    Args:
        difference: of means.
        std: `pooled_std`, not 0.
        sizes: numbers of runs, more than one in some cell.
    """
    return (1 - 3 / (4 * _degrees_of_freedom(sizes) - 1)) * difference / std


def effect_size_range(g: float, sizes: Sizes) -> tuple[float, float]:
    """Returns what the true effect size may be, with a confidence of 80 %, see `RANGE_CONFIDENCE`.

    g ± z √(Σ cᵢ² / nᵢ + g² / 2f), with the weights cᵢ of the cells and f degrees of freedom (Hedges & Olkin 1985).

    Args:
        g: see `hedges_g`.
        sizes: numbers of runs, more than one in some cell.
    """
    weights = contrast_weights(sizes)
    runs = np.concatenate([np.array(stratum_sizes) for stratum_sizes in sizes])
    variance = float((weights**2 / runs).sum()) + g**2 / (2 * _degrees_of_freedom(sizes))
    margin = NormalDist().inv_cdf((1 + RANGE_CONFIDENCE) / 2) * math.sqrt(variance)
    return g - margin, g + margin


def _degrees_of_freedom(sizes: Sizes) -> int:
    """Returns the degrees of freedom of `pooled_std`: each cell's mean is estimated, which costs one."""
    return sum(runs - 1 for stratum_sizes in sizes for runs in stratum_sizes)


def permutation_p(strata: Strata, draws: int = DRAWS) -> np.ndarray:
    """Returns the two-sided p of the difference, permuting runs within each stratum: `(C,)` in (0, 1].

    The statistic is |t|: the difference divided by the root of the sum of squares that is left within the permuted
    cells. Effects that differ from stratum to stratum therefore neither hide the effect of their mean nor are taken for
    one, as they would be without the division (Janssen 1997, Chung and Romano 2013).

    Two cells: if the change has no effect in any stratum, every split of a stratum's runs is equally likely, and p is
    the share of splits with a |t| that is at least as large. Up to 20,000 splits are enumerated and the test is exact;
    of more, `draws` are drawn. If b of them are as large, p = (b + 1) / (draws + 1) (Phipson and Smyth 2010).

    Four cells: each change may have a main effect, so the runs themselves are not exchangeable. The residuals of the
    model without interaction, fitted to each stratum, nearly are; they are permuted, always by draws (Freedman and Lane
    1983, Anderson and Robinson 2001). The fit need not be added again because a difference of differences ignores it.

    Pitfall: the null hypothesis is that nothing changes, spread included. Where means are equal and spreads differ,
    p ≤ 0.05 is found more often: in 12 % of cases for 5 equal runs against 5 normal ones, in 25 % against 3 normal
    ones. Keep the numbers of runs equal.

    Args:
        strata: two or four cells per stratum.
        draws: number of random permutations where not all splits are enumerated.
    """
    sizes = sizes_of(strata)
    bases = [_nuisance_basis(stratum_sizes) for stratum_sizes in sizes]
    residuals = _standardised_residuals(strata, bases)
    # The statistic of an arrangement needs only linear forms of the residuals, which are the same for all questions.
    forms = []
    for basis, stratum_sizes, arrangements in zip(bases, sizes, _arrangements(sizes, draws), strict=True):
        weights = (SIGNS[len(stratum_sizes)] / stratum_sizes)[arrangements]
        first_run_of_cell = np.cumsum([0, *stratum_sizes[:-1]])
        # The first column is constant: a permutation does not change its product with residuals that sum to 0.
        columns = basis[first_run_of_cell, 1:].T
        forms.append((weights, [column[arrangements] for column in columns]))

    questions = residuals[0].shape[1]
    p = np.empty(questions)
    for batch in _batches(questions, len(forms[0][0])):
        difference = np.zeros(1)
        left_within = np.ones(1)
        for (weights, nuisance_columns), residual in zip(forms, residuals, strict=True):
            stratum_difference = weights @ residual[:, batch]
            difference = difference + stratum_difference
            left_within = left_within - stratum_difference**2 / (weights[0] ** 2).sum()
            for column in nuisance_columns:
                left_within = left_within - (column @ residual[:, batch]) ** 2
        statistic = np.abs(difference) / np.sqrt(np.maximum(left_within, LEAST_RESIDUAL))
        # Arrangement 0 is the observed one. Ties count as at least as large, whatever rounding makes of them.
        at_least_as_large = statistic >= statistic[0] * (1 - 1e-7) - 1e-9
        p[batch] = at_least_as_large.mean(0)
    return p


def holm(p: np.ndarray) -> np.ndarray:
    """Returns p-values `(m,)` corrected for the number of comparisons (Holm 1979).

    The i-th smallest of m values is multiplied by m − i + 1; the results never fall and never exceed 1. The correction
    keeps the probability of any false alarm below 5 % without assuming that the comparisons are independent.
    """
    order = np.argsort(p)
    factors = np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return corrected


def smallest_p(sizes: Sizes) -> float:
    """Returns the p of runs that the change separates completely: below it `permutation_p` hardly gets.

    Of all splits of a stratum's runs into those that count with + and those that count with − only the observed one is
    as extreme, and its mirror image if there are equally many: with two cells of n runs in each of s strata p is
    2 / binom(2n, n)^s. Of four cells the runs of two count with +.
    """
    splits = 1
    is_symmetric = True
    for stratum_sizes in sizes:
        plus = sum(runs for sign, runs in zip(SIGNS[len(stratum_sizes)], stratum_sizes, strict=True) if sign > 0)
        splits *= math.comb(sum(stratum_sizes), plus)
        is_symmetric = is_symmetric and 2 * plus == sum(stratum_sizes)
    return (2 if is_symmetric else 1) / splits


def least_seeds(cells: int = 2, strata: int = 1, family: int = 1) -> int:
    """Returns how many runs a cell needs for a test to show any difference, however large, after Holm's correction."""
    runs = 2
    while smallest_p(((runs,) * cells,) * strata) * family > ALPHA:
        runs += 1
    return runs


def seeds_needed(size: float, cells: int = 2, strata: int = 1, family: int = 1) -> int:
    """Returns how many runs a cell needs for a test to show an effect in 80 % of cases.

    n = (c/s) ((z₁ + z₂) / size)² + z₁² / 2cs, rounded up, with c cells in each of s strata, z₁ the normal quantile of
    1 − 0.05 / (2 family) and z₂ that of 0.8: the n of the z-test with Guenther's correction for t (1981). And at least
    `least_seeds`.

    Args:
        size: the effect in standard deviations within cells; not 0.
        cells: number of cells per stratum, 2 or 4.
        strata: number of strata.
        family: number of comparisons that Holm's correction is for; the test is at Holm's first, strictest level.
    """
    z_level, z_power = _quantiles(family)
    by_size = cells / strata * ((z_level + z_power) / size) ** 2 + z_level**2 / (2 * cells * strata)
    return max(math.ceil(by_size), least_seeds(cells, strata, family))


def smallest_effect(runs: int, cells: int = 2, strata: int = 1, family: int = 1) -> float | None:
    """Returns the effect size that a test shows in 80 % of cases, the inverse of `seeds_needed`.

    None if so few runs can show no difference, however large it is.
    """
    z_level, z_power = _quantiles(family)
    denominator = runs - z_level**2 / (2 * cells * strata)
    if runs < least_seeds(cells, strata, family) or denominator <= 0:
        return None
    return (z_level + z_power) * math.sqrt(cells / strata / denominator)


def _quantiles(family: int) -> tuple[float, float]:
    """Returns the normal quantiles of Holm's first level, two-sided, and of the power."""
    return -NormalDist().inv_cdf(ALPHA / family / 2), NormalDist().inv_cdf(POWER)


def _all_cells(strata: Strata) -> list[np.ndarray]:
    return list(itertools.chain.from_iterable(strata))


def _nuisance_basis(stratum_sizes: tuple[int, ...]) -> np.ndarray:
    """Returns an orthonormal basis `(n, k)` of what is not tested in a stratum; its rows are constant in a cell."""
    design = NUISANCE[len(stratum_sizes)].repeat(stratum_sizes, 0)
    return np.linalg.qr(design)[0]


def _standardised_residuals(strata: Strata, bases: list[np.ndarray]) -> list[np.ndarray]:
    """Returns each stratum's values `(n, C)` without what is not tested, divided by their length over all strata."""
    residuals = []
    magnitudes = []
    for cells, basis in zip(strata, bases, strict=True):
        values = np.concatenate(cells, axis=1).T
        magnitudes.append(np.abs(values).max(0))
        residuals.append(values - basis @ (basis.T @ values))
    squares = [(residual**2).sum(0) for residual in residuals]
    length = np.sqrt(sum(squares))
    # Equal values leave residuals of nothing but rounding, which must not count as a difference.
    rounding = 1e-12 * np.max(magnitudes, axis=0)
    length[length <= rounding] = np.inf
    return [residual / length for residual in residuals]


def _arrangements(sizes: Sizes, draws: int) -> list[np.ndarray]:
    """Returns, for each stratum, the cell that each run is put into: `(arrangements, n)`, the observed one first.

    All strata have the same number of arrangements. Of two cells, arrangements that are few enough are enumerated:
    every combination of the strata's splits.
    """
    arrangements = []
    two_cells = len(sizes[0]) == 2
    if two_cells and _number_of_splits(sizes) <= MOST_SPLITS:
        splits = [_all_splits(*stratum_sizes) for stratum_sizes in sizes]
        # A row per stratum: which of its splits each combination has.
        combinations = np.indices([len(split) for split in splits]).reshape(len(splits), -1)
        for split, rows in zip(splits, combinations, strict=True):
            arrangements.append(split[rows])
        return arrangements
    generator = np.random.default_rng(0)
    for stratum_sizes in sizes:
        observed = np.repeat(np.arange(len(stratum_sizes), dtype=np.int8), stratum_sizes)
        permuted = generator.permuted(np.tile(observed, (draws, 1)), axis=1)
        arrangements.append(np.concatenate([observed[None], permuted]))
    return arrangements


def _number_of_splits(sizes: Sizes) -> int:
    """Returns how many combinations of splits strata of two cells each have."""
    splits = 1
    for n_before, n_after in sizes:
        splits *= math.comb(n_before + n_after, n_before)
    return splits


def _all_splits(n_before: int, n_after: int) -> np.ndarray:
    """Returns every way to put runs into two cells of these sizes, `(splits, n)` of 0 and 1, the observed one first."""
    n = n_before + n_after
    # itertools yields the first n_before runs first, which is how they are ordered.
    runs_before = np.array(list(itertools.combinations(range(n), n_before)))
    splits = np.ones((len(runs_before), n), dtype=np.int8)
    np.put_along_axis(splits, runs_before, 0, axis=1)
    return splits


def _batches(questions: int, numbers_per_question: int) -> list[slice]:
    """Returns slices of the questions, each of as many as fit into `BATCH_NUMBERS`."""
    step = max(1, BATCH_NUMBERS // numbers_per_question)
    return [slice(start, start + step) for start in range(0, questions, step)]
