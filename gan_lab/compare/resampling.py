"""Differences of means: bootstrap intervals, permutation tests, and how many runs they need.

Everything here is of `Strata`: a stratum is a list of cells, a cell an array `(C, n)` for C questions at once, of n ≥ 1
runs each. A stratum has one cell, for a mean; two, before and after; or the four of a square (00, 01, 10, 11). Its
difference is the sum of its cells' means by `SIGNS` (of a square: a difference of differences), and that of several
strata is the mean of theirs, whatever their sizes. Every draw starts from the same seed: equal runs give equal numbers.
"""

import itertools
import math
from statistics import NormalDist

import numpy as np
from scipy.stats import bootstrap

Strata = list[list[np.ndarray]]
Sizes = tuple[tuple[int, ...], ...]

ALPHA, POWER = 0.05, 0.8
SPLITS = 20_000  # as many are enumerated, of more some are drawn:
DRAWS = 9_999
RESAMPLES = 1_999  # of the bootstrap
BATCH = 4_000_000  # numbers held at once
NO_SPREAD = 1e-6  # within cells, as a part of all: less could be rounding

SIGNS = {1: np.array([1]), 2: np.array([-1, 1]), 4: np.array([1, -1, -1, 1])}
NUISANCE = {2: np.ones((2, 1)), 4: np.array([[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]])}  # cells by what isn't tested


def sizes_of(strata: Strata) -> Sizes:
    """Every cell's n."""
    return tuple(tuple(cell.shape[-1] for cell in cells) for cells in strata)


def effect(strata: Strata) -> np.ndarray:
    """The difference, after − before, `(C,)`."""
    means = [sum(sign * cell.mean(-1) for sign, cell in zip(SIGNS[len(cells)], cells, strict=True)) for cells in strata]
    return np.mean(means, axis=0)


def spread(strata: Strata) -> np.ndarray:
    """The runs' standard deviation within their cells, pooled, `(C,)`; NaN where every cell has one run."""
    cells = list(itertools.chain(*strata))
    squares = sum(cell.var(-1) * cell.shape[-1] for cell in cells)
    freedom = sum(cell.shape[-1] - 1 for cell in cells)
    return np.sqrt(squares / freedom) if freedom else np.full(len(cells[0]), np.nan)


def interval(strata: Strata) -> np.ndarray:
    """95 % bounds of the difference, `(2, C)`: bootstrap, bias-corrected and accelerated (Efron 1987), cell by cell.

    NaN where a cell has one run, or no cell has any spread. Pitfall: short at few runs. See `Effect`.
    """
    cells = list(itertools.chain(*strata))
    bounds = np.full((2, len(cells[0])), np.nan)
    if min(cell.shape[-1] for cell in cells) == 1:
        return bounds

    def statistic(*resampled: np.ndarray, axis: int) -> np.ndarray:
        numbers = iter(resampled)
        return effect([[next(numbers) for _ in stratum] for stratum in strata])

    varied = np.flatnonzero(np.any([np.ptp(cell, axis=-1) > 0 for cell in cells], axis=0))
    for some in _batches(len(varied), RESAMPLES * max(cell.shape[-1] for cell in cells)):
        found = bootstrap(
            [cell[varied[some]] for cell in cells],
            statistic,
            n_resamples=RESAMPLES,
            axis=-1,
            method="BCa",
            random_state=np.random.default_rng(0),
        )
        bounds[:, varied[some]] = found.confidence_interval
    return bounds


def permutation_p(strata: Strata, draws: int = DRAWS) -> np.ndarray:
    """Two-sided p of the difference, permuting runs within each stratum: `(C,)` in (0, 1].

    The statistic is |t|: the difference over the root of what spread is left within the permuted cells. So effects that
    differ from stratum to stratum neither hide that of their mean nor pass for one, as they would undivided (Janssen
    1997, Chung and Romano 2013).

    Two cells: if the change does nothing in any stratum, each split of its runs is as likely, and p is the share of
    splits with a |t| at least as large. Up to 20,000 are enumerated, the test is exact; of more, `draws` are drawn, b
    as large, and p = (b + 1) / (draws + 1) (Phipson and Smyth 2010).

    Four cells: either change may have an effect of its own, so that runs can't be exchanged. Residuals of the model
    without interaction, fitted to each stratum, nearly can: they are what is permuted, always by draws (Freedman and
    Lane 1983, Anderson and Robinson 2001). The fit needn't be added again, a difference of differences doesn't see it.

    Pitfall: the test is of 'nothing changes', spread included. Where means are equal and spreads are not, p ≤ 0.05 is
    found more often: 5 runs all alike against 5 normal ones in 12 %, against 3 in 25 %. Keep n equal.
    """
    fits = [np.linalg.qr(NUISANCE[len(n)].repeat(n, 0))[0] for n in sizes_of(strata)]  # (n, k), constant in a cell
    values = [np.concatenate(cells, axis=1).T for cells in strata]  # (n, C)
    residuals = [value - fit @ (fit.T @ value) for value, fit in zip(values, fits, strict=True)]
    length = np.sqrt(sum((residual**2).sum(0) for residual in residuals))
    rounding = 1e-12 * np.max([np.abs(value).max(0) for value in values], axis=0)
    length[length <= rounding] = np.inf  # nothing but rounding: all alike
    residuals = [residual / length for residual in residuals]

    shuffled = []  # of a stratum, in every arrangement: what a run counts in the difference, and in the fit
    for fit, n, put in zip(fits, sizes_of(strata), _arrangements(sizes_of(strata), draws), strict=True):
        columns = fit[np.cumsum([0, *n[:-1]]), 1:].T  # the constant one sees no permutation
        shuffled.append(((SIGNS[len(n)] / n)[put], [column[put] for column in columns]))
    p = np.empty(len(length))
    for some in _batches(len(p), len(shuffled[0][0])):
        found, left = np.zeros(1), np.ones(1)
        for (weights, fitted), residual in zip(shuffled, residuals, strict=True):
            difference = weights @ residual[:, some]
            found = found + difference
            left = left - difference**2 / (weights[0] ** 2).sum()
            for column in fitted:
                left = left - (column @ residual[:, some]) ** 2
        statistic = np.abs(found) / np.sqrt(np.maximum(left, NO_SPREAD))
        p[some] = (statistic >= statistic[0] * (1 - 1e-7) - 1e-9).mean(0)
    return p


def holm(p: np.ndarray) -> np.ndarray:
    """p-values `(m,)` corrected for their number (Holm 1979): the i-th smallest of m times m − i + 1, never falling."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def seeds_needed(difference: float, spread: float, cells: int = 2, strata: int = 1, family: int = 1) -> int:
    """About how many runs a cell needs for a test to show a difference in 80 % of cases, at Holm's first level.

    n = (c/s) (z₁ + z₂)² (spread / difference)² + z₁² / 2cs, rounded up, with c cells in each of s strata, z₁ the
    normal quantile of 1 − 0.05 / (2 family) and z₂ that of 0.8: the z-test's n with Guenther's correction for t (1981).
    And at least so many that full separation, 2 of binom(cn, cn/2)^s splits, is not above 0.05 / family. Pitfall: a
    difference and a spread estimated from few runs make for a rough guess.

    Args:
        difference: not 0.
        spread: standard deviation within cells.
        family: the number of comparisons that Holm's correction is for.
    """
    level = ALPHA / family
    z, z_power = -NormalDist().inv_cdf(level / 2), NormalDist().inv_cdf(POWER)
    by_spread = math.ceil(cells / strata * ((z + z_power) * spread / difference) ** 2 + z**2 / (2 * cells * strata))
    by_splits = next(n for n in itertools.count(2) if level * math.comb(cells * n, cells * n // 2) ** strata >= 2)
    return max(by_spread, by_splits)


def _arrangements(sizes: Sizes, draws: int) -> list[np.ndarray]:
    """Which cell each run of each stratum is put into, `(arrangements, n)`, the true one first."""
    own = [np.repeat(np.arange(len(n), dtype=np.int8), n) for n in sizes]
    if len(sizes[0]) == 2 and math.prod(math.comb(sum(n), n[0]) for n in sizes) <= SPLITS:
        splits = []
        for n in sizes:
            first = np.array(list(itertools.combinations(range(sum(n)), n[0])))
            splits.append(np.ones((len(first), sum(n)), dtype=np.int8))
            np.put_along_axis(splits[-1], first, 0, axis=1)
        rows = np.indices([len(split) for split in splits]).reshape(len(splits), -1)
        return [split[row] for split, row in zip(splits, rows, strict=True)]
    generator = np.random.default_rng(0)
    return [np.concatenate([cells[None], generator.permuted(np.tile(cells, (draws, 1)), axis=1)]) for cells in own]


def _batches(number: int, width: int) -> list[slice]:
    """Slices of `number` questions, as many at a time as memory should hold, `width` numbers each."""
    step = max(1, BATCH // width)
    return [slice(start, start + step) for start in range(0, number, step)]
