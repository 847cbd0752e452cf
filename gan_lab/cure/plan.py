"""How a budget of time is spent: which stages the race has, and how many seeds the proof. Pure arithmetic.

The race is successive halving (Jamieson & Talwalkar 2016): many candidates for a short time, few for long. The plan is
made once, before the race, so that an interrupted cure goes on with the same one.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gan_lab.core.errors import LabError

# What race and proof measure, chosen before either.
METRIC = "coverage"
# The name of the patient in the race.
UNCHANGED = "unchanged"
# Seeds per arm of the proof: with three the smallest possible p, 2 of 20 splits, is above 0.05.
MIN_SEEDS = 4
MAX_SEEDS = 10
# The parts of the budget that the proof gets, and that it may have at most when seeds are asked for or very few.
PROOF_SHARE = 0.35
MAX_PROOF_SHARE = 0.6
# A sweep starts processes that import torch.
SWEEP_SECONDS = 8.0
# The winner's step may cost more than the patient's.
WINNER_COST = 1.5
# Parts of the patient's steps that the stages train: the first that has room for enough candidates. The longer the
# better: which recipe for points in the plane is best after all steps doesn't show after a third of them.
FRACTIONS = ((1.0, 1.0), (1 / 3, 1.0), (1 / 9, 1 / 3, 1.0), (1 / 9, 1 / 3), (1 / 27, 1 / 9), (1 / 81, 1 / 27))
ENOUGH = 12
LEAST = 3
MIN_STEPS = 100
# Of the candidates in a stage this part goes on to the next.
KEEP = 1 / 3
MAX_RACE_SEEDS = 3
# Seeds of the race are far from those that people choose; those of the proof are further, and other ones in each cure.
FIRST_RACE_SEED = 10_000
FIRST_PROOF_SEED = 1_000_000


@dataclass(frozen=True)
class Cost:
    """What trainings cost here.

    Attributes:
        steps: of the patient.
        step_seconds: of one of its steps.
        job_seconds: of a training besides its steps: building, evaluating, drawing.
        workers: trainings at the same time.
    """

    steps: int
    step_seconds: float
    job_seconds: float
    workers: int

    def of(self, costs: Sequence[float], fraction: float, seeds: int) -> float:
        """Returns the seconds of a sweep.

        Args:
            costs: of a step of each candidate, relative to the patient's.
            fraction: of the patient's steps.
            seeds: of each candidate.
        """
        if not costs:
            return 0.0
        steps = max(MIN_STEPS, fraction * self.steps)
        jobs = [self.job_seconds + steps * self.step_seconds * cost for cost in costs] * seeds
        # The last of the jobs runs alone.
        return SWEEP_SECONDS + max(max(jobs), sum(jobs) / self.workers)


@dataclass(frozen=True)
class Stage:
    """A stage of the race.

    Attributes:
        steps: of each training.
        seeds: of each candidate.
        places: how many candidates there are, the patient aside.
        seconds: what it is expected to take.
    """

    steps: int
    seeds: list[int]
    places: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """The race and the proof.

    Attributes:
        stages: of the race, the shortest first.
        proof_seeds: of both arms of the proof.
        proof_seconds: what the proof is expected to take.
    """

    stages: list[Stage]
    proof_seeds: list[int]
    proof_seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Plan":
        stages = [Stage(**stage) for stage in content["stages"]]
        return cls(stages, content["proof_seeds"], content["proof_seconds"])


def make_plan(
    cost: Cost,
    seconds: float,
    costs: Sequence[float],
    seeds: int | None,
    taken: Collection[int],
    spent: float = 0.0,
    salt: int = 0,
) -> Plan:
    """Plans the race and the proof.

    Args:
        cost: of trainings.
        seconds: that are left of the budget.
        costs: of a step of each candidate, in the order in which they are tried, relative to the patient's.
        seeds: per arm of the proof; None: as many as the budget allows, `MIN_SEEDS` to `MAX_SEEDS`.
        taken: seeds that are not used: the patient's.
        spent: seconds that the budget has lost already.
        salt: a number below 1,000,000 that gives each cure proof seeds of its own.

    Raises:
        LabError: if the budget is too short for a proof and a race.
    """
    number = seeds or _seeds_of_proof(cost, seconds)
    proof_seconds = _proof_seconds(cost, number)
    stages = []
    if proof_seconds <= MAX_PROOF_SHARE * seconds:
        stages = _stages(cost, seconds - proof_seconds, costs, taken)
    if not stages:
        least = _proof_seconds(cost, seeds or MIN_SEEDS)
        shortest = [1.0, *costs[:LEAST]]
        race = sum(cost.of(shortest, fraction, 1) for fraction in FRACTIONS[-1])
        needed = spent + max(least / MAX_PROOF_SHARE, least + race)
        raise LabError(
            f"The budget is too short: the proof alone trains {2 * number} GANs of {cost.steps:,} steps, which takes"
            f" about {describe_seconds(proof_seconds)}.",
            f"Say budget={math.ceil(1.1 * needed / 60)}m, or let the patient have fewer steps.",
            key="budget",
        )
    first = FIRST_PROOF_SEED + 1_000 * salt
    return Plan(stages, _seeds(first, number, taken), proof_seconds)


def _proof_seconds(cost: Cost, seeds: int) -> float:
    return cost.of([1.0, WINNER_COST], 1.0, seeds)


def _seeds_of_proof(cost: Cost, seconds: float) -> int:
    number = MIN_SEEDS
    while number < MAX_SEEDS and _proof_seconds(cost, number + 1) <= PROOF_SHARE * seconds:
        number += 1
    return number


def _stages(cost: Cost, seconds: float, costs: Sequence[float], taken: Collection[int]) -> list[Stage]:
    """Returns the stages with the longest trainings that have room for enough candidates; else for most candidates."""
    best: list[Stage] = []
    for fractions in FRACTIONS:
        for seeds in range(MAX_RACE_SEEDS, 0, -1):
            stages = _stages_of(cost, seconds, costs, fractions, seeds, taken)
            if stages and stages[0].places >= min(ENOUGH, len(costs)):
                return stages
            if stages and (not best or stages[0].places > best[0].places):
                best = stages
    return best


def _stages_of(
    cost: Cost, seconds: float, costs: Sequence[float], fractions: Sequence[float], seeds: int, taken: Collection[int]
) -> list[Stage]:
    """Returns the stages with these fractions and seeds for as many candidates as fit; [] if too few do."""
    for places in range(len(costs), LEAST - 1, -1):
        stages = []
        remaining = places
        for number, fraction in enumerate(fractions):
            # Who stays isn't known: on average they cost as much as all.
            share = costs[:places]
            mean = sum(share) / len(share)
            in_stage = costs[:places] if number == 0 else [mean] * remaining
            first_seed = FIRST_RACE_SEED * (number + 1)
            steps = max(MIN_STEPS, math.ceil(fraction * cost.steps))
            spent = cost.of([1.0, *in_stage], fraction, seeds)
            stages.append(Stage(min(steps, cost.steps), _seeds(first_seed, seeds, taken), remaining, spent))
            remaining = max(LEAST, math.ceil(remaining * KEEP))
        if sum(stage.seconds for stage in stages) <= seconds:
            return stages
    return []


def _seeds(first: int, number: int, taken: Collection[int]) -> list[int]:
    """Returns so many seeds from the first one on that aren't taken."""
    seeds: list[int] = []
    seed = first
    while len(seeds) < number:
        if seed not in taken:
            seeds.append(seed)
        seed += 1
    return seeds


def describe_seconds(seconds: float) -> str:
    """Returns '45 s', '10 min' or '2.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
