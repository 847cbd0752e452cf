"""Race and proof of a patient by trainings, within the time of the budget."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_lab.comparison.collect import as_number
from gan_lab.config.experiment_file import experiment_text
from gan_lab.core.command_line import command, quote, setting
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable, progress_bar, say
from gan_lab.cure.candidates import AND, PATIENT, Candidate, candidate_named, in_order
from gan_lab.cure.patient import Patient
from gan_lab.cure.plan import LEAST, METRIC, MIN_SEEDS, SWEEP_SECONDS, Plan, Stage, describe_seconds, make_plan
from gan_lab.cure.proof import Proof, prove
from gan_lab.cure.race import Result, race, winner
from gan_lab.cure.request import Request
from gan_lab.cure.state import State, damaged
from gan_lab.cure.trainings import JUDGED, QUICK, Job, Trainings

# A stage of the race may take this much more than its share of the time that is left.
SLACK = 1.15
# The proof may exceed the budget by this much.
OVERTIME = 1.05
PRESCRIPTION = "prescription.yaml"
NO_TIME = "no time was left"
COLLAPSED = ("collapsed", "partial")
# Of fewer held-out samples coverage is soon 1, however few different ones G makes.
FEW_HELDOUT = 50
# Candidates of a stage that the terminal shows.
MAX_SHOWN = 5


class Treatment:
    """Finds what helps a patient, and proves it.

    Args:
        request: budget and number of seeds.
        patient: who is ill.
        failures: of the patient, the main one first.
        trainings: trains in the folder of the cure.
        state: keeps what is done.

    Raises:
        LabError: if the budget is too short, or cure.json is damaged.
    """

    def __init__(self, request: Request, patient: Patient, failures: Sequence[str], trainings: Trainings, state: State):
        self.request = request
        self.patient = patient
        self.trainings = trainings
        self.state = state
        self.candidates = in_order(failures, patient.record.settings, patient.remedies)
        self.cost = patient.cost(request.workers)
        if "plan" not in state.content:
            plan = make_plan(
                self.cost,
                request.seconds - state.spent(),
                [candidate.cost for candidate in self.candidates],
                request.seeds,
                patient.seeds,
                spent=state.spent(),
                salt=request.digest % 1_000_000,
            )
            state.keep(plan=plan.as_json(), race=[], chosen=[])
        try:
            self.plan = Plan.from_json(state.content["plan"])
            self.done = self._done()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(state.folder) from error

    def run(self) -> None:
        """Races and proves; the answer goes into the state."""
        say(_announcement(self.plan, self.request.seconds))
        with progress_bar("cure", round(self.request.seconds), "s") as self.bar:
            self.bar.bar_format = "{desc} {percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s{postfix}"
            stages = race(self.candidates, self.plan, self._trial, self.done, self._keep)
            best = winner(stages[-1])
            if best is None:
                self.state.keep(prescription=None, answer=_nothing_better(stages[-1]))
                return
            jobs = self._prove(best, stages)
        self._conclude(best, jobs)

    def _done(self) -> list[list[Result]]:
        """Returns the results of the stages that an earlier process has finished.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if cure.json holds anything else.
        """
        stages = []
        for stage in self.state.content["race"]:
            results = [Result.from_json(result, self.candidates) for result in stage["results"]]
            if PATIENT not in [result.candidate for result in results]:
                raise ValueError("the patient runs along in each stage")
            stages.append(results)
        if len(stages) > len(self.plan.stages):
            raise ValueError("more stages than were planned")
        for names in self.state.content["chosen"]:
            for name in names:
                candidate_named(name, self.candidates)
        for seed in self.state.content.get("proof_seeds", []):
            if not isinstance(seed, int) or seed < 0:
                raise ValueError("no seed")
        return stages

    def _trial(self, entrants: Sequence[Candidate], stage: Stage, number: int) -> list[Result]:
        """Trains the entrants of a stage that there is room for; what time has cut off has no value."""
        share = stage.seconds / sum(other.seconds for other in self.plan.stages[number:])
        seconds = share * max(self._left_for_race(), stage.seconds / 2)
        chosen = self._chosen(entrants, number, seconds)
        recipes = {candidate.slug: self._overrides(candidate) for candidate in chosen}
        until = self.state.spent() + SLACK * seconds
        self.trainings.progress = self._progress(f"race {number + 1} of {len(self.plan.stages)}")
        jobs = self.trainings.sweep(
            f"race/{number + 1}",
            recipes,
            stage.steps,
            stage.seeds,
            self.state.time_at(until),
            (*QUICK, f"callbacks.verdict.every={stage.steps}"),
        )
        results = [_result(candidate, jobs) for candidate in chosen]
        patient = results[0]
        if not patient.values and patient.failure != NO_TIME:
            # What can't be trained at all says nothing of what helps.
            raise LabError(f"The patient can't be trained again: {patient.failure}", code="failed")
        return results

    def _chosen(self, entrants: Sequence[Candidate], number: int, seconds: float) -> list[Candidate]:
        """Returns the entrants of a stage that there is time for; once decided it stays so.

        Args:
            entrants: in the order in which they are chosen, the patient first.
            number: of the stage, from 0.
            seconds: that the stage may take.
        """
        decided = self.state.content["chosen"]
        if len(decided) <= number:
            jobs = len(self.plan.stages[number].seeds)
            left = (seconds - SWEEP_SECONDS) * self.request.workers
            names = []
            for place, candidate in enumerate(entrants):
                expected = self._expected(candidate, number)
                # A single training that takes all the time would keep the others from being compared.
                fits = jobs * expected <= left and expected <= seconds - SWEEP_SECONDS
                if fits or place < LEAST:
                    names.append(candidate.name)
                    left -= jobs * expected
            self.state.keep(chosen=[*decided, names])
        return [candidate for candidate in entrants if candidate.name in self.state.content["chosen"][number]]

    def _expected(self, candidate: Candidate, number: int) -> float:
        """Returns the seconds of a training in a stage: by those of the stage before, in the first one by its cost."""
        stages = self.plan.stages
        if not number:
            return self.cost.job_seconds + stages[0].steps * self.cost.step_seconds * candidate.cost
        took = {result["name"]: result["seconds"] for result in self.state.content["race"][-1]["results"]}
        parts = candidate.name.split(AND)
        if candidate.name in took:
            parts = [candidate.name]
        of_patient = took[PATIENT.name]
        surplus = sum(max(0.0, took.get(part, of_patient) - of_patient) for part in parts)
        scale = stages[number].steps / stages[number - 1].steps
        return self.cost.job_seconds + scale * (of_patient + surplus)

    def _left_for_race(self) -> float:
        return self.request.seconds - self.plan.proof_seconds - self.state.spent()

    def _keep(self, results: list[Result]) -> None:
        stages = self.state.content["race"]
        stage = self.plan.stages[len(stages)]
        shown = {"steps": stage.steps, "seeds": stage.seeds, "results": [result.as_json() for result in results]}
        self.state.keep(race=[*stages, shown])
        self.bar.clear()
        say(_ranking(results, stage))

    def _prove(self, best: Candidate, stages: Sequence[Sequence[Result]]) -> list[Job]:
        """Trains the winner and the patient on fresh seeds.

        Args:
            best: the winner.
            stages: of the race, of which the last says what such trainings take.
        """
        if "proof_seeds" not in self.state.content:
            self.state.keep(proof_seeds=self._proof_seeds(best, stages))
        self.trainings.progress = self._progress("proof")
        return self.trainings.sweep(
            "proof",
            {PATIENT.slug: self.patient.overrides, best.slug: self._overrides(best)},
            self.patient.steps,
            self.state.content["proof_seeds"],
            self.state.time_at(OVERTIME * self.request.seconds),
            JUDGED,
        )

    def _proof_seeds(self, best: Candidate, stages: Sequence[Sequence[Result]]) -> list[int]:
        """Returns the planned seeds as far as there is time for them; at least `MIN_SEEDS`."""
        scale = self.patient.steps / self.plan.stages[len(stages) - 1].steps
        pair = 0.0
        for result in stages[-1]:
            if result.candidate in (PATIENT, best):
                pair += self.cost.job_seconds + scale * result.seconds
        left = OVERTIME * self.request.seconds - self.state.spent() - SWEEP_SECONDS
        fitting = int(left * self.request.workers / pair)
        return self.plan.proof_seeds[: max(MIN_SEEDS, fitting)]

    def _conclude(self, best: Candidate, jobs: Sequence[Job]) -> None:
        """Tests the winner, and writes the prescription if it helped."""
        compared = _in_both_arms(best, jobs, self.state.content["proof_seeds"])
        number = len(compared) // 2
        if number < MIN_SEEDS:
            failures = [job.failure for job in jobs if job.failure]
            if failures:
                raise LabError(f"The proof of {best.name} can't be trained: {failures[0]}", code="failed")
            answer = (
                f"The budget was over before the proof of {best.name}: {number} of its seeds ended, and {MIN_SEEDS} are"
                " needed. Say a longer one."
            )
            self.state.keep(prescription=None, answer=answer)
            return
        proof = prove(_values(PATIENT.slug, compared), _values(best.slug, compared))
        answer = proof.sentence(best.name)
        compared_with = as_number(self.patient.record.metrics.get("compared"))
        if not proof.helped and compared_with < FEW_HELDOUT:
            answer += f" Coverage is of {compared_with:.0f} held-out samples only, and so tells little: pack more."
        shortcomings = _shortcomings([job for job in compared if job.recipe == best.slug])
        if proof.helped and shortcomings:
            answer += f" It is no full cure: {shortcomings}."
        self.state.keep(
            proof=self._proof_json(proof, best, compared, answer),
            prescription=self._prescription(best) if proof.helped else None,
            answer=answer,
        )

    def _prescription(self, best: Candidate) -> dict[str, Any]:
        """Writes the experiment, and returns what cure.json says of the prescription."""
        overrides = self._overrides(best)
        steps = setting("steps", self.patient.steps)
        with atomic(self.state.folder / PRESCRIPTION) as path:
            text = experiment_text([*overrides, steps], f"The prescription of a cure: {best.name}")
            path.write_text(text, encoding="utf-8")
        return {
            "name": best.name,
            "changes": list(best.changes),
            "command": command("train.py", *map(quote, [*self.request.options_of_train, *overrides]), steps),
            "experiment": PRESCRIPTION,
            "why": best.source,
        }

    def _proof_json(self, proof: Proof, best: Candidate, jobs: Sequence[Job], sentence: str) -> dict[str, Any]:
        films = {}
        verdicts = {}
        for arm, recipe in (("patient", PATIENT.slug), ("winner", best.slug)):
            of_arm = [job for job in jobs if job.recipe == recipe]
            verdicts[arm] = _count_verdicts(of_arm)
            films[arm] = path_from(self.state.folder, Run(of_arm[0].folder).film)
        has_interval = proof.low == proof.low
        return {
            "seeds": sorted({job.seed for job in jobs}),
            "steps": self.patient.steps,
            "metric": METRIC,
            "patient": proof.patient,
            "winner": proof.cured,
            "difference": proof.difference,
            "low": proof.low if has_interval else None,
            "high": proof.high if has_interval else None,
            "p": proof.p,
            "helped": proof.helped,
            "sentence": sentence,
            "verdicts": verdicts,
            "films": films,
            "report": "proof/report.html",
        }

    def _overrides(self, candidate: Candidate) -> list[str]:
        return candidate.overrides(self.patient.overrides, self.patient.remedies)

    def _progress(self, what: str) -> Any:
        def show(done: int, jobs: int) -> None:
            self.bar.set_postfix_str(f"{what}, {done} of {jobs} trainings", refresh=False)
            self.bar.n = min(round(self.state.spent()), self.bar.total)
            self.bar.refresh()

        return show


def path_from(folder: Path, path: Path) -> str:
    """Returns a path as seen from a folder if it lies below it, else an absolute one."""
    absolute = path.absolute()
    if absolute.is_relative_to(folder.absolute()):
        return absolute.relative_to(folder.absolute()).as_posix()
    return str(absolute)


def _in_both_arms(best: Candidate, jobs: Sequence[Job], seeds: Sequence[int]) -> list[Job]:
    """Returns the jobs of the first seeds that ended in both arms: as many in each, whichever is slower or fails."""
    by_key = {(job.recipe, job.seed): job for job in jobs if job.value is not None}
    compared = []
    for seed in seeds:
        pair = [by_key[key] for key in ((PATIENT.slug, seed), (best.slug, seed)) if key in by_key]
        if len(pair) < 2:
            break
        compared += pair
    return compared


def _values(recipe: str, jobs: Sequence[Job]) -> list[float]:
    """Returns the values of a recipe's trainings, by seed."""
    of_recipe = sorted((job for job in jobs if job.recipe == recipe), key=lambda job: job.seed)
    return [job.value for job in of_recipe if job.value is not None]


def _result(candidate: Candidate, jobs: Sequence[Job]) -> Result:
    """Returns what a stage measured of a candidate."""
    of_candidate = [job for job in jobs if job.recipe == candidate.slug]
    failures = [job.failure for job in of_candidate if job.failure]
    values = _values(candidate.slug, jobs)
    failure = ""
    if failures:
        failure = printable(failures[0].partition("\n")[0])
    elif not values:
        failure = NO_TIME
    seconds = sum(job.seconds for job in of_candidate) / max(1, len(of_candidate))
    return Result(candidate, values, failure, seconds=seconds)


def _shortcomings(jobs: Sequence[Job]) -> str:
    """Returns what is still wrong with the runs that a change helped; "" if nothing is.

    Coverage alone doesn't see that the samples of a mode are much alike, or copies of training data.
    """
    counts = {
        "still collapsed or partial": sum(1 for job in jobs if job.verdict.get("collapse") in COLLAPSED),
        "collapsed within modes": sum(1 for job in jobs if job.verdict.get("within_modes") == "collapsed"),
        "copying training data": sum(1 for job in jobs if job.verdict.get("copies") is True),
    }
    parts = [f"{number} {what}" for what, number in counts.items() if number]
    return f"of {len(jobs)} runs, {', '.join(parts)}" if parts else ""


def _count_verdicts(jobs: Sequence[Job]) -> str:
    """Returns 'collapsed in 5 of 5 runs', or 'covered in 4 of 5 runs, partial in 1'."""
    numbers: dict[str, int] = {}
    for job in jobs:
        word = str(job.verdict.get("collapse") or "not judged")
        within = job.verdict.get("within_modes")
        if word == "covered" and within in ("collapsed", "narrow"):
            word = f"covered but {within} within modes"
        numbers[word] = numbers.get(word, 0) + 1
    ranked = sorted(numbers.items(), key=lambda item: -item[1])
    parts = [f"{word} in {number}" for word, number in ranked]
    parts[0] += f" of {len(jobs)} runs"
    return ", ".join(parts)


def _announcement(plan: Plan, seconds: float) -> str:
    first = plan.stages[0]
    last = plan.stages[-1]
    race_seconds = sum(stage.seconds for stage in plan.stages)
    return (
        f"Plan for {describe_seconds(seconds)}: a race of {first.places} candidates over {first.steps:,} steps to"
        f" {last.places} over {last.steps:,} (about {describe_seconds(race_seconds)}), then a proof on"
        f" {len(plan.proof_seeds)} fresh seeds with and without the winner (about"
        f" {describe_seconds(plan.proof_seconds)})."
    )


def _ranking(results: Sequence[Result], stage: Stage) -> str:
    """Returns the best of a stage and the patient, for a terminal."""
    seeds = "1 seed" if len(stage.seeds) == 1 else f"mean of {len(stage.seeds)} seeds"
    lines = [f"{METRIC.capitalize()} after {stage.steps:,} steps, {seeds}:"]
    measured = [result for result in results if result.values]
    for place, result in enumerate(measured):
        if place < MAX_SHOWN or result.candidate.is_patient:
            lines.append(f"  {result.mean:.3f}  {result.candidate.name}")
    late = sum(1 for result in results if result.failure == NO_TIME)
    refused = len(results) - len(measured) - late
    if late:
        lines.append(f"  ({late} of {len(results)} were not trained in time)")
    if refused:
        lines.append(f"  ({refused} of {len(results)} can't be trained; cure.html says why)")
    return "\n".join(lines)


def _nothing_better(results: Sequence[Result]) -> str:
    measured = [result for result in results if result.values]
    others = [result for result in measured if not result.candidate.is_patient]
    if not others:
        return "Nothing within the budget helped: no candidate was trained in time."
    best = others[0]
    numbers = [f"{METRIC} {best.mean:.2f} in the race"]
    numbers += [f"{result.mean:.2f} without it" for result in measured if result.candidate.is_patient]
    return f"Nothing within the budget helped; the best try was {best.candidate.name} ({', '.join(numbers)})."
