"""The cells of the atlas, against numbers that are worked out by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from gan_lab.atlas.cells import best_strengths, cells, kendall_w, rank_agreement
from gan_lab.atlas.table import COLUMNS, TUNING

# Five runs against five that are completely apart: 2 of the binom(10, 5) = 252 splits.
LEAST_P = 2 / 252


def runs(
    treatment: str,
    values: Sequence[float],
    base: str = "short",
    steps: int = 3000,
    strength: str = "published",
    experiment: str = "sweep/atlas/digits",
    error: str = "",
) -> list[dict[str, object]]:
    """Returns a row for each value."""
    rows: list[dict[str, object]] = []
    for seed, value in enumerate(values):
        row: dict[str, object] = dict.fromkeys(COLUMNS, "")
        row |= {"experiment": experiment, "dataset": "digits", "base": base, "group": "remedy", "treatment": treatment}
        row |= {"strength": strength, "steps": steps, "seed": seed, "coverage": value, "error": error}
        row |= {"processor_seconds": 1.0}
        rows.append(row)
    return rows


def table(*parts: list[dict[str, object]]) -> pd.DataFrame:
    """Returns a table of rows."""
    return pd.DataFrame([row for part in parts for row in part], columns=COLUMNS)


LOW = [0.10, 0.11, 0.12, 0.13, 0.14]
HIGH = [0.50, 0.51, 0.52, 0.53, 0.54]


def test_a_cell_says_what_a_treatment_did_at_equal_steps() -> None:
    (cell,) = cells(table(runs("none", LOW), runs("r1", HIGH)), {})
    assert (cell.dataset, cell.base, cell.treatment, cell.steps) == ("digits", "short", "r1", 3000)
    assert cell.mean == pytest.approx(0.52)
    answer = cell.equal_steps
    assert answer.control_mean == pytest.approx(0.12)
    assert answer.difference == pytest.approx(0.40)
    # Both variances are 0.00025, so the standard error is 0.01; the 0.975 quantile of t with 8 degrees is 2.306.
    assert (answer.low, answer.high) == (pytest.approx(0.40 - 0.02306, abs=1e-4), pytest.approx(0.42306, abs=1e-4))
    assert answer.p == pytest.approx(LEAST_P)
    assert answer.seeds == (5, 5)
    assert answer.conclusion == "helps"


def test_p_is_corrected_for_all_cells() -> None:
    middle = [0.09, 0.12, 0.11, 0.14, 0.13]
    several = table(runs("none", LOW), runs("r1", HIGH), runs("ema", middle), runs("pac", [0.0] * 5))
    by_name = {cell.treatment: cell.equal_steps for cell in cells(several, {})}
    # Two of three tests have the least p: Holm's factors are 3 and 2, and the second is raised to the first.
    assert by_name["r1"].p_holm == pytest.approx(3 * LEAST_P)
    assert by_name["pac"].p_holm == pytest.approx(3 * LEAST_P)
    assert by_name["pac"].conclusion == "harms"
    assert by_name["ema"].p_holm == pytest.approx(by_name["ema"].p)
    # Means 0.120 and 0.118, and a standard error of 0.0113: the interval is within ±0.05.
    assert by_name["ema"].conclusion == "small"


def test_a_difference_that_may_be_large_is_unclear() -> None:
    (cell,) = cells(table(runs("none", [0.1, 0.3, 0.2, 0.1, 0.3]), runs("r1", [0.2, 0.4, 0.1, 0.3, 0.1])), {})
    assert cell.equal_steps.p > 0.05
    assert cell.equal_steps.high > 0.05
    assert cell.equal_steps.conclusion == "unclear"


def test_runs_without_any_spread_are_compared() -> None:
    (cell,) = cells(table(runs("none", [0.0] * 5), runs("r1", [0.0] * 5)), {})
    assert (cell.equal_steps.low, cell.equal_steps.high) == (0, 0)
    assert cell.equal_steps.conclusion == "small"


@pytest.mark.parametrize(
    ("cost", "control_steps", "is_matched"),
    [(1.0, 3000, True), (1.05, 3000, True), (1.5, 6000, True), (2.0, 6000, True), (2.5, 6000, False)],
)
def test_at_equal_time_the_control_has_as_much_time(cost: float, control_steps: int, is_matched: bool) -> None:
    longer = [0.6, 0.61, 0.62, 0.63, 0.64]
    several = table(runs("none", LOW), runs("none", longer, steps=6000), runs("r1", HIGH))
    (cell,) = cells(several, {("digits", "r1", "published"): cost})
    assert cell.equal_time.control_steps == control_steps
    assert cell.is_matched == is_matched
    assert cell.equal_time.conclusion == ("helps" if control_steps == 3000 else "harms")
    assert cell.equal_steps.conclusion == "helps"


def test_a_treatment_without_control_and_the_tuning_are_left_out() -> None:
    several = table(
        runs("none", LOW),
        runs("r1", HIGH, base="notes"),
        runs("ema", HIGH, steps=500),
        runs("pac", HIGH, experiment=TUNING),
    )
    assert cells(several, {}) == []


def test_the_strength_with_the_highest_mean_over_bases_is_chosen() -> None:
    tuning = table(
        runs("r1", [0.2, 0.4], strength="weak", experiment=TUNING),
        runs("r1", [0.1], strength="weak", base="notes", experiment=TUNING),
        runs("r1", [0.3], strength="published", experiment=TUNING),
        runs("r1", [0.0], strength="published", base="notes", experiment=TUNING),
        runs("ema", [0.5], strength="weak", experiment=TUNING),
        runs("ema", [0.5], strength="published", experiment=TUNING),
    )
    rows = best_strengths(tuning).set_index("treatment")
    # The mean of 0.3 and 0.1, whatever the numbers of runs; of equal means the published strength.
    assert rows.loc["r1", "weak"] == pytest.approx(0.2)
    assert rows.loc["r1", "chosen"] == "weak"
    assert rows.loc["ema", "chosen"] == "published"
    assert math.isnan(rows.loc["ema", "strong"]) if "strong" in rows else True


def test_kendall_w_is_that_of_hand_worked_ranks() -> None:
    ranks = np.array([[1, 6, 3, 2, 5, 4], [1, 5, 6, 2, 4, 3], [6, 3, 2, 5, 4, 1]]).T
    # The sums of the ranks are 8, 14, 11, 9, 13, 8; their squared deviations from 10.5 add up to 33.5.
    assert kendall_w(ranks) == pytest.approx(12 * 33.5 / (3**2 * (6**3 - 6)))
    assert kendall_w(np.array([[1, 10], [2, 20], [3, 30]])) == pytest.approx(1)
    assert kendall_w(np.array([[1, 3], [2, 2], [3, 1]])) == pytest.approx(0)
    # With ties: (1, 2, 2) and (1, 2, 2) agree completely, which only the correction shows.
    assert kendall_w(np.array([[1, 1], [2, 2], [2, 2]])) == pytest.approx(1)
    assert math.isnan(kendall_w(np.array([[1, 1], [1, 1]])))


def test_rank_agreement_takes_treatments_that_are_everywhere() -> None:
    parts = [runs("none", LOW), runs("none", LOW, base="notes")]
    for name, shift in (("r1", 0.3), ("ema", 0.1), ("pac", 0.0)):
        for base in ("short", "notes"):
            parts.append(runs(name, [value + shift for value in LOW], base=base))
    parts.append(runs("gdpp", HIGH))
    differences, w = rank_agreement(cells(table(*parts), {}))
    assert set(differences.index) == {"r1", "ema", "pac"}
    assert w == pytest.approx(1)
