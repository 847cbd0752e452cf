"""The cells of the atlas, against numbers that are worked out by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gan_lab.atlas.cells import (
    COVERAGE,
    MADE,
    Answer,
    Cell,
    Pair,
    answers,
    best_strengths,
    cells,
    equivalence_test,
    floor_places,
    kendall_w,
    rank_agreement,
)
from gan_lab.atlas.plan import Place
from gan_lab.atlas.table import COLUMNS

# Five runs against five that are completely apart: 2 of the binom(10, 5) = 252 splits.
LEAST_P = 2 / 252
LOW = [0.10, 0.11, 0.12, 0.13, 0.14]
HIGH = [0.50, 0.51, 0.52, 0.53, 0.54]
SHORT = Place("digits", "short")


def runs(
    treatment: str,
    values: Sequence[float],
    base: str = "short",
    steps: int = 3000,
    strength: str = "published",
    stage: str = "time",
    made: float = 4,
    error: str = "",
) -> list[dict[str, object]]:
    """Returns a row for each value of coverage."""
    rows: list[dict[str, object]] = []
    for seed, value in enumerate(values):
        row: dict[str, object] = dict.fromkeys(COLUMNS, "")
        row |= {"stage": stage, "dataset": "digits", "base": base, "treatment": treatment, "strength": strength}
        row |= {"steps": steps, "seed": seed, "coverage": value, "modes_valid": made, "modes_total": 10}
        row |= {"processor_seconds": 1.0, "error": error}
        rows.append(row)
    return rows


def table(*parts: list[dict[str, object]]) -> pd.DataFrame:
    """Returns a table of rows."""
    return pd.DataFrame([row for part in parts for row in part], columns=COLUMNS)


def costs(cost: float = 1.0) -> dict[tuple[str, str, str], float]:
    """Returns a cost for every treatment of these tests."""
    return {("digits", name, "published"): cost for name in ("r1", "ema", "pac", "gdpp")}


def answer_of(cell: Cell) -> Answer:
    return cell.equal_time[COVERAGE]


def test_a_cell_says_what_a_treatment_did():
    (cell,) = cells(table(runs("none", LOW), runs("r1", HIGH, made=9)), costs())
    assert (cell.place, cell.group, cell.treatment, cell.steps) == (SHORT, "remedy", "r1", 3000)
    answer = answer_of(cell)
    assert (answer.control_mean, answer.mean) == (pytest.approx(0.12), pytest.approx(0.52))
    # Both variances are 0.00025, so the standard error is 0.01; the 0.975 quantile of t with 8 degrees is 2.306.
    assert (answer.low, answer.high) == (pytest.approx(0.40 - 0.02306, abs=1e-4), pytest.approx(0.42306, abs=1e-4))
    assert answer.p == pytest.approx(LEAST_P)
    assert answer.seeds == (5, 5)
    assert answer.conclusion == "helps"
    # 9 of 10 modes instead of 4, in every run.
    assert cell.equal_time[MADE].difference == pytest.approx(0.5)
    # It costs nothing, so the comparison at equal steps is the same.
    assert cell.equal_steps == cell.equal_time


def test_p_is_corrected_for_all_cells():
    middle = [0.09, 0.12, 0.11, 0.14, 0.13]
    several = table(runs("none", LOW), runs("r1", HIGH), runs("ema", middle), runs("pac", [0.0] * 5))
    by_name = {cell.treatment: answer_of(cell) for cell in cells(several, costs())}
    # Two of three tests have the least p: Holm's factors are 3 and 2, and the second is raised to the first.
    assert by_name["r1"].p_holm == pytest.approx(3 * LEAST_P)
    assert by_name["pac"].p_holm == pytest.approx(3 * LEAST_P)
    assert by_name["pac"].conclusion == "harms"
    assert by_name["ema"].p_holm == pytest.approx(by_name["ema"].p)
    # Means 0.120 and 0.118, and a standard error of √(0.00005 + 0.000074) = 0.01114: t = 0.048 / 0.01114 = 4.31 with
    # 7.7 degrees of freedom, and three times its p.
    assert by_name["ema"].equivalence_p == pytest.approx(3 * stats.t.sf(4.31, 7.7), rel=0.01)
    assert by_name["ema"].conclusion == "small"


def test_two_one_sided_tests_are_those_of_a_hand_worked_t():
    pair = Pair(np.array(LOW), np.array([0.11, 0.12, 0.13, 0.14, 0.15]))
    # A difference of 0.01 with a standard error of 0.01 and 8 degrees of freedom: t = 4 against 0.05, 6 against −0.05.
    assert equivalence_test(pair) == pytest.approx(stats.t.sf(4, 8))
    assert equivalence_test(Pair(np.array(LOW), np.array(HIGH))) == pytest.approx(stats.t.cdf(35, 8))
    # Without any spread there is nothing to test.
    assert equivalence_test(Pair(np.zeros(5), np.full(5, 0.04))) == 0
    assert equivalence_test(Pair(np.zeros(5), np.full(5, 0.06))) == 1
    # Of a control without spread it is the test of one sample: mean 0.01, standard error 0.00707, 4 degrees.
    values = np.array([-0.01, 0.0, 0.01, 0.02, 0.03])
    assert equivalence_test(Pair(np.zeros(5), values)) == pytest.approx(
        stats.t.sf(0.04 / (0.0158114 / 5**0.5), 4), rel=1e-4
    )


@pytest.mark.parametrize(
    ("control", "values", "conclusion"),
    [
        # Shown, and of 0.04: no large difference is claimed, nor that it is small.
        ([0.100, 0.101, 0.102, 0.103, 0.104], [0.110, 0.140, 0.142, 0.144, 0.174], "unclear"),
        # Shown, and of 0.01 with a small spread.
        ([0.1000, 0.1001, 0.1002, 0.1003, 0.1004], [0.1100, 0.1101, 0.1102, 0.1103, 0.1104], "small"),
        # Not shown, and it may be large.
        ([0.1, 0.3, 0.2, 0.1, 0.3], [0.2, 0.4, 0.1, 0.3, 0.1], "unclear"),
        ([0.0] * 5, [0.0] * 5, "small"),
    ],
)
def test_conclusions(control, values, conclusion):
    (cell,) = cells(table(runs("none", control), runs("r1", values)), costs())
    assert answer_of(cell).conclusion == conclusion


def test_numbers_of_seeds_may_differ():
    short, long = answers([Pair(np.array(LOW), np.array(HIGH)), Pair(np.array(LOW), np.array(HIGH[:4]))])
    assert (short.seeds, long.seeds) == ((5, 5), (5, 4))
    assert long.p == pytest.approx(1 / math.comb(9, 4))


def test_equal_time_and_equal_steps_have_runs_of_their_own():
    several = table(
        runs("none", LOW),
        runs("r1", [0.0] * 5, steps=1500),
        runs("r1", HIGH, stage="steps"),
        runs("pac", LOW, steps=1000),
    )
    first, second = cells(several, costs(2.0))
    assert first.equal_time[COVERAGE].conclusion == "harms"
    assert first.equal_steps[COVERAGE].conclusion == "helps"
    assert (first.steps, first.cost) == (1500, 2.0)
    assert second.equal_steps == {}


def test_what_is_not_reported_is_left_out():
    several = table(runs("none", LOW), runs("r1", HIGH, base="notes"), runs("pac", HIGH, stage="tuning"))
    assert cells(several, costs()) == []


def test_a_missing_cost_is_an_error():
    with pytest.raises(KeyError):
        cells(table(runs("none", LOW), runs("unrolled", HIGH)), costs())


def test_a_single_seed_has_no_spread_and_is_left_out():
    assert cells(table(runs("none", LOW), runs("r1", HIGH[:1])), costs()) == []
    assert cells(table(runs("none", LOW[:1]), runs("r1", HIGH)), costs()) == []


def test_failed_trainings_are_counted():
    failed = runs("r1", [0.0, 0.0], error="NaN or infinity", made=0)
    for row in failed:
        row["modes_total"] = math.nan
    several = table(runs("none", LOW), runs("r1", HIGH[:3]), failed)
    (cell,) = cells(several, costs())
    assert cell.failed == 2
    assert answer_of(cell).mean == pytest.approx((0.50 + 0.51 + 0.52) / 5)
    assert cell.equal_time[MADE].mean == pytest.approx(3 * 0.4 / 5)


def test_places_at_the_floor():
    low = [0.01, 0.02, 0.03, 0.04, 0.05]
    several = table(runs("none", low), runs("r1", low), runs("none", low, base="notes"), runs("r1", HIGH, base="notes"))
    assert floor_places(cells(several, costs())) == [SHORT]


def test_the_strength_with_the_highest_mean_is_chosen_in_each_place():
    tuning = table(
        runs("r1", [0.2, 0.4], strength="weak", stage="tuning"),
        runs("r1", [0.1, 0.3], strength="published", stage="tuning"),
        runs("r1", [0.1], strength="weak", base="notes", stage="tuning"),
        runs("r1", [0.2], strength="published", base="notes", stage="tuning"),
        runs("ema", [0.5], strength="weak", stage="tuning"),
        runs("ema", [0.5], strength="published", stage="tuning"),
        runs("pac", [0.9], strength="weak"),
    )
    tried = best_strengths(tuning)
    chosen = tried[tried["chosen"]].set_index(["base", "treatment"])["strength"].to_dict()
    # Of equal means the published strength.
    assert chosen == {("short", "r1"): "weak", ("notes", "r1"): "published", ("short", "ema"): "published"}


def test_kendall_w_is_that_of_hand_worked_ranks():
    ranks = np.array([[1, 6, 3, 2, 5, 4], [1, 5, 6, 2, 4, 3], [6, 3, 2, 5, 4, 1]]).T
    # The sums of the ranks are 8, 14, 11, 9, 13, 8; their squared deviations from 10.5 add up to 33.5.
    assert kendall_w(ranks) == pytest.approx(12 * 33.5 / (3**2 * (6**3 - 6)))
    assert kendall_w(np.array([[1, 10], [2, 20], [3, 30]])) == pytest.approx(1)
    assert kendall_w(np.array([[1, 3], [2, 2], [3, 1]])) == pytest.approx(0)
    # With ties: (1, 2, 2) and (1, 2, 2) agree completely, which only the correction shows.
    assert kendall_w(np.array([[1, 1], [2, 2], [2, 2]])) == pytest.approx(1)
    assert math.isnan(kendall_w(np.array([[1, 1], [1, 1]])))


def test_rank_agreement_takes_treatments_that_are_everywhere():
    parts = [runs("none", LOW), runs("none", LOW, base="notes")]
    for name, shift in (("r1", 0.3), ("ema", 0.1), ("pac", 0.0)):
        for base in ("short", "notes"):
            parts.append(runs(name, [value + shift for value in LOW], base=base))
    parts.append(runs("gdpp", HIGH))
    found = cells(table(*parts), costs())
    differences, w = rank_agreement(found, [SHORT, Place("digits", "notes")])
    assert set(differences.index) == {"r1", "ema", "pac"}
    assert w == pytest.approx(1)
