"""A comparison as tables: comparison.csv, effects.csv, and the terminal's."""

import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from gan_lab.compare.collect import INCOMPARABLE
from gan_lab.compare.effects import Effect
from gan_lab.compare.findings import Findings
from gan_lab.compare.sentences import amount, mean, sentence, share
from gan_lab.core.csv_table import write_csv
from gan_lab.core.io import atomic
from gan_lab.core.terminal import join_lines, printable

WIDTH = 100
ROWS = 100  # variants in the terminal's table
LISTED = 10  # runs that are named for one reason; comparison.csv has all


def write(findings: Findings) -> list[Path]:
    """Writes comparison.csv, a row per repetition with the runs set apart at its end, and effects.csv.

    Returns:
        Their paths.

    Raises:
        OSError: if the folder can't be written to.
    """
    every = findings.runs.assign(compared=True, reason="")
    if len(findings.apart):
        every = pd.concat([every, findings.apart.assign(compared=False)])
    first = ["run", "variant", *findings.factors, "seed", "member", "status", "compared", "reason"]
    every = every[list(dict.fromkeys([*first, *every.columns]))].astype({"steps": "Int64"})
    effects = pd.DataFrame(_effect_rows(findings), columns=EFFECT_COLUMNS).astype({"seeds_needed": "Int64"})
    tables = {"comparison.csv": every, "effects.csv": effects}
    paths = []
    for name, table in tables.items():
        with atomic(findings.folder / name) as path:
            write_csv(table, path)
        paths.append(findings.folder / name)
    return paths


EFFECT_COLUMNS = (
    *("kind", "factor", "before", "after", "held", "metric", "difference", "low", "high", "n_before", "n_after"),
    *("seeds_min", "seeds_max", "missing", "settings", "p", "p_holm", "family", "shown", "seeds_needed", "sentence"),
)


def _effect_rows(findings: Findings) -> list[dict[str, Any]]:
    return [
        {
            "kind": effect.compared.kind,
            "factor": "; ".join(change.factor for change in effect.compared.changes),
            "before": "; ".join(change.before for change in effect.compared.changes),
            "after": "; ".join(change.after for change in effect.compared.changes),
            "held": "; ".join(f"{factor}={value}" for factor, value in effect.compared.held),
            "seeds_min": effect.seeds[0],
            "seeds_max": effect.seeds[1],
            "sentence": sentence(effect, findings.measures[effect.metric]),
            **{column: getattr(effect, column) for column in EFFECT_COLUMNS if column in Effect.__dataclass_fields__},
        }
        for effect in findings.effects
    ]


def describe(findings: Findings) -> str:
    """The answer, the variants' numbers, what can't be concluded, and what was set apart, in lines of 100 at most."""
    runs, variants = len(findings.runs), len(findings.variants)
    head = f"{findings.title}: {runs:,} run{'s'[: runs > 1]} of {variants:,} variant{'s'[: variants > 1]}"
    lines = [*_wrapped(head, ""), ""]
    lines += _answers(findings)
    lines += [""] * bool(findings.answers) + _variants_table(findings) + [""]
    lines += _wrapped("; ".join(f"{name} {value}" for name, value in findings.common.items()), "all runs: ")
    for note in findings.notes:
        lines += _wrapped(note, "note: ")
    lines += _apart(findings)
    return join_lines(lines)


def _answers(findings: Findings) -> list[str]:
    """The sentences; of many remedies not all those that show nothing."""
    lines = []
    for metric in findings.headline:
        told = [answer for answer in findings.answers if answer[0].metric == metric]
        silent = [answer for answer in told[LISTED:] if answer[0].compared.kind == "remedy" and not answer[0].shown]
        for answer in told[: len(told) - len(silent)]:  # those shown come first
            lines += _wrapped(answer[1], "- ")
        if silent:
            words = findings.measures[metric].label
            lines += _wrapped(f"… and {len(silent)} more: no difference shown in the {words}, see report.html", "- ")
    return lines


def _variants_table(findings: Findings) -> list[str]:
    """Means over the runs, with their intervals for what the verdict is made of."""
    found = {(summary.variant, summary.metric): summary for summary in findings.summaries}
    seconds = findings.runs.groupby("variant")["seconds"].mean()
    first, *others = findings.metrics or [""]
    plain = [name for name in others if name in findings.headline or "terminal" in findings.measures[name].shown]
    table = [["", "runs", f"{first} [95 %]", "collapsed [95 %]", *plain, "s/run"]]
    for variant in findings.variants[:ROWS]:
        name = findings.names[variant]
        cells = [str(len(findings.runs_of(variant))), mean(found.get((variant, first)))]
        cells += [share(found.get((variant, "collapsed"))), *(amount(found[variant, metric].mean) for metric in plain)]
        table.append([name, *cells, amount(seconds[name])])
    widths = [max(map(len, column)) + 2 for column in list(zip(*table, strict=True))[1:]]
    label = max(16, WIDTH - sum(widths))
    lines = []
    for name, *cells in table:
        wrapped = textwrap.wrap(name, label - 1) or [""]
        row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines += [f"{wrapped[0]:<{label}}{row}", *(f"  {more}" for more in wrapped[1:])]
    if len(findings.variants) > ROWS:
        lines.append(f"… and {len(findings.variants) - ROWS:,} more variants: see comparison.csv")
    return lines


def _apart(findings: Findings) -> list[str]:
    """What was set apart, by reason."""
    if findings.apart.empty:
        return []
    every = len(findings.apart) + findings.runs["run"].nunique()
    lines = ["", f"Set apart, {len(findings.apart):,} of {every:,} runs:"]
    pairs: Sequence[tuple[str, str]] = sorted(
        zip(findings.apart["reason"], findings.apart["run"], strict=True), key=lambda pair: pair[0].partition(":")[0]
    )
    for _, group in groupby(pairs, key=lambda pair: pair[0].partition(":")[0]):
        members = list(group)
        for reason, run in members[:LISTED]:
            lines += _wrapped(f"{printable(run)}: {reason}", "  ")
        if len(members) > LISTED:
            lines.append(f"  … and {len(members) - LISTED:,} more for such a reason: see comparison.csv")
    if findings.apart["reason"].str.startswith(INCOMPARABLE).any():
        counted = findings.runs["run"].nunique()
        text = (
            f"What counts is the largest group of comparable runs ({counted:,}); for others, name their folders: runs=…"
        )
        lines += _wrapped(text, "")
    return lines


def _wrapped(text: str, bullet: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=bullet, subsequent_indent="  ") or [bullet.rstrip()]
