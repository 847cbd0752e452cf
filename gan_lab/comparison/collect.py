"""The runs below a folder: found, read whatever their state, and excluded where they cannot be compared."""

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_lab.comparison.factors import REMEDY, class_name, resolve, value_text
from gan_lab.comparison.settings import ForeignError, read_settings
from gan_lab.config.schema import is_factor
from gan_lab.core.errors import LabError
from gan_lab.core.io import read_text
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import escape_texts, printable
from gan_lab.evaluation.metrics.registry import shown_in

# A summary that names more replicas than this is not to be believed.
MAX_REPLICAS = 1024
MAX_SEED_DIGITS = 20
# Written by a sweep about its job, which may have failed before it became a run.
JOB = "job.json"
# The statuses of runs that were to be compared and cannot be.
LOST = ("failed", "interrupted", "unfinished", "damaged")
INCOMPARABLE = "not comparable"
UNFINISHED = "unfinished: it has no summary, so it was killed or is still training"


@dataclass
class Record:
    """A run as its files describe it.

    Attributes:
        run: its files.
        settings: of its config.yaml, by dotted key; {} where that cannot be read.
        summary: its summary.json; {} where there is none. Its texts are printable, its error has one line.
        status: finished, interrupted, failed, unfinished (no summary), damaged, or foreign (another program's folder).
        reason: why it is not compared; '' as long as it is.
        variant: the factors' values, as soon as these are known.
    """

    run: Run
    settings: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    status: str = "damaged"
    reason: str = ""
    variant: tuple[str, ...] | None = None

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics of its summary; {} where that has none."""
        metrics = self.summary.get("metrics")
        if not isinstance(metrics, dict):
            return {}
        return metrics

    @property
    def steps(self) -> int | None:
        """The number of steps that it trained; None where that is unknown."""
        steps = as_number(self.summary.get("steps"))
        if math.isnan(steps):
            return None
        return int(steps)

    @property
    def seed(self) -> str:
        """Its seed as a configuration writes it; 'null' where that is unknown."""
        return value_text(self.settings.get("seed", self.summary.get("seed")))

    @property
    def seeds(self) -> list[str]:
        """The seed of each replica: member i is the GAN that a run with `seed + i` trains."""
        # A run that was killed has no summary.
        replicas = as_number(self.summary.get("replicas", self.settings.get("replicas", 1)))
        is_seed = self.seed.isdecimal() and len(self.seed) <= MAX_SEED_DIGITS
        if not is_seed or not 1 <= replicas <= MAX_REPLICAS:
            return [self.seed]
        return [str(int(self.seed) + i) for i in range(int(replicas))]

    def component(self, group: str) -> str:
        """Returns the class chosen in a group, with its settings: 'Adam (lr 0.001, …)'; '' where none was."""
        target = self.settings.get(f"{group}._target_")
        if target is None:
            return ""
        return class_name(str(target)) + self._settings_in(group)

    def remedies(self) -> str:
        """Returns all remedies with their settings: 'ema (decay 0.999) + r1 (gamma 1)'; 'none'."""
        names = value_text(self.settings.get(REMEDY, "none")).split(" + ")
        return " + ".join(name + self._settings_in(f"{REMEDY}.{name}") for name in names)

    def experiment_keys(self, prefix: str = "") -> list[str]:
        """Returns the keys that belong to the experiment and begin with `prefix`."""
        return [key for key in self.settings if key.startswith(prefix) and is_factor(key)]

    def varying_settings(self) -> dict[str, Any]:
        """Returns the settings in which compared runs may differ."""
        settings = {}
        for key, value in self.settings.items():
            # Compared runs have the same data and the same number of steps, see `select_comparable`.
            if key != "steps" and not key.startswith("dataset."):
                settings[key] = value
        return settings

    def _settings_in(self, group: str) -> str:
        """Returns ' (key value, …)'; '' where there is nothing to say."""
        settings = []
        for key in self.experiment_keys(f"{group}."):
            name = key.removeprefix(f"{group}.")
            value = resolve(self.settings, key)
            is_reference = str(value).startswith("${")
            # null leaves the setting to another one: model.depth to model.generator.hidden.
            if name != "_target_" and value is not None and not is_reference:
                settings.append(f"{name} {value_text(value)}")
        if not settings:
            return ""
        return f" ({', '.join(settings)})"


def find_runs(folder: str | Path) -> list[Run]:
    """Finds all runs in and below a folder, in the order of their paths, numbers in these by size.

    A run is a folder with a config.yaml or a summary.json, or a sweep's job that failed before it had them. Links are
    followed; each folder is searched once.

    Raises:
        LabError: if there is no such folder.
    """
    if not Path(folder).is_dir():
        raise LabError(
            f"There is no folder {printable(str(folder))}.",
            "Name a folder with runs in it, for example outputs/<name>.",
            code="missing",
            key="runs",
        )
    runs = []
    searched = set()
    for path, folders, files in os.walk(folder, followlinks=True):
        real_path = os.path.realpath(path)
        if real_path in searched:
            folders.clear()
            continue
        searched.add(real_path)
        # os.walk descends into what stays in this list.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        run = Run(path)
        if {run.config.name, run.summary.name, JOB} & set(files):
            runs.append(run)
    return sorted(runs, key=lambda run: _natural_order(str(run.folder)))


def read_record(run: Run) -> Record:
    """Reads a run with its status and, where it is not finished and evaluated, the reason why it is not compared."""
    record = Record(run)
    job = _read_job(run)
    if job and not run.config.is_file():
        record.status = "unfinished"
        record.reason = UNFINISHED
        if job.get("status") == "failed":
            record.status = "failed"
            record.reason = f"failed before it began: {_first_line(job.get('error'))}"
        return record
    try:
        record.settings = read_settings(run.config)
        record.summary = read_summary(run)
    except (LabError, OSError) as error:
        message = _first_line(str(error).replace(f"{run.folder}{os.sep}", ""))
        record.reason = f"damaged: {message}"
        if isinstance(error, LabError) and error.code == "format":
            record.reason = f"written by another version: {message}"
        if isinstance(error, ForeignError) and not run.summary.is_file():
            record.status = "foreign"
        return record
    if not record.summary and job.get("status") == "failed" and "error" in job:
        # The process could not write a summary, but the sweep knows what became of it.
        record.summary = {"status": job["status"], "error": job["error"]}
    record.status = str(record.summary.get("status", "unfinished"))
    record.reason = _reason_against(record)
    return record


def read_summary(run: Run) -> dict[str, Any]:
    """Reads a run's summary.json, as `Record` has it.

    Raises:
        LabError: if it is damaged.
        OSError: if it cannot be read.
    """
    return _sanitised(run.read_summary())


def select_comparable(records: Sequence[Record]) -> list[Record]:
    """Selects the runs to compare: the largest group with equal data, steps, evaluator and sample size, each run once.

    The others get their reasons. Of groups of equal size the first one is taken.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        if not record.reason:
            groups.setdefault(tuple(_conditions(record).values()), []).append(record)
    if not groups:
        return []
    group = max(groups.values(), key=len)
    group_conditions = _conditions(group[0])
    for record in records:
        if not record.reason:
            record.reason = _difference(_conditions(record), group_conditions)
    _exclude_duplicates(group)
    return [record for record in group if not record.reason]


def as_number(value: Any) -> float:
    """Returns a number of a summary; NaN for everything that is not a finite number."""
    if not isinstance(value, int | float):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        # JSON knows integers of any size.
        return math.nan
    if not math.isfinite(number):
        return math.nan
    return number


def _conditions(record: Record) -> dict[str, str]:
    """What has to be equal for runs to be comparable, in words."""
    conditions = {
        "dataset": record.component("dataset"),
        "data": _content_of_data(record),
        "steps": value_text(record.steps),
        "compared by": value_text(record.summary.get("features")),
    }
    for metric in shown_in("conditions"):
        conditions[metric.label] = value_text(record.metrics.get(metric.name))
    return conditions


def _content_of_data(record: Record) -> str:
    """Returns what tells one packed file from another, wherever they are; '' where the data are no packed file."""
    if "dataset.path" not in record.settings:
        return ""
    digest = record.summary.get("data_digest")
    if digest is None:
        return value_text(resolve(record.settings, "dataset.path"))
    return f"with digest {value_text(digest)[:8]}"


def _difference(conditions: dict[str, str], group_conditions: dict[str, str]) -> str:
    """Returns in what a run differs from the compared ones; '' where it does not."""
    differences = []
    for name, value in conditions.items():
        if value != group_conditions[name]:
            differences.append(f"{name} {value}, not {group_conditions[name]}")
    if not differences:
        return ""
    return f"{INCOMPARABLE}: {'; '.join(differences)}"


def _exclude_duplicates(group: list[Record]) -> None:
    """Gives their reason to runs whose settings and seed an earlier one has: they would count one result twice."""
    first_with: dict[tuple[Any, ...], Record] = {}
    for record in group:
        settings = _resolved_settings(record)
        # A run with replicas is several repetitions in one, and may share only one of them with an earlier run.
        repetitions = [(seed, settings) for seed in record.seeds]
        duplicates = [first_with[repetition] for repetition in repetitions if repetition in first_with]
        if not duplicates:
            first_with |= dict.fromkeys(repetitions, record)
            continue
        earlier = duplicates[0]
        shared = "seed" if record.seeds == earlier.seeds else "some seed"
        name = printable(earlier.run.folder.name)
        record.reason = f"no independent repetition: settings and {shared} are those of {name}"


def _resolved_settings(record: Record) -> tuple[tuple[str, str], ...]:
    """Returns the experiment's settings, references resolved, in an order that does not depend on the file's."""
    settings = []
    for key in record.experiment_keys():
        value = resolve(record.settings, key)
        settings.append((key, value_text(value)))
    return tuple(sorted(settings))


def _reason_against(record: Record) -> str:
    """Returns why a run that could be read is not compared; '' if it is finished, evaluated and unchanged."""
    summary = record.summary
    if record.status == "unfinished":
        return UNFINISHED
    if record.status == "failed":
        return f"failed: {_first_line(summary.get('error'))}"
    if record.status == "interrupted":
        steps = value_text(record.settings.get("steps"))
        return f"interrupted at step {value_text(summary.get('steps'))} of {steps}"
    if record.status != "finished" or record.steps is None:
        status = _first_line(record.status)
        record.status = "damaged"
        return f"damaged: summary.json says status {status}, steps {_first_line(summary.get('steps'))}"
    if math.isnan(as_number(record.metrics.get("samples"))):
        return "not evaluated: its summary has no metrics"
    return _changed_on_the_way(record)


def _changed_on_the_way(record: Record) -> str:
    """Returns what a resumed run changed while it trained; '' where it was nothing that belongs to the experiment."""
    for path in sorted(record.run.folder.glob("config_until_step_*.yaml")):
        try:
            earlier = read_settings(path)
        except LabError as error:
            return f"damaged: {_first_line(error)}"
        changed = []
        for key in earlier | record.settings:
            if not is_factor(key) or key == "steps":
                continue
            if resolve(earlier, key) != resolve(record.settings, key):
                changed.append(key)
        if changed:
            step = path.stem.rpartition("_")[2]
            return f"trained with another {', '.join(changed[:3])} until step {step}"
    return ""


def _read_job(run: Run) -> dict[str, Any]:
    """Reads what a sweep knows of the run; {} if it was not part of one, or the file cannot be read."""
    try:
        content = json.loads(read_text(run.folder / JOB))
    except (OSError, LabError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return _sanitised(content)


def _sanitised(content: dict[str, Any]) -> dict[str, Any]:
    """Makes texts that strangers wrote printable, and shortens an error to its first line, which says what is wrong."""
    sanitised = escape_texts(content)
    if "error" in content:
        sanitised["error"] = _first_line(content["error"])
    return sanitised


def _first_line(content: Any) -> str:
    """Returns the first line that is not blank, printable."""
    for line in str(content).splitlines():
        if line.strip():
            return printable(line.strip()[:300])
    return ""


def _natural_order(path: str) -> list[Any]:
    """Returns a key that sorts numbers in a path by size: run-2 before run-10."""
    order: list[Any] = []
    for piece in re.split(r"(\d+)", path):
        # Pairs can always be compared; the -1 puts text before numbers.
        if piece.isdecimal():
            order.append((int(piece), ""))
        else:
            order.append((-1, piece))
    return order
