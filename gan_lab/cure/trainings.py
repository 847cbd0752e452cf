"""Trains what the cure compares: each sweep is one `train.py -m`, in a process that can be stopped when time is up."""

import json
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
from gan_lab.core.command_line import hydra_text
from gan_lab.core.errors import LabError
from gan_lab.core.installation import script
from gan_lab.core.io import atomic, read_text
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable, say
from gan_lab.cure.proof import METRIC

LOOK_EVERY = 0.5  # seconds
GRACE_SECONDS = 20.0  # for a sweep that is told to stop
# A run of the race is measured, and that is all.
QUICK = ("~callbacks.pictures", "~callbacks.curves", "logger=table", "callbacks.verdict.samples=2500")


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

    def patient(self, overrides: Sequence[str]) -> Run:
        """Trains the patient, or goes on with it, and returns its run; what it prints goes to the terminal.

        Raises:
            SystemExit: with the status of the training if that refuses its arguments.
        """
        run = Run(self.folder / "patient")
        if run.read_summary().get("status") in ("finished", "failed"):
            return run
        arguments = [*overrides, f"hydra.run.dir={hydra_text(run.folder)}"]
        if run.config.is_file():
            arguments = [f"resume={hydra_text(run.folder)}"]
        launcher = [argument for argument in self.arguments if not argument.startswith("hydra")]
        process = subprocess.Popen([sys.executable, str(script("train")), *launcher, *arguments])
        try:
            status = process.wait()
        finally:
            _stop(process)
        # A training that NaN has ended is what is to be cured.
        if status and not run.read_summary():
            sys.exit(status)
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
            LabError: if the sweep was refused, so that no job began.
        """
        folder = self.folder / name
        for recipe, overrides in recipes.items():
            self._write_experiment(recipe, overrides)
        names = ",".join(f"cure/{recipe}" for recipe in recipes)
        texts = ",".join(map(str, seeds))
        arguments = [
            "-m",
            *self.arguments,
            f"hydra.searchpath=[{hydra_text(self._options.absolute().as_uri())}]",
            f"hydra.sweep.dir={hydra_text(folder)}",
            # A seed of all recipes, then the next one: whatever is missing at the end, arms have equally many.
            f"seed={texts}",
            f"experiment={names}",
            f"steps={steps}",
            *extra,
        ]
        self._wait_for_other(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f"{name.replace('/', '-')}.log", "ab") as log:
            process = subprocess.Popen([sys.executable, str(script("train")), *arguments], stdout=log, stderr=log)
            try:
                while process.poll() is None and time.monotonic() < until:
                    self.progress(len(_ended(folder)), len(recipes) * len(seeds))
                    time.sleep(LOOK_EVERY)
                has_ended = process.poll() is not None
            finally:
                _stop(process)
        if has_ended and process.returncode and not any(folder.glob("*/job.json")):
            raise LabError(
                f"The trainings of {printable(str(folder))} could not be started.",
                f"What they printed: {printable(log.name)}",
                code="failed",
            )
        return [_job(path) for path in _ended(folder)]

    def _write_experiment(self, recipe: str, overrides: Sequence[str]) -> None:
        path = self._options / "experiment" / "cure" / f"{recipe}.yaml"
        with atomic(path) as temporary:
            temporary.write_text(experiment_text(overrides, recipe), encoding="utf-8")

    def _wait_for_other(self, folder: Path) -> None:
        """Waits for the sweep of an earlier process that was killed, which goes on by itself."""
        if not (folder / ".lock").exists():
            return
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say("Trainings of an earlier process, which was killed, are still running: waiting for them.")
            lock.acquire()
        lock.release()


def _ended(folder: Path) -> list[Path]:
    """Returns the job.json files of the jobs that have finished or failed."""
    paths = []
    for path in sorted(folder.glob("*/job.json")):
        if read_record(path).get("status") in ("finished", "failed"):
            paths.append(path)
    return paths


def _job(path: Path) -> Job:
    record = read_record(path)
    chosen = {}
    for override in record.get("overrides", []):
        key, _, value = str(override).partition("=")
        chosen[key] = value
    recipe = chosen.get("experiment", "").removeprefix("cure/")
    seed = int(chosen.get("seed", 0))
    summary = _summary(path.parent)
    seconds = as_number(summary.get("seconds"))
    seconds = seconds if seconds > 0 else 0.0
    error = str(record.get("error") or "")
    if record["status"] == "finished":
        # Without a finite sample there is no coverage, and nothing of the data is made.
        measured = as_number((summary.get("metrics") or {}).get(METRIC))
        coverage = measured if measured > 0 else 0.0
        return Job(recipe, seed, coverage, "", path.parent, summary.get("verdict") or {}, seconds)
    if "NaN or infinity" in error:
        return Job(recipe, seed, 0.0, "", path.parent, {"collapse": "collapsed"}, seconds)
    return Job(recipe, seed, None, error, path.parent, {}, seconds)


def _summary(folder: Path) -> dict[str, Any]:
    try:
        summary = json.loads(read_text(Run(folder).summary))
    except (OSError, LabError, ValueError, RecursionError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process that is still running, in good order if it can."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
