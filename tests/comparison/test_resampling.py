"""Tests and intervals against hand-worked numbers, scipy, brute force and published tables."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import f as f_distribution
from scipy.stats import permutation_test, ttest_1samp, ttest_ind

from gan_lab.comparison.resampling import (
    effect_size_range,
    hedges_g,
    holm,
    least_seeds,
    mean_difference,
    permutation_p,
    pooled_std,
    seeds_needed,
    sizes_of,
    smallest_effect,
    smallest_p,
    welch_interval,
)


def strata_of(*strata):
    """Strata of lists of numbers, for one question."""
    return [[np.array([cell], dtype=float) for cell in stratum] for stratum in strata]


def normal_values(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def mode_counts(seed: int, *shape: int) -> np.ndarray:
    """Modes captured, as GANs have them: few values, one or all."""
    return np.random.default_rng(seed).choice([1.0, 2.0, 10.0], p=[0.5, 0.2, 0.3], size=shape)


# Two cells.


@pytest.mark.parametrize(
    ("before", "after", "p"),
    [
        ([1, 2, 3], [4, 5, 6], 2 / 20),
        ([0, 0, 1], [1, 1, 2], 6 / 20),  # sums of three ≥ 4: the three {1, 1, 2}; ≤ 1: their complements
        ([0, 1], [5], 1 / 3),  # differences of the three splits: 4.5, −3, −1.5
        ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 2 / 252),
        ([3, 3, 3], [3, 3], 1),
        ([0.1, 0.1, 0.1], [0.1, 0.1], 1),  # a mean of three 0.1 is not 0.1
        ([1], [2], 1),
    ],
)
def test_p_worked_by_hand(before, after, p):
    assert permutation_p(strata_of([before, after])) == pytest.approx(p)
    assert permutation_p(strata_of([after, before])) == pytest.approx(p)


@pytest.mark.parametrize("make", [normal_values, mode_counts])
@pytest.mark.parametrize(("m", "n"), [(5, 5), (3, 6), (8, 2)])
def test_p_of_many_questions_is_scipys_exact_one(make, m, n):
    before, after = make(1, 6, m), make(2, 6, n) + 1
    expected = [
        permutation_test(two, lambda a, b: abs(b.mean() - a.mean()), n_resamples=np.inf, alternative="greater").pvalue
        for two in zip(before, after, strict=True)
    ]
    assert permutation_p([[before, after]]) == pytest.approx(expected)


def test_drawn_p_is_the_exact_one_but_for_chance():
    before, after = normal_values(3, 3, 10), normal_values(4, 3, 10) + np.array([[0], [0.5], [1]])
    pooled = np.concatenate([before, after], axis=1)
    splits = np.array(list(itertools.combinations(range(20), 10)))  # 184,756: too many to be enumerated
    sums = pooled[:, splits].sum(2)
    exact = (
        np.abs(2 * sums - pooled.sum(1, keepdims=True)) / 10
        >= np.abs(mean_difference([[before, after]]))[:, None] - 1e-9
    ).mean(1)
    error = np.sqrt(exact * (1 - exact) / 9_999)
    assert (np.abs(permutation_p([[before, after]]) - exact) < 4 * error + 1e-4).all()


def test_drawn_p_is_never_0_nor_below_what_draws_can_tell():
    apart = strata_of([range(20), range(100, 120)])
    assert permutation_p(apart) == pytest.approx(1 / 10_000)
    assert permutation_p(apart, draws=99) == pytest.approx(1 / 100)


def test_stratified_p_is_brute_force_over_splits_within_strata():
    """By |t|: the mean of the differences over the root of the sum of squares within all cells."""
    for make, seed in itertools.product((normal_values, mode_counts), range(4)):
        strata = [[make(seed, 1, 2), make(seed + 10, 1, 3) + 1], [make(seed + 20, 1, 3) + 5, make(seed + 30, 1, 1) + 6]]
        splits = []
        for cells in strata:
            values = np.concatenate(cells, axis=1)[0].tolist()
            options = []
            for chosen in itertools.combinations(range(len(values)), cells[1].shape[1]):
                after = [values[i] for i in chosen]
                before = [value for i, value in enumerate(values) if i not in chosen]
                within = sum(np.var(side) * len(side) for side in (before, after))
                options.append((np.mean(after) - np.mean(before), within))
            splits.append(options)
        within = sum(cell.var() * cell.size for cells in strata for cell in cells)
        observed = abs(np.mean([cells[1].mean() - cells[0].mean() for cells in strata])) / np.sqrt(max(within, 1e-9))
        reference = [abs(a + b) / 2 / np.sqrt(max(p + q, 1e-9)) for (a, p), (b, q) in itertools.product(*splits)]
        assert mean_difference(strata) == pytest.approx(np.mean([c[1].mean() - c[0].mean() for c in strata]))
        assert permutation_p(strata) == pytest.approx(np.mean([value >= observed * (1 - 1e-6) for value in reference]))
        assert len(reference) == math.comb(5, 2) * math.comb(4, 1)


def test_effects_that_differ_between_strata_neither_hide_their_mean_nor_pass_for_one():
    """By −4 and 8 spreads, 5 runs a cell: t of 20 runs, shift 2 · √5 = 4.5, has a power of 0.98; by −4 and 4, none."""

    def share_significant(*shifts: float) -> float:
        strata = [
            [normal_values(i, 1_000, 5), normal_values(i + 9, 1_000, 5) + shift] for i, shift in enumerate(shifts)
        ]
        return float(np.mean(permutation_p(strata, draws=1_999) <= 0.05))

    assert share_significant(-4, 8) > 0.95
    assert share_significant(-4, 4) < 0.07


def test_what_strata_differ_in_makes_no_difference():
    near, far = (
        strata_of([[1, 2, 4], [3, 5, 6]], [[1, 3, 2], [2, 4, 7]]),
        strata_of([[1, 2, 4], [3, 5, 6]], [[901, 903, 902], [902, 904, 907]]),
    )
    assert permutation_p(near) == pytest.approx(permutation_p(far))
    assert mean_difference(near) == pytest.approx(mean_difference(far))


def test_unequal_spread_gives_as_many_false_alarms_as_its_pitfall_says():
    """Worked out for 3: all of one sign in 1 / 4 of cases, and then p = 1 / 56, else p is above 0.05."""
    for n, share in ((5, 0.12), (3, 0.25)):
        p = permutation_p([[np.zeros((20_000, 5)), normal_values(n, 20_000, n)]])
        assert np.mean(p <= 0.05) == pytest.approx(share, abs=0.01)


# Four cells: an interaction.


def additive(n: tuple[int, ...]) -> np.ndarray:
    return np.repeat([[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]], n, axis=0).astype(float)


def t_squared(y: np.ndarray, n: tuple[int, ...]) -> np.ndarray:
    """The interaction's F = t², of values `(rows, C)` by least squares with and without the interaction's column."""

    def left(columns: np.ndarray) -> np.ndarray:
        return ((y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]) ** 2).sum(0)

    whole = np.column_stack([additive(n), np.repeat([0.0, 0.0, 0.0, 1.0], n)])
    return (left(additive(n)) - left(whole)) / (left(whole) / (sum(n) - 4))


@pytest.mark.parametrize("n", [(3, 3, 3, 3), (5, 3, 2, 4)])
def test_p_of_an_interaction_is_freedman_and_lanes(n):
    """With the fit added to permuted residuals, refitted by least squares, and t² of it."""
    rng = np.random.default_rng(5)
    for make, shift in itertools.product((normal_values, mode_counts), (0, 2)):
        y = make(7, sum(n)) + shift * np.repeat([0, 0, 0, 1], n)
        fit = additive(n) @ np.linalg.lstsq(additive(n), y, rcond=None)[0]
        permuted = fit[:, None] + rng.permuted(np.tile(y - fit, (4_000, 1)), axis=1).T
        reference = (t_squared(permuted, n) >= t_squared(y[:, None], n) * (1 - 1e-9)).mean()
        p = permutation_p([[cell[None] for cell in np.split(y, np.cumsum(n)[:-1])]])[0]
        assert abs(p - reference) < 4 * math.sqrt(0.25 / 4_000), (make, shift)


def test_p_of_an_interaction_is_near_that_of_f_for_normal_values():
    cells = [normal_values(seed, 50, 8) + 0.5 * (seed == 3) for seed in range(4)]
    n = (8, 8, 8, 8)
    expected = f_distribution.sf(t_squared(np.concatenate(cells, axis=1).T, n), 1, 28)
    assert np.abs(permutation_p([cells]) - expected).max() < 0.04
    assert np.abs(permutation_p([cells]) - expected).mean() < 0.007


def test_an_interaction_does_not_see_main_effects():
    cells = [normal_values(seed, 5, 4) for seed in range(4)]
    shifted = [cells[0], cells[1] + 3, cells[2] - 7, cells[3] - 4]
    assert mean_difference([cells]) == pytest.approx(mean_difference([shifted]))
    assert mean_difference([cells]) == pytest.approx(
        (cells[3].mean(1) - cells[2].mean(1)) - (cells[1].mean(1) - cells[0].mean(1))
    )
    assert permutation_p([cells]) == pytest.approx(permutation_p([shifted]))
    assert permutation_p(strata_of([[5, 5], [5, 5], [9, 9], [9, 9]])) == 1, "nothing is left that could be permuted"


# Holm.


def test_holm_worked_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.02])) == pytest.approx([0.02])
    assert holm(np.array([0.5, 0.9, 0.4])) == pytest.approx([1, 1, 1])
    assert holm(np.array([0.02, 0.02, 0.3])) == pytest.approx([0.06, 0.06, 0.3])
    assert len(holm(np.array([]))) == 0


# Intervals.


def test_intervals_are_scipys():
    """Of a mean Student's, of two cells Welch's."""
    before, after = normal_values(1, 4, 5), 3 * normal_values(2, 4, 3)
    welch = ttest_ind(after, before, axis=1, equal_var=False).confidence_interval(0.95)
    assert welch_interval([[before, after]]) == pytest.approx(np.stack([welch.low, welch.high]))
    student = ttest_1samp(before, 0, axis=1).confidence_interval(0.95)
    assert welch_interval([[before]]) == pytest.approx(np.stack([student.low, student.high]))


def test_intervals_worked_by_hand():
    """Two strata of cells with s² / n of 1, 1 and 4, 0: variance (1 + 1 + 4) / 4 = 1.5, degrees of freedom 6² / 9 = 4.

    Of an interaction of cells with s² / n of 1 each: variance 4, degrees of freedom 4² / 2 = 8. The 0.975 quantiles of
    t are 2.776 and 2.306.
    """
    near = [0.0, 2 * math.sqrt(3), math.sqrt(3)]  # s² = 3, n = 3
    far = [0.0, 4 * math.sqrt(3), 2 * math.sqrt(3)]
    same = [7.0] * 3
    # Squares of s² / n over n − 1: (1 + 1 + 16) / 2 = 9.
    low, high = welch_interval(strata_of([near, near], [far, same]))
    assert (high - low) / 2 == pytest.approx(2.776 * math.sqrt(1.5), rel=1e-3)
    assert (high + low) / 2 == pytest.approx((7 - 2 * math.sqrt(3)) / 2)
    low, high = welch_interval(strata_of([near, near, near, near]))
    assert (high - low) / 2 == pytest.approx(2.306 * 2, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "at_least"),
    [("normal", 0.94), ("counts", 0.94), ("ceiling", 0.93), ("unequal spread", 0.94)],
)
def test_an_interval_covers_the_truth_as_often_as_it_says(name, at_least):
    """Of 5 runs; the bootstrap's (BCa) did in 0.84 to 0.91."""
    rng = np.random.default_rng(3)
    before = rng.normal(size=(4_000, 5))
    after = {
        "normal": rng.normal(size=(4_000, 5)),
        "counts": rng.binomial(10, 0.3, size=(4_000, 5)) - 3.0,
        "ceiling": np.zeros((4_000, 5)),
        "unequal spread": 4 * rng.normal(size=(4_000, 5)),
    }
    low, high = welch_interval([[before, after[name]]])
    assert np.mean((low <= 0) & (high >= 0)) > at_least


def test_no_interval_where_there_is_no_spread_to_tell_it_from():
    assert np.isnan(welch_interval(strata_of([[3]]))).all()
    assert np.isnan(welch_interval(strata_of([[0.1, 0.1, 0.1], [5, 5]]))).all(), "a mean of three 0.1 is not 0.1"
    assert np.isnan(welch_interval(strata_of([[1, 2, 3], [5]]))).all()
    bounds = welch_interval([[np.array([[1.0, 2, 3], [2, 2, 2]]), np.full((2, 3), 7.0)]])
    assert np.isfinite(bounds[:, 0]).all(), "one cell with spread is enough"
    assert np.isnan(bounds[:, 1]).all()


def test_spread_is_pooled_within_cells():
    assert pooled_std(strata_of([[1, 3], [10, 10, 16]])) == pytest.approx(math.sqrt((2 + 24) / 3))
    assert pooled_std(strata_of([[1, 3], [4]], [[7], [8]])) == pytest.approx(math.sqrt(2))
    assert np.isnan(pooled_std(strata_of([[1], [2]]))).all()


# Effect sizes and seeds.


def test_effect_sizes_worked_by_hand():
    """3 against 3 with a spread of 1: f = 4, J = 1 − 3 / 15 = 0.8; √(1/3 + 1/3 + 1.6² / 8) = 0.993, z of 0.9 1.2816."""
    sizes = ((3, 3),)
    assert hedges_g(2, 1, sizes) == pytest.approx(1.6)
    assert effect_size_range(1.6, sizes) == pytest.approx((1.6 - 1.2816 * 0.9933, 1.6 + 1.2816 * 0.9933), abs=1e-3)
    # Two strata: f = 8, weights ½, so 4 / 4 / 3 = 1/3.
    assert effect_size_range(0, ((3, 3), (3, 3))) == pytest.approx((-0.7399, 0.7399), abs=1e-3)


def test_hedges_g_has_no_bias():
    """Of 4 and 4 normal runs with a true size of 1; without J the mean would be 1.15."""
    before, after = normal_values(5, 20_000, 4), normal_values(6, 20_000, 4) + 1
    strata = [[before, after]]
    sizes = [
        hedges_g(difference, std, sizes_of(strata))
        for difference, std in zip(mean_difference(strata), pooled_std(strata), strict=True)
    ]
    assert np.mean(sizes) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("d", "n"), [(0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17)])
def test_seeds_needed_are_the_published_ones(d, n):
    """Two groups, two-sided 5 %, power 80 %: Cohen 1988, table 2.4.1; G*Power says 394 where Cohen has 393."""
    assert seeds_needed(d) == n
    assert seeds_needed(-d) == n
    assert smallest_effect(n) <= d < smallest_effect(n - 1)


def test_seeds_needed_worked_by_hand():
    """z₁ at 0.05 / 6 / 2 = 2.638, z₂ = 0.842, (z₁ + z₂)² = 12.11."""
    assert seeds_needed(1, cells=2, strata=4, family=6) == 7  # 12.11 / 2 + 6.96 / 16 = 6.5
    assert seeds_needed(1, cells=4, strata=2, family=6) == 25  # 12.11 · 2 + 6.96 / 16 = 24.7
    assert seeds_needed(2, cells=4, strata=1, family=6) == 13  # 12.11 + 6.96 / 8 = 12.98


def test_no_effect_is_so_large_that_too_few_splits_could_show_it():
    assert least_seeds() == 4  # 2 of 70 splits are below 0.05, 2 of 20 are not
    assert seeds_needed(99) == 4
    assert seeds_needed(99, family=4) == 5  # 2 of 252 are below 0.0125
    assert seeds_needed(99, family=1_770) == 10  # 2 of 184,756 are below 0.00003
    assert seeds_needed(99, strata=4, family=6) == 2  # 2 of 6⁴ are below 0.0083
    assert (smallest_effect(3), smallest_effect(4, family=4)) == (None, None)
    for n, shows in ((3, False), (4, True)):
        assert (permutation_p(strata_of([range(n), range(50, 50 + n)]))[0] <= 0.05) == shows


@pytest.mark.parametrize(
    "strata",
    [
        [[[1, 2, 4], [50, 51, 53]]],
        [[[1, 2, 4], [50, 51, 53, 54]]],
        [[[1, 2], [50, 51]], [[3, 5], [80, 83]]],
        [[[1, 2], [3, 4.5], [6, 7.1], [90, 91]]],  # an interaction: 2 of binom(8, 4) = 70 splits
    ],
)
def test_the_smallest_p_is_that_of_runs_that_are_apart(strata):
    strata = strata_of(*strata)
    assert permutation_p(strata, draws=200_000) == pytest.approx(smallest_p(sizes_of(strata)), rel=0.2)
