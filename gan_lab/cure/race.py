"""The race: successive halving over candidates. It chooses; what it measures of the winner is no estimate.

How a candidate's numbers come about is the caller's: `Trial` stands for a sweep of trainings, or for a simulation.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gan_lab.cure.candidates import PATIENT, Candidate, candidate_named, pairs
from gan_lab.cure.plan import Plan, Stage

# Pairs of the best candidates of the first stage that join the second one.
PAIRED = 3


@dataclass
class Result:
    """What a stage measured of a candidate.

    Attributes:
        candidate: which one.
        values: the primary metric of each seed, 0 for a training that NaN ended.
        failure: why it could not be trained; "" if it could.
        kept: whether it goes on, or has won.
        seconds: that a training took, the mean over the seeds.
    """

    candidate: Candidate
    values: list[float] = field(default_factory=list)
    failure: str = ""
    kept: bool = False
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """The mean over the seeds; −∞ without any."""
        return sum(self.values) / len(self.values) if self.values else -math.inf

    def as_json(self) -> dict[str, Any]:
        """Returns what cure.json keeps."""
        return {
            "name": self.candidate.name,
            "changes": list(self.candidate.changes),
            "values": self.values,
            "mean": self.mean if self.values else None,
            "failure": self.failure or None,
            "kept": self.kept,
            "seconds": self.seconds,
            "is_patient": self.candidate.is_patient,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], candidates: Sequence[Candidate]) -> "Result":
        """Reads what cure.json keeps; what a candidate changes is not read from there.

        Args:
            content: as `as_json` writes it, perhaps by a stranger.
            candidates: that can be meant.

        Raises:
            KeyError, TypeError, ValueError: if it isn't.
        """
        candidate = candidate_named(content["name"], candidates)
        values = [float(value) for value in content["values"]]
        if not all(0 <= value <= 1 for value in values):
            raise ValueError("a coverage lies in [0, 1]")
        return cls(candidate, values, str(content["failure"] or ""), content["kept"] is True, float(content["seconds"]))


# Trains each candidate with the steps and the seeds of a stage, whose number comes last.
Trial = Callable[[Sequence[Candidate], Stage, int], list[Result]]
# Keeps the results of a stage.
Keep = Callable[[list[Result]], None]


def race(
    candidates: Sequence[Candidate],
    plan: Plan,
    trial: Trial,
    done: Sequence[list[Result]] = (),
    keep: Keep | None = None,
) -> list[list[Result]]:
    """Lets the candidates compete, and the patient with them.

    Args:
        candidates: in the order in which they are tried.
        plan: the stages.
        trial: trains them.
        done: the results of the stages that were over before an interruption.
        keep: is called with the results of each further stage.

    Returns:
        The results of each stage, the best first. The first of the last stage that isn't the patient has won. A stage
        in which time was up before anything could be compared isn't among them.
    """
    stages = [list(results) for results in done]
    for number in range(len(stages), len(plan.stages)):
        stage = plan.stages[number]
        entrants = list(candidates[: stage.places])
        if number:
            entrants = _survivors(stages[-1])
        if number == 1:
            entrants = _with_pairs(entrants, stage.places)
        results = trial([PATIENT, *entrants], stage, number)
        results.sort(key=lambda result: -result.mean)
        if number and sum(1 for result in results if result.values) < 2:
            break
        next_places = 1
        if number + 1 < len(plan.stages):
            next_places = plan.stages[number + 1].places
        ranked = [result for result in results if not result.candidate.is_patient and result.values]
        for result in ranked[:next_places]:
            result.kept = True
        stages.append(results)
        if keep is not None:
            keep(results)
    return stages


def _survivors(results: Sequence[Result]) -> list[Candidate]:
    return [result.candidate for result in results if result.kept]


def _with_pairs(survivors: list[Candidate], places: int) -> list[Candidate]:
    """Returns the survivors with the pairs of the best of them, which take the places of the last ones."""
    combined = pairs(survivors[:PAIRED])
    room = max(len(survivors) - len(combined), min(PAIRED, len(survivors)))
    return [*survivors[:room], *combined][:places]


def winner(results: Sequence[Result]) -> Candidate | None:
    """Returns who has won the last stage; None if nobody was better there than the patient."""
    patient = next((result.mean for result in results if result.candidate.is_patient), -math.inf)
    for result in results:
        if result.kept and not result.candidate.is_patient:
            return result.candidate if result.mean > patient else None
    return None
