"""A sweep: many runs from one command line, each with a folder and a fate of its own, and what they say together.

<sweep>/sweep.json           what was asked for
<sweep>/<job>/               a run folder per job, named by what varies
<sweep>/<job>/job.json       status (running, finished, interrupted, failed) and, where it failed, the reason
<sweep>/<job>/log.txt        what the job printed
"""

import difflib
import hashlib
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, flag_override

from gan_lab.config import launchers, search
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic, read_text
from gan_lab.core.run_folder import OUTPUTS, Run, refuse_links
from gan_lab.core.terminal import format_traceback, printable, say

NAME_LENGTH = 80  # of a job's folder, at most
LOOK_EVERY = 0.5  # seconds between two looks at the jobs' fates


class Sweep(Callback):
    """Prepares a sweep when Hydra starts one: its folder, the jobs' names, the line of progress.

    Where the folder holds another sweep it ends the process: Hydra turns a callback's errors into warnings.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        global current
        try:
            current = Current(config)
        except (LabError, OSError) as error:
            say(error, stderr=True)
            sys.exit(getattr(error, "status", 2))
        launchers.prepare(config, current.folder)
        with flag_override(config, ["struct", "readonly"], [False, False]):
            config.hydra.overrides.hydra.extend(current.for_every_job())


class Current:
    """The sweep that this process runs.

    Raises:
        LabError: if the folder holds another sweep, or another process runs this one.
    """

    def __init__(self, config: DictConfig):
        self.folder = Path(config.hydra.sweep.dir)
        self.about = self.folder / "sweep.json"
        asked = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
        asked += list(config.hydra.overrides.task)
        parsed = {each.get_key_element(): each for each in OverridesParser.create().parse_overrides(asked)}
        self.constant = [each.key_or_group for each in parsed.values() if not each.is_sweep_override()]
        self.search, self.objective = search.asked(config, self.about.exists()), str(config.get("objective"))
        self.jobs = config.hydra.sweeper.n_trials if self.search else 1
        for each in parsed.values():
            if each.is_discrete_sweep() and not self.search:
                self.jobs *= sum(1 for _ in each.sweep_iterator())
        wanted = {"overrides": sorted([*(each.input_line or "" for each in parsed.values()), *self.search])}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            self.lock.acquire()
        except Timeout:
            raise LabError(f"{self.folder} is being swept by another process.", "Wait for it, or stop it.") from None
        for folder in (self.folder, *sorted(self.folder.glob("*/"))):
            refuse_links(folder)
        if self.about.exists() and (found := _swept(self.about)) != wanted["overrides"]:
            raise LabError(
                printable(f"{self.folder} holds another sweep: {' '.join(found)}"),
                "Go on with it by the very same command, or name another folder with hydra.sweep.dir=…",
            )
        if Run(self.folder).config.exists():
            raise LabError(f"{self.folder} holds a run, not a sweep.", "Name another folder with hydra.sweep.dir=…")
        with atomic(self.about) as path:
            path.write_text(json.dumps(wanted, indent=2), encoding="utf-8")
        self.watch = Watch(self.folder, self.jobs)

    def for_every_job(self) -> list[str]:
        """Overrides that each job gets: this folder, whatever the clock says there; names without what doesn't vary."""
        trial = ["hydra.sweep.subdir='${job_folder:trial-${hydra.job.num},${hydra.job.override_dirname}}'"]
        return [
            "hydra.sweep.dir='{}'".format(str(self.folder).replace("'", "\\'")),
            f"hydra.job.config.override_dirname.exclude_keys={self.constant}",
            *(trial if self.search else []),  # a search may try the same values twice
        ]

    def finish(self, compare: Callable[[Path], None]) -> int:
        """Lets `compare` look at the sweep's folder, says what failed, and gives the exit status."""
        self.watch.end()
        jobs = {path.parent: _read(path) for path in _jobs(self.folder)}
        failed = {folder: job for folder, job in jobs.items() if job.get("status") == "failed"}
        stopped = [folder.name for folder, job in jobs.items() if job.get("status") == "interrupted"]
        vain = False
        try:
            compare(self.folder)
        except LabError as error:
            vain = True
            say(error, stderr=True)
        for folder, job in failed.items():
            first = str(job.get("error")).partition("\n")[0]
            say(printable(f"failed: {folder.name}: {first} ({folder / 'log.txt'})"), stderr=True)
        if stopped:
            say(printable(f"interrupted: {', '.join(stopped)}"), stderr=True)
            say(f"Continue by the same command with hydra.sweep.dir={self.folder}", stderr=True)
        vain |= bool(self.search) and not self._say_what_was_found()
        self.lock.release()
        return 1 if failed or stopped or vain else 0

    def _say_what_was_found(self) -> bool:
        """Names a search's best job; where no job has the objective, the reason or the names there are."""
        values = {path.parent.name: _read(path).get("objective", {}) for path in _jobs(self.folder)}
        found = {name: each["value"] for name, each in values.items() if each and each["instead_of"] is None}
        if found:
            best = (max if "hydra.sweeper.direction=maximize" in self.search else min)(found, key=found.__getitem__)
            say(printable(f"best {self.objective}: {found[best]:.6g} ({best})"))
            return True
        say(f"No job has the metric {self.objective}, so this search is worth nothing.", stderr=True)
        summaries = [_read(path.parent / "summary.json") for path in _jobs(self.folder)]
        names = sorted({name for each in summaries for name in each.get("metrics", {})})
        if names and self.objective not in names:
            near = difflib.get_close_matches(self.objective, names, cutoff=0.5)
            told = f"Did you mean objective={' or '.join(near)}?" if near else f"There are {', '.join(names)}."
            say(printable(told), stderr=True)
        return False

    def abandon(self) -> None:
        """Ends a sweep that a problem of its own has stopped; if it never began, nothing of it is left."""
        self.watch.end()
        self.lock.release()
        if _jobs(self.folder):
            say(f"Continue by the same command with hydra.sweep.dir={self.folder}", stderr=True)
            return
        for name in (".lock", "sweep.json", "multirun.yaml"):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError, ValueError):  # whatever else lies there isn't ours
            self.folder.rmdir()
            for parent in self.folder.absolute().relative_to(Path.cwd() / OUTPUTS).parents:
                (Path.cwd() / OUTPUTS / parent).rmdir()


current: Current | None = None


class Watch:
    """One line on how far the sweep is, whatever launches its jobs: it looks at their folders."""

    def __init__(self, folder: Path, jobs: int):
        from tqdm import tqdm

        self.folder, self.screen = folder, sys.stderr  # a job's output is led elsewhere
        self.told: set[Path] = set()
        self.bar = tqdm(total=jobs, desc="sweep", unit=" jobs", disable=None, file=self.screen)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.over.wait(LOOK_EVERY):
            self._look()

    def _look(self) -> None:
        fates: Counter[str] = Counter()
        for path in _jobs(self.folder):
            status = _read(path).get("status", "running")
            fates[status] += 1
            if status in ("finished", "failed") and path not in self.told:
                self.told.add(path)
                told = printable(f"{status:<9} {path.parent.name}{_outcome(path.parent)}")
                self.bar.write(told, file=self.screen)
        self.bar.set_postfix_str(f"{fates['running']} running, {fates['failed']} failed", refresh=False)
        self.bar.update(fates["finished"] + fates["failed"] - self.bar.n)
        self.bar.refresh()

    def end(self) -> None:
        if not self.over.is_set():
            self.over.set()
            self.thread.join()
            self._look()
            self.bar.close()


def run_job(
    main: Callable[[DictConfig], Any], cfg: DictConfig, explain: Callable[[Exception], str | None]
) -> float | None:
    """Plays one job: what it prints goes to its log.txt; how it ends, to its job.json, so that the others go on.

    A job that is finished is left alone, one that was interrupted goes on from its checkpoint (see `config.starting`).

    Args:
        explain: gives the message for a user's mistake, None for a bug.

    Returns:
        The objective, for a sweeper that searches: the metric of that name, or the worst number where it isn't known.

    Raises:
        KeyboardInterrupt: if a signal stopped the job in the process that runs the sweep, which then is to stop.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    overrides = list(HydraConfig.get().overrides.task)
    record: dict[str, Any] = {"status": "finished", "error": None, "overrides": overrides}
    if not Run(folder).finished(cfg.steps):
        _write(folder, {**record, "status": "running"})
        try:
            trial = re.match(r"trial-\d+_", folder.name)
            for other in folder.parent.glob(f"{trial[0]}*") if trial else ():
                if other.name != folder.name:  # what failed before does so no longer, say, which changes the course
                    raise LabError(f"This trial was {other.name} before.", "Start the search again, in a new folder.")
            with open(folder / "log.txt", "a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
                launchers.heed_time_limit()
                main(cfg)
        except (SystemExit, KeyboardInterrupt) as stopped:
            _write(folder, {**record, "status": "interrupted"})
            if current is None:  # in a process of its own: it alone was stopped
                return None
            raise KeyboardInterrupt from stopped
        except Exception as error:
            record |= {"status": "failed", "error": explain(error) or f"{type(error).__name__}: {error}"}
            with open(folder / "log.txt", "a", encoding="utf-8") as log:
                log.write(format_traceback(error))
    value = None
    if direction := HydraConfig.get().sweeper.get("direction"):
        value, reason = search.objective(str(cfg.objective), direction, _read(folder / "summary.json"), record["error"])
        record["objective"] = {"metric": cfg.objective, "value": value, "instead_of": reason}
    _write(folder, record)
    return value


def job_folder(*parts: str) -> str:
    """A job's folder name from Hydra's `override_dirname`: 'loss=mse,seed=0' → 'loss-mse_seed-0'.

    What a name can't hold is left out, and a hash tells it apart: 'remedy=[r1],seed=0' → 'remedy-r1_seed-0_ea4f86'.
    """
    dirname = ",".join(parts)
    name = re.sub(r"[^\w.-]+", "-", dirname.replace(",", "_").replace("=", "-")).strip("-")
    if len(name) <= NAME_LENGTH and not re.search(r"[^\w.,=/-]", dirname):
        return name or "job"
    name = re.sub(r"-+(?=[_-]|$)", "", name)
    return f"{name[: NAME_LENGTH - 7]}_{hashlib.sha256(dirname.encode()).hexdigest()[:6]}"


def _jobs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/job.json"))


def _swept(about: Path) -> list[str]:
    """Returns the overrides of the sweep that a folder holds.

    Raises:
        LabError: if its sweep.json doesn't say.
    """
    found = _read(about).get("overrides")
    if not isinstance(found, list) or not all(isinstance(line, str) for line in found):
        raise LabError(f"{about} can't be read, so what was swept there isn't known.", "Name another folder.")
    return found


def _read(path: Path) -> dict[str, Any]:
    """Returns what a JSON file holds; {} where it can't be read or holds something else than we write there."""
    try:
        content = json.loads(read_text(path))
    except (OSError, LabError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    texts = all(isinstance(content.get(key, ""), str | None) for key in ("status", "error"))
    dicts = all(isinstance(content.get(key, {}), dict | None) for key in ("verdict", "metrics", "objective"))
    seconds = isinstance(content.get("seconds", 0), int | float)
    return content if texts and dicts and seconds else {}


def _write(folder: Path, record: dict[str, Any]) -> None:
    with atomic(folder / "job.json") as path:
        path.write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")


def _outcome(folder: Path) -> str:
    """The verdict's first words, or why it failed."""
    if error := _read(folder / "job.json").get("error"):
        return ": " + str(error).partition("\n")[0]
    summary = _read(folder / "summary.json")
    sentence = str(summary.get("verdict", {}).get("sentence", ""))
    sentence = sentence.partition(". ")[0].partition(";")[0].partition(" (")[0]
    return f": {sentence} ({summary.get('seconds', 0):.0f} s)" if sentence else ""
