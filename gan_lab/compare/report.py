"""`report.html`: what a comparison found, in one file that needs no network and can be read on a phone."""

import base64
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2

from gan_lab.compare import panels
from gan_lab.compare.effects import Effect, Summary
from gan_lab.compare.findings import Findings
from gan_lab.compare.panels import Link
from gan_lab.compare.sentences import amount, helped, mean, share
from gan_lab.compare.snapshots import PANELS
from gan_lab.core.io import atomic
from gan_lab.core.terminal import printable
from gan_lab.evaluation.metrics.registry import Metric, metric_of

TEMPLATE = Path(__file__).with_name("report.html.jinja")
SENTENCES = 12  # more of a metric are folded
DESIGNS = {
    "ladder": "A ladder: each variant is compared with the one before it, from which it differs in one thing.",
    "factorial": "The settings are crossed: the effect of one is the mean over all settings of the others.",
    "control": "Each remedy is compared with none, not with the others.",
    "pairs": "Every variant is compared with every other.",
    "one": "There is one variant: nothing to compare it with.",
}


class Cell(NamedTuple):
    text: str
    value: float | None  # to sort by


class Column(NamedTuple):
    head: str
    title: str
    first: str  # the direction in which the first click sorts


def write_report(findings: Findings, path: Path | None = None) -> Path:
    """Writes the report; its links to run folders are relative. What a run lacks is a gap that is said.

    Args:
        path: None: report.html beside the tables.

    Returns:
        The path.

    Raises:
        OSError: if it can't be written.
    """
    path = path or findings.folder / "report.html"
    page = _page(findings, path.absolute().parent)
    with atomic(path) as half:  # backslashreplace: a folder's name may be no UTF-8
        half.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")
    return path


def _page(findings: Findings, home: Path) -> str:
    def link(run: str) -> str | None:
        return _link(findings.folder, run, home)

    kept = {variant: panels.look_into(findings, variant) for variant in findings.variants[:PANELS]}
    headline, others = _metrics(findings)
    span = _span([summary for summary in findings.summaries if summary.metric in headline])
    columns, rows = _table(findings, headline, others, span, link)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        findings=findings,
        design=DESIGNS.get(findings.design, ""),
        runs=findings.runs["run"].nunique(),
        answers=_answers(findings),
        folded=SENTENCES,
        columns=columns,
        rows=rows,
        span=" to ".join(map(amount, span)) if span[0] < span[1] else None,
        others=[m for m in findings.metrics if m not in (*headline, *others, "collapsed")],
        crossed=any(effect.compared.kind == "interaction" for effect in findings.effects),
        forests=panels.forests(findings),
        samples=panels.samples(findings, link),
        curves=panels.curves(findings, kept),
        labels=panels.labels(findings, kept),
        panels=PANELS,
        apart=[
            (printable(str(run)), link(str(run)), why)
            for run, why in findings.apart[["run", "reason"]].itertuples(index=False)
        ],
    )


def _link(folder: Path, run: str, home: Path) -> str | None:
    """A run folder relative to the report; None if it isn't there."""
    there = folder.absolute() / run
    try:
        relative = os.path.relpath(there, home) if there.is_dir() else None
    except (OSError, ValueError):  # another drive, an impossible name
        return None
    return relative and quote(os.fsencode(relative.replace(os.sep, "/"))) + "/"


def _answers(findings: Findings) -> list[tuple[str, list[tuple[tuple[str, str, str], str]]]]:
    """By metric: each sentence behind its mark."""
    answers: dict[str, list[tuple[tuple[str, str, str], str]]] = {}
    for effect, text in findings.answers:
        answers.setdefault(effect.metric, []).append((_mark(effect, findings.measures[effect.metric]), text))
    for told in answers.values():
        if len(told) > SENTENCES:  # what is shown must not be folded away
            told.sort(key=lambda answer: answer[0][0] in ("none", "unknown"))
    return [(findings.measures[metric].label, told) for metric, told in answers.items()]


def _mark(effect: Effect, metric: Metric) -> tuple[str, str, str]:
    """A class of the style sheet, a sign, a word."""
    if effect.p_holm is None:
        return "unknown", "?", "can't be told"
    if not effect.shown:
        return "none", "○", "no difference shown"
    better = helped(effect, metric)
    if better is None:
        return "changed", "◆", "it depends" if effect.parts else "changed"
    return ("helped", "▲", "helped") if better else ("harmed", "▼", "harmed")


def _metrics(findings: Findings) -> tuple[list[str], list[str]]:
    """The headline metric (none, where nothing was measured), and the others of the table: all would be too many."""
    first, others = findings.metrics[:1], [metric for metric in findings.metrics[1:] if metric != "collapsed"]
    return first, [metric for metric in others if metric in findings.headline or "report" in metric_of(metric).shown]


def _table(
    findings: Findings, headline: list[str], others: list[str], span: tuple[float, float], link: Link
) -> tuple[list[Column], list[dict[str, Any]]]:
    """Columns, and a row per variant: cells, dots for the headline metric, its value with a link for each run."""
    found = {(summary.variant, summary.metric): summary for summary in findings.summaries}
    replicas = findings.runs["member"].nunique() > 1
    columns = [
        Column("variant", "in their order", "ascending"),
        Column("runs", "how many count", "descending"),
        *(_column(findings.measures[metric]) for metric in headline),
        Column("collapsed runs", "with the exact 95 % interval of their share", "ascending"),
        *(_column(findings.measures[metric]) for metric in others),
        Column("seconds per run", "of training; mean", "ascending"),
    ]
    rows = []
    for variant in findings.variants:
        runs = findings.runs_of(variant)
        seconds = runs.drop_duplicates("run")["seconds"].astype(float).mean()
        values = runs[headline[0]] if headline else [math.nan] * len(runs)
        rows.append(
            {
                "name": findings.names[variant],
                "strip": _strip(found.get((variant, headline[0])), span) if headline else None,
                "cells": [
                    Cell(f"{len(runs)}", len(runs)),
                    *(_cell(found.get((variant, metric))) for metric in headline),
                    _cell(found.get((variant, "collapsed")), share),
                    *(_cell(found.get((variant, metric))) for metric in others),
                    Cell(amount(seconds), seconds if math.isfinite(seconds) else None),
                ],
                "runs": [
                    (f"seed {run.seed}" + f", replica {run.member}" * replicas, amount(value), link(str(run.run)))
                    for run, value in zip(runs.itertuples(), values, strict=True)
                ],
            }
        )
    return columns, rows


def _column(metric: Metric) -> Column:
    better = {True: "; more is better", False: "; less is better", None: ""}[metric.higher_is_better]
    unit = f" ({metric.unit})" if metric.unit else ""
    first = "ascending" if metric.higher_is_better is False else "descending"
    return Column(f"{metric.label}{unit}", f"{metric.name}: mean and its 95 % interval{better}", first)


def _cell(summary: Summary | None, words: Callable[[Summary | None], str] = mean) -> Cell:
    return Cell(words(summary), summary.mean if summary else None)


def _span(summaries: Sequence[Summary]) -> tuple[float, float]:
    ends = [end for each in summaries for end in (*each.values, each.low, each.high) if end is not None]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def _strip(summary: Summary | None, span: tuple[float, float]) -> dict[str, Any] | None:
    """Every value as a dot, the mean and its interval, from 0 to 100 along the span; equal values beside each other."""
    if summary is None or summary.mean is None:
        return None

    def place(value: float) -> float:
        return round(100 * (value - span[0]) / (span[1] - span[0]), 1) if span[1] > span[0] else 50.0

    stacks: dict[int, int] = {}
    dots = []
    for value in summary.values:
        near = round(place(value) / 4)
        stacks[near] = height = stacks.get(near, -1) + 1
        dots.append((place(value), (min(height, 6) + 1) // 2 * 2.6 * (-1) ** height))
    bounds = None if summary.low is None or summary.high is None else (place(summary.low), place(summary.high))
    return {"dots": dots, "mean": place(summary.mean), "bounds": bounds}
