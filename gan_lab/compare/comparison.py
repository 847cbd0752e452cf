"""From folders to findings: which runs count, what varies between them, and what is asked of them."""

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
from gan_lab.compare.collect import LOST, Record, find, number, read, set_apart
from gan_lab.compare.effects import Effect
from gan_lab.compare.factors import Factor, factors, levels, named
from gan_lab.compare.findings import Findings
from gan_lab.compare.notes import common, notes
from gan_lab.compare.questions import Variant, design
from gan_lab.compare.report import write_report
from gan_lab.compare.sentences import COLLAPSED, sentence
from gan_lab.compare.settings import name_presets
from gan_lab.compare.tables import describe, write
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable
from gan_lab.evaluation.metrics.registry import Metric, metric_of

ANSWERS = 10  # sentences of a metric that are worth reading; effects.csv has all
INTERACTIONS = 4
MOST_PAIRS, MOST_EFFECTS = 5_000, 35_000  # what takes a minute
WORDS = ("collapse", "copies", "likeness", "balance")  # the verdict


def conclude(folders: Sequence[str | Path], target: str | Path | None = None) -> str:
    """Compares the runs below the folders and writes comparison.csv, effects.csv and report.html.

    Args:
        target: where to; None: the folder, or what the folders have in common.

    Returns:
        What was found and what was written, for a terminal.

    Raises:
        LabError: as `compare` does; if the files can't be written.
    """
    findings = compare(folders, target)
    try:
        paths = [*write(findings), write_report(findings)]
    except OSError as error:
        again = "Once that is mended, python scripts/compare.py runs=<folder> writes them; target=<folder>: elsewhere."
        raise LabError(f"{error.filename}: {error.strerror}.", again) from error
    return f"{describe(findings)}\n\nWritten: {', '.join(map(str, paths))}"


def compare(folders: Sequence[str | Path], target: str | Path | None = None) -> Findings:
    """Finds the runs below the folders, sets apart what can't be compared, and compares the rest.

    Args:
        target: where the tables will go; None: the folder, or what the folders have in common.

    Raises:
        LabError: if a folder is missing, there is no run, or none has finished.
    """
    if not folders:
        raise LabError("There is no folder to look in.", "Name one with runs in it: runs=outputs/<name>, say.")
    records = _records(folders)
    counted = set_apart(records)
    if not counted:
        raise _none_finished(records, folders)
    shared = folders[0] if len(folders) == 1 else os.path.commonpath([os.path.abspath(folder) for folder in folders])
    home = Path(target or shared)
    found = _give_variants(records, counted)
    columns = [factor.name for factor in found]
    order = _order(records)
    names = {variant: ", ".join(map(named, columns, variant)) for variant in order}
    table = pd.DataFrame([row for record in records for row in _rows(record, home, columns, names)])
    counts = table["reason"] == ""
    apart = table[~counts]
    runs = table[counts].drop(columns="reason").infer_objects().astype({"steps": int})
    kind: str = "one" if len(set(runs["variant"])) == 1 else design(runs, columns, order)
    ranks = [levels([variant[i] for variant in order]) for i in range(len(columns))]
    if kind != "ladder":
        order.sort(key=lambda variant: [rank.index(value) for rank, value in zip(ranks, variant, strict=True)])
    place = {names[variant]: i for i, variant in enumerate(order)}
    runs = runs.sort_values("variant", key=lambda column: column.map(place), kind="stable", ignore_index=True)
    headline, metrics = _metrics(runs)
    measures = _measures(metrics, counted)
    tested = _tested(headline, metrics, runs["variant"].nunique() if kind == "pairs" else 0)
    asked = list(itertools.product(*ranks)) if kind == "factorial" else order
    answered = effects.compare(runs, columns, tested, asked) if tested else []
    answers = [effect for metric in headline for effect in _worth_reading(answered, metric)]
    findings = Findings(
        title=_title(columns, kind, counted[0]),
        folder=home,
        runs=runs,
        factors=columns,
        variants=[variant for variant in order if names[variant] in set(runs["variant"])],
        names=names,
        design=kind,
        metrics=metrics,
        measures=measures,
        summaries=effects.summarise(runs, columns, metrics),
        effects=answered,
        answers=[(effect, sentence(effect, measures[effect.metric])) for effect in answers],
        notes=[],
        apart=apart[["run", "reason", *(column for column in apart if column not in ("run", "reason"))]],
        common=common(counted),
    )
    return replace(findings, notes=notes(findings, found, counted))


def _records(folders: Sequence[str | Path]) -> list[Record]:
    """Every run once, in the order of the folders and of the paths below them."""
    runs: dict[str, Run] = {}
    for run in (run for folder in folders for run in find(folder)):
        runs.setdefault(os.path.realpath(run.folder), run)
    records = [read(run) for run in runs.values()]
    return [record for record in records if record.status != "foreign"]


def _none_finished(records: list[Record], folders: Sequence[str | Path]) -> LabError:
    where = printable(", ".join(map(str, folders)))
    if not records:
        return LabError(f"There is no run in {where}.", "python train.py -m loss=mse,bce seed=0,1,2 makes some.")
    states = Counter(record.reason.partition(":")[0].partition(" at step")[0] for record in records)
    told = f"No run in {where} has finished: {', '.join(f'{n} {state}' for state, n in states.items())}."
    return LabError(told, "python train.py resume=<run folder> goes on with one.")


def _give_variants(records: list[Record], counted: list[Record]) -> list[Factor]:
    """Finds the factors of the runs that count, and gives every run of the same plan its values of them."""
    planned = [record for record in records if not record.reason or _was_to_be(record, counted[0])]
    found = factors(name_presets([record.variation() for record in planned]))
    found = [f for f in found if len({value for r, value in zip(planned, f.values, strict=True) if not r.reason}) > 1]
    if not found:  # nothing that counts differs: there is one variant, of these parts
        parts = [counted[0].part(group).partition(" (")[0] for group in ("loss", "activation", "norm", "optim")]
        planned, found = counted, [Factor("variant", [", ".join(filter(None, parts))] * len(counted))]
    for i, record in enumerate(planned):
        record.variant = tuple(factor.values[i] for factor in found)
    return found


def _order(records: list[Record]) -> list[Variant]:
    """The variants by the place that most of their runs have among the folders: one that lies elsewhere says little."""
    places: dict[Variant, list[int]] = {}
    for place, record in enumerate(records):
        if record.variant:
            places.setdefault(record.variant, []).append(place)
    return sorted(places, key=lambda variant: median(places[variant]))


def _was_to_be(record: Record, kept: Record) -> bool:
    """Whether a run that came to no end was to be compared with those that count."""
    same = record.part("dataset") == kept.part("dataset") and record.settings.get("steps") == kept.settings.get("steps")
    return record.status in LOST and bool(record.settings) and same


def _rows(record: Record, home: Path, columns: list[str], names: dict[Variant, str]) -> list[dict[str, Any]]:
    """A run's rows, one for each of its replicas; one that blew up has its reason not to count."""
    summary, verdict = record.summary, record.summary.get("verdict")
    members = summary.get("replica_metrics")
    members = members if isinstance(members, list) and all(isinstance(member, dict) for member in members) else []
    verdicts = [verdict] if not members else summary.get("replica_verdicts")
    verdicts = verdicts if isinstance(verdicts, list) else []
    folder = os.path.abspath(record.run.folder)
    path = os.path.relpath(folder, home) if Path(folder).is_relative_to(os.path.abspath(home)) else folder
    rows = []
    for member, metrics in enumerate(members if members and not record.reason else [record.metrics]):
        words = verdicts[member] if member < len(verdicts) and isinstance(verdicts[member], dict) else {}
        row: dict[str, Any] = {"run": path, "variant": names[record.variant] if record.variant else ""}
        row |= dict(zip(columns, record.variant or [""] * len(columns), strict=True)) | {"variant": row["variant"]}
        row |= {"seed": record.seeds[member] if member < len(record.seeds) else record.seed, "member": member}
        row |= {"status": record.status, "reason": record.reason}
        if "error" in metrics and not all("error" in each for each in members):
            row |= {"status": "failed", "reason": f"failed: member {member}: {metrics['error']}"}
        row |= {"steps": record.steps, "seconds": number(summary.get("seconds"))}
        row |= {word: words.get(word) for word in WORDS}
        row["collapsed"] = words["collapse"] == "collapsed" if isinstance(words.get("collapse"), str) else None
        rows.append(row | {name: number(value) for name, value in metrics.items() if name not in (*row, "error")})
    return rows


def _metrics(runs: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Which metrics the answer is about, and all that are compared, those first."""
    known = list(runs.columns[list(runs.columns).index("collapsed") + 1 :])
    known = [name for name in known if metric_of(name).kind == "result" and runs[name].notna().any()]
    known.sort(key=lambda name: metric_of(name).rank)
    varied = [name for name in known if runs[name].nunique() > 1]
    asked = [*(["modes"] if "modes" in known else []), *(["coverage"] if "coverage" in varied else [])]
    headline = asked or [name for name in known if name == "coverage"] or known[:1]  # variety, then likeness as well
    if "modes" in known and "modes" not in varied:  # all capture all: look closer
        headline[1:1] = [name for name in ("modes_robust", "kl_data") if name in varied][:1]
    if runs["collapsed"].notna().any():
        known.append("collapsed")
    return headline, [*headline, *(name for name in known if name not in headline)]


def _tested(headline: list[str], metrics: list[str], variants: int) -> list[str]:
    """The metrics in which all pairs of so many variants are compared: all, the headline ones, or none."""
    pairs = math.comb(variants, 2)
    if pairs * len(metrics) <= MOST_EFFECTS:
        return metrics
    return [name for name in metrics if name in (*headline, "collapsed")] if pairs <= MOST_PAIRS else []


def _measures(metrics: list[str], counted: list[Record]) -> dict[str, Metric]:
    """Returns the metrics' declarations, the number of modes in their units: 'of 10'."""
    total = number(counted[0].metrics.get("modes_total"))
    measures = {}
    for name in metrics:
        metric = COLLAPSED if name == COLLAPSED.name else metric_of(name)
        unit = metric.unit
        if "{modes_total}" in unit:
            unit = "" if math.isnan(total) else unit.format(modes_total=f"{total:.0f}")
        measures[name] = replace(metric, unit=unit)
    return measures


def _worth_reading(answered: list[Effect], metric: str) -> list[Effect]:
    """A metric's rungs, or main effects and strongest interactions, or what each remedy does, or the pairs.

    Of the last three those shown come first, then the largest.
    """
    of = [effect for effect in answered if effect.metric == metric]
    strongest = sorted(of, key=lambda effect: (not effect.shown, -abs(effect.difference)))
    interactions = [effect for effect in strongest if effect.compared.kind == "interaction"]
    remedies = [effect for effect in strongest if effect.compared.kind == "remedy"]
    pairs = [effect for effect in strongest if effect.compared.kind == "pair"]
    ordered = [effect for effect in of if effect.compared.kind in ("rung", "main")]
    return [*ordered, *interactions[:INTERACTIONS], *remedies, *pairs[:ANSWERS]]


def _title(columns: list[str], design: str, one: Record) -> str:
    data = one.part("dataset").partition(" (")[0]
    sign = " × " if design == "factorial" else ", "
    return data if design == "one" else f"{sign.join(columns)} on {data}"
