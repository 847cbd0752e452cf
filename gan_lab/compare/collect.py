"""The runs below a folder: found, read whatever their state, and set apart where they can't be compared."""

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_lab.compare.factors import REMEDY, part_name, resolved, text
from gan_lab.compare.settings import ForeignError, read_settings
from gan_lab.config.schema import is_factor
from gan_lab.core.errors import LabError
from gan_lab.core.io import read_text
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import escape_texts, printable
from gan_lab.evaluation.metrics.registry import shown_in

MOST_REPLICAS = 1024
JOB = "job.json"  # a sweep's word on its job, which may have failed before it was a run
LOST = ("failed", "interrupted", "unfinished", "damaged")  # of runs that were to be compared
INCOMPARABLE = "not comparable"
UNFINISHED = "unfinished: it has no summary, so it was killed or still trains"


@dataclass
class Record:
    """A run as its files have it.

    Attributes:
        settings: of its config.yaml, by dotted key; {} where that can't be read.
        summary: {} where there is none; its texts are printable, errors of one line.
        status: finished, interrupted, failed, unfinished (no summary), damaged, or foreign: another program's folder.
        reason: why it doesn't count; '' as long as it does.
        variant: the factors' values, once they are known.
    """

    run: Run
    settings: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    status: str = "damaged"
    reason: str = ""
    variant: tuple[str, ...] | None = None

    @property
    def metrics(self) -> dict[str, Any]:
        return _dict(self.summary, "metrics")

    @property
    def steps(self) -> int | None:
        steps = number(self.summary.get("steps"))
        return int(steps) if math.isfinite(steps) else None

    @property
    def seed(self) -> str:
        return text(self.settings.get("seed", self.summary.get("seed")))

    @property
    def seeds(self) -> list[str]:
        """One for each of its replicas: member i is what `seed + i` gives alone."""
        replicas = number(self.summary.get("replicas", 1))
        if not self.seed.isdecimal() or len(self.seed) > 20 or not 1 <= replicas <= MOST_REPLICAS:
            return [self.seed]
        return [str(int(self.seed) + i) for i in range(int(replicas))]

    def part(self, group: str) -> str:
        """What was chosen in a group and its settings, in words: 'Adam (lr 0.001, …)'; '' where nothing was."""
        target = self.settings.get(f"{group}._target_")
        return "" if target is None else part_name(str(target)) + self._set_in(group)

    def remedies(self) -> str:
        """All of them, with their settings: 'ema (decay 0.999) + r1 (gamma 1)'; 'none'."""
        names = text(self.settings.get(REMEDY, "none")).split(" + ")
        return " + ".join(name + self._set_in(f"{REMEDY}.{name}") for name in names)

    def _set_in(self, group: str) -> str:
        values = {key.removeprefix(f"{group}."): resolved(self.settings, key) for key in self.asked(f"{group}.")}
        values.pop("_target_", None)
        given = {key: value for key, value in values.items() if value is not None and not str(value).startswith("${")}
        settings = [f"{key} {text(value)}" for key, value in given.items()]
        return f" ({', '.join(settings)})" if settings else ""

    def asked(self, prefix: str = "") -> list[str]:
        return [key for key in self.settings if key.startswith(prefix) and is_factor(key)]

    def variation(self) -> dict[str, Any]:
        """The settings in which compared runs may differ."""
        return {key: self.settings[key] for key in self.settings if key != "steps" and not key.startswith("dataset.")}


def find(folder: str | Path) -> list[Run]:
    """All runs in and below a folder, in the order of their paths, numbers in them by size.

    What has a config.yaml or a summary.json is a run, and a sweep's job that failed before it had them. Links are
    followed, each folder is looked into once.

    Raises:
        LabError: if there is no such folder.
    """
    if not Path(folder).is_dir():
        missing = printable(str(folder))
        raise LabError(f"There is no folder {missing}.", "Name one with runs in it, outputs/<name>, say.")
    found, seen = [], set()
    for path, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        run = Run(path)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if {run.config.name, run.summary.name, JOB} & set(files):
            found.append(run)
    return sorted(found, key=lambda run: _natural(str(run.folder)))


def read(run: Run) -> Record:
    """A run with its state and, where it isn't finished and judged, the reason why it doesn't count."""
    record, job = Record(run), _job(run)
    try:
        if job and not run.config.is_file():
            failed = job.get("status") == "failed"
            record.status = "failed" if failed else "unfinished"
            record.reason = f"failed before it began: {_line(job.get('error'))}" if failed else UNFINISHED
            return record
        record.settings = read_settings(run.config)
        record.summary = read_summary(run) or {key: job[key] for key in ("status", "error") if _ended(job)}
    except (LabError, OSError) as error:
        record.reason = f"damaged: {_line(str(error).replace(f'{run.folder}{os.sep}', ''))}"
        if isinstance(error, ForeignError) and not run.summary.is_file():
            record.status = "foreign"
        return record
    record.status = str(record.summary.get("status", "unfinished"))
    record.reason = _unusable(record)
    return record


def read_summary(run: Run) -> dict[str, Any]:
    """A run's summary.json, as `Record` has it.

    Raises:
        LabError, OSError: if it can't be read.
    """
    return _told(run.read_summary())


def set_apart(records: Sequence[Record]) -> list[Record]:
    """Those that count: the largest group of runs with equal data, steps, evaluator and sample size, each once.

    The others get their reasons; of groups equally large the first one counts.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        if not record.reason:
            groups.setdefault(tuple(_conditions(record).values()), []).append(record)
    if not groups:
        return []
    kept = max(groups.values(), key=len)
    usual = _conditions(kept[0])
    for record in records:
        if not record.reason:
            own = _conditions(record)
            other = [f"{key} {own[key]}, not {usual[key]}" for key in own if own[key] != usual[key]]
            record.reason = f"{INCOMPARABLE}: {'; '.join(other)}" if other else ""
    first: dict[tuple[Any, ...], Record] = {}
    for record in kept:
        same = tuple(sorted((key, text(resolved(record.settings, key))) for key in record.asked()))
        members = [(seed, same) for seed in record.seeds]
        if before := next((first[each] for each in members if each in first), None):
            which = "settings and seed are" if record.seeds == before.seeds else "settings and some seed are"
            record.reason = f"no independent repetition: {which} those of {printable(before.run.folder.name)}"
        else:
            first |= dict.fromkeys(members, record)
    return [record for record in kept if not record.reason]


def number(value: Any) -> float:
    """A number of a summary; NaN for whatever isn't one."""
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def _conditions(record: Record) -> dict[str, str]:
    """What has to be equal for runs to be comparable, in words."""
    conditions = {
        "dataset": record.part("dataset"),
        "steps": text(record.steps),
        "compared by": text(record.summary.get("features")),
    }
    for metric in shown_in("conditions"):
        conditions[metric.label] = text(record.metrics.get(metric.name))
    return conditions


def _unusable(record: Record) -> str:
    summary, status = record.summary, record.status
    if status == "unfinished":
        return UNFINISHED
    if status == "failed":
        return f"failed: {_line(summary.get('error'))}"
    if status == "interrupted":
        return f"interrupted at step {text(summary.get('steps'))} of {text(record.settings.get('steps'))}"
    if status != "finished" or record.steps is None:
        record.status = "damaged"
        return f"damaged: summary.json says status {_line(status)}, steps {_line(summary.get('steps'))}"
    if math.isnan(number(record.metrics.get("samples"))):
        return "not judged: its summary has no metrics"
    for path in sorted(record.run.folder.glob("config_until_step_*.yaml")):
        try:
            before = read_settings(path)
        except LabError as error:
            return f"damaged: {_line(error)}"
        keys = [key for key in {**before, **record.settings} if is_factor(key) and key != "steps"]
        if other := [key for key in keys if resolved(before, key) != resolved(record.settings, key)]:
            step = path.stem.rpartition("_")[2]
            return f"until step {step} trained with another {', '.join(other[:3])}"
    return ""


def _dict(node: dict[str, Any], key: str) -> dict[str, Any]:
    value = node.get(key)
    return value if isinstance(value, dict) else {}


def _job(run: Run) -> dict[str, Any]:
    """What a sweep knows of the run; {} for one that wasn't in a sweep, or if that can't be read."""
    try:
        content = json.loads(read_text(run.folder / JOB))
    except (OSError, LabError, ValueError, RecursionError):
        return {}
    return _told(content) if isinstance(content, dict) else {}


def _ended(job: dict[str, Any]) -> bool:
    return job.get("status") == "failed" and "error" in job


def _told(content: dict[str, Any]) -> dict[str, Any]:
    """What strangers wrote, printable; an error may be of several lines, of which the first one says what was wrong."""
    found = escape_texts(content)
    if "error" in content:
        found["error"] = _line(content["error"])
    return found


def _line(words: Any) -> str:
    """The first line of what may be anything, printable."""
    first = next((line for line in str(words).splitlines() if line.strip()), "")
    return printable(first.strip()[:300])


def _natural(path: str) -> list[Any]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)]
