"""From folders to findings: selects the runs to compare, finds what varies between them, and compares them."""

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

from gan_lab.comparison import effects
from gan_lab.comparison.collect import LOST, Record, as_number, find_runs, read_record, select_comparable
from gan_lab.comparison.effects import Effect
from gan_lab.comparison.factors import Factor, factors, label_value, ordered_levels, remedy_names
from gan_lab.comparison.findings import Findings
from gan_lab.comparison.notes import common_conditions, notes
from gan_lab.comparison.questions import Variant, design
from gan_lab.comparison.report import write_report
from gan_lab.comparison.run_page import write_run_page
from gan_lab.comparison.sentences import COLLAPSED, sentence
from gan_lab.comparison.settings import name_presets
from gan_lab.comparison.tables import describe, write_tables
from gan_lab.core.command_line import command, setting
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable
from gan_lab.evaluation.metrics.registry import Metric, metric_of

# The metrics that the answers are about, the primary one first; of alternatives the first that was measured. Coverage
# is measured on all kinds of data, has no ceiling that good generators share, and has a value for every collapsed one.
# Without readers the modes are those that papers count.
HEADLINE = (("coverage",), ("modes_valid", "modes"))
# Sentences of a metric that are worth reading: pairs, and interactions. effects.csv has all of them.
MAX_PAIR_SENTENCES = 10
MAX_INTERACTION_SENTENCES = 4
# As many pairs of variants, and comparisons in all metrics together, take about a minute.
MAX_PAIRS = 5_000
MAX_EFFECTS = 35_000
VERDICT_WORDS = ("collapse", "within_modes", "copies", "likeness", "balance")
# A single variant is named after what these groups choose.
GROUPS_IN_NAME = ("loss", "activation", "norm", "optim")
NOT_UTF8 = "not UTF-8: its folder's name; rename it"


def conclude(folders: Sequence[str | Path], target: str | Path | None = None) -> str:
    """Compares the runs below the folders and writes comparison.csv, effects.csv and report.html.

    A single run that is named itself can't be compared: its page is written.

    Args:
        folders: where the runs are.
        target: the folder to write to; None: the folder with the runs, or the deepest one that has all of them.

    Returns:
        What was found and what was written, for a terminal.

    Raises:
        LabError: as `compare` does; if the files can't be written.
    """
    try:
        run = _single_run(folders)
        if run is not None:
            page = write_run_page(run, Path(target) / run.page.name if target else None)
            return f"One run, which has nothing to be compared with. Its page: {printable(str(page))}"
        findings = compare(folders, target)
        paths = [*write_tables(findings), write_report(findings)]
    except OSError as error:
        raise LabError(
            f"{error.filename}: {error.strerror}.",
            "Once that is solved, or with another target=<folder>, write them again: "
            + command("compare.py", setting("runs", [str(folder) for folder in folders])),
            code="storage",
            key="target",
        ) from error
    return f"{describe(findings)}\n\nWritten: {', '.join(map(str, paths))}"


def _single_run(folders: Sequence[str | Path]) -> Run | None:
    """Returns the run if a single one is named by its own folder; else None.

    Raises:
        LabError: if there is no such folder.
    """
    if len(folders) != 1:
        return None
    runs = find_runs(folders[0])
    is_alone = [run.folder for run in runs] == [Path(folders[0])]
    return runs[0] if is_alone and read_record(runs[0]).status != "foreign" else None


def compare(folders: Sequence[str | Path], target: str | Path | None = None) -> Findings:
    """Finds the runs below the folders, leaves out what can't be compared, and compares the rest.

    Args:
        folders: where the runs are.
        target: the folder where the tables will go; None: the folder with the runs, or the deepest one that has all.

    Raises:
        LabError: if a folder is missing, there is no run, or none has finished.
    """
    # Which runs are compared, and what varies between them.
    records = _read_records(folders)
    compared = select_comparable(records)
    if not compared:
        raise _nothing_to_compare(records, folders)
    home = Path(target or common_folder(folders))
    varying = _assign_variants(records, compared)
    factor_names = [factor.name for factor in varying]
    order = _order_of_folders(records)
    names = {}
    for variant in order:
        names[variant] = ", ".join(map(label_value, factor_names, variant))
    table = _table(records, home, factor_names, names)
    runs = table[table["reason"] == ""].drop(columns="reason").infer_objects().astype({"steps": int})
    excluded = table[table["reason"] != ""]

    # What the variants can answer, and in which order they come.
    design_name: str = "one"
    if runs["variant"].nunique() > 1:
        design_name = design(runs, factor_names, order)
    levels = [ordered_levels(values) for values in zip(*order, strict=True)]
    if design_name != "ladder":
        # Only a ladder has its order from its folders.
        order = _sorted_by_levels(order, levels)
    position = {names[variant]: i for i, variant in enumerate(order)}
    runs = runs.sort_values("variant", key=lambda column: column.map(position), kind="stable", ignore_index=True)

    # In which metrics they are compared, and with which results.
    headline, metrics = _metrics(runs)
    measures = _measures(metrics, compared)
    # Only among pairs does the number of comparisons grow with the square of the variants.
    pairs = 0
    if design_name == "pairs":
        pairs = math.comb(runs["variant"].nunique(), 2)
    tested_metrics = _tested_metrics(headline, metrics, pairs)
    order_of_comparisons = order
    if design_name == "factorial":
        # The first level of each factor is the one before a change, although no run may have all of these.
        order_of_comparisons = list(itertools.product(*levels))
    tested_effects: list[Effect] = []
    if tested_metrics:
        tested_effects = effects.compare(runs, factor_names, tested_metrics, order_of_comparisons)
    answers = []
    for metric in headline:
        metric_effects = [effect for effect in tested_effects if effect.metric == metric]
        for effect, strengths in _worth_reading(metric_effects, measures[metric]):
            answers.append((effect, sentence(effect, measures[metric], strengths)))
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
        effects=tested_effects,
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
    # The run, and its path below the folder that was named.
    runs: dict[str, tuple[Run, str]] = {}
    for folder in folders:
        for run in find_runs(folder):
            runs.setdefault(os.path.realpath(run.folder), (run, os.path.relpath(run.folder, folder)))
    records = []
    for run, path in runs.values():
        record = read_record(run)
        if not _is_utf8(path):
            record.reason = record.reason or NOT_UTF8
        if record.status != "foreign":
            records.append(record)
    return records


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
    states: Counter[str] = Counter()
    for record in records:
        # 'interrupted' of 'interrupted at step 12 of 40', 'failed' of 'failed: The loss is NaN.'.
        state = record.reason.partition(":")[0].partition(" at step")[0]
        states[state] += 1
    counts = ", ".join(f"{n} {state}" for state, n in states.items())
    return LabError(
        f"No run in {where} has finished: {counts}.",
        "python train.py resume=<run folder> continues one.",
        code="missing",
        key="runs",
    )


def common_folder(folders: Sequence[str | Path]) -> str | Path:
    """Returns where the files of a comparison go without a target: the deepest folder that has all of the folders."""
    if len(folders) == 1:
        return folders[0]
    return os.path.commonpath([os.path.abspath(folder) for folder in folders])


def _assign_variants(records: list[Record], compared: list[Record]) -> list[Factor]:
    """Finds the factors of the compared runs, and gives every run of the same plan its values of them.

    Runs that failed belong to the plan: a ladder or a factorial design keeps the place of a variant of which no run
    finished.
    """
    planned = []
    for record in records:
        if not record.reason or _was_planned(record, compared[0]):
            planned.append(record)
    varying = []
    settings = name_presets([record.varying_settings() for record in planned])
    for factor in factors(settings):
        compared_values = set()
        for record, value in zip(planned, factor.values, strict=True):
            if not record.reason:
                compared_values.add(value)
        # What differs only in runs that failed has no effect that could be seen.
        if len(compared_values) > 1:
            varying.append(factor)
    if not varying:
        planned = compared
        name = _name_of_single_variant(compared[0])
        varying = [Factor("variant", [name] * len(compared))]
    for i, record in enumerate(planned):
        record.variant = tuple(factor.values[i] for factor in varying)
    return varying


def _name_of_single_variant(record: Record) -> str:
    """Returns the classes that a run is made of, without their settings: 'MSE, Sigmoid, SGD'."""
    class_names = []
    for group in GROUPS_IN_NAME:
        component = record.component(group)
        if component:
            class_names.append(component.partition(" (")[0])
    return ", ".join(class_names)


def _was_planned(record: Record, compared: Record) -> bool:
    """Whether a run that did not finish was to be compared with those that did."""
    same_data = record.component("dataset") == compared.component("dataset")
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
        rows += rows_of_run(record, home, factor_names, names)
    return pd.DataFrame(rows)


def _is_utf8(path: str) -> bool:
    """Returns whether UTF-8 can write a path; in Python, bytes of a name that isn't UTF-8 are surrogates."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def rows_of_run(record: Record, home: Path, factor_names: list[str], names: dict[Variant, str]) -> list[dict[str, Any]]:
    """Returns a run's rows, one for each of its replicas; one that failed has its reason not to be compared."""
    path = _path_from(home, record.run)
    # Tables, links and pages are UTF-8.
    run = {"run": path if _is_utf8(path) else printable(path)}
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
        row["collapsed"] = _is_collapsed(verdict, metrics)
        # A metric with the name of another column would overwrite that.
        taken_names = {*row, "error"}
        for metric, value in metrics.items():
            if metric not in taken_names:
                row[metric] = as_number(value)
        rows.append(row)
    return rows


def _is_collapsed(verdict: dict[str, Any], metrics: dict[str, Any]) -> bool | None:
    """Returns whether a GAN has collapsed, onto few modes or within its modes.

    None where there is no verdict, or it is unknown: such a run does not count in the share of collapsed runs.
    """
    collapse = verdict.get("collapse")
    if not isinstance(collapse, str) or collapse == "unknown":
        return None
    # The only mode of the book's pattern may be made without variety.
    is_within = verdict.get("within_modes") == "collapsed" and metrics.get("modes_total") != 1
    return collapse == "collapsed" or is_within


def _members(record: Record) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns metrics and verdict of each replica; of a run that is not compared as many as it was to have."""
    members = _dicts(record.summary.get("replica_metrics"))
    if not members:
        repetitions = len(record.seeds) if record.reason else 1
        return [(record.metrics, _entry([record.summary.get("verdict")], 0))] * repetitions
    verdicts = record.summary.get("replica_verdicts")
    return [(metrics, _entry(verdicts, member)) for member, metrics in enumerate(members)]


def _dicts(value: Any) -> list[dict[str, Any]]:
    """Returns a list of mappings; [] for everything else that a summary may hold."""
    if not isinstance(value, list):
        return []
    if not all(isinstance(entry, dict) for entry in value):
        return []
    return value


def _entry(values: Any, position: int) -> dict[str, Any]:
    """Returns the mapping at a position of a list; {} where there is none."""
    if not isinstance(values, list) or position >= len(values) or not isinstance(values[position], dict):
        return {}
    return values[position]


def _path_from(home: Path, run: Run) -> str:
    """Returns a run's folder, relative to `home` if it lies below that."""
    folder = os.path.abspath(run.folder)
    if Path(folder).is_relative_to(os.path.abspath(home)):
        return os.path.relpath(folder, home)
    return folder


def _metrics(runs: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Returns the metrics that the answers are about, the primary one first, and all that are compared, those first.

    Which they are is fixed by `HEADLINE` and what was measured, never by the results.
    """
    measured = []
    columns = list(runs.columns)
    # The columns before it describe the run.
    for name in columns[columns.index("collapsed") + 1 :]:
        if metric_of(name).kind == "result" and runs[name].notna().any():
            measured.append(name)
    measured.sort(key=lambda name: metric_of(name).rank)
    headline = []
    for alternatives in HEADLINE:
        headline += [name for name in alternatives if name in measured][:1]
    if not headline:
        headline = measured[:1]
    if runs["collapsed"].notna().any():
        measured.append(COLLAPSED.name)
    return headline, list(dict.fromkeys([*headline, *measured]))


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
        if "{modes_total}" in unit and math.isnan(modes_total):
            unit = ""
        elif "{modes_total}" in unit:
            unit = unit.format(modes_total=f"{modes_total:.0f}")
        measures[name] = replace(metric, unit=unit)
    return measures


def _worth_reading(metric_effects: list[Effect], measure: Metric) -> list[tuple[Effect, int]]:
    """Returns a metric's effects that get a sentence, each with the number of strengths that it is the best of.

    These are all rungs and main effects, each remedy at its best strength, the strongest interactions, and the
    strongest pairs. Of interactions, remedies and pairs the significant ones come first, then the largest.
    """
    by_kind: dict[str, list[Effect]] = {"rung": [], "main": [], "interaction": [], "remedy": [], "pair": []}
    by_remedy: dict[str, list[Effect]] = {}
    for effect in metric_effects:
        if effect.comparison.kind == "remedy":
            by_remedy.setdefault(remedy_names(effect.comparison.changes[0].after), []).append(effect)
        else:
            by_kind[effect.comparison.kind].append(effect)
    strengths = {}
    for effects_of_remedy in by_remedy.values():
        best = max(effects_of_remedy, key=lambda effect: _gain(effect, measure))
        by_kind["remedy"].append(best)
        strengths[best.comparison] = len(effects_of_remedy)
    # Rungs and main effects keep the order of the variants.
    for kind in ("interaction", "remedy", "pair"):
        by_kind[kind].sort(key=lambda effect: (not effect.significant, -abs(effect.difference)))
    chosen = [
        *by_kind["rung"],
        *by_kind["main"],
        *by_kind["interaction"][:MAX_INTERACTION_SENTENCES],
        *by_kind["remedy"],
        *by_kind["pair"][:MAX_PAIR_SENTENCES],
    ]
    return [(effect, strengths.get(effect.comparison, 1)) for effect in chosen]


def _gain(effect: Effect, measure: Metric) -> float:
    """Returns how much better a metric becomes; its change, where more is neither better nor worse."""
    if measure.higher_is_better is None:
        return abs(effect.difference)
    return effect.difference if measure.higher_is_better else -effect.difference


def _title(factor_names: list[str], design_name: str, record: Record) -> str:
    """Returns a report's title, 'loss × optim on Digits'."""
    dataset = record.component("dataset").partition(" (")[0]
    if design_name == "one":
        return dataset
    separator = " × " if design_name == "factorial" else ", "
    return f"{separator.join(factor_names)} on {dataset}"
