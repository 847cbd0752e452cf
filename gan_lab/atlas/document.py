"""The part of docs/atlas.md that is written from the runs."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gan_lab.atlas.cells import (
    COVERAGE,
    FLOOR,
    MADE,
    SMALL,
    Answer,
    Cell,
    best_strengths,
    floor_places,
    rank_agreement,
)
from gan_lab.atlas.pictures import places_of, rows_of_map
from gan_lab.atlas.plan import EQUAL_TIME, NONE, PLACES, SEEDS, STEPS, Place, treatments
from gan_lab.comparison.numbers import NO_NUMBER, format_estimate, format_p
from gan_lab.core.errors import LabError
from gan_lab.core.io import read_text

BEGIN = "<!-- Written by scripts/results.py from here on: do not edit by hand. -->"
END = "<!-- Written by scripts/results.py up to here. -->"
SECONDS_PER_HOUR = 3600


def insert(target: Path, written: str) -> str:
    """Returns the text of a document with its written part replaced; what is outside the two marks stays.

    Raises:
        LabError: if there is a document without the marks.
    """
    block = f"{BEGIN}\n\n{written}\n{END}"
    if not target.is_file():
        return f"{block}\n"
    text = read_text(target)
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise LabError(
            f"{target} doesn't say where the results belong.",
            f"Put these two lines into it, or name another target: {BEGIN} and {END}",
            code="exists",
            key="target",
        )
    return f"{before}{block}{after}"


def write_part(table: pd.DataFrame, cells: Sequence[Cell], map_path: str, page_path: str) -> str:
    """Returns the written part: size, map, answers, every cell, the order of the treatments, strengths."""
    floor = floor_places(cells)
    sections = [
        size_of(table, cells),
        _missing(cells),
        f"![The map: what each treatment did to coverage]({map_path})\n\nThe same with filters, intervals and films:"
        f" [{page_path}]({page_path}), one file to open in a browser.",
        _answers(cells, floor),
        _cells(cells),
        _bases(table),
        _order(cells, floor),
        _strengths(table),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def size_of(table: pd.DataFrame, cells: Sequence[Cell]) -> str:
    """Says how many GANs were trained, how long that took, and how many seeds a cell has."""
    hours = table["processor_seconds"].astype(float).sum() / SECONDS_PER_HOUR
    seeds = [min(cell.equal_time[COVERAGE].seeds) for cell in cells]
    commits = ", ".join(sorted(set(table["commit"])))
    text = (
        f"{len(table):,} GANs, {hours:.1f} hours of one processor core, at commit {commits}."
        f" {len(cells)} cells, {min(seeds)} or more seeds in each."
    )
    failed = int((table["error"] != "").sum())
    if failed:
        text += f" {failed:,} trainings ended in NaN or infinity; they count as coverage 0."
    return text


def _missing(cells: Sequence[Cell]) -> str:
    """Names the cells of the design that have no runs, or too few."""
    _, seeds = SEEDS[EQUAL_TIME]
    complete = {(cell.place, cell.treatment) for cell in cells if min(cell.equal_time[COVERAGE].seeds) >= seeds}
    missing = []
    for place in PLACES:
        names = dict.fromkeys(treatment.name for treatment in treatments(place))
        absent = [name for name in names if (place, name) not in complete]
        if absent:
            missing.append(f"- {place.dataset}, {place.base}: {', '.join(absent)}")
    if not missing:
        return ""
    return "\n".join([f"**Missing**, or with fewer than {seeds} seeds:", "", *missing])


def _answers(cells: Sequence[Cell], floor: Sequence[Place]) -> str:
    """Returns how often each treatment helped, and how much, as a table."""
    counted = [cell for cell in cells if cell.place not in floor]
    columns = places_of(counted)
    lines = ["### What helped", ""]
    if floor:
        names = "; ".join(f"{place.dataset}, {place.base}" for place in floor)
        lines += [
            f"Not counted, because neither untreated nor treated GANs reach a mean coverage of {FLOOR}: {names}.",
            "",
        ]
    lines += [
        f"Differences of coverage at equal time, in {len(columns)} places. *Helps*, *harms*: shown after correction for"
        f" all {len(cells)} cells, and {SMALL} or more. *Small*: smaller than {SMALL}, shown in the same way. *Can't"
        " tell*: the rest. In brackets the same for the share of the modes that are made. All treatments of a place"
        " are compared with the same untreated GANs, so their answers are not independent.",
        "",
        "| treatment | places | helps | harms | small | can't tell | mean | lowest | highest | cost of a step |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for treatment in rows_of_map(counted):
        own = [cell for cell in counted if cell.treatment == treatment]
        conclusions = {
            outcome: Counter(cell.equal_time[outcome].conclusion for cell in own) for outcome in (COVERAGE, MADE)
        }
        differences = [cell.equal_time[COVERAGE].difference for cell in own]
        row = [treatment, str(len(own))]
        for word in ("helps", "harms", "small", "unclear"):
            row.append(f"{conclusions[COVERAGE][word]} ({conclusions[MADE][word]})")
        row += [signed(float(np.mean(differences))), signed(min(differences)), signed(max(differences))]
        row.append(range_of_costs(own))
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def range_of_costs(cells: Sequence[Cell]) -> str:
    """Returns the times of a step relative to one without the treatment: '1.0' or '2.1 to 2.4'."""
    low = f"{min(cell.cost for cell in cells):.1f}"
    high = f"{max(cell.cost for cell in cells):.1f}"
    return low if low == high else f"{low} to {high}"


def _cells(cells: Sequence[Cell]) -> str:
    """Returns folded tables of all cells."""
    lines = [
        "### Every cell",
        "",
        "Mean coverage without → with the treatment; the difference with its 95 % interval (Welch), and p of a"
        " permutation test, corrected. *At equal time* the treatment has the steps that stand in brackets, the"
        f" untreated GAN {STEPS:,}; *at equal steps* both have these.",
        "",
    ]
    for dataset in dict.fromkeys(place.dataset for place in places_of(cells)):
        lines += [
            f"<details><summary>{dataset}</summary>",
            "",
            "| base | treatment | strength | coverage | at equal time | | modes made | at equal steps |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for cell in cells:
            if cell.place.dataset == dataset:
                lines.append(f"| {' | '.join(_cell_row(cell))} |")
        lines += ["", "</details>", ""]
    return "\n".join(lines).rstrip()


def _cell_row(cell: Cell) -> list[str]:
    words = {"helps": "**helps**", "harms": "**harms**", "small": "small", "unclear": "can't tell"}
    coverage = cell.equal_time[COVERAGE]
    made = cell.equal_time[MADE]
    answer = words[coverage.conclusion]
    if cell.failed:
        answer += f"; {cell.failed} of {coverage.seeds[1]} ended in NaN"
    at_equal_steps = NO_NUMBER
    if cell.equal_steps:
        at_equal_steps = describe(cell.equal_steps[COVERAGE])
    return [
        cell.place.base,
        cell.treatment,
        cell.strength,
        f"{coverage.control_mean:.3f} → {coverage.mean:.3f}",
        f"{describe(coverage)} ({cell.steps:,})",
        answer,
        f"{made.control_mean:.2f} → {made.mean:.2f} ({words[made.conclusion].strip('*')})",
        at_equal_steps,
    ]


def describe(answer: Answer) -> str:
    """Returns '+0.12 [0.08, 0.16], p < 0.001'."""
    difference = format_estimate(answer.difference, answer.low, answer.high, digits=2, signed=True)
    return f"{difference}, {format_p(answer.p_holm)}"


def _bases(table: pd.DataFrame) -> str:
    """Returns what the untreated bases reach."""
    untreated = table[(table["treatment"] == NONE) & (table["stage"] == EQUAL_TIME)]
    lines = [
        "### The bases without treatment",
        "",
        f"After {STEPS:,} steps; means ± standard deviations between seeds.",
        "",
        "| data | base | seeds | coverage | modes made | verdicts |",
        "|---|---|---|---|---|---|",
    ]
    for place in PLACES:
        rows = untreated[(untreated["dataset"] == place.dataset) & (untreated["base"] == place.base)]
        if rows.empty:
            continue
        total = rows["modes_total"].max()
        made = rows["modes_valid"]
        words = Counter(rows["collapse"])
        verdicts = ", ".join(f"{count} {word}" for word, count in words.most_common())
        coverage = rows[COVERAGE]
        lines.append(
            f"| {place.dataset} | {place.base} | {len(rows)} | {coverage.mean():.3f} ± {coverage.std():.3f}"
            f" | {made.mean():.1f} of {total:,.0f} | {verdicts} |"
        )
    return "\n".join(lines)


def _order(cells: Sequence[Cell], floor: Sequence[Place]) -> str:
    """Says how far the order of the treatments is the same on all data and bases."""
    compared = [place for place in places_of(cells) if place not in floor]
    differences, w = rank_agreement(cells, compared)
    if len(compared) < 2 or len(differences) < 3 or np.isnan(w):
        return ""
    by_dataset = differences.T.groupby(level=0, sort=False).mean().T
    correlations = by_dataset.rename(columns=str).corr("spearman")
    names = [str(name) for name in correlations.columns]
    lines = [
        "### Does the order hold on other data?",
        "",
        f"{len(differences)} treatments have a cell in all {len(compared)} places that are counted. Their order by the"
        f" difference at equal time agrees by Kendall's W = {w:.2f} (1: the same order everywhere, near 0: no"
        " agreement). Spearman's correlation of the orders, each the mean of a data set's bases:",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for i, row in enumerate(correlations.to_numpy()):
        texts = [f"{number:.2f}" for number in row]
        # Each agrees with itself.
        texts[i] = NO_NUMBER
        lines.append(f"| {names[i]} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _strengths(table: pd.DataFrame) -> str:
    """Returns the strengths that the tuning chose."""
    tried = best_strengths(table)
    if tried.empty:
        return ""
    compared = [
        place for place in PLACES if ((tried["dataset"] == place.dataset) & (tried["base"] == place.base)).any()
    ]
    lines = [
        "### The strengths, and how they were chosen",
        "",
        f"Mean coverage of {tried['seeds'].min()} or more seeds that were used for nothing else, at equal time. The"
        " highest, in bold, was then trained on the reported seeds.",
        "",
        "<details><summary>all strengths</summary>",
        "",
        f"| treatment | {' | '.join(', '.join(place) for place in compared)} |",
        f"|---|{'---|' * len(compared)}",
    ]
    for treatment in sorted(set(tried["treatment"])):
        row = [treatment]
        for place in compared:
            is_own = (tried["dataset"] == place.dataset) & (tried["base"] == place.base)
            row.append(_tried(tried[is_own & (tried["treatment"] == treatment)]))
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, "", "</details>"])


def _tried(rows: pd.DataFrame) -> str:
    """Returns the means of a treatment's strengths in a place, the chosen one in bold."""
    texts = []
    for row in rows.to_dict("records"):
        text = f"{row['strength']} {row['mean']:.2f}"
        texts.append(f"**{text}**" if row["chosen"] else text)
    return ", ".join(texts) or NO_NUMBER


def signed(number: float) -> str:
    """Returns '+0.12' or '−0.12'."""
    return f"{number:+.2f}".replace("-", "−")
