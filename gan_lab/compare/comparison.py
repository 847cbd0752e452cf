"""From folders to findings: which runs are compared, what varies between them, and what they are asked."""

import itertools
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from gan_lab.compare import effects
from gan_lab.compare.collect import LOST, Record, as_number, find_runs, read_record, select_comparable
from gan_lab.compare.effects import Effect
from gan_lab.compare.factors import Factor, factors, label_value, ordered_levels
from gan_lab.compare.findings import Findings
from gan_lab.compare.notes import common_conditions, notes
from gan_lab.compare.questions import Variant, design
from gan_lab.compare.report import write_report
from gan_lab.compare.sentences import COLLAPSED, sentence
from gan_lab.compare.settings import name_presets
from gan_lab.compare.tables import describe, write_tables
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable
from gan_lab.evaluation.metrics.registry import Metric, metric_of

# Sentences of a metric that are worth reading: pairs, and interactions. effects.csv has all of them.
MAX_PAIR_SENTENCES = 10
MAX_INTERACTION_SENTENCES = 4
# As many pairs of variants, and comparisons in all metrics together, take about a minute.
MAX_PAIRS = 5_000
MAX_EFFECTS = 35_000
VERDICT_WORDS = ("collapse", "copies", "likeness", "balance")
# A single variant is named after these parts.
PARTS_IN_NAME = ("loss", "activation", "norm", "optim")


def conclude(folders: Sequence[str | Path], target: str | Path | None = None) -> str:
    """Compares the runs below the folders and writes comparison.csv, effects.csv and report.html.

    Args:
        folders: where the runs are.
        target: the folder to write to; None: the folder with the runs, or the deepest one that has all of them.

    Returns:
        What was found and what was written, for a terminal.

    Raises:
        LabError: as `compare` does; if the files can't be written.
    """
    findings = compare(folders, target)
    try:
        paths = [*write_tables(findings), write_report(findings)]
    except OSError as error:
        raise LabError(
            f"{error.filename}: {error.strerror}.",
            "Once that is solved, python scripts/compare.py runs=<folder> writes the files; target=<folder> writes them"
            " elsewhere.",
            code="storage",
            key="target",
        ) from error
    return f"{describe(findings)}\n\nWritten: {', '.join(map(str, paths))}"


def compare(folders: Sequence[str | Path], target: str | Path | None = None) -> Findings:
    """Finds the runs below the folders, leaves out what can't be compared, and compares the rest.

    Args:
        folders: where the runs are.
        target: the folder where the tables will go; None: the folder with the runs, or the deepest one that has all.

    Raises:
        LabError: if a folder is missing, there is no run, or none has finished.
    """
    records = _read_records(folders)
    compared = select_comparable(records)
    if not compared:
        raise _nothing_to_compare(records, folders)
    home = Path(target or _common_folder(folders))
    varying = _assign_variants(records, compared)
    factor_names = [factor.name for factor in varying]
    order = _order_of_folders(records)
    names = {variant: ", ".join(map(label_value, factor_names, variant)) for variant in order}
    table = _table(records, home, factor_names, names)
    runs = table[table["reason"] == ""].drop(columns="reason").infer_objects().astype({"steps": int})
    excluded = table[table["reason"] != ""]

    design_name: str = "one"
    if runs["variant"].nunique() > 1:
        design_name = design(runs, factor_names, order)
    levels = [ordered_levels(values) for values in zip(*order, strict=True)]
    if design_name != "ladder":
        # Only a ladder has its order from its folders.
        order = _sorted_by_levels(order, levels)
    position = {names[variant]: i for i, variant in enumerate(order)}
    runs = runs.sort_values("variant", key=lambda column: column.map(position), kind="stable", ignore_index=True)

    headline, metrics = _metrics(runs)
    measures = _measures(metrics, compared)
    pairs = math.comb(runs["variant"].nunique(), 2) if design_name == "pairs" else 0
    tested_metrics = _tested_metrics(headline, metrics, pairs)
    # In a crossing the first level of each factor is the one before a change, although no run may have all of these.
    order_of_comparisons = list(itertools.product(*levels)) if design_name == "factorial" else order
    answered: list[Effect] = []
    if tested_metrics:
        answered = effects.compare(runs, factor_names, tested_metrics, order_of_comparisons)
    answers = []
    for metric in headline:
        for effect in _worth_reading(answered, metric):
            answers.append((effect, sentence(effect, measures[metric])))
    with_runs = set(runs["variant"])
    findings = Findings(
        title=_title(factor_names, design_name, compared[0]),
        folder=home,
        runs=runs,
        factors=factor_names,
        variants=[variant for variant in order if names[variant] in with_runs],
        names=names,
        design=design_name,
        metrics=metrics,
        measures=measures,
        summaries=effects.summarise(runs, factor_names, metrics),
        effects=answered,
        answers=answers,
        notes=[],
        excluded=excluded[["run", "reason", *excluded.columns.drop(["run", "reason"])]],
        common=common_conditions(compared),
    )
    return replace(findings, notes=notes(findings, varying, compared))


def _read_records(folders: Sequence[str | Path]) -> list[Record]:
    """Reads every run once, in the order of the folders and of the paths below them; other programs' are left out.

    Raises:
        LabError: if no folder is named, or one is missing.
    """
    if not folders:
        raise LabError(
            "There is no folder to look in.",
            "Name one with runs in it, for example runs=outputs/<name>.",
            code="missing",
            key="runs",
        )
    runs: dict[str, Run] = {}
    for folder in folders:
        for run in find_runs(folder):
            runs.setdefault(os.path.realpath(run.folder), run)
    records = [read_record(run) for run in runs.values()]
    return [record for record in records if record.status != "foreign"]


def _nothing_to_compare(records: list[Record], folders: Sequence[str | Path]) -> LabError:
    """Returns the error that says why: there is no run, or none has finished."""
    where = printable(", ".join(map(str, folders)))
    if not records:
        return LabError(
            f"There is no run in {where}.",
            "Train some, for example by python train.py -m loss=mse,bce seed=0,1,2.",
            code="missing",
            key="runs",
        )
    states = Counter(record.reason.partition(":")[0].partition(" at step")[0] for record in records)
    counts = ", ".join(f"{n} {state}" for state, n in states.items())
    return LabError(
        f"No run in {where} has finished: {counts}.",
        "python train.py resume=<run folder> continues one.",
        code="missing",
        key="runs",
    )


def _common_folder(folders: Sequence[str | Path]) -> str | Path:
    if len(folders) == 1:
        return folders[0]
    return os.path.commonpath([os.path.abspath(folder) for folder in folders])


def _assign_variants(records: list[Record], compared: list[Record]) -> list[Factor]:
    """Finds the factors of the compared runs, and gives every run of the same plan its values of them.

    Runs that failed belong to the plan: a ladder or a crossing keeps the place of a variant of which no run finished.
    """
    planned = [record for record in records if not record.reason or _was_planned(record, compared[0])]
    varying = []
    settings = name_presets([record.varying_settings() for record in planned])
    for factor in factors(settings):
        compared_values = {value for record, value in zip(planned, factor.values, strict=True) if not record.reason}
        if len(compared_values) > 1:
            varying.append(factor)
    if not varying:
        planned = compared
        parts = [compared[0].part(group).partition(" (")[0] for group in PARTS_IN_NAME]
        varying = [Factor("variant", [", ".join(filter(None, parts))] * len(compared))]
    for i, record in enumerate(planned):
        record.variant = tuple(factor.values[i] for factor in varying)
    return varying


def _was_planned(record: Record, compared: Record) -> bool:
    """Whether a run that did not finish was to be compared with those that did."""
    same_data = record.part("dataset") == compared.part("dataset")
    same_steps = record.settings.get("steps") == compared.settings.get("steps")
    return record.status in LOST and bool(record.settings) and same_data and same_steps


def _order_of_folders(records: list[Record]) -> list[Variant]:
    """Returns the variants by the median place of their runs among the folders.

    By the median, because one run that lies elsewhere says little.
    """
    places: dict[Variant, list[int]] = {}
    for place, record in enumerate(records):
        if record.variant:
            places.setdefault(record.variant, []).append(place)
    return sorted(places, key=lambda variant: median(places[variant]))


def _sorted_by_levels(variants: list[Variant], levels: list[list[str]]) -> list[Variant]:
    """Sorts variants by the ranks of their values, the first factor first."""

    def ranks(variant: Variant) -> list[int]:
        return [values.index(value) for values, value in zip(levels, variant, strict=True)]

    return sorted(variants, key=ranks)


def _table(records: list[Record], home: Path, factor_names: list[str], names: dict[Variant, str]) -> pd.DataFrame:
    """Returns a row per repetition, with the columns of `Findings.runs` and the reason why it is not compared."""
    rows = []
    for record in records:
        rows += _rows(record, home, factor_names, names)
    return pd.DataFrame(rows)


def _rows(record: Record, home: Path, factor_names: list[str], names: dict[Variant, str]) -> list[dict[str, Any]]:
    """Returns a run's rows, one for each of its replicas; one that failed has its reason not to be compared."""
    run = {"run": _path_from(home, record.run)}
    variant_name = ""
    values = [""] * len(factor_names)
    if record.variant:
        variant_name = names[record.variant]
        values = list(record.variant)
    factor_values = dict(zip(factor_names, values, strict=True))
    members = _members(record)
    all_failed = all("error" in metrics for metrics, _ in members)
    rows = []
    for member, (metrics, verdict) in enumerate(members):
        # Where nothing varies, the only factor is called variant, too: the variant's name replaces it.
        row: dict[str, Any] = run | {"variant": variant_name} | factor_values | {"variant": variant_name}
        row["seed"] = record.seeds[member] if member < len(record.seeds) else record.seed
        row["member"] = member
        row["status"] = record.status
        row["reason"] = record.reason
        if "error" in metrics and not all_failed:
            row["status"] = "failed"
            row["reason"] = f"failed: member {member}: {metrics['error']}"
        row["steps"] = record.steps
        row["seconds"] = as_number(record.summary.get("seconds"))
        for word in VERDICT_WORDS:
            row[word] = verdict.get(word)
        # None where there is no verdict: such a run does not count in the share of collapsed runs.
        row["collapsed"] = None
        if isinstance(verdict.get("collapse"), str):
            row["collapsed"] = verdict["collapse"] == "collapsed"
        # A metric that is called as another column is would overwrite it.
        row |= {metric: as_number(value) for metric, value in metrics.items() if metric not in (*row, "error")}
        rows.append(row)
    return rows


def _members(record: Record) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns metrics and verdict of each replica; one pair for a run that has none or is not compared."""
    members = _dicts(record.summary.get("replica_metrics"))
    if not members:
        return [(record.metrics, _entry([record.summary.get("verdict")], 0))]
    verdicts = record.summary.get("replica_verdicts")
    if record.reason:
        return [(record.metrics, _entry(verdicts, 0))]
    return [(metrics, _entry(verdicts, member)) for member, metrics in enumerate(members)]


def _dicts(value: Any) -> list[dict[str, Any]]:
    """Returns a list of mappings; [] for everything else that a summary may hold."""
    is_valid = isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
    return value if is_valid else []


def _entry(values: Any, position: int) -> dict[str, Any]:
    """Returns the mapping at a position of a list; {} where there is none."""
    if not isinstance(values, list) or position >= len(values) or not isinstance(values[position], dict):
        return {}
    return values[position]


def _path_from(home: Path, run: Run) -> str:
    """Returns a run's folder, relative to `home` if it lies below that."""
    folder = os.path.abspath(run.folder)
    return os.path.relpath(folder, home) if Path(folder).is_relative_to(os.path.abspath(home)) else folder


def _metrics(runs: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Returns the metrics that the answers are about, and all that are compared, those first.

    The answers are about variety and likeness: the modes captured and the coverage, as far as these were measured.
    """
    measured = []
    columns = list(runs.columns)
    # The columns before it describe the run.
    for name in columns[columns.index("collapsed") + 1 :]:
        if metric_of(name).kind == "result" and runs[name].notna().any():
            measured.append(name)
    measured.sort(key=lambda name: metric_of(name).rank)
    varying = [name for name in measured if runs[name].nunique() > 1]
    headline = []
    if "modes" in measured:
        headline.append("modes")
    if "modes" in measured and "modes" not in varying:
        # All runs capture equally many modes: the next finer metric that differs tells more.
        finer = [name for name in ("modes_robust", "kl_data") if name in varying]
        headline += finer[:1]
    if "coverage" in varying or ("coverage" in measured and "modes" not in measured):
        headline.append("coverage")
    if not headline:
        headline = measured[:1]
    if runs["collapsed"].notna().any():
        measured.append(COLLAPSED.name)
    return headline, [*headline, *(name for name in measured if name not in headline)]


def _tested_metrics(headline: list[str], metrics: list[str], pairs: int) -> list[str]:
    """Returns the metrics in which so many pairs of variants are compared: all, the headline ones, or none."""
    if pairs * len(metrics) <= MAX_EFFECTS:
        return metrics
    if pairs > MAX_PAIRS:
        return []
    return [name for name in metrics if name in (*headline, COLLAPSED.name)]


def _measures(metrics: list[str], compared: list[Record]) -> dict[str, Metric]:
    """Returns the metrics' declarations, with the number of modes in their units: 'out of 10'."""
    modes_total = as_number(compared[0].metrics.get("modes_total"))
    measures = {}
    for name in metrics:
        metric = COLLAPSED if name == COLLAPSED.name else metric_of(name)
        unit = metric.unit
        if "{modes_total}" in unit:
            unit = "" if math.isnan(modes_total) else unit.format(modes_total=f"{modes_total:.0f}")
        measures[name] = replace(metric, unit=unit)
    return measures


def _worth_reading(answered: list[Effect], metric: str) -> list[Effect]:
    """Returns a metric's effects that get a sentence.

    These are all rungs, main effects and remedies, the strongest interactions, and the strongest pairs. Of
    interactions, remedies and pairs the significant ones come first, then the largest.
    """
    of_metric = [effect for effect in answered if effect.metric == metric]
    strongest_first = sorted(of_metric, key=lambda effect: (not effect.significant, -abs(effect.difference)))
    interactions = [effect for effect in strongest_first if effect.comparison.kind == "interaction"]
    remedies = [effect for effect in strongest_first if effect.comparison.kind == "remedy"]
    pairs = [effect for effect in strongest_first if effect.comparison.kind == "pair"]
    in_order = [effect for effect in of_metric if effect.comparison.kind in ("rung", "main")]
    return [*in_order, *interactions[:MAX_INTERACTION_SENTENCES], *remedies, *pairs[:MAX_PAIR_SENTENCES]]


def _title(factor_names: list[str], design_name: str, record: Record) -> str:
    dataset = record.part("dataset").partition(" (")[0]
    if design_name == "one":
        return dataset
    separator = " × " if design_name == "factorial" else ", "
    return f"{separator.join(factor_names)} on {dataset}"
