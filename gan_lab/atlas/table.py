"""The table of all GANs that were trained for the atlas, a row for each: read from run folders, or from a CSV file."""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from gan_lab.comparison import origin
from gan_lab.comparison.collect import Record, as_number, find_runs, read_record
from gan_lab.comparison.comparison import rows_of_run
from gan_lab.core.errors import LabError
from gan_lab.core.io import read_text
from gan_lab.core.terminal import printable

# The experiments of the atlas begin with this name, and its bases are options of this group.
PREFIX = "sweep/atlas/"
BASE = "experiment/atlas/base"
# The groups in which a treatment changes something, in the order of the map.
GROUPS = ("remedy", "loss", "norm")
NONE = "none"
STRENGTHS = ("weak", "published", "strong")
# The runs that choose strengths, and those that are filmed: their numbers are not reported.
TUNING = f"{PREFIX}tuning"
FILMS = f"{PREFIX}films"
# Files that are read instead of runs.
TABLES = (".csv", ".json")

CONDITIONS = ["experiment", "dataset", "base", "group", "treatment", "strength", "steps", "seed"]
MEASUREMENTS = ["coverage", "modes", "modes_valid", "modes_total", "variety_within", "mode_width", "junk"]
WORDS = ["collapse", "within_modes", "likeness"]
COLUMNS = [*CONDITIONS, *MEASUREMENTS, *WORDS, "error", "processor_seconds", "commit"]
# Significant digits of a measurement.
DIGITS = 5
MAX_CSV_BYTES = 50_000_000


def is_of_atlas(record: Record) -> bool:
    """Whether a run was trained for the atlas."""
    return (origin.experiment(record) or "").startswith(PREFIX)


def read_table(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Reads the runs below folders, and CSV files that `write_table` wrote, each GAN once.

    Returns:
        COLUMNS, a row per GAN. A training that NaN or infinity ended has coverage 0: that is what a user has then.

    Raises:
        LabError: if a path is missing, has no run of the atlas, or is damaged.
    """
    tables = []
    for path in map(Path, paths):
        if path.suffix == ".csv":
            tables.append(_read_csv(path))
        elif path.suffix not in TABLES:
            tables.append(_read_runs(find_runs_of_atlas(path), path))
    if not tables:
        raise LabError(
            "There is no run and no table of the atlas.",
            "Name the folder of the runs, for example runs=[outputs/sweep,docs/atlas_costs.json].",
            code="missing",
            key="runs",
        )
    table = pd.concat(tables, ignore_index=True)
    table = table[table["experiment"] != FILMS].drop_duplicates(CONDITIONS)
    # In this order whatever the order of the paths, so that equal runs give equal documents.
    return table.sort_values(CONDITIONS, ignore_index=True)


def read_costs(paths: Sequence[str | Path]) -> dict[tuple[str, str, str], float]:
    """Reads the time of a step with each treatment relative to one without it.

    Args:
        paths: those among them that are JSON files, of `python scripts/benchmark.py what=remedies`.

    Returns:
        The time by data set, treatment and strength.

    Raises:
        LabError: if a file is damaged, or of another benchmark.
    """
    costs = {}
    for path in map(Path, paths):
        if path.suffix != ".json":
            continue
        try:
            for benchmark in json.loads(read_text(path))["benchmarks"]:
                (ratios,) = benchmark["ratios"].values()
                for override, speed in ratios.items():
                    _, name, strength = treatment([override])
                    costs[str(benchmark["title"]), name, strength] = 1 / float(speed)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise LabError(
                f"{printable(str(path))} has no times of the atlas: {printable(str(error))}.",
                "Measure them: python scripts/benchmark.py what=remedies",
                code="damaged",
                key="runs",
            ) from error
    return costs


def find_runs_of_atlas(folder: Path) -> list[Record]:
    """Finds the runs of the atlas in and below a folder; those that have not ended are left out."""
    records = []
    for run in find_runs(folder):
        record = read_record(run)
        if is_of_atlas(record) and record.status in ("finished", "failed"):
            records.append(record)
    return records


def write_table(table: pd.DataFrame) -> str:
    """Returns a table as CSV text."""
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue()


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        texts = pd.read_csv(io.StringIO(read_text(path, MAX_CSV_BYTES)), dtype=str, keep_default_na=False)
        table = texts[COLUMNS].copy()
        for column in ("steps", "seed", "processor_seconds", *MEASUREMENTS):
            table[column] = pd.to_numeric(table[column])
        return table.astype({"steps": int, "seed": int})
    except (OSError, ValueError, LookupError) as error:
        raise LabError(
            f"{printable(str(path))} is no table of the atlas: {printable(str(error))}.",
            "Name the folder of the runs, or a table that results.py wrote.",
            code="damaged",
            key="runs",
        ) from error


def _read_runs(records: Iterable[Record], folder: Path) -> pd.DataFrame:
    rows = []
    for record in records:
        rows += _rows(record)
    if not rows:
        raise LabError(
            f"There is no run of the atlas in {printable(str(folder))}.",
            "Train it first: make atlas.",
            code="missing",
            key="runs",
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(record: Record) -> list[dict[str, object]]:
    """Returns a row for each GAN of a run."""
    conditions = {"experiment": origin.experiment(record), "dataset": record.summary.get("dataset"), "base": ""}
    conditions |= dict(zip(("group", "treatment", "strength"), treatment(origin.overrides(record)), strict=True))
    for override in origin.overrides(record):
        key, _, value = override.partition("=")
        if key.lstrip("+") == BASE:
            conditions["base"] = value
    environment = record.summary.get("environment") or {}
    replicas = max(1.0, as_number(record.summary.get("replicas", 1)))
    seconds = as_number(record.summary.get("processor_seconds")) / replicas
    rows = []
    for measured in rows_of_run(record, record.run.folder, [], {}):
        row = dict(conditions)
        for column in MEASUREMENTS:
            # What the table will have when it is read from a file.
            row[column] = float(f"{as_number(measured.get(column)):.{DIGITS}g}")
        for column in WORDS:
            row[column] = measured.get(column) or ""
        row["error"] = ""
        if measured["status"] == "failed":
            row["error"] = str(measured["reason"])
            row["coverage"] = 0.0
        row["steps"] = int(as_number(record.settings.get("steps")))
        row["seed"] = int(str(measured["seed"]))
        row["processor_seconds"] = round(seconds, 2)
        row["commit"] = str(environment.get("git") or "")
        rows.append(row)
    return rows


def is_tuning(table: pd.DataFrame) -> "pd.Series[bool]":
    """Returns for each row whether it is of the tuning."""
    return table["experiment"].str.startswith(TUNING)


def treatment(overrides: Sequence[str]) -> tuple[str, str, str]:
    """Returns what a run of the atlas changed in its base: the group, its name, and its strength.

    For example ('remedy', 'r1', 'weak') of `remedy=[r1,weak]`, ('loss', 'hinge', 'published') of `loss=hinge`, and
    ('remedy', 'none', 'published') where nothing was changed.
    """
    values = {}
    for override in overrides:
        key, _, value = override.partition("=")
        values[key] = value
    entries = [entry.strip() for entry in values.get("remedy", "").strip("[]").split(",") if entry.strip()]
    strength = next((entry for entry in entries if entry in STRENGTHS), "published")
    names = [entry for entry in entries if entry not in STRENGTHS]
    if names:
        return "remedy", " + ".join(names), strength
    for group in GROUPS[1:]:
        if group in values:
            return group, values[group], strength
    return "remedy", NONE, strength
