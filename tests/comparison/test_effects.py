"""Comparisons of made-up runs whose truth is known."""

import itertools
import math
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from gan_lab.comparison.effects import compare, summarise
from gan_lab.comparison.questions import Change, comparisons, design
from gan_lab.comparison.resampling import seeds_needed

SQUARE = list(itertools.product("ab", "xy"))
CUBE = list(itertools.product("ab", repeat=3))
REMEDIES = [("none",), ("b",), ("c",), ("d",)]
LADDER = [tuple("b" if j < i else "a" for j in range(4)) for i in range(5)]  # aaaa, baaa, bbaa, bbba, bbbb


def runs(cells: dict, factors: Sequence[str], metric: str = "m") -> pd.DataFrame:
    """A frame from the values of every variant."""
    rows = [(*variant, value) for variant, values in cells.items() for value in values]
    return pd.DataFrame(rows, columns=[*factors, metric])


def sweeps(variants, factors: Sequence[str], seeds: int, values, number: int = 1_000):
    """As many sweeps as columns: `values(rng, shape)` makes the numbers of every run (a row) in every sweep."""
    keys = pd.DataFrame([variant for variant in variants for _ in range(seeds)], columns=list(factors))
    numbers = pd.DataFrame(values(np.random.default_rng(1), (len(keys), number)))
    numbers.columns = [f"sweep {i}" for i in range(number)]
    return pd.concat([keys, numbers], axis=1), list(numbers.columns)


def normal(rng, shape):
    return rng.normal(size=shape)


def modes(rng, shape):
    """Modes captured, as GANs have them: few values, one or all."""
    return rng.choice([1.0, 2.0, 10.0], p=[0.5, 0.2, 0.3], size=shape)


# Designs.


def frame_of(variants) -> pd.DataFrame:
    return pd.DataFrame(list(variants), columns=list("fghi")[: len(next(iter(variants)))])


@pytest.mark.parametrize(
    ("variants", "order", "expected"),
    [
        (SQUARE, None, "factorial"),
        (SQUARE, SQUARE, "factorial"),
        (list(itertools.product("abc", "x", "uv")), None, "factorial"),  # the middle one doesn't differ
        (SQUARE[:3], None, "pairs"),  # each change is seen in one of two settings only
        (CUBE[:7], None, "factorial"),  # in three of four
        (CUBE[1:], CUBE, "factorial"),
        ([*CUBE[:3], *CUBE[4:7]], None, "pairs"),  # the first in two of four
        ([*CUBE[:6], *CUBE[7:]], None, "factorial"),
        (SQUARE[:3], SQUARE[:3], "pairs"),  # ax, ay, bx: y is taken back
        ([("a", "x"), ("b", "x"), ("b", "y")], [("a", "x"), ("b", "x"), ("b", "y")], "ladder"),
        ([("a", "x"), ("b", "x"), ("b", "y")], None, "pairs"),  # nobody said that it's an order
        ([("a", "x"), ("b", "x"), ("b", "y")], [("b", "x"), ("a", "x"), ("b", "y")], "pairs"),
        (LADDER, LADDER, "ladder"),
        ([LADDER[0], *LADDER[2:]], LADDER, "ladder"),  # a rung without a run
        ([("a",), ("b",), ("c",)], [("a",), ("b",), ("c",)], "pairs"),  # one factor: nothing is added to anything
        ([("a", "x"), ("b", "y"), ("c", "z")], [("a", "x"), ("b", "y"), ("c", "z")], "pairs"),  # two at once
        (
            [tuple("axu"), tuple("byu"), tuple("byv")],
            [tuple("axu"), tuple("byu"), tuple("byv")],
            "pairs",
        ),  # two, then one
        (
            [*map(tuple, ("ax", "bx", "by", "cy", "ay"))],
            [*map(tuple, ("ax", "bx", "by", "cy", "ay"))],
            "pairs",
        ),  # a again
        ([("a", "x")], None, "pairs"),
    ],
)
def test_the_design_is_seen_from_the_variants(variants, order, expected):
    frame = frame_of(variants)
    assert design(frame, list(frame.columns), order) == expected


@pytest.mark.parametrize(
    ("factors", "variants", "expected"),
    [
        (["remedy"], [("r1",), ("none",), ("r1 + ema",)], "control"),
        (["remedy"], [("r1",), ("none",)], "control"),
        (["loss", "remedy"], [("BCE", "r1"), ("BCE", "none"), ("BCE", "r2")], "control"),  # the loss doesn't differ
        (["remedy"], [("r1",), ("r2",), ("ema",)], "pairs"),
        (["norm"], [("none",), ("layer",), ("group",)], "pairs"),
        (["loss", "remedy"], list(itertools.product(["MSE", "BCE"], ["none", "r1"])), "factorial"),
        (["loss", "remedy"], [("MSE", "none"), ("BCE", "r1"), ("BCE", "r2")], "pairs"),
    ],
)
def test_remedies_are_compared_with_none_where_nothing_else_differs(factors, variants, expected):
    frame = pd.DataFrame(variants, columns=factors)
    assert design(frame, factors) == expected
    if expected == "control":
        questions = comparisons(frame, factors)
        assert {question.kind for question in questions} == {"remedy"}
        others = [variant[-1] for variant in variants if variant[-1] != "none"]
        assert [question.changes for question in questions] == [(Change("remedy", "none", other),) for other in others]
        assert all(question.strata[0][0][-1] == "none" and not question.held_constant for question in questions)


def test_a_control_whose_runs_all_failed_leaves_pairs():
    assert design(pd.DataFrame(REMEDIES[1:], columns=["remedy"]), ["remedy"], REMEDIES) == "pairs"


def test_an_order_that_lacks_a_variant_is_refused():
    with pytest.raises(ValueError, match=r"order lacks: \[\('b', 'y'\)\]"):
        design(frame_of(SQUARE), "fg", SQUARE[:3])


def test_a_ladder_compares_each_rung_with_the_one_before():
    frame = frame_of([LADDER[3], *LADDER[:3], LADDER[4]])
    questions = comparisons(frame, list("fghi"), LADDER)
    assert [question.kind for question in questions] == ["rung"] * 4
    assert [question.changes for question in questions] == [(Change(factor, "a", "b"),) for factor in "fghi"]
    assert questions[1].held_constant == (("f", "b"), ("h", "a"), ("i", "a"))
    assert questions[1].strata == ((LADDER[1], LADDER[2]),)
    without = comparisons(frame_of([LADDER[0], *LADDER[2:]]), list("fghi"), LADDER)
    assert without[0].changes == (Change("f", "a", "b"), Change("g", "a", "b")), (
        "both, where the rung between is missing"
    )


def test_pairs_are_all_pairs_and_name_what_differs():
    questions = comparisons(frame_of([("a",), ("b",), ("c",)]), ["f"])
    assert [question.strata[0] for question in questions] == [(("a",), ("b",)), (("a",), ("c",)), (("b",), ("c",))]
    first, second, third = comparisons(frame_of(SQUARE[:3]), ["f", "g"])
    assert (first.changes, first.held_constant) == ((Change("g", "x", "y"),), (("f", "a"),))
    assert (second.changes, second.held_constant) == ((Change("f", "a", "b"),), (("g", "x"),))
    assert third.changes == (Change("f", "a", "b"), Change("g", "y", "x"))


def test_a_factorial_design_of_two_by_three_has_three_main_effects_and_two_interactions():
    questions = comparisons(frame_of(list(itertools.product("ab", "xyz"))), ["f", "g"])
    assert [(question.kind, question.changes) for question in questions] == [
        ("main", (Change("f", "a", "b"),)),
        ("main", (Change("g", "x", "y"),)),
        ("main", (Change("g", "x", "z"),)),
        ("interaction", (Change("f", "a", "b"), Change("g", "x", "y"))),
        ("interaction", (Change("f", "a", "b"), Change("g", "x", "z"))),
    ]
    assert questions[2].strata == ((("a", "x"), ("a", "z")), (("b", "x"), ("b", "z")))
    assert questions[4].strata == ((("a", "x"), ("a", "z"), ("b", "x"), ("b", "z")),)


def test_an_order_says_which_value_is_the_first():
    change = comparisons(frame_of(SQUARE), ["f", "g"], SQUARE[::-1])[0].changes[0]
    assert change == Change("f", "b", "a")


# Effects.

UNEQUAL = {("a", "x"): [1, 3], ("a", "y"): [5], ("b", "x"): [4, 6, 8], ("b", "y"): [7, 9]}  # means 2, 5, 6, 8


def test_factorial_effects_worked_by_hand_with_unequal_cells():
    f, g, both = compare(runs(UNEQUAL, "fg"), ["f", "g"], ["m"])
    assert f.difference == pytest.approx(((6 - 2) + (8 - 5)) / 2)  # 3.5; the plain means of the runs differ by 3.8
    assert g.difference == pytest.approx(((5 - 2) + (8 - 6)) / 2)
    assert both.difference == pytest.approx((8 - 6) - (5 - 2))
    assert both.simple_effects == pytest.approx((6 - 2, 8 - 5)), "f's effect where g is x, and where it is y"
    assert f.simple_effects is None
    assert (f.n_before, f.n_after) == (3, 5)
    assert (g.n_before, g.n_after) == (5, 3)
    assert (both.n_before, both.n_after) == (4, 4)
    assert f.seeds == (1, 3)
    # Splits with a |t| at least as large: of ax, bx 10 splits of {1, 3, 4, 6, 8} in 2 + 3, of ay, by 3 of {5, 7, 9} in
    # 1 + 2. bx − ax is 4 (ax is 1, 3), 3 1/6 (1, 4), 1.5 (1, 6; 3, 4), −0.17 (1, 8; 3, 6), −1.83 (3, 8; 4, 6), −3.5
    # (4, 8), −5.17 (6, 8); by − ay is 3 (ay is 5), 0 (7), −3 (9). Sum over root of squares within: observed is
    # (4 + 3) / √12, beyond it (−5.17 − 3) / √8.67; (3.17 + 3) / √19.2, (−3.5 − 3) / √22.7 and all others are less.
    assert f.p == pytest.approx(2 / 30)
    assert f.low is None, "one variant has one run"


def test_a_third_factor_is_averaged_over():
    """2 × 2 × 2 with means 0, the third factor adding 10, both first ones 4 together, and 2 more with the third."""
    values = {
        v: [10 * (v[2] == "b") + (v[:2] == ("b", "b")) * (4 + 2 * (v[2] == "b")) + e for e in (-1, 0, 1)] for v in CUBE
    }
    effects_by_factors = {
        tuple(change.factor for change in effect.comparison.changes): effect
        for effect in compare(runs(values, "fgh"), list("fgh"), ["m"])
    }
    differences = {names: pytest.approx(effect.difference) for names, effect in effects_by_factors.items()}
    assert differences == {("f",): 2.5, ("g",): 2.5, ("h",): 10.5, ("f", "g"): 5, ("f", "h"): 1, ("g", "h"): 1}
    assert list(effects_by_factors)[3] == ("f", "g"), "the largest interaction first"
    assert effects_by_factors["f",].settings == 4
    assert effects_by_factors["f", "g"].settings == 2
    assert (effects_by_factors["f",].n_before, effects_by_factors["f", "g"].n_after) == (12, 12)
    assert {effect.family for effect in effects_by_factors.values()} == {6}


def test_a_factorial_design_that_lacks_a_corner_asks_where_both_are_there():
    """The corner before all changes is missing: each change is seen in 3 of 4 settings, two together in 1 of 2."""
    values = {v: [4 * (v[0] == "b") + (v[1] == "b") * (v[2] == "b") + e for e in (-1, 0, 1)] for v in CUBE[1:]}
    effects = compare(runs(values, "fgh"), list("fgh"), ["m"], CUBE)
    f, g, h = effects[:3]
    assert f.comparison.changes == (Change("f", "a", "b"),), "in order, although b came before a"
    assert (f.difference, f.settings, len(f.comparison.strata)) == (pytest.approx(4), 3, 4)
    assert g.difference == pytest.approx((1 + 0 + 1) / 3)  # with h: 1, alone: only where f is b
    assert h.difference == pytest.approx((1 + 0 + 1) / 3)
    assert {effect.settings for effect in effects[3:]} == {1}
    assert {effect.family for effect in effects} == {6}


def test_interactions_come_ranked_and_main_effects_do_not():
    values = {v: [(v[0] == "b") + 3 * (v[1] == "b") - 8 * (v[1:] == ("b", "b")) + e for e in (-1, 0, 1)] for v in CUBE}
    effects = compare(runs(values, "fgh"), list("fgh"), ["m"])
    assert ["".join(c.factor for c in e.comparison.changes) for e in effects[:4]] == ["f", "g", "h", "gh"]
    assert effects[3].difference == pytest.approx(-8)


def test_holm_is_within_a_metric():
    """Exact p of full separation of 5 and 5 is 2 / 252; three pairs, the third without a difference."""
    frame = runs({("a",): [1, 2, 3, 4, 5], ("b",): [6, 7, 8, 9, 10], ("c",): [6, 7, 8, 9, 10]}, "f", "m")
    frame["other"] = 7.0
    first, second, third, *others = compare(frame, ["f"], ["m", "other"])
    assert [effect.p for effect in (first, second, third)] == pytest.approx([2 / 252, 2 / 252, 1])
    assert [effect.p_holm for effect in (first, second, third)] == pytest.approx([6 / 252, 6 / 252, 1])
    assert [effect.significant for effect in (first, second, third)] == [True, True, False]
    assert (first.difference, third.difference) == (5, 0)
    assert (third.conclusion, third.seeds_needed[1]) == ("no difference", None)
    assert [(e.metric, e.difference, e.p, e.p_holm, e.low, e.g, e.constant) for e in others] == [
        ("other", 0, 1, 1, None, None, 7)
    ] * 3


def test_remedies_against_none_worked_by_hand():
    """Exact p of full separation of 4 and 4 is 2 / 70; c's 4, 5, 6, 7 are farther from 0 to 3 in no other split."""
    values = {("b",): [0, 1, 2, 3], ("none",): [0, 1, 2, 3], ("c",): [4, 5, 6, 7]}
    b, c = compare(runs(values, ["remedy"]), ["remedy"], ["m"])
    assert (b.difference, b.p, b.p_holm) == (0, 1, 1)
    assert (c.difference, c.p, c.p_holm) == (4, pytest.approx(2 / 70), pytest.approx(4 / 70))
    assert (b.family, c.family) == (2, 2), "not the three of all pairs"
    assert not c.significant


def conclusion_of(before, after) -> tuple:
    (effect,) = compare(runs({("a",): before, ("b",): after}, "f"), ["f"], ["m"])
    return effect.conclusion, effect.seeds_needed


def test_four_conclusions_worked_by_hand():
    """Exact p of full separation: 2 / 20 of 3 and 3, 2 / 70 of 4 and 4."""
    assert conclusion_of([0, 0, 0], [9, 9, 9]) == ("too few seeds", (4, 4))
    assert conclusion_of([0, 0, 0, 0], [9, 9, 9, 9]) == ("difference", (4, 4))
    # g = 0.8 · 1, ± 1.2816 √(2/3 + 0.8² / 8) = 1.107: between −0.31 and 1.91, of which the latter takes 6 seeds.
    assert conclusion_of([-1, 0, 1], [0, 1, 2]) == ("too few seeds", (6, None))
    # Either 1 with three 2s, or with three 0s: p = 4 / 70. g = 20 / 23 · 1.5 / 0.5 = 2.61, ± 1.328: 1.28 to 3.94.
    assert conclusion_of([0, 0, 0, 1], [1, 2, 2, 2]) == ("not shown", (5, 11))
    assert conclusion_of([-1, 0, 1, 2], [2, 1, 0, -1]) == ("no difference", (21, None))


def test_missing_numbers_are_left_out_and_counted():
    values = {("a",): [1, 2, None, 4, math.nan], ("b",): [5, 6, 7, math.inf, 9]}
    (effect,) = compare(runs(values, "f"), ["f"], ["m"])
    (reference,) = compare(runs({("a",): [1, 2, 4], ("b",): [5, 6, 7, 9]}, "f"), ["f"], ["m"])
    assert (effect.n_before, effect.n_after, effect.missing) == (3, 4, 3)
    assert (reference.n_before, reference.n_after, reference.missing) == (3, 4, 0)
    assert (effect.difference, effect.low, effect.high, effect.p) == (
        reference.difference,
        reference.low,
        reference.high,
        reference.p,
    )


def test_settings_without_numbers_are_left_out():
    values = {**UNEQUAL, ("a", "y"): [None]}
    f, g = compare(runs(values, "fg"), ["f", "g"], ["m"])
    assert (f.difference, f.settings, f.missing) == (pytest.approx(4), 1, 1)  # where g is x
    assert (g.difference, g.settings) == (pytest.approx(2), 1)  # where f is b
    assert compare(runs({("a",): [None, None], ("b",): [1, 2]}, "f"), ["f"], ["m"]) == []


def test_one_seed_concludes_nothing():
    """Not even in a factorial design with 2⁸ ways to exchange runs within strata: all runs share the seed's luck."""
    variants = list(itertools.product("ab", repeat=4))
    effects = compare(runs({v: [100 * (v[0] == "b") + i] for i, v in enumerate(variants)}, "fghi"), list("fghi"), ["m"])
    assert len(effects) == 4 + 6
    assert effects[0].difference == pytest.approx(108)
    for effect in effects:
        assert (effect.p, effect.p_holm, effect.low, effect.high, effect.g) == (None,) * 5
        assert (effect.conclusion, effect.family, effect.seeds_needed) == ("too few seeds", 0, (2, None))


def test_one_variant_has_nothing_to_be_compared_with():
    assert compare(runs({("a",): [1, 2, 3]}, "f"), ["f"], ["m"]) == []


def test_equal_runs_give_equal_effects():
    frame, metrics = sweeps(CUBE, "fgh", 4, normal, 3)
    assert compare(frame, list("fgh"), metrics) == compare(frame, list("fgh"), metrics)


# Summaries.


def test_summaries():
    frame = runs({("b",): [1, 2, None, 6], ("a",): [5]}, "f")
    frame["empty"], frame["same"] = None, 0.1
    frame["collapsed"] = [True, True, False, None, True]
    summaries = {
        (summary.variant[0], summary.metric): summary for summary in summarise(frame, ["f"], list(frame.columns[1:]))
    }
    several = summaries["b", "m"]
    single = summaries["a", "m"]
    assert next(iter(summaries)) == ("b", "m"), "in order of appearance"
    assert (several.n, several.missing, several.mean, several.values) == (3, 1, 3, (1, 2, 6))
    assert several.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    # 4.303 is the 0.975 quantile of t with 2 degrees of freedom.
    assert (several.low, several.high) == pytest.approx(
        (3 - 4.303 * several.std / 3**0.5, 3 + 4.303 * several.std / 3**0.5), rel=1e-3
    )
    assert (single.n, single.mean, single.std, single.low, single.high) == (1, 5, None, None, None)
    nothing = summaries["b", "empty"]
    assert (nothing.n, nothing.missing, nothing.mean, nothing.low, nothing.values) == (0, 4, None, None, ())
    assert (summaries["b", "same"].low, summaries["b", "same"].high) == (None, None)
    assert summaries["b", "collapsed"].mean == pytest.approx(2 / 3)
    assert summaries["b", "collapsed"].missing == 1


def test_shares_have_clopper_and_pearsons_interval():
    """Of 5 of 5 the lower end is 0.025 to the power 1/5, of 0 of 5 the upper one the rest; 2 of 10: tables'."""
    frame = runs({("a",): [True] * 5, ("b",): [False] * 5, ("c",): [True] * 2 + [False] * 8}, "f")
    a, b, c = summarise(frame, ["f"], ["m"])
    assert (a.mean, a.low, a.high) == (1, pytest.approx(0.025 ** (1 / 5)), 1)
    assert (b.mean, b.low, b.high) == (0, 0, pytest.approx(1 - 0.025 ** (1 / 5)))
    assert (c.mean, c.low, c.high) == (
        pytest.approx(0.2),
        pytest.approx(0.0252, abs=1e-4),
        pytest.approx(0.5561, abs=1e-4),
    )


# Sweeps without any truth to find, and with one.


def share_of_sweeps(effects, counts) -> float:
    """The share of sweeps in which an effect is significant that `counts` accepts."""
    hits: dict[str, bool] = {}
    for effect in effects:
        hits[effect.metric] = hits.get(effect.metric, False) or (effect.significant and counts(effect))
    return sum(hits.values()) / len(hits)


@pytest.mark.parametrize("values", [normal, modes])
@pytest.mark.parametrize(
    ("variants", "factors", "seeds", "family"),
    [
        (LADDER, "fghi", 5, 4),
        # The cube takes longest; with a true effect it is below.
        pytest.param(CUBE, "fgh", 3, 6, marks=pytest.mark.slow),
        (SQUARE, "fg", 5, 3),
        (REMEDIES, ["remedy"], 5, 3),
    ],
)
def test_false_alarms_in_a_thousand_sweeps(values, variants, factors, seeds, family):
    """At most 5 % of sweeps show anything where nothing differs. Uncorrected, 13 to 24 % of normal ones would."""
    frame, metrics = sweeps(variants, factors, seeds, values)
    effects = compare(frame, list(factors), metrics, variants)
    assert len(effects) == family * 1_000
    alarms = round(1_000 * share_of_sweeps(effects, lambda effect: True))
    print(f"false alarms: {values.__name__}, {family} comparisons: {alarms} of 1,000 sweeps")
    assert binomtest(alarms, 1_000).proportion_ci(method="exact").low <= 0.05
    if values is normal:  # p itself must be neither too small nor too large
        assert np.mean([effect.p <= 0.05 for effect in effects]) == pytest.approx(0.048, abs=0.012)


@pytest.mark.slow
def test_false_alarms_next_to_a_true_effect():
    """The other comparisons' alarms, where one factor of three does much."""
    frame, metrics = sweeps(CUBE, "fgh", 3, modes)
    frame.loc[frame["f"] == "b", metrics] += 20
    effects = compare(frame, list("fgh"), metrics)
    assert share_of_sweeps(effects, lambda effect: effect.comparison.changes == (Change("f", "a", "b"),)) == 1
    alarms = round(
        1_000 * share_of_sweeps(effects, lambda effect: effect.comparison.changes != (Change("f", "a", "b"),))
    )
    assert binomtest(alarms, 1_000).proportion_ci(method="exact").low <= 0.05


@pytest.mark.parametrize(
    ("variants", "factors", "cells", "strata", "family", "size"),
    [
        ([("a",), ("b",)], "f", 2, 1, 1, 1),
        (LADDER, "fghi", 2, 1, 4, 1),
        (REMEDIES, ["remedy"], 2, 1, 3, 1),
        pytest.param(CUBE, "fgh", 2, 4, 6, 1, marks=pytest.mark.slow),
        (list(itertools.product("ab", repeat=2)), "fg", 4, 1, 3, 2),
    ],
    ids=["pair", "ladder", "remedy", "main effect", "interaction"],
)
def test_an_effect_is_found_as_often_as_its_seeds_promise(variants, factors, cells, strata, family, size):
    """One spread (of an interaction: two) is shown in about 80 % of sweeps with as many seeds as are said to do it."""
    seeds = seeds_needed(size, cells, strata, family)
    frame, metrics = sweeps(variants, factors, seeds, normal, 500)
    if cells == 4:  # half of it where both factors have the same value: no main effects
        names = list(factors)
        frame.loc[frame["f"] == frame["g"], metrics] += size / 2
    else:
        names = [factors[0]]
        frame.loc[frame[factors[0]] == "b", metrics] += size
    effects = compare(frame, list(factors), metrics, variants)
    assert {effect.family for effect in effects} == {family}
    changed = [(name, "b") for name in names]
    power = share_of_sweeps(effects, lambda effect: [(c.factor, c.after) for c in effect.comparison.changes] == changed)
    print(f"power: {seeds} seeds, {power:.1%}")
    assert 0.72 < power < 0.9


@pytest.mark.slow
def test_a_thousand_runs_of_sixty_variants_take_seconds():
    frame, metrics = sweeps([(f"v{i}",) for i in range(60)], "f", 17, normal, 10)
    frame.loc[frame["f"] == "v7", metrics] += 20
    start = time.perf_counter()
    effects = compare(frame, ["f"], metrics)
    assert len(summarise(frame, ["f"], metrics)) == 600
    assert time.perf_counter() - start < 40
    assert len(effects) == 10 * 60 * 59 // 2
    seventh = [effect for effect in effects if "v7" in effect.comparison.changes[0]]
    assert all(effect.significant for effect in seventh), "Holm's correction for 1,770 is within the draws' reach"
