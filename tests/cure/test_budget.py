"""The budget is shared out before the race: enough seeds for the proof, the rest for the race."""

import pytest

from gan_lab.core.errors import LabError
from gan_lab.cure.plan import Cost, make_plan

COSTS = [2.0] * 40


@pytest.mark.parametrize("budget", [300, 600, 1800, 7200])
@pytest.mark.parametrize("step_seconds", [0.0005, 0.001, 0.002])
def test_plan_fits_the_budget(budget, step_seconds):
    plan = make_plan(Cost(10_000, step_seconds, 4, 2), budget, COSTS, None, [])
    assert sum(stage.seconds for stage in plan.stages) + plan.proof_seconds <= budget
    assert 4 <= len(plan.proof_seeds) <= 10
    places = [stage.places for stage in plan.stages]
    assert places == sorted(places, reverse=True)


def test_cost_by_hand():
    # Three candidates and two seeds: 6 jobs of 4 s; their steps cost 1, 2 and 3 times 0.01 s, 100 of each; 2 workers.
    assert Cost(1000, 0.01, 4, 2).of([1, 2, 3], 0.1, 2) == pytest.approx(8 + (6 * 4 + 2 * (1 + 2 + 3)) / 2)


def test_no_seed_is_used_twice():
    plan = make_plan(Cost(10_000, 0.001, 4, 2), 1800, COSTS, None, [1_000_000, 10_001], spent=9, salt=0)
    seeds = [*plan.proof_seeds, *(seed for stage in plan.stages for seed in stage.seeds)]
    assert len(set(seeds)) == len(seeds)
    # Those of the patient and its replicas.
    assert not {1_000_000, 10_001} & set(seeds)


def test_each_cure_has_proof_seeds_of_its_own():
    plans = [make_plan(Cost(10_000, 0.001, 4, 2), 1800, COSTS, None, [], salt=salt) for salt in (1, 2)]
    assert not set(plans[0].proof_seeds) & set(plans[1].proof_seeds)


def test_too_short_a_budget_says_how_long_it_should_be():
    with pytest.raises(LabError) as refusal:
        make_plan(Cost(100_000, 0.01, 4, 2), 600, COSTS, None, [], spent=500)
    assert refusal.value.key == "budget"
    minutes = int(str(refusal.value).partition("budget=")[2].partition("m")[0])
    make_plan(Cost(100_000, 0.01, 4, 2), 60 * minutes - 500, COSTS, None, [])


def test_number_of_seeds_can_be_chosen():
    assert len(make_plan(Cost(10_000, 0.001, 4, 2), 1800, COSTS, 6, []).proof_seeds) == 6
