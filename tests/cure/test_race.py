"""The race chooses, and the proof, on other seeds, decides: where nothing helps it says so."""

import numpy as np
import pytest

from gan_lab.cure.candidates import Candidate
from gan_lab.cure.plan import Plan, Stage
from gan_lab.cure.proof import prove
from gan_lab.cure.race import Result, race, winner

SEEDS = 5
RACES = 400


def plan(*places):
    stages = [Stage(100 * 3**i, [i], number, 1.0) for i, number in enumerate(places)]
    return Plan(stages, list(range(SEEDS)), 1.0)


def candidates(number):
    return [Candidate(f"c{i}", (f"remedy=[c{i}]",)) for i in range(number)]


def trial_of(values):
    """A trial in which each candidate has the value of its name; pairs have that of their better half."""

    def trial(entrants, stage, number):
        results = []
        for candidate in entrants:
            parts = [values[name] for name in candidate.name.split(" + ")]
            results.append(Result(candidate, [max(parts)]))
        return results

    return trial


def test_best_candidate_wins():
    values = {"unchanged": 0.1, **{f"c{i}": i / 10 for i in range(9)}}
    stages = race(candidates(9), plan(9, 3, 3), trial_of(values))
    assert [result.candidate.name for result in stages[0][:3]] == ["c8", "c7", "c6"]
    assert "c8" in winner(stages[-1]).name


def test_patient_runs_in_every_stage_and_never_wins():
    values = {"unchanged": 0.9, **{f"c{i}": i / 10 for i in range(9)}}
    stages = race(candidates(9), plan(9, 3), trial_of(values))
    assert all(results[0].candidate.is_patient for results in stages)
    assert winner(stages[-1]) is None


def test_pairs_join_the_second_stage():
    values = {"unchanged": 0.0, **{f"c{i}": i / 10 for i in range(9)}}
    stages = race(candidates(9), plan(9, 5), trial_of(values))
    names = {result.candidate.name for result in stages[1]}
    # The last two of the five who stayed have given their places to pairs of the best.
    assert names == {"unchanged", "c8", "c7", "c6", "c8 + c7", "c8 + c6"}


def test_interrupted_race_goes_on_with_the_same_survivors():
    values = {"unchanged": 0.1, **{f"c{i}": i / 10 for i in range(9)}}
    whole = race(candidates(9), plan(9, 3, 3), trial_of(values))
    kept = [[Result.from_json(result.as_json(), candidates(9)) for result in whole[0]]]
    asked = []

    def trial(entrants, stage, number):
        asked.append(number)
        return trial_of(values)(entrants, stage, number)

    again = race(candidates(9), plan(9, 3, 3), trial, kept)
    assert asked == [1, 2]
    assert winner(again[-1]) == winner(whole[-1])


@pytest.mark.parametrize("change", [{"name": "evil"}, {"values": [2]}, {"values": "x"}, {"seconds": None}])
def test_result_of_a_stranger_is_refused(change):
    written = Result(candidates(1)[0], [0.5]).as_json() | change
    with pytest.raises((KeyError, TypeError, ValueError)):
        Result.from_json(written, candidates(1))


def test_changes_are_not_read_from_a_file():
    written = Result(candidates(1)[0], [0.5]).as_json() | {"changes": ["hydra.job_logging=evil"]}
    assert Result.from_json(written, candidates(1)).candidate.changes == ("remedy=[c0]",)


def test_stage_without_time_does_not_count():
    values = {"unchanged": 0.1, **{f"c{i}": i / 10 for i in range(9)}}

    def trial(entrants, stage, number):
        if number:
            return [Result(candidate, failure="no time was left") for candidate in entrants]
        return trial_of(values)(entrants, stage, number)

    stages = race(candidates(9), plan(9, 3), trial)
    assert len(stages) == 1
    assert winner(stages[-1]).name == "c8"


def test_nothing_helps_where_no_candidate_differs():
    """Of simulated races of equals at most 5 % end with 'helped', however many candidates were looked at."""
    rng = np.random.default_rng(0)
    helped = 0
    overstated = []
    reported = []
    for _ in range(RACES):

        def trial(entrants, stage, number):
            return [Result(candidate, list(rng.beta(4, 6, len(stage.seeds)))) for candidate in entrants]

        stages = race(candidates(40), plan(40, 14, 5), trial)
        best = winner(stages[-1])
        if best is None:
            continue
        proof = prove(list(rng.beta(4, 6, SEEDS)), list(rng.beta(4, 6, SEEDS)))
        helped += proof.helped
        last = {result.candidate: result.mean for result in stages[-1]}
        overstated.append(last[best])
        reported.append(sum(proof.cured) / SEEDS)
    assert helped <= 0.05 * RACES
    # The mean of Beta(4, 6) is 0.4: the proof finds it, the winner's own numbers in the race are above it.
    assert abs(np.mean(reported) - 0.4) < 0.02
    assert np.mean(overstated) > 0.5
