"""Trains what the cure compares: each sweep is one `train.py -m`, in a process that can be stopped when time is up."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from gan_lab.comparison.collect import as_number
from gan_lab.config.experiment_file import experiment_text
from gan_lab.config.sweep import read_record
from gan_lab.core.command_line import hydra_text, setting
from gan_lab.core.errors import LabError
from gan_lab.core.installation import script
from gan_lab.core.io import atomic
from gan_lab.core.processes import end
from gan_lab.core.run_folder import Run, resume_command
from gan_lab.core.terminal import printable, say
from gan_lab.cure.plan import METRIC

LOOK_EVERY = 0.5  # seconds
# Whatever callbacks an experiment leaves out, a run has to be judged.
JUDGED = ("callbacks=default",)
# A run of the race is measured, and that is all.
QUICK = (*JUDGED, "~callbacks.pictures", "~callbacks.curves", "logger=table", "callbacks.verdict.samples=2500")
NOT_FINITE = "NaN or infinity"


class Job(NamedTuple):
    """How a training of a sweep ended.

    Attributes:
        recipe: what was trained, by the name of its experiment.
        seed: of the training.
        value: the primary metric; 0 if NaN ended the training; None if there is none.
        failure: why it failed; "" if it didn't.
        folder: of the run.
        verdict: the verdict's words.
        seconds: that its training took.
    """

    recipe: str
    seed: int
    value: float | None
    failure: str
    folder: Path
    verdict: Mapping[str, Any]
    seconds: float


class Trainings:
    """Trains within the folder of a cure.

    Args:
        folder: of the cure.
        arguments: for every training besides its experiment: launcher, trust, `--config-dir`.

    Attributes:
        progress: is called while a sweep runs, with how many of how many jobs have ended.
    """

    def __init__(self, folder: Path, arguments: Sequence[str]):
        self.folder = folder
        self.arguments = list(arguments)
        self.progress: Callable[[int, int], object] = lambda done, jobs: None
        self._options = folder / "conf"

    def patient(self, overrides: Sequence[str], seconds: float) -> Run:
        """Trains the patient, or goes on with it, and returns its run; what it prints goes to the terminal.

        Args:
            overrides: that describe it.
            seconds: that it may take.

        Raises:
            LabError: if it takes longer.
            SystemExit: with the status of the training if that refuses its arguments, or was stopped.
        """
        run = Run(self.folder / "patient")
        _wait_for_other(run.folder)
        if _is_ended_patient(run):
            return run
        arguments = [*overrides, f"hydra.run.dir={hydra_text(run.folder)}"]
        if run.config.is_file():
            arguments = [f"resume={hydra_text(run.folder)}"]
        common = [argument for argument in self.arguments if not argument.startswith("hydra")]
        process = subprocess.Popen([sys.executable, str(script("train")), *common, *arguments])
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LabError(
                f"The patient alone takes longer than {seconds:.0f} s, and the proof will train it several times.",
                f"Say a longer budget, or train it first: {resume_command(run.folder)}; then cure it by"
                f" {setting('run', run.folder)}",
                key="budget",
            ) from None
        finally:
            end(process)
        if not _is_ended_patient(run):
            sys.exit(status if status > 0 else 1)
        return run

    def sweep(
        self,
        name: str,
        recipes: Mapping[str, Sequence[str]],
        steps: int,
        seeds: Sequence[int],
        until: float,
        extra: Sequence[str] = (),
    ) -> list[Job]:
        """Trains every recipe with every seed; goes on where an earlier process was stopped.

        Args:
            name: of the sweep's folder.
            recipes: overrides by the name of an experiment.
            steps: of each training.
            seeds: of each recipe.
            until: when it is stopped, as `time.monotonic()` counts.
            extra: further overrides of all jobs.

        Returns:
            The jobs that have ended in time.

        Raises:
            LabError: if the sweep ended by itself before all jobs had, or the disk is full, read-only or broken.
        """
        folder = self.folder / name
        for recipe, overrides in recipes.items():
            self._write_experiment(recipe, overrides)
        _wait_for_other(folder)
        wanted = {(recipe, seed) for recipe in recipes for seed in seeds}
        # A sweep trains jobs again that NaN has ended, and if time is up meanwhile they would be lost.
        before = ended_jobs(folder)
        if wanted <= before.keys():
            return [before[key] for key in sorted(wanted)]
        arguments = [
            "-m",
            *self.arguments,
            f"hydra.searchpath=[{hydra_text(f'file://{self._options.absolute()}')}]",
            f"hydra.sweep.dir={hydra_text(folder)}",
            # A seed of all recipes, then the next one: what is missing when time is up are the last seeds.
            f"seed={','.join(map(str, seeds))}",
            f"experiment={','.join(f'cure/{recipe}' for recipe in recipes)}",
            f"steps={steps}",
            *extra,
        ]
        folder.mkdir(parents=True, exist_ok=True)
        started = time.time()
        with open(self.folder / f"{name.replace('/', '-')}.log", "ab") as log:
            process = subprocess.Popen([sys.executable, str(script("train")), *arguments], stdout=log, stderr=log)
            try:
                while process.poll() is None and time.monotonic() < until:
                    self.progress(len(ended_jobs(folder)), len(wanted))
                    time.sleep(LOOK_EVERY)
                has_ended = process.poll() is not None
            finally:
                end(process)
        jobs = before | ended_jobs(folder)
        refusal = _refused_by_storage(folder, started)
        if refusal:
            raise LabError(refusal, "Once that is solved, the same command goes on.", code="storage")
        if has_ended and not wanted <= jobs.keys():
            raise LabError(
                f"The trainings in {printable(str(folder))} ended before all of them were trained.",
                f"What they printed: {printable(log.name)}",
                code="failed",
            )
        return [jobs[key] for key in sorted(wanted & jobs.keys())]

    def _write_experiment(self, recipe: str, overrides: Sequence[str]) -> None:
        path = self._options / "experiment" / "cure" / f"{recipe}.yaml"
        with atomic(path) as temporary:
            temporary.write_text(experiment_text(overrides, recipe), encoding="utf-8")


def _wait_for_other(folder: Path) -> None:
    """Waits for trainings of an earlier process that was killed, which go on by themselves."""
    if not (folder / ".lock").exists():
        return
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("Trainings of an earlier process, which was killed, are still running: waiting for them.")
        lock.acquire()
    lock.release()


def _is_ended_patient(run: Run) -> bool:
    """Returns whether the patient was trained to its end, or NaN ended it, which is what is to be cured."""
    summary = read_record(run.summary)
    return summary.get("status") == "finished" or NOT_FINITE in str(summary.get("error"))


def ended_jobs(folder: Path) -> dict[tuple[str, int], Job]:
    """Returns the jobs of a sweep that have finished or failed, by recipe and seed."""
    jobs = {}
    for path in sorted(folder.glob("*/job.json")):
        record = read_record(path)
        overrides = record.get("overrides")
        if record.get("status") not in ("finished", "failed") or not isinstance(overrides, list):
            continue
        if record.get("code") == "storage":
            # That the disk was full says nothing of the recipe: it is trained again.
            continue
        chosen = dict(str(override).partition("=")[::2] for override in overrides)
        seed = chosen.get("seed", "")
        if seed.isdecimal():
            recipe = chosen.get("experiment", "").removeprefix("cure/")
            jobs[recipe, int(seed)] = _job(path.parent, recipe, int(seed), record)
    return jobs


def _refused_by_storage(folder: Path, since: float) -> str:
    """Returns what the disk reported to a job of a sweep; "" if it took everything.

    Args:
        folder: of the sweep.
        since: when the sweep began, as `time.time()` counts. What an earlier process met may be solved by now.
    """
    for path in sorted(folder.glob("*/job.json")):
        if path.stat().st_mtime < since:
            continue
        record = read_record(path)
        if record.get("status") == "failed" and record.get("code") == "storage":
            return printable(str(record.get("error")).partition("\n")[0])
    return ""


def _job(folder: Path, recipe: str, seed: int, record: Mapping[str, Any]) -> Job:
    """Returns how a job ended.

    Args:
        folder: of its run.
        recipe: that it trained.
        seed: of the training.
        record: its job.json.
    """
    error = str(record.get("error") or "")
    summary = read_record(folder / "summary.json")
    metrics = summary.get("metrics") or {}
    value: float | None = as_number(metrics.get(METRIC))
    verdict: Mapping[str, Any] = summary.get("verdict") or {}
    if record.get("code") == "not_finite" or metrics.get("finite") == 0:
        # Nothing of the data is made.
        value = 0.0
        verdict = {"collapse": "collapsed"}
        error = ""
    elif error:
        value = None
    elif value != value:
        value = None
        error = f"it has no {METRIC}"
    return Job(recipe, seed, value, error, folder, verdict, max(0.0, as_number(summary.get("seconds", 0))))
