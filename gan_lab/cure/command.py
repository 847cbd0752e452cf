"""scripts/cure.py: examination, race, proof, prescription; cure.json keeps what is done, so that it can go on."""

import hashlib
import json
import re
import time
from collections.abc import Sequence
from contextlib import contextmanager
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gan_lab.comparison.collect import Record, as_number, read_record
from gan_lab.config.experiment_file import experiment_text, key_of_override
from gan_lab.config.launchers import available_cores
from gan_lab.config.schema import scope_of
from gan_lab.config.targets import harmless_overrides
from gan_lab.core.command_line import command, quote, setting
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic, read_text, relative_path
from gan_lab.core.run_folder import OUTPUTS, Run
from gan_lab.core.terminal import printable, progress_bar, say
from gan_lab.cure.candidates import PATIENT, Candidate, in_order
from gan_lab.cure.examination import Examination, examine
from gan_lab.cure.page import write_page
from gan_lab.cure.plan import LEAST, MIN_SEEDS, SWEEP_SECONDS, Cost, Plan, Stage, describe_seconds, make_plan
from gan_lab.cure.proof import METRIC, Proof, prove
from gan_lab.cure.race import Result, race, winner
from gan_lab.cure.trainings import QUICK, Job, Trainings

FORMAT = 1
BUDGET = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
UNITS = {"s": 1, "m": 60, "h": 3600}
# The cure says these itself of each training.
DECIDED = ("seed", "steps", "replicas", "name", "resume", "force", "preflight", "objective", "hydra.run.dir")
DECIDED += ("hydra.sweep.dir", "hydra.mode", "run", "debug")
REFUSED = ("replicas", "name", "resume", "hydra.run.dir", "hydra.sweep.dir", "hydra.mode")
# Building a training, and its pictures and its page at the end.
START_SECONDS = 3.0
# A launcher of a cluster runs as many jobs as it has room for.
CLUSTER_WORKERS = 32
# A stage of the race may take this much more than its share of the time that is left.
SLACK = 1.15
# What the proof may exceed the budget by.
OVERTIME = 1.08


@dataclass
class Request:
    """What the user asks for.

    Attributes:
        run: the folder of the patient; None if it is yet to be trained.
        overrides: of the patient's training; with `run`, additional arguments.
        budget: '30m'.
        seeds: of each arm of the proof; None: as many as the budget allows.
        target: the folder of the cure; None: beside the run, or below outputs/.
        config_folder: that the command line adds to conf/; None.
    """

    run: str | None
    overrides: list[str]
    budget: str
    seeds: int | None
    target: str | None
    config_folder: Path | None = None

    @property
    def seconds(self) -> float:
        """The budget.

        Raises:
            LabError: if it isn't written like 90s, 30m or 1.5h.
        """
        match = BUDGET.fullmatch(self.budget)
        if match is None or not float(match[1]):
            raise LabError(f"budget={self.budget} is no time.", "Say budget=10m, 90s or 1.5h.", key="budget")
        return float(match[1]) * UNITS[match[2]]

    @property
    def arguments(self) -> list[str]:
        """The arguments that describe the cure, as cure.json keeps them."""
        run = [] if self.run is None else [f"run={self.run}"]
        return [*run, *self.overrides, f"budget={self.budget}", f"seeds={self.seeds or 'auto'}"]

    @property
    def folder(self) -> Path:
        """Where everything goes; the same command finds it again."""
        if self.target:
            return Path(self.target)
        digest = hashlib.sha256("\n".join(self.arguments).encode(errors="surrogateescape")).hexdigest()[:6]
        if self.run:
            run = Path(self.run)
            return run.parent / f"cure_{run.name}_{digest}"
        chosen = dict(override.partition("=")[::2] for override in self.overrides)
        name = chosen.get("experiment") or chosen.get("dataset") or "digits"
        return Path(OUTPUTS) / re.sub(r"[^\w.-]+", "-", name).strip("-") / f"cure_{digest}"


@dataclass
class Patient:
    """The training that is to be cured.

    Attributes:
        record: its run.
        overrides: that describe it.
        steps: of its training.
    """

    record: Record
    overrides: list[str]
    steps: int

    @property
    def remedies(self) -> list[str]:
        names = self.record.summary.get("remedy")
        return [str(name) for name in names] if isinstance(names, list) else []

    @property
    def seed(self) -> int:
        return int(self.record.seed) if self.record.seed.isdecimal() else 0

    def cost(self, workers: int) -> Cost:
        """Returns what such trainings cost, from what this one took."""
        summary = self.record.summary
        members = max(1, int(as_number(summary.get("replicas")) if summary.get("replicas") else 1))
        measuring = as_number(summary.get("measuring_seconds"))
        measuring = measuring if measuring == measuring else 0.0
        trained = max(1, self.record.steps or 0)
        step_seconds = max(as_number(summary.get("seconds")) - measuring, 0.0) / trained / members
        if step_seconds != step_seconds or not step_seconds:
            step_seconds = 0.002
        return Cost(self.steps, step_seconds, START_SECONDS + measuring / members, workers)


@dataclass
class State:
    """What cure.json keeps.

    Attributes:
        folder: of the cure.
        content: see docs/cure.md.
        started: when this process began, as `time.monotonic()` counts.
    """

    folder: Path
    content: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    spent_before: float = 0.0

    def spent(self) -> float:
        """Returns the seconds that the cure has taken so far; what a killed process didn't note is lost."""
        return self.spent_before + time.monotonic() - self.started

    def deadline(self, seconds: float) -> float:
        """Returns when so many seconds are spent, as `time.monotonic()` counts."""
        return self.started + seconds - self.spent_before

    def keep(self, **parts: Any) -> None:
        """Writes further parts, and the page."""
        self.content |= parts
        self.content["spent_seconds"] = round(self.spent(), 1)
        with atomic(self.folder / "cure.json") as path:
            text = json.dumps(self.content, indent=2, ensure_ascii=False, allow_nan=False)
            path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
        write_page(self.content, self.folder)


def cure(request: Request) -> str:
    """Cures a training, or says that nothing is wrong with it; goes on where the same command was stopped.

    Returns:
        The answer, for a terminal.

    Raises:
        LabError: for a wrong request, a run without a verdict, a budget that is too short, another process at work.
        OSError: if the folder can't be written.
    """
    seconds = request.seconds
    for override in request.overrides:
        if key_of_override(override) in REFUSED:
            raise LabError(f"{override}: the cure decides that for each training.", "Leave it out.", key="overrides")
    if request.run is not None:
        patient = _existing_patient(request)
        examination = examine(patient.record)
        if examination.is_healthy:
            return _healthy(examination)
    folder = request.folder
    with _claimed(folder):
        state = _read_state(folder, request)
        if "answer" in state.content:
            return describe(state.content, folder)
        trainings = Trainings(folder, _arguments(request), lambda done, jobs: None)
        if request.run is None:
            patient = _trained_patient(request, trainings)
            examination = examine(patient.record)
        state.keep(
            patient=_patient_json(patient, examination, folder),
            examination=examination.as_json(),
        )
        if examination.is_healthy:
            state.keep(answer=_healthy(examination))
            return describe(state.content, folder)
        say(_examined(examination))
        _treat(request, patient, examination, trainings, state, seconds)
        return describe(state.content, folder)


def _treat(
    request: Request, patient: Patient, examination: Examination, trainings: Trainings, state: State, seconds: float
) -> None:
    """Races and proves."""
    tried = in_order(examination.failures, patient.record.settings, patient.remedies)
    if "plan" not in state.content:
        cost = patient.cost(_workers(request))
        costs = [candidate.cost for candidate in tried]
        plan = make_plan(cost, seconds - state.spent(), costs, request.seeds, patient.seed)
        state.keep(plan=plan.as_json(), race=[])
    plan = Plan.from_json(state.content["plan"])
    say(_announce(plan, seconds))
    with progress_bar("cure", round(seconds), "s", round(state.spent())) as bar:
        bar.bar_format = "{desc} {percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s{postfix}"

        def show(what: str, done: int, jobs: int) -> None:
            bar.set_postfix_str(f"{what}, {done} of {jobs} trainings", refresh=False)
            bar.n = min(round(state.spent()), bar.total)
            bar.refresh()

        def trial(entrants: Sequence[Candidate], stage: Stage, number: int) -> list[Result]:
            name = f"race {number + 1} of {len(plan.stages)}"
            trainings.progress = lambda done, jobs: show(name, done, jobs)
            entrants = entrants[: _room(len(entrants), plan, number, state, seconds)]
            to_come = sum(other.seconds for other in plan.stages[number:])
            left = max(seconds - plan.proof_seconds - state.spent(), stage.seconds / 2)
            until = state.spent() + min(left, SLACK * left * stage.seconds / to_come)
            recipes = {
                candidate.slug: candidate.overrides(patient.overrides, patient.remedies) for candidate in entrants
            }
            extra = [*QUICK, f"callbacks.verdict.every={stage.steps}"]
            jobs = trainings.sweep(
                f"race/{number + 1}", recipes, stage.steps, stage.seeds, state.deadline(until), extra
            )
            return [_result(candidate, jobs) for candidate in entrants]

        def keep(results: list[Result]) -> None:
            stage = plan.stages[len(state.content["race"])]
            shown = {"steps": stage.steps, "seeds": stage.seeds, "results": [result.as_json() for result in results]}
            state.keep(race=[*state.content["race"], shown])
            bar.clear()
            say(_ranking(results, stage))

        done = [[Result.from_json(result) for result in stage["results"]] for stage in state.content["race"]]
        stages = race(tried, plan, trial, done, keep)
        best = winner(stages[-1])
        if best is None:
            state.keep(prescription=None, answer=_nothing_better(stages[-1]))
            return
        trainings.progress = lambda done, jobs: show("proof", done, jobs)
        seeds = _proof_seeds(best, stages[-1], plan, state, seconds, _workers(request))
        cured = best.overrides(patient.overrides, patient.remedies)
        recipes = {PATIENT.slug: patient.overrides, best.slug: cured}
        jobs = trainings.sweep("proof", recipes, patient.steps, seeds, state.deadline(OVERTIME * seconds))
    _conclude(best, cured, patient, jobs, state)


def _room(entrants: int, plan: Plan, number: int, state: State, seconds: float) -> int:
    """Returns how many entrants of a stage, the patient among them, there is time for; once decided it stays so.

    Args:
        entrants: that the plan has.
        plan: of the race.
        number: of the stage, from 0.
        state: knows the time; keeps the decision.
        seconds: the budget.
    """
    decided = state.content.setdefault("entrants", [])
    if len(decided) <= number:
        began = state.content.setdefault("race_began", state.spent())
        planned = sum(stage.seconds for stage in plan.stages[:number])
        # How much longer the earlier stages took than planned.
        pace = max(1.0, (state.spent() - began) / planned) if planned else 1.0
        to_come = pace * sum(stage.seconds for stage in plan.stages[number:])
        left = seconds - plan.proof_seconds - state.spent()
        fitting = int(entrants * min(1.0, left / to_come))
        decided.append(max(LEAST, fitting))
        state.keep(entrants=decided)
    return int(decided[number])


def _proof_seeds(
    best: Candidate, results: Sequence[Result], plan: Plan, state: State, seconds: float, workers: int
) -> list[int]:
    """Returns the seeds of the proof that there is time for, by what the last stage's trainings took."""
    if "proof_seeds" not in state.content:
        scale = plan.full_steps / plan.stages[-1].steps
        took = [
            result.seconds for result in results if result.candidate.is_patient or result.candidate.name == best.name
        ]
        pair = sum(START_SECONDS + scale * job for job in took)
        fitting = int((OVERTIME * seconds - state.spent() - SWEEP_SECONDS) * workers / pair)
        number = min(len(plan.proof_seeds), max(MIN_SEEDS, fitting))
        state.keep(proof_seeds=plan.proof_seeds[:number])
    return list(state.content["proof_seeds"])


def _conclude(best: Candidate, cured: list[str], patient: Patient, jobs: Sequence[Job], state: State) -> None:
    """Tests the winner, and writes the prescription."""
    values = {recipe: _values(recipe, jobs) for recipe in (PATIENT.slug, best.slug)}
    fewest = min(map(len, values.values()))
    if fewest < 2:
        answer = f"The budget was over before the proof of {best.name}: {fewest} of its runs ended. Say a longer one."
        state.keep(prescription=None, answer=answer)
        return
    proof = prove(values[PATIENT.slug], values[best.slug])
    prescription = None
    sentence = proof.sentence(best.name)
    if proof.helped:
        name = f"The prescription of a cure: {best.name}"
        path = state.folder / "prescription.yaml"
        with atomic(path) as temporary:
            temporary.write_text(experiment_text([*cured, f"steps={patient.steps}"], name), encoding="utf-8")
        prescription = {
            "name": best.name,
            "changes": list(best.changes),
            "command": _command_of(cured, patient),
            "experiment": path.name,
            "why": best.source,
        }
    state.keep(
        proof=_proof_json(proof, best, patient, jobs, sentence, state),
        prescription=prescription,
        answer=sentence,
    )


def _command_of(overrides: Sequence[str], patient: Patient) -> str:
    return command("train.py", *map(quote, overrides), setting("steps", patient.steps))


def _proof_json(
    proof: Proof, best: Candidate, patient: Patient, jobs: Sequence[Job], sentence: str, state: State
) -> dict[str, Any]:
    films = {}
    verdicts = {}
    for arm, recipe in (("patient", PATIENT.slug), ("winner", best.slug)):
        of_arm = [job for job in jobs if job.recipe == recipe and job.value is not None]
        verdicts[arm] = _count_verdicts(of_arm)
        films[arm] = _relative(Run(of_arm[0].folder).film, state.folder)
    ends = (proof.low, proof.high) if proof.low == proof.low else (None, None)
    return {
        "seeds": state.content["proof_seeds"],
        "steps": patient.steps,
        "metric": METRIC,
        "patient": proof.patient,
        "winner": proof.cured,
        "difference": proof.difference,
        "low": ends[0],
        "high": ends[1],
        "p": proof.p,
        "helped": proof.helped,
        "sentence": sentence,
        "verdicts": verdicts,
        "films": films,
        "report": "proof/report.html",
    }


def _count_verdicts(jobs: Sequence[Job]) -> str:
    """Returns 'collapsed in 5 of 5 runs', or 'covered in 4 of 5 runs, partial in 1'."""
    words: dict[str, int] = {}
    for job in jobs:
        word = str(job.verdict.get("collapse") or "not judged")
        if word == "covered" and job.verdict.get("within_modes") in ("collapsed", "narrow"):
            word = f"covered but {job.verdict['within_modes']} within modes"
        words[word] = words.get(word, 0) + 1
    ranked = sorted(words.items(), key=lambda item: -item[1])
    parts = [f"{word} in {number}" for word, number in ranked]
    parts[0] += f" of {len(jobs)} runs"
    return ", ".join(parts)


def _values(recipe: str, jobs: Sequence[Job]) -> list[float]:
    of_recipe = sorted((job for job in jobs if job.recipe == recipe), key=lambda job: job.seed)
    return [job.value for job in of_recipe if job.value is not None]


def _result(candidate: Candidate, jobs: Sequence[Job]) -> Result:
    failures = [job.failure for job in jobs if job.recipe == candidate.slug and job.failure]
    failure = printable(failures[0].partition("\n")[0]) if failures else ""
    values = _values(candidate.slug, jobs)
    if not values and not failure:
        failure = "no time was left"
    took = [job.seconds for job in jobs if job.recipe == candidate.slug]
    return Result(candidate, values, failure, seconds=sum(took) / len(took) if took else 0.0)


def _existing_patient(request: Request) -> Patient:
    """Opens the run that is to be cured.

    Raises:
        LabError: if it is no run, or doesn't say how it was started.
    """
    run = Run.existing(request.run)
    record = read_record(run)
    if not (run.folder / ".hydra" / "overrides.yaml").is_file():
        raise LabError(
            f"{run.folder} doesn't say how it was started: it has no .hydra/overrides.yaml.",
            "Name the settings instead of the run: scripts/cure.py dataset=… loss=…",
            code="missing",
            key="run",
        )
    started_by = harmless_overrides(run.overrides())
    return _patient(record, [*started_by, *request.overrides])


def _trained_patient(request: Request, trainings: Trainings) -> Patient:
    own = [override for override in request.overrides if not override.startswith(("hydra", "trust"))]
    run = trainings.patient(own)
    return _patient(read_record(run), own)


def _patient(record: Record, overrides: Sequence[str]) -> Patient:
    steps = record.settings.get("steps", record.steps)
    kept = []
    for override in overrides:
        key = key_of_override(override)
        is_shown = scope_of(key) == "record" and key not in ("features", "metrics")
        if key not in DECIDED and not is_shown and not key.startswith(("hydra", "trust")):
            kept.append(override)
    return Patient(record, kept, int(as_number(steps)))


def _arguments(request: Request) -> list[str]:
    """Returns the arguments of every training that don't describe it."""
    arguments = []
    if request.config_folder is not None:
        arguments += ["--config-dir", str(request.config_folder)]
    chosen = [override for override in request.overrides if override.startswith(("hydra", "trust"))]
    if not any(override.startswith("hydra/launcher=") for override in chosen):
        chosen.append("hydra/launcher=local")
    return [*arguments, *chosen]


def _workers(request: Request) -> int:
    launchers = [override.partition("=")[2] for override in request.overrides if override.startswith("hydra/launcher=")]
    if launchers and launchers[-1] not in ("local", "basic", "joblib"):
        return CLUSTER_WORKERS
    if launchers and launchers[-1] == "basic":
        return 1
    return available_cores()


def _patient_json(patient: Patient, examination: Examination, folder: Path) -> dict[str, Any]:
    return {
        "folder": _relative(patient.record.run.folder, folder),
        "overrides": patient.overrides,
        "steps": patient.steps,
        "dataset": str(patient.record.summary.get("dataset") or ""),
        "sentence": examination.verdict,
    }


def _relative(path: Path, folder: Path) -> str:
    """Returns a path as seen from the cure's folder if it lies below it, else an absolute one."""
    absolute = path.absolute()
    if absolute.is_relative_to(folder.absolute()):
        return absolute.relative_to(folder.absolute()).as_posix()
    return str(absolute)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Keeps the folder for this process.

    Raises:
        LabError: if another one works there, or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        with lock:
            yield
    except Timeout:
        raise LabError(f"Another process cures in {folder}.", "Wait for it, or stop it.", code="busy") from None
    except OSError as error:
        raise LabError(
            f"{error.filename}: {error.strerror}.", "Once that is solved, the same command goes on.", code="storage"
        ) from error


def _read_state(folder: Path, request: Request) -> State:
    """Reads what an earlier process with the same command has done."""
    path = folder / "cure.json"
    state = State(folder)
    if path.is_file():
        try:
            content = json.loads(read_text(path))
        except (ValueError, RecursionError, UnicodeDecodeError):
            content = None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise LabError(f"{path} is damaged.", "Remove it, or name another folder with target=…", code="damaged")
        if content.get("command") != request.arguments:
            told = " ".join(map(str, content.get("command") or []))
            raise LabError(
                printable(f"{folder} holds another cure: {told}"), "Name another folder with target=…", code="exists"
            )
        state.content = content
        state.spent_before = float(content.get("spent_seconds") or 0)
        return state
    if any(entry.name != ".lock" for entry in folder.iterdir()):
        # The patient, whose training was interrupted.
        if not (folder / "patient").is_dir():
            raise LabError(f"{folder} holds other files.", "Name another folder with target=…", code="exists")
    state.content = {"format": FORMAT, "command": request.arguments, "budget_seconds": request.seconds}
    return state


def _healthy(examination: Examination) -> str:
    return f"Nothing is wrong: {examination.verdict}"


def _examined(examination: Examination) -> str:
    return "\n".join(["What is wrong:", *(f"  {symptom.sentence}" for symptom in examination.symptoms)])


def _announce(plan: Plan, seconds: float) -> str:
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
    seeds = "1 seed" if len(stage.seeds) == 1 else f"{len(stage.seeds)} seeds"
    lines = [f"{METRIC.capitalize()} after {stage.steps:,} steps, mean of {seeds}:"]
    shown = [result for result in results if result.values][:5]
    patient = [result for result in results if result.candidate.is_patient and result not in shown]
    for result in [*shown, *patient]:
        value = f"{result.mean:.3f}" if result.values else "–"
        lines.append(f"  {value:>6}  {result.candidate.name}")
    failed = sum(1 for result in results if not result.values)
    if failed:
        lines.append(f"  ({failed} could not be trained)")
    return "\n".join(lines)


def _nothing_better(results: Sequence[Result]) -> str:
    best = next((result for result in results if not result.candidate.is_patient and result.values), None)
    patient = next((result for result in results if result.candidate.is_patient), None)
    if best is None or patient is None:
        return "Nothing within the budget helped: none of the candidates could be trained."
    numbers = f"{METRIC} {best.mean:.2f}, without it {patient.mean:.2f}, in the race"
    return f"Nothing within the budget helped; the best try was {best.candidate.name} ({numbers})."


def describe(content: dict[str, Any], folder: Path) -> str:
    """Returns the answer, the prescription and where the page is."""
    lines = [str(content["answer"])]
    proof = content.get("proof")
    if proof:
        lines += [f"  without: {proof['verdicts']['patient']}", f"  with:    {proof['verdicts']['winner']}"]
    prescription = content.get("prescription")
    if prescription:
        lines += ["Prescription:", f"  {prescription['command']}"]
        lines.append(f"  as an experiment: {relative_path(folder / prescription['experiment'])}")
    lines.append(f"Page: {relative_path(folder / 'cure.html')} ({describe_seconds(content['spent_seconds'])})")
    return "\n".join(lines)
