"""`report.html`: what a comparison found, in one file that needs no network and can be read on a phone."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from gan_lab.comparison import panels
from gan_lab.comparison.effects import Effect, Summary
from gan_lab.comparison.findings import Findings
from gan_lab.comparison.numbers import format_estimate
from gan_lab.comparison.pages import Strip, place_strip, render, write_page
from gan_lab.comparison.panels import Link
from gan_lab.comparison.questions import Variant
from gan_lab.comparison.sentences import COLLAPSED, format_mean, format_share, is_improvement
from gan_lab.comparison.snapshots import MAX_PANELS
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable
from gan_lab.evaluation.metrics.registry import Metric, metric_of

# More sentences of a metric are folded away.
MAX_SENTENCES = 12
# Columns of further metrics in the table, which then fits on a screen, and in each of those below it.
MAX_FURTHER = 5
MAX_IN_MORE = 10
DESIGNS = {
    "ladder": "A ladder: each variant is compared with the one before it, from which it differs in one setting.",
    "factorial": "The factors are crossed: the effect of a change is averaged over all settings of the other factors.",
    "control": "Each remedy is compared with no remedy, not with the other remedies.",
    "pairs": "Every variant is compared with every other one.",
    "one": "There is only one variant: nothing to compare it with.",
}


class Mark(NamedTuple):
    """What a sentence says at a glance: a class of the style sheet, a sign, and a word."""

    style: str
    sign: str
    word: str


NOT_SHOWN = {
    "too few seeds": Mark("unknown", "?", "too few seeds to tell"),
    "not shown": Mark("unknown", "◌", "not shown"),
    "no difference": Mark("none", "○", "no difference"),
}
ALL_EQUAL = Mark("none", "○", "all runs equal")
DEPENDS = Mark("changed", "◆", "effects depend on each other")
CHANGED = Mark("changed", "◆", "changed")
HELPED = Mark("helped", "▲", "helped")
HARMED = Mark("harmed", "▼", "harmed")


class Answer(NamedTuple):
    """A sentence with its mark."""

    mark: Mark
    sentence: str


class Topic(NamedTuple):
    """A headline metric, whether it is the primary or a secondary one, and its answers."""

    name: str
    role: str
    answers: list[Answer]


class Cell(NamedTuple):
    """A cell of the table: its text, and the number to sort by; None sorts last."""

    text: str
    value: float | None


class Column(NamedTuple):
    """A column of the table: its head, an explanation, and the direction in which the first click sorts."""

    head: str
    title: str
    first: str


class RunValue(NamedTuple):
    """A repetition's value of the headline metric, with a link to its run."""

    label: str
    value: str
    link: str | None


@dataclass
class Row:
    """A variant's row of the table: its cells, and the values of the headline metric one by one."""

    name: str
    cells: list[Cell]
    strip: Strip | None
    runs: list[RunValue]


class MoreTable(NamedTuple):
    """A table of metrics that the first one has no room for: its columns, and by variant its cells."""

    columns: list[Column]
    rows: list[tuple[str, list[Cell]]]


def write_report(findings: Findings, path: Path | None = None) -> Path:
    """Writes the report. Its links to run folders are relative, and it says what a run lacks.

    Args:
        findings: what was found.
        path: None: report.html in the folder of the tables.

    Returns:
        The path.

    Raises:
        OSError: if it can't be written.
    """
    path = path or findings.folder / "report.html"
    page = _render(findings, path.absolute().parent)
    write_page(page, path)
    return path


def _render(findings: Findings, home: Path) -> str:
    """Returns the page, with links relative to `home`."""

    def link(run: str) -> str | None:
        return _link(findings.folder, run, home)

    files = {variant: panels.read_variant(findings, variant) for variant in findings.variants[:MAX_PANELS]}
    headline = findings.metrics[:1]
    further_metrics = _further_metrics(findings)
    in_table = (*headline, *further_metrics, COLLAPSED.name)
    omitted = [name for name in findings.metrics if name not in in_table]
    span = _span([summary for summary in findings.summaries if summary.metric in headline])
    # There is no scale where nothing was measured or all values are equal.
    scale = None
    if span[0] < span[1]:
        scale = f"{format_estimate(span[0])} to {format_estimate(span[1])}"
    excluded = []
    for run, reason in findings.excluded_folders():
        excluded.append((printable(str(run)), link(str(run)), reason))
    return render(
        "report.html.jinja",
        findings=findings,
        design=DESIGNS.get(findings.design, ""),
        runs=len(findings.runs),
        topics=_topics(findings),
        max_sentences=MAX_SENTENCES,
        columns=_columns(findings, headline, further_metrics[:MAX_FURTHER]),
        rows=[
            _row(findings, variant, headline, further_metrics[:MAX_FURTHER], span, link)
            for variant in findings.variants
        ],
        more_tables=_more_tables(findings, further_metrics[MAX_FURTHER:]),
        span=scale,
        omitted=omitted,
        crossed=any(effect.comparison.kind == "interaction" for effect in findings.effects),
        forests=panels.forest_cards(findings),
        film=panels.film_cards(findings),
        samples=panels.sample_cards(findings, link),
        curves=panels.curve_cards(findings, files),
        labels=panels.label_cards(findings, files),
        max_panels=MAX_PANELS,
        excluded=excluded,
    )


def _link(folder: Path, run: str, home: Path) -> str | None:
    """Returns the link from the report to a run's page, or to its folder if it has none; None if that is missing."""
    run_folder = folder.absolute() / run
    page = Run(run_folder).page
    try:
        if not run_folder.is_dir():
            return None
        relative = os.path.relpath(run_folder, home)
        end = page.name if page.is_file() else ""
    except (OSError, ValueError):
        # Another drive, or an impossible name.
        return None
    return quote(os.fsencode(relative.replace(os.sep, "/"))) + f"/{end}"


def _topics(findings: Findings) -> list[Topic]:
    """Returns the sentences with their marks, by metric."""
    topics = []
    for metric in findings.headline:
        measure = findings.measures[metric]
        answers = []
        for effect, sentence in findings.answers_in(metric):
            answers.append(Answer(_mark(effect, measure), sentence))
        if len(answers) > MAX_SENTENCES:
            # Differences that were shown must not be folded away.
            answers.sort(key=lambda answer: answer.mark in (ALL_EQUAL, *NOT_SHOWN.values()))
        topics.append(Topic(measure.label, findings.role(metric), answers))
    return topics


def _mark(effect: Effect, metric: Metric) -> Mark:
    """Returns what an effect says at a glance."""
    if effect.constant is not None:
        return ALL_EQUAL
    if not effect.significant:
        return NOT_SHOWN[effect.conclusion]
    if effect.simple_effects:
        return DEPENDS
    better = is_improvement(effect, metric)
    if better is None:
        return CHANGED
    if better:
        return HELPED
    return HARMED


def _further_metrics(findings: Findings) -> list[str]:
    """Returns the metrics in the tables besides the first one and the share of collapsed runs, the chief ones first."""
    metrics = []
    for name in findings.metrics[1:]:
        if name != COLLAPSED.name and (name in findings.headline or "report" in metric_of(name).shown):
            metrics.append(name)
    # The sort is stable.
    return sorted(metrics, key=lambda name: (name not in findings.headline, "terminal" not in metric_of(name).shown))


def _more_tables(findings: Findings, metrics: list[str]) -> list[MoreTable]:
    """Returns tables of the means of some metrics, each as wide as a screen."""
    summaries = {(summary.variant, summary.metric): summary for summary in findings.summaries}
    tables = []
    for start in range(0, len(metrics), MAX_IN_MORE):
        names = metrics[start : start + MAX_IN_MORE]
        rows = []
        for variant in findings.variants:
            cells = [_cell(summaries.get((variant, name)), format_mean) for name in names]
            rows.append((findings.names[variant], cells))
        tables.append(MoreTable([_metric_column(findings.measures[name]) for name in names], rows))
    return tables


def _columns(findings: Findings, headline: list[str], further_metrics: list[str]) -> list[Column]:
    """Returns the columns of the table, in the order in which `_row` fills them."""
    return [
        Column("variant", "in their order", "ascending"),
        Column("runs", "number of compared runs", "descending"),
        *(_metric_column(findings.measures[metric]) for metric in headline),
        Column("collapsed runs", "with the exact 95 % interval of their share", "ascending"),
        *(_metric_column(findings.measures[metric]) for metric in further_metrics),
        Column("seconds per run", "of training; mean", "ascending"),
    ]


def _metric_column(metric: Metric) -> Column:
    """Returns a metric's column; the first click puts the best values at the top."""
    head = metric.label
    title = f"{metric.name}: mean and its 95 % interval"
    first = "descending"
    if metric.unit:
        head += f" ({metric.unit})"
    if metric.higher_is_better is True:
        title += "; more is better"
    elif metric.higher_is_better is False:
        title += "; less is better"
        first = "ascending"
    return Column(head, title, first)


def _row(
    findings: Findings,
    variant: Variant,
    headline: list[str],
    further_metrics: list[str],
    span: tuple[float, float],
    link: Link,
) -> Row:
    """Returns a variant's row.

    Args:
        findings: what was found.
        variant: the variant.
        headline: the first metric, or none if nothing was measured.
        further_metrics: the metrics after the collapsed runs.
        span: the ends of the strips' scale.
        link: makes links to run folders.
    """
    summaries = {summary.metric: summary for summary in findings.summaries if summary.variant == variant}
    runs = findings.runs_of(variant)
    # Replicas of a run share its seconds, which must count once.
    seconds = runs.drop_duplicates("run")["seconds"].astype(float).mean()
    cells = [Cell(f"{len(runs)}", len(runs))]
    cells += [_cell(summaries.get(metric), format_mean) for metric in headline]
    cells.append(_cell(summaries.get(COLLAPSED.name), format_share))
    cells += [_cell(summaries.get(metric), format_mean) for metric in further_metrics]
    sortable_seconds = seconds if math.isfinite(seconds) else None
    cells.append(Cell(format_estimate(seconds), sortable_seconds))
    strip = None
    if headline:
        strip = _strip(summaries.get(headline[0]), span)
    return Row(findings.names[variant], cells, strip, _run_values(findings, variant, headline, link))


def _cell(summary: Summary | None, format_summary: Callable[[Summary | None], str]) -> Cell:
    """Returns a summary's cell, sorted by its mean."""
    if summary is None:
        return Cell(format_summary(None), None)
    return Cell(format_summary(summary), summary.mean)


def _run_values(findings: Findings, variant: Variant, headline: list[str], link: Link) -> list[RunValue]:
    """Returns the values of the headline metric of a variant's repetitions."""
    runs = findings.runs_of(variant)
    values = [math.nan] * len(runs)
    if headline:
        values = runs[headline[0]].tolist()
    has_replicas = findings.runs["member"].nunique() > 1
    run_values = []
    for path, seed, member, value in zip(runs["run"], runs["seed"], runs["member"], values, strict=True):
        label = f"seed {seed}"
        if has_replicas:
            label += f", replica {member}"
        run_values.append(RunValue(label, format_estimate(value), link(str(path))))
    return run_values


def _span(summaries: Sequence[Summary]) -> tuple[float, float]:
    """Returns the smallest and the largest of all values and ends of intervals."""
    ends: list[float] = []
    for summary in summaries:
        ends += summary.values
        if summary.low is not None and summary.high is not None:
            ends += [summary.low, summary.high]
    if not ends:
        return 0.0, 0.0
    return min(ends), max(ends)


def _strip(summary: Summary | None, span: tuple[float, float]) -> Strip | None:
    """Returns a variant's values as dots on the scale of `span`; None if it has no value."""
    if summary is None or summary.mean is None:
        return None
    return place_strip(summary.values, span, summary.mean, (summary.low, summary.high))
