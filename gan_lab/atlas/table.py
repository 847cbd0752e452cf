"""The table of all GANs that were trained for the atlas, a row for each: read from run folders, or from a CSV file."""

import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from gan_lab.atlas.plan import FILMS, PREFIX, Costs
from gan_lab.comparison import origin
from gan_lab.comparison.collect import Record, as_number, find_runs, read_record
from gan_lab.comparison.comparison import rows_of_run
from gan_lab.core.errors import LabError
from gan_lab.core.io import read_text
from gan_lab.core.terminal import printable

# Files that are read instead of runs: a table, and what each treatment costs.
TABLES = (".csv", ".json")

# What an experiment's name says, after the prefix, see `plan.experiment_name`.
CELL = ["stage", "dataset", "base", "treatment", "strength"]
CONDITIONS = [*CELL, "steps", "seed"]
MEASUREMENTS = ["coverage", "modes", "modes_valid", "modes_total", "variety_within", "mode_width", "junk"]
WORDS = ["collapse", "within_modes", "likeness"]
NUMBERS = ["steps", "seed", *MEASUREMENTS, "processor_seconds"]
COLUMNS = [*CONDITIONS, *MEASUREMENTS, *WORDS, "error", "processor_seconds", "commit"]
# Significant digits of a measurement.
DIGITS = 5
MAX_CSV_BYTES = 50_000_000
NOT_FINITE = "NaN or infinity"


def read_table(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Reads the runs below folders, and CSV files that `write_table` wrote, each GAN once.

    Returns:
        COLUMNS, a row per GAN, sorted by CONDITIONS. A training that NaN or infinity ended has coverage 0 and no modes:
        that is what a user has then.

    Raises:
        LabError: if a path is missing or damaged, has no run of the atlas, or a run failed for another reason than NaN
            or infinity, or has no coverage.
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
            "Name the folder of the runs, for example runs=[outputs/atlas,docs/atlas_costs.json].",
            code="missing",
            key="runs",
        )
    table = pd.concat(tables, ignore_index=True).drop_duplicates(CONDITIONS)
    table = table[table["stage"] != FILMS]
    # In this order whatever the order of the paths, so that equal runs give equal documents.
    return table.sort_values(CONDITIONS, ignore_index=True)


def write_table(table: pd.DataFrame) -> str:
    """Returns a table as CSV text."""
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue()


def read_costs(paths: Sequence[str | Path]) -> Costs:
    """Reads the time of a step with each treatment relative to one without it.

    Args:
        paths: those among them that are JSON files, of `python scripts/benchmark.py what=remedies`.

    Raises:
        LabError: if there is none, or a file is damaged, or of another benchmark.
    """
    costs = {}
    for path in map(Path, paths):
        if path.suffix != ".json":
            continue
        try:
            for benchmark in json.loads(read_text(path))["benchmarks"]:
                (speeds,) = benchmark["ratios"].values()
                for name, speed in speeds.items():
                    treatment, _, strength = name.partition(", ")
                    costs[str(benchmark["title"]), treatment, strength] = 1 / float(speed)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise LabError(
                f"{printable(str(path))} has no times of the atlas: {printable(str(error))}.",
                "Measure them: python scripts/benchmark.py what=remedies",
                code="damaged",
                key="runs",
            ) from error
    if not costs:
        raise LabError(
            "What each treatment costs is missing.",
            "Name the file that scripts/benchmark.py what=remedies wrote, for example docs/atlas_costs.json.",
            code="missing",
            key="runs",
        )
    return costs


def cell_of(record: Record) -> list[str] | None:
    """Returns what a run's experiment says: CELL; None if it is not of the atlas."""
    parts = (origin.experiment(record) or "").split("/")
    if len(parts) != len(CELL) + 1 or parts[0] != PREFIX:
        return None
    return [part.replace("-", " ") for part in parts[1:]]


def find_runs_of_atlas(folder: Path) -> list[Record]:
    """Finds the runs of the atlas in and below a folder; those that have not ended are left out."""
    records = []
    for run in find_runs(folder):
        record = read_record(run)
        if cell_of(record) and record.status in ("finished", "failed"):
            records.append(record)
    return records


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        texts = pd.read_csv(io.StringIO(read_text(path, MAX_CSV_BYTES)), dtype=str, keep_default_na=False)
        table = texts[COLUMNS].copy()
        for column in NUMBERS:
            table[column] = pd.to_numeric(table[column])
        return table.astype({"steps": int, "seed": int, "coverage": float})
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
            "Train it first: python scripts/atlas.py",
            code="missing",
            key="runs",
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(record: Record) -> list[dict[str, object]]:
    """Returns a row for each GAN of a run."""
    conditions = dict(zip(CELL, cell_of(record) or [], strict=True))
    environment = record.summary.get("environment") or {}
    replicas = max(1.0, as_number(record.summary.get("replicas", 1)))
    seconds = as_number(record.summary.get("processor_seconds")) / replicas
    rows = []
    for measured in rows_of_run(record, record.run.folder, [], {}):
        row: dict[str, object] = dict(conditions)
        reason = str(measured["reason"]) if measured["status"] == "failed" else ""
        for column in MEASUREMENTS:
            # What the table will have when it is read from a file.
            row[column] = float(f"{as_number(measured.get(column)):.{DIGITS}g}")
        has_coverage = math.isfinite(as_number(measured.get("coverage")))
        if reason and NOT_FINITE in reason:
            row |= {"coverage": 0.0, "modes_valid": 0.0, "modes": 0.0}
        elif reason or not has_coverage:
            raise LabError(
                f"{printable(str(record.run.folder))}: {printable(reason or 'it has no coverage')}.",
                "Train it again: the same command of scripts/atlas.py.",
                code="damaged",
                key="runs",
            )
        for column in WORDS:
            row[column] = measured.get(column) or ""
        row["error"] = reason
        row["steps"] = int(as_number(record.settings.get("steps")))
        row["seed"] = int(str(measured["seed"]))
        row["processor_seconds"] = round(seconds, 2)
        row["commit"] = str(environment.get("git") or "")
        rows.append(row)
    return rows
