"""The table of all GANs that were trained for the atlas, a row for each: read from run folders, or from a CSV file."""

import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from gan_lab.atlas.plan import FILMS, PLACES, PREFIX, SEEDS, UNTREATED, Costs, Place, treatments
from gan_lab.comparison import origin
from gan_lab.comparison.collect import Record, as_number, find_runs, read_record
from gan_lab.comparison.comparison import rows_of_run
from gan_lab.comparison.pages import dict_at
from gan_lab.core.csv_table import csv_text
from gan_lab.core.errors import LabError
from gan_lab.core.io import read_text
from gan_lab.core.terminal import printable

# Files that are read instead of runs: a table, and what each treatment costs.
TABLES = (".csv", ".json")
HOW_TO_MEASURE = (
    "Measure it: python scripts/benchmark.py what=remedies datasets=[ring,grid,digits,stacked_digits] rounds=5"
    " seconds=0.3; then copy the remedies.json that it writes to docs/atlas_costs.json."
)

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
# Verdicts and commits: what a stranger's table puts there stands in a document.
WORD = re.compile(r"[\w+.-]*")
NOT_FINITE = "NaN or infinity"


def read_tables(paths: Sequence[str | Path], records: Iterable[Record]) -> pd.DataFrame:
    """Reads CSV files that `write_table` wrote and the runs of the atlas, each GAN once.

    Args:
        paths: those that are CSV files are read.
        records: of runs of the atlas; films, and runs that have not ended, are left out.

    Returns:
        COLUMNS, a row per GAN, sorted by CONDITIONS. A training that NaN or infinity ended, or whose samples are not
        finite, has coverage 0 and no modes: that is what a user has then.

    Raises:
        LabError: if a table is damaged, a run is damaged, failed for another reason or has no coverage, or if neither
            has anything.
    """
    tables = [_read_csv(path) for path in map(Path, paths) if path.suffix == ".csv"]
    rows = []
    for record in records:
        if _is_reported(record):
            rows += _rows(record)
    tables.append(pd.DataFrame(rows, columns=COLUMNS))
    table = pd.concat([one for one in tables if len(one)] or tables[:1], ignore_index=True)
    if table.empty:
        raise LabError(
            "There is no run of the atlas that has ended.",
            "Train it first: python scripts/atlas.py stage=tuning",
            code="missing",
            key="runs",
        )
    table = table.drop_duplicates(CONDITIONS)
    _refuse_different_steps(table)
    # In this order whatever the order of the paths, so that equal runs give equal documents.
    return table.sort_values(CONDITIONS, ignore_index=True)


def read_records(folder: str | Path) -> list[Record]:
    """Reads the runs of the atlas in and below a folder, whatever their state."""
    records = [read_record(run) for run in find_runs(folder)]
    return [record for record in records if cell_of(record)]


def cell_of(record: Record) -> list[str] | None:
    """Returns what a run's experiment says: CELL; None if it is not of the atlas."""
    parts = (origin.experiment(record) or "").split("/")
    if len(parts) != len(CELL) + 1 or parts[0] != PREFIX:
        return None
    return [part.replace("-", " ") for part in parts[1:]]


def write_table(table: pd.DataFrame) -> str:
    """Returns a table as CSV text."""
    return csv_text(table)


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
                    cost = 1 / float(speed)
                    if not 0 < cost < math.inf:
                        raise ValueError(f"a cost of {cost}")
                    costs[str(benchmark["title"]), treatment, strength] = cost
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise LabError(
                f"{printable(str(path))} has no times of the atlas: {printable(str(error))}.",
                HOW_TO_MEASURE,
                code="damaged",
                key="runs",
            ) from error
    if not costs:
        raise LabError("What each treatment costs is missing.", HOW_TO_MEASURE, code="missing", key="runs")
    return costs


def _is_reported(record: Record) -> bool:
    """Whether a run has results; one that has not ended, and a film, has none.

    Raises:
        LabError: for a damaged run, and one that can't be compared.
    """
    cell = cell_of(record)
    if record.status in ("interrupted", "unfinished") or cell is None or cell[0] == FILMS:
        return False
    if record.status == "finished" and not record.reason:
        return True
    if record.status == "failed" and NOT_FINITE in record.reason:
        return True
    raise _unusable(record, record.reason)


def _unusable(record: Record, reason: str) -> LabError:
    return LabError(
        f"{printable(str(record.run.folder))}: {printable(reason).removesuffix('.')}.",
        "Remove it, and train it again by the same command of scripts/atlas.py.",
        code="damaged",
        key="runs",
    )


def _rows(record: Record) -> list[dict[str, object]]:
    """Returns a row for each GAN of a run."""
    replicas = max(1.0, as_number(record.summary.get("replicas", 1)))
    seconds = as_number(record.summary.get("processor_seconds")) / replicas
    rows = []
    for measured in rows_of_run(record, record.run.folder, [], {}):
        row: dict[str, object] = dict(zip(CELL, cell_of(record) or [], strict=True))
        row["steps"] = as_number(record.settings.get("steps"))
        seed = str(measured["seed"])
        row["seed"] = int(seed) if seed.isdecimal() else math.nan
        for column in MEASUREMENTS:
            # What the table will have when it is read from a file.
            row[column] = float(f"{as_number(measured.get(column)):.{DIGITS}g}")
        for column in WORDS:
            row[column] = str(measured.get(column) or "")
        row["error"] = str(measured["reason"]) if measured["status"] == "failed" else ""
        if measured.get("finite") == 0:
            row["error"] = f"its samples are {NOT_FINITE}"
        if NOT_FINITE in str(row["error"]):
            row |= {"coverage": 0.0, "modes": 0.0, "modes_valid": 0.0}
        row["processor_seconds"] = round(seconds, 2)
        row["commit"] = str(dict_at(record.summary, "environment").get("git") or "")
        problem = _problem(row)
        if problem:
            raise _unusable(record, str(row["error"]) or problem)
        rows.append(row)
    return rows


def _read_csv(path: Path) -> pd.DataFrame:
    """Reads a table.

    Raises:
        LabError: if it is no table of the atlas, or holds what no training of it can have.
    """
    try:
        text = read_text(path, MAX_CSV_BYTES)
        if text.partition("\n")[0] != ",".join(COLUMNS):
            raise ValueError("its first line is another one")
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        for column in NUMBERS:
            table[column] = pd.to_numeric(table[column])
        for i, row in enumerate(table.to_dict("records")):
            problem = _problem({str(column): value for column, value in row.items()})
            if problem:
                raise ValueError(f"line {i + 2}: {problem}")
    except (OSError, ValueError, LookupError) as error:
        raise LabError(
            f"{printable(str(path))} is no table of the atlas: {printable(str(error))}.",
            "Name the folder of the runs, or a table that results.py wrote.",
            code="damaged",
            key="runs",
        ) from error
    return table


def _problem(row: dict[str, object]) -> str:
    """Returns what no training of the atlas can have; '' if there is nothing."""
    place = Place(str(row["dataset"]), str(row["base"]))
    key = (str(row["treatment"]), str(row["strength"]))
    known = (
        {(treatment.name, treatment.strength) for treatment in (UNTREATED, *treatments(place))}
        if place in PLACES
        else {}
    )
    if row["stage"] not in SEEDS or key not in known:
        return "it is not in the plan of the atlas"
    first, number = SEEDS[str(row["stage"])]
    steps = as_number(row["steps"])
    if not (first <= as_number(row["seed"]) < first + number and 0 < steps < math.inf):
        return "another seed or number of steps"
    if not 0 <= as_number(row["coverage"]) <= 1:
        return "it has no coverage"
    made = as_number(row["modes_valid"])
    total = as_number(row["modes_total"])
    if not (0 <= made <= total or (row["error"] and made == 0)):
        return "it has no number of modes"
    if not all(WORD.fullmatch(str(row[column])) for column in (*WORDS, "commit")):
        return "an unknown word"
    return ""


def _refuse_different_steps(table: pd.DataFrame) -> None:
    """Refuses a table in which the runs of a cell have different numbers of steps: the costs have changed meanwhile."""
    numbers = table.groupby(CELL)["steps"].nunique()
    if (numbers > 1).any():
        raise LabError(
            f"{', '.join(numbers[numbers > 1].index[0])}: its runs have different numbers of steps.",
            "Leave out those that were trained with other costs.",
            code="damaged",
            key="runs",
        )
