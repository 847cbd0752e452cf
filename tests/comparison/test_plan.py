"""What is said of a sweep before it starts."""

import itertools

import pandas as pd
import pytest

from gan_lab.comparison.plan import describe_plan, number_of_comparisons, number_of_seeds
from gan_lab.comparison.questions import comparisons

RUNGS = ["1_mse_sigmoid_sgd", "2_bce", "3_leaky_relu", "4_adam", "5_layer_norm"]


@pytest.mark.parametrize(
    ("swept", "seeds", "replicas", "expected"),
    [
        (
            {"experiment/ladder": RUNGS},
            [0],
            3,
            "5 variants × 3 seeds, 4 comparisons: too few seeds to tell, however large a difference is;"
            " 5 seeds would do: replicas=5",
        ),
        (
            {"loss": ["mse", "bce"], "seed": ["0", "1", "2"]},
            [0, 1, 2],
            1,
            "2 variants × 3 seeds, 1 comparison: too few seeds to tell, however large a difference is;"
            " 4 seeds would do: seed=0 replicas=4",
        ),
        (
            {"loss": ["mse", "bce"]},
            [0],
            1,
            "2 variants × 1 seed, 1 comparison: too few seeds to tell, however large a difference is;"
            " 4 seeds would do: replicas=4",
        ),
        # Cohen's table: 17 per group for a size of 1, 26 for 0.8.
        (
            {"loss": ["mse", "bce"]},
            [0],
            17,
            "2 variants × 17 seeds, 1 comparison: enough to show a difference of 1.0 standard deviations between seeds"
            " (in 80 % of cases).",
        ),
        # Main effects have two strata: 2 / binom(4, 2)² = 2 / 36 of 2 seeds, 2 / 400 of 3, times 3 comparisons.
        (
            {"loss": ["mse", "bce"], "optim": ["sgd", "adam"]},
            [0],
            2,
            "4 variants × 2 seeds, 3 comparisons: too few seeds to tell, however large a difference is;"
            " 3 seeds would do: replicas=3",
        ),
        ({"seed": ["0", "1"], "threads": ["1", "2"]}, [0, 1], 1, ""),
    ],
)
def test_what_a_sweep_can_show(swept, seeds, replicas, expected):
    assert describe_plan(swept, seeds, replicas) == expected


@pytest.mark.parametrize(
    "levels",
    [
        {"loss": ["a", "b", "c"]},
        {"remedy": ["[r1]", "[]", "[r2]"]},
        {"loss": ["a", "b"], "optim": ["c", "d", "e"], "norm": ["f", "g", "h", "i"]},
    ],
)
def test_as_many_comparisons_are_announced_as_are_made(levels):
    frame = pd.DataFrame(list(itertools.product(*levels.values())), columns=list(levels)).replace("[]", "none")
    assert number_of_comparisons(levels) == len(comparisons(frame, list(levels)))


def test_jobs_that_share_a_seed_count_once():
    assert number_of_seeds([0, 1, 2, 3, 4], 1) == 5
    assert number_of_seeds([0, 1, 2, 3, 4], 3) == 6, "of 0 and 3: 1, 2 and 4 share some of their seeds"
    assert number_of_seeds([7], 4) == 4
