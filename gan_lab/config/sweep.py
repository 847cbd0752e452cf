"""A sweep: many runs from one command line, with one folder and one status per job, and a comparison of them.

<sweep>/sweep.json           the overrides
<sweep>/<job>/               a run folder per job, named by what varies
<sweep>/<job>/job.json       status (running, finished, interrupted, failed) and, where it failed, the reason
<sweep>/<job>/log.txt        what the job printed
"""

import difflib
import json
import math
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Transformer
from omegaconf import DictConfig, flag_override

from gan_lab.config import launchers, search
from gan_lab.config.folders import Guard, is_part_of_run, refuse_changed_layout
from gan_lab.core import interrupts
from gan_lab.core.command_line import hydra_text, setting
from gan_lab.core.errors import LabError, code_of
from gan_lab.core.io import atomic, read_text
from gan_lab.core.run_folder import RemovedError, Run, identity, refuse_links, refuse_other_encoding, remove_empty
from gan_lab.core.terminal import format_traceback, in_notebook, open_log, printable, progress_bar, say

# Seconds between two looks at the jobs.
LOOK_EVERY = 0.5


class Sweep(Guard):
    """Prepares a sweep when Hydra starts one: its folder, the names of its jobs, the line of progress."""

    resumes = True

    def prepare_multirun(self, config: DictConfig) -> None:
        global current
        current = Current(config)
        with flag_override(config, ["struct", "readonly"], [False, False]):
            config.hydra.overrides.hydra.extend(current.overrides_of_jobs())


class Current:
    """The sweep that this process runs.

    Args:
        config: composed, with Hydra's own part.

    Raises:
        LabError: if the folder holds another sweep or a run, if another process runs this sweep, or if the launcher
            can't run jobs from here.
    """

    def __init__(self, config: DictConfig):
        refuse_changed_layout(config)
        self.config = config
        self.folder = Path(config.hydra.sweep.dir)
        self.record = self.folder / "sweep.json"
        self.lock = FileLock(self.folder / ".lock", timeout=0)
        self.watch: Watch | None = None
        self.identity: tuple[int, int] | None = None
        params = config.hydra.sweeper.get("params") or {}
        texts = [f"{key}={value}" for key, value in params.items()]
        texts += list(config.hydra.overrides.task)
        overrides = {}
        for override in OverridesParser.create().parse_overrides(texts):
            # The last one of a key counts.
            overrides[override.get_key_element()] = override
        swept = {}
        for key, override in overrides.items():
            if override.is_discrete_sweep():
                swept[key] = [str(value) for value in override.sweep_iterator(Transformer.encode)]
        self.constant = [override.key_or_group for override in overrides.values() if not override.is_sweep_override()]
        self.search = search.settings_of_search(config, self.record.exists())
        self.objective = str(config.get("objective"))
        number = math.prod(len(values) for values in swept.values())
        if self.search:
            number = config.hydra.sweeper.n_trials
        lines = sorted([*(override.input_line or "" for override in overrides.values()), *self.search])
        interrupts.at_end(self.abandon)
        self._claim(lines)
        self.identity = identity(self.folder)
        with atomic(self.record) as path:
            path.write_text(json.dumps({"overrides": lines}, indent=2), encoding="utf-8")
        # Before the first thread: those that are started before would take the signals that the launcher's way of
        # passing them on needs.
        try:
            launchers.prepare(config, self.folder)
        except LabError:
            self.abandon()
            raise
        if before_jobs and not self.search:
            _announce(config, swept)
        self.watch = Watch(self.folder, number)

    def _claim(self, lines: list[str]) -> None:
        """Takes the folder for this process; refuses one that holds anything but the sweep of these overrides."""
        # Before anything is written: the lock is a file, too.
        if Run(self.folder).is_taken() or is_part_of_run(self.folder):
            raise LabError(
                f"{self.folder} holds a run or a part of one, not a sweep.",
                "Name another folder with hydra.sweep.dir=…",
                code="exists",
                key="hydra.sweep.dir",
            )
        refuse_other_encoding(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire()
        except Timeout:
            raise LabError(
                f"Another process runs the sweep in {self.folder}.",
                "Wait for it, or stop it.",
                code="busy",
                key="hydra.sweep.dir",
            ) from None
        for folder in (self.folder, *sorted(self.folder.glob("*/"))):
            refuse_links(folder)
        if self.record.exists():
            recorded = _overrides_of_sweep(self.record)
            if recorded != lines:
                raise LabError(
                    printable(f"{self.folder} holds another sweep: {' '.join(recorded)}"),
                    "Continue it with the very same command, or name another folder with hydra.sweep.dir=…",
                    code="exists",
                    key="hydra.sweep.dir",
                )

    def overrides_of_jobs(self) -> list[str]:
        """Returns overrides for every job: this folder, whatever the time is then; names of what varies only."""
        overrides = [
            f"hydra.sweep.dir={hydra_text(self.folder)}",
            f"hydra.job.config.override_dirname.exclude_keys={hydra_text(self.constant)}",
        ]
        # A search may try the same values twice.
        if self.search:
            overrides.append("hydra.sweep.subdir='${job_folder:trial-${hydra.job.num},${hydra.job.override_dirname}}'")
        return overrides

    def finish(self, compare: Callable[[Path], None]) -> int:
        """Compares the jobs, reports what failed, and returns the exit status.

        Args:
            compare: gets the folder of the sweep.
        """
        self._end_watch()
        records = {path.parent: read_record(path) for path in _records(self.folder)}
        failed = {folder: record for folder, record in records.items() if record.get("status") == "failed"}
        interrupted = [folder.name for folder, record in records.items() if record.get("status") == "interrupted"]
        is_complete = not failed and not interrupted
        try:
            compare(self.folder)
        except LabError as error:
            is_complete = False
            say(error, stderr=True)
        for folder, record in failed.items():
            first_line = str(record.get("error")).partition("\n")[0]
            say(printable(f"failed: {folder.name}: {first_line} ({folder / 'log.txt'})"), stderr=True)
        if interrupted:
            say(printable(f"interrupted: {', '.join(interrupted)}"), stderr=True)
            self.say_how_to_continue()
        if self.search and not self._report_best():
            is_complete = False
        self.lock.release()
        return 0 if is_complete else 1

    def say_how_to_continue(self) -> None:
        """Prints how to continue the sweep."""
        say(f"Continue with the same command and {setting('hydra.sweep.dir', self.folder)}", stderr=True)

    def _report_best(self) -> bool:
        """Names the best job of a search, or the metrics that there are if no job has the objective."""
        values = {}
        for path in _records(self.folder):
            objective = read_record(path).get("objective")
            if objective and objective["instead_of"] is None:
                values[path.parent.name] = objective["value"]
        if values:
            if "hydra.sweeper.direction=maximize" in self.search:
                best = max(values, key=values.__getitem__)
            else:
                best = min(values, key=values.__getitem__)
            say(printable(f"best {self.objective}: {values[best]:.6g} ({best})"))
            return True
        say(f"No job has the metric {self.objective}, so this search has no result.", stderr=True)
        names: set[str] = set()
        for path in _records(self.folder):
            names |= (read_record(path.parent / "summary.json").get("metrics") or {}).keys()
        if names and self.objective not in names:
            matches = difflib.get_close_matches(self.objective, sorted(names), cutoff=0.5)
            hint = f"There are {', '.join(sorted(names))}."
            if matches:
                hint = f"Did you mean objective={' or '.join(matches)}?"
            say(printable(hint), stderr=True)
        return False

    def abandon(self) -> None:
        """Ends a sweep that an error or a signal has stopped; if no job began, nothing of it is left."""
        self._end_watch()
        if self.is_removed():
            return
        if _records(self.folder):
            self._mark_interrupted()
            self.say_how_to_continue()
        elif self.lock.is_locked:
            for name in (".lock", "sweep.json", "multirun.yaml"):
                (self.folder / name).unlink(missing_ok=True)
            for folder in self.folder.glob("*/"):
                # Hydra wrote into it, and then the job did not begin.
                if not Run(folder).config.exists():
                    Run(folder).discard()
        self.lock.release()
        remove_empty(self.folder)

    def _mark_interrupted(self) -> None:
        """Ends the jobs that are still running, and says so in those that were killed before they could."""
        if not launchers.end_jobs(self.config):
            return
        for path in _records(self.folder):
            record = read_record(path)
            if record.get("status") == "running":
                _write(path.parent, {**record, "status": "interrupted"})

    def is_removed(self) -> bool:
        """Returns whether the folder was removed or replaced since the sweep began."""
        return self.identity is not None and identity(self.folder) != self.identity

    def _end_watch(self) -> None:
        if self.watch is not None:
            self.watch.end()


def _announce(config: DictConfig, swept: dict[str, list[str]]) -> None:
    """Says what the sweep will be able to show; a seed or a number of replicas that is no number is refused later."""
    assert before_jobs
    try:
        seeds = [int(seed) for seed in swept.get("seed", [config.seed])]
        replicas = max(int(number) for number in swept.get("replicas", [config.replicas]))
    except (TypeError, ValueError):
        return
    plan = before_jobs(swept, seeds, replicas)
    if plan:
        say(printable(plan))


current: Current | None = None
# Says of the values of each swept key, the seeds and the number of replicas what such a sweep can show; '' for nothing.
before_jobs: Callable[[dict[str, list[str]], list[int], int], str] | None = None


class Watch:
    """Shows the progress of a sweep in one line. It looks at the jobs' folders, whatever launches the jobs.

    Args:
        folder: of the sweep.
        jobs: number of jobs.
    """

    def __init__(self, folder: Path, jobs: int):
        self.folder = folder
        # Kept, because both go to the log.txt of a job that runs in this process. A notebook colours stderr as errors.
        self.screen = sys.stdout if in_notebook() else sys.stderr
        self.reported: set[Path] = set()
        self.bar = progress_bar("sweep", jobs, " jobs")
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.over.wait(LOOK_EVERY):
            self._look()

    def _look(self) -> None:
        counts: Counter[str] = Counter()
        for path in _records(self.folder):
            status = read_record(path).get("status", "running")
            counts[status] += 1
            if status in ("finished", "failed") and path not in self.reported:
                self.reported.add(path)
                line = printable(f"{status:<9} {path.parent.name}{_outcome(path.parent)}")
                self.bar.write(line, file=self.screen)
        self.bar.set_postfix_str(f"{counts['running']} running, {counts['failed']} failed", refresh=False)
        self.bar.update(counts["finished"] + counts["failed"] - self.bar.n)
        self.bar.refresh()

    def end(self) -> None:
        """Looks a last time and removes the line; harmless when it has ended already."""
        if not self.over.is_set():
            self.over.set()
            self.thread.join()
            self._look()
            self.bar.close()


def run_job(
    main: Callable[[DictConfig], Any], cfg: DictConfig, explain: Callable[[Exception], str | None]
) -> float | None:
    """Runs one job of a sweep. Its output goes to its log.txt and its status to its job.json, so the others go on.

    A finished job isn't run again; one that was interrupted is resumed (see `gan_lab.config.resume.open_run`).

    Args:
        main: the command.
        cfg: composed for this job.
        explain: returns the message for a user's mistake, None for a bug.

    Returns:
        The objective, for a sweeper that searches: the metric of that name, or the worst number if there is none.

    Raises:
        KeyboardInterrupt: if a signal stopped the job in the process that runs the sweep, which then has to stop, too.
        RemovedError: if the folder of the sweep, or of the job while it runs, was removed.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    _refuse_if_removed(Path(HydraConfig.get().sweep.dir), folder)
    overrides = list(HydraConfig.get().overrides.task)
    record: dict[str, Any] = {"status": "finished", "error": None, "overrides": overrides}
    if not Run(folder).finished(cfg.steps):
        _write(folder, {**record, "status": "running"})
        try:
            _refuse_renamed_trial(folder)
            with open_log(folder / "log.txt") as log, redirect_stdout(log), redirect_stderr(log), interrupts.job():
                launchers.heed_time_limit()
                main(cfg)
        except RemovedError:
            raise
        except BaseException as error:
            # Imports and libraries turn the exception of a signal into others.
            if interrupts.is_ending() or not isinstance(error, Exception):
                _write(folder, {**record, "status": "interrupted"})
                # In a worker process only this job was stopped.
                if current is None:
                    return None
                raise KeyboardInterrupt from error
            record["status"] = "failed"
            record["error"] = explain(error) or f"{type(error).__name__}: {error}"
            record["code"] = code_of(error)
            with open_log(folder / "log.txt") as log:
                log.write(format_traceback(error))
    direction = HydraConfig.get().sweeper.get("direction")
    value = None
    if direction:
        summary = read_record(folder / "summary.json")
        value, reason = search.objective(str(cfg.objective), direction, summary, record["error"])
        record["objective"] = {"metric": cfg.objective, "value": value, "instead_of": reason}
    _write(folder, record)
    return value


def _refuse_if_removed(sweep: Path, folder: Path) -> None:
    """Refuses to run a job of a sweep whose folder was removed or replaced: Hydra has just made it anew.

    Args:
        sweep: the folder of the sweep.
        folder: of the job.
    """
    is_whole = (sweep / "sweep.json").is_file() and (current is None or not current.is_removed())
    if is_whole:
        return
    if not Run(folder).config.exists():
        Run(folder).discard()
    remove_empty(sweep)
    raise RemovedError(sweep)


def _refuse_renamed_trial(folder: Path) -> None:
    """Refuses a trial of a search that had other values before: a job that fails no longer, say, changes the course."""
    trial = re.match(r"trial-\d+_", folder.name)
    if trial is None:
        return
    for other in folder.parent.glob(f"{trial[0]}*"):
        if other.name != folder.name:
            raise LabError(
                f"This trial was {other.name} before.",
                "Start the search again, in a new folder.",
                code="conflict",
                key="hydra.sweep.dir",
            )


def _records(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/job.json"))


def _overrides_of_sweep(path: Path) -> list[str]:
    """Returns the overrides of the sweep that a folder holds.

    Args:
        path: of its sweep.json.

    Raises:
        LabError: if the file doesn't say.
    """
    overrides = read_record(path).get("overrides")
    if not isinstance(overrides, list) or not all(isinstance(line, str) for line in overrides):
        raise LabError(
            f"{path} can't be read, so what was swept there isn't known.",
            "Name another folder.",
            code="damaged",
            key=path.name,
        )
    return overrides


def read_record(path: Path) -> dict[str, Any]:
    """Returns what a JSON file of a sweep holds; {} if it can't be read or holds anything that is not written there."""
    try:
        content = json.loads(read_text(path))
    except (OSError, LabError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    types = {
        **dict.fromkeys(("status", "error", "code"), str | None),
        **dict.fromkeys(("verdict", "metrics", "objective"), dict | None),
        "seconds": int | float,
    }
    is_ours = all(isinstance(content[key], kind) for key, kind in types.items() if key in content)
    # Whatever else it holds was not written by gan_lab, and what reads it relies on these types.
    if not is_ours:
        return {}
    return content


def _write(folder: Path, record: dict[str, Any]) -> None:
    with atomic(folder / "job.json") as path:
        text = json.dumps(record, indent=2, ensure_ascii=False)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _outcome(folder: Path) -> str:
    """Returns the first words of a job's verdict, or why it failed."""
    error = read_record(folder / "job.json").get("error")
    if error:
        return ": " + str(error).partition("\n")[0]
    summary = read_record(folder / "summary.json")
    verdict = summary.get("verdict") or {}
    sentence = str(verdict.get("sentence", ""))
    for end in (". ", ";", " ("):
        sentence = sentence.partition(end)[0]
    if not sentence:
        return ""
    return f": {sentence} ({summary.get('seconds', 0):.0f} s)"
