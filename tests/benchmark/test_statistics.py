"""A small version of the trial behind docs/statistics.md: comparisons of made-up runs keep what they promise."""

import numpy as np
import pytest

from gan_lab.benchmark import statistics
from gan_lab.benchmark.statistics import paired_p

DRAWS = 1_500
# Three standard errors of a share of 5 % of so many draws.
ERROR = 0.017


def test_paired_p_worked_by_hand():
    """Of 5 seeds, all with the same sign, 2 of 2⁵ assignments are as extreme; of 1, 2, −3 all eight."""
    assert paired_p(np.array([[1.0, 2, 3, 4, 5], [-1.0, -2, -3, -4, -5]])) == pytest.approx([2 / 32, 2 / 32])
    assert paired_p(np.array([[1.0, 2, -3]])) == pytest.approx([1])
    assert paired_p(np.ones((1, 20))) == pytest.approx([1 / 10_000], rel=1)


@pytest.mark.slow
def test_intervals_cover_and_tests_alarm_as_often_as_they_say():
    frame = statistics.designs(DRAWS, seeds=(3, 5, 10)).set_index(["design", "seeds"])
    print(frame.to_string())
    assert frame["coverage"].min() > 0.95 - ERROR
    assert (frame["bca"] < frame["coverage"]).loc[lambda worse: frame["bca"].notna()].all()
    equal_spread = frame[frame.index.get_level_values("design") != "unequal spread"]
    assert equal_spread["false_alarms"].max() < 0.05 + ERROR
    assert frame["false_alarms"].max() < 0.08 + ERROR, "of five runs with three times the spread"
    shown = frame.xs(10, level="seeds")
    assert shown["power"].min() > 0.9
    assert frame.loc[[("normal", 3), ("counts", 3)], "power"].tolist() == [0, 0], "too few seeds to tell"


@pytest.mark.slow
def test_false_alarms_of_a_family_stay_below_five_percent():
    frame = statistics.families(DRAWS, seeds=(5, 6))
    print(frame.to_string())
    assert frame[["ladder", "remedies"]].max().max() < 0.05 + ERROR


@pytest.mark.slow
def test_the_range_of_seeds_has_the_true_number_as_often_as_it_says():
    frame = statistics.needs(DRAWS)
    print(frame.to_string())
    assert frame["range_has_it"].min() > 0.8 - 0.03


@pytest.mark.slow
def test_pairing_helps_only_where_seeds_correlate_and_are_many():
    frame = statistics.pairing(DRAWS).set_index(["correlation", "seeds"])
    print(frame.to_string())
    assert frame.filter(like="false_alarms").max().max() < 0.05 + ERROR
    assert (frame.loc[0.0, "power_paired"] <= frame.loc[0.0, "power_unpaired"] + 0.02).all()
    assert (frame["power_paired_of_4"].xs(5, level="seeds") == 0).all(), "2 of 2⁵ signs is above 0.05 / 4"
    assert frame.loc[(0.9, 10), "power_paired_of_4"] > frame.loc[(0.9, 10), "power_unpaired_of_4"]
