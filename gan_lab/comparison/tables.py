"""A comparison as tables: comparison.csv, effects.csv, and the terminal's."""

import textwrap
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from gan_lab.comparison.collect import INCOMPARABLE
from gan_lab.comparison.effects import Effect
from gan_lab.comparison.findings import Findings
from gan_lab.comparison.numbers import format_estimate
from gan_lab.comparison.sentences import format_mean, format_share, sentence
from gan_lab.core.csv_table import write_csv
from gan_lab.core.io import atomic
from gan_lab.core.terminal import join_lines, printable

# Characters in a line of text, and in a row of the table, whose numbers may need more.
WIDTH = 80
TABLE_WIDTH = 100
LEAST_NAME_WIDTH = 16
# Rows of the terminal's table.
MAX_VARIANTS = 100
# Runs that are named for one reason, and sentences on remedies of which nothing was shown; the files have all of them.
MAX_LISTED = 10

EFFECT_COLUMNS = (
    *("kind", "factor", "before", "after", "held", "metric", "difference", "low", "high", "n_before", "n_after"),
    *("g", "seeds_min", "seeds_max", "missing", "settings", "p", "p_holm", "family", "shown", "conclusion"),
    *("seeds_needed_min", "seeds_needed_max", "sentence"),
)


def write_tables(findings: Findings) -> list[Path]:
    """Writes comparison.csv, a row per repetition with the excluded runs at its end, and effects.csv.

    Returns:
        Their paths.

    Raises:
        OSError: if the folder can't be written to.
    """
    runs = findings.runs.assign(compared=True, reason="")
    if len(findings.excluded):
        runs = pd.concat([runs, findings.excluded.assign(compared=False)])
    first_columns = ["run", "variant", *findings.factors, "seed", "member", "status", "compared", "reason"]
    # Where nothing varies, the only factor is called variant, too: each column comes once.
    columns = list(dict.fromkeys([*first_columns, *runs.columns]))
    runs = runs[columns].astype({"steps": "Int64"})
    effect_rows = [_effect_row(effect, findings) for effect in findings.effects]
    effects = pd.DataFrame(effect_rows, columns=EFFECT_COLUMNS).astype({"seeds_needed_max": "Int64"})
    paths = []
    for name, table in (("comparison.csv", runs), ("effects.csv", effects)):
        with atomic(findings.folder / name) as path:
            write_csv(table, path)
        paths.append(findings.folder / name)
    return paths


def describe(findings: Findings) -> str:
    """Returns the answers, the variants' numbers, what can't be concluded, and what was excluded, for a terminal."""
    runs = _plural(len(findings.runs), "run")
    variants = _plural(len(findings.variants), "variant")
    lines = [*_wrap(f"{findings.title}: {runs} of {variants}", ""), ""]
    if findings.answers:
        lines += [*_answers(findings), ""]
    lines += [*_variants_table(findings), ""]
    conditions = "; ".join(f"{name} {value}" for name, value in findings.common.items())
    lines += _wrap(conditions, "all runs: ")
    for note in findings.notes:
        lines += _wrap(note, "note: ")
    lines += _excluded_runs(findings)
    return join_lines(lines)


def _effect_row(effect: Effect, findings: Findings) -> dict[str, Any]:
    """Returns a row of effects.csv."""
    comparison = effect.comparison
    # An interaction has two changes, everything else one: 'loss; optim' from 'MSE; SGD' to 'BCE; Adam'.
    changed_factors, before, after = zip(*comparison.changes, strict=True)
    held_constant = [f"{factor}={value}" for factor, value in comparison.held_constant]
    return {
        "kind": comparison.kind,
        "factor": "; ".join(changed_factors),
        "before": "; ".join(before),
        "after": "; ".join(after),
        "held": "; ".join(held_constant),
        "metric": effect.metric,
        "difference": effect.difference,
        "low": effect.low,
        "high": effect.high,
        "n_before": effect.n_before,
        "n_after": effect.n_after,
        "g": effect.g,
        "seeds_min": effect.seeds[0],
        "seeds_max": effect.seeds[1],
        "missing": effect.missing,
        "settings": effect.settings,
        "p": effect.p,
        "p_holm": effect.p_holm,
        "family": effect.family,
        "shown": effect.significant,
        "conclusion": effect.conclusion,
        "seeds_needed_min": effect.seeds_needed[0],
        "seeds_needed_max": effect.seeds_needed[1],
        "sentence": sentence(effect, findings.measures[effect.metric]),
    }


def _answers(findings: Findings) -> list[str]:
    """Returns the sentences; of many remedies without a shown difference only some."""
    lines = []
    for metric in findings.headline:
        lines += _wrap(f"{findings.measures[metric].label} ({findings.role(metric)} metric)", "")
        omitted = 0
        for position, (effect, text) in enumerate(findings.answers_in(metric)):
            # Remedies are sorted: those with a shown difference come first.
            if position >= MAX_LISTED and effect.comparison.kind == "remedy" and not effect.significant:
                omitted += 1
            else:
                lines += _wrap(text, "- ")
        if omitted:
            lines += _wrap(f"… and {omitted} more without a shown difference: see report.html", "- ")
    return lines


def _variants_table(findings: Findings) -> list[str]:
    """Returns a table of means over the runs, with intervals for the first metric and the share of collapsed runs."""
    summaries = findings.summaries_by_cell()
    mean_seconds = findings.runs.groupby("variant")["seconds"].mean()
    # Without any metric the table still has its column, full of dashes.
    first = ""
    further_metrics = []
    if findings.metrics:
        first = findings.metrics[0]
    for metric in findings.metrics[1:]:
        if metric in findings.headline or "terminal" in findings.measures[metric].shown:
            further_metrics.append(metric)
    rows = [["", "runs", f"{first} [95 %]", "collapsed [95 %]", *further_metrics, "s/run"]]
    for variant in findings.variants[:MAX_VARIANTS]:
        name = findings.names[variant]
        row = [name, str(len(findings.runs_of(variant)))]
        row.append(format_mean(summaries.get((variant, first))))
        row.append(format_share(summaries.get((variant, "collapsed"))))
        row += [format_estimate(summaries[variant, metric].mean) for metric in further_metrics]
        row.append(format_estimate(mean_seconds[name]))
        rows.append(row)
    lines = _align(rows)
    if len(findings.variants) > MAX_VARIANTS:
        lines.append(f"… and {len(findings.variants) - MAX_VARIANTS:,} more variants: see comparison.csv")
    return lines


def _align(rows: list[list[str]]) -> list[str]:
    """Returns a table's lines: first cells to the left, wrapped where they are long, the others to the right."""
    _, *columns = zip(*rows, strict=True)
    widths = []
    for column in columns:
        widths.append(max(map(len, column)) + 2)
    name_width = max(LEAST_NAME_WIDTH, TABLE_WIDTH - sum(widths))
    lines = []
    for name, *cells in rows:
        name_lines = textwrap.wrap(name, name_width - 1) or [""]
        numbers = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{name_lines[0]:<{name_width}}{numbers}")
        lines += [f"  {line}" for line in name_lines[1:]]
    return lines


def _excluded_runs(findings: Findings) -> list[str]:
    """Returns the runs that are not compared, by reason."""
    if findings.excluded.empty:
        return []
    compared = len(findings.runs)
    total = len(findings.excluded) + compared
    lines = ["", f"Not compared, {len(findings.excluded):,} of {total:,} runs:"]
    pairs = [(reason, run) for run, reason in findings.excluded_folders()]
    pairs.sort(key=_kind_of_reason)
    for _, group in groupby(pairs, key=_kind_of_reason):
        members = list(group)
        for reason, run in members[:MAX_LISTED]:
            lines += _wrap(f"{printable(run)}: {reason}", "  ")
        if len(members) > MAX_LISTED:
            lines.append(f"  … and {len(members) - MAX_LISTED:,} more for such a reason: see comparison.csv")
    if findings.excluded["reason"].str.startswith(INCOMPARABLE).any():
        lines += _wrap(
            f"The largest group of comparable runs ({compared:,}) is compared; to compare others, name their folders:"
            " runs=…",
            "",
        )
    return lines


def _kind_of_reason(pair: tuple[str, str]) -> str:
    """Returns 'failed' of the reason 'failed: The loss is NaN.'."""
    return pair[0].partition(":")[0]


def _plural(number: int, noun: str) -> str:
    """Returns '1 run' or '2 runs'."""
    if number == 1:
        return f"{number:,} {noun}"
    return f"{number:,} {noun}s"


def _wrap(text: str, bullet: str) -> list[str]:
    """Returns the lines of a text, the first one behind a bullet and the others indented."""
    return textwrap.wrap(text, WIDTH, initial_indent=bullet, subsequent_indent="  ") or [bullet.rstrip()]
