"""The part of docs/atlas.md that is written from the runs."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gan_lab.atlas.cells import METRIC, SMALL, Answer, Cell, best_strengths, rank_agreement
from gan_lab.atlas.pictures import places, rows_of_map
from gan_lab.atlas.table import NONE, is_tuning
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
    """Returns the written part: size, map, answers, every treatment, the order of the treatments, strengths."""
    sections = [
        size_of(table, cells),
        f"![The map: what each treatment did to coverage]({map_path})\n\nThe same with filters, intervals and"
        f" pictures: [{page_path}]({page_path}), one file to open in a browser.",
        _answers(cells),
        _treatments(cells),
        _bases(table),
        _order(cells),
        _strengths(table),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def size_of(table: pd.DataFrame, cells: Sequence[Cell]) -> str:
    """Says how many GANs were trained, how long that took, and how many seeds a cell has."""
    hours = table["processor_seconds"].astype(float).sum() / SECONDS_PER_HOUR
    seeds = [min(cell.equal_time.seeds[1], cell.equal_time.seeds[0]) for cell in cells]
    commits = sorted(set(table["commit"]))
    failed = int((table["error"] != "").sum())
    text = (
        f"{len(table):,} GANs, {hours:.1f} hours of one processor core, at commit {', '.join(commits)}."
        f" {len(cells)} cells, {min(seeds)} or more seeds in each."
    )
    if failed:
        text += f" {failed:,} trainings ended in NaN or infinity; they count as coverage 0."
    return text


def _answers(cells: Sequence[Cell]) -> str:
    """Returns how often each treatment helped, and how much, as a table."""
    columns = places(cells)
    lines = [
        "### What helped",
        "",
        f"Places are pairs of a data set and a base; {len(columns)}. *Helps* and *harms*: shown after correction"
        f" for all {len(cells)} cells; *small*: not shown, and smaller than {SMALL} with 95 % confidence; *can't tell*:"
        " the rest. Differences of coverage, at equal time.",
        "",
        "| treatment | places | helps | harms | small | can't tell | mean | lowest | highest | time of a step |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for treatment in rows_of_map(cells):
        own = [cell for cell in cells if cell.treatment == treatment]
        counts = Counter(cell.equal_time.conclusion for cell in own)
        differences = [cell.equal_time.difference for cell in own]
        costs = [cell.cost for cell in own]
        row = [
            treatment,
            str(len(own)),
            *(str(counts[word]) for word in ("helps", "harms", "small", "unclear")),
            *(_signed(number) for number in (float(np.mean(differences)), min(differences), max(differences))),
            f"{min(costs):.1f} to {max(costs):.1f}",
        ]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _treatments(cells: Sequence[Cell]) -> str:
    """Returns a folded table of all cells."""
    lines = [
        "### Every cell",
        "",
        "Mean coverage without and with the treatment; differences with 95 % intervals (Welch), and p of a permutation"
        " test, corrected. *At equal time*: against untreated GANs with at least as much time, in brackets their"
        " steps.",
        "",
    ]
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        lines += [
            f"<details><summary>{dataset}</summary>",
            "",
            "| base | treatment | strength | coverage | at equal steps | at equal time | |",
            "|---|---|---|---|---|---|---|",
        ]
        for cell in cells:
            if cell.dataset == dataset:
                lines.append(f"| {' | '.join(_cell_row(cell))} |")
        lines += ["", "</details>", ""]
    return "\n".join(lines).rstrip()


def _cell_row(cell: Cell) -> list[str]:
    words = {"helps": "**helps**", "harms": "**harms**", "small": f"smaller than {SMALL}", "unclear": "can't tell"}
    answer = words[cell.equal_time.conclusion]
    if not cell.is_matched:
        answer += ", though it had more time"
    return [
        cell.base,
        cell.treatment,
        cell.strength,
        f"{cell.equal_steps.control_mean:.3f} → {cell.mean:.3f}",
        describe(cell.equal_steps),
        f"{describe(cell.equal_time)} ({cell.equal_time.control_steps:,})",
        answer,
    ]


def describe(answer: Answer) -> str:
    """Returns '+0.12 [0.08, 0.16], p < 0.001'."""
    difference = format_estimate(answer.difference, answer.low, answer.high, digits=2, signed=True)
    return f"{difference}, {format_p(answer.p_holm)}"


def _bases(table: pd.DataFrame) -> str:
    """Returns what the untreated bases reach, after each number of steps."""
    untreated = table[(table["treatment"] == NONE) & ~is_tuning(table)]
    steps = sorted(untreated["steps"].unique())
    lines = [
        "### The bases without treatment",
        "",
        "Mean coverage ± standard deviation between seeds, after so many steps.",
        "",
        f"| data | base | {' | '.join(f'{number:,}' for number in steps)} | verdicts of the shortest |",
        f"|---|---|{'---|' * len(steps)}---|",
    ]
    for place, rows in untreated.groupby(["dataset", "base"], sort=False):
        dataset, base = map(str, place)
        cells = []
        for number in steps:
            values = rows.loc[rows["steps"] == number, METRIC]
            cells.append(f"{values.mean():.3f} ± {values.std():.3f}" if len(values) > 1 else NO_NUMBER)
        words = Counter(rows.loc[rows["steps"] == rows["steps"].min(), "collapse"])
        verdicts = ", ".join(f"{count} {word}" for word, count in words.most_common())
        lines.append(f"| {dataset} | {base} | {' | '.join(cells)} | {verdicts} |")
    return "\n".join(lines)


def _order(cells: Sequence[Cell]) -> str:
    """Says how far the order of the treatments is the same on all data and bases."""
    differences, w = rank_agreement(list(cells))
    if len(differences) < 3 or np.isnan(w):
        return ""
    by_dataset = differences.T.groupby(level=0, sort=False).mean().T
    correlations = by_dataset.rename(columns=str).corr("spearman")
    names = [str(name) for name in correlations.columns]
    lines = [
        "### Does the order hold on other data?",
        "",
        f"{len(differences)} treatments have a cell in all {differences.shape[1]} places. Their order by the difference"
        f" at equal time agrees by Kendall's W = {w:.2f} (1: the same order everywhere, near 0: no agreement)."
        " Spearman's correlation of the orders, each the mean of a data set's bases:",
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
    tuning = table[is_tuning(table)]
    if tuning.empty:
        return ""
    best = best_strengths(table)
    datasets = list(dict.fromkeys(best["dataset"]))
    seeds = tuning["seed"].nunique()
    lines = [
        "### The strengths, and how they were chosen",
        "",
        f"Mean coverage over the bases, {seeds} seeds each that were used for nothing else: weak, published, strong."
        " The highest one, in bold, was then trained on the reported seeds.",
        "",
        f"| treatment | {' | '.join(datasets)} |",
        f"|---|{'---|' * len(datasets)}",
    ]
    for treatment in sorted(set(best["treatment"])):
        rows = best[best["treatment"] == treatment]
        row = [str(treatment)]
        for dataset in datasets:
            row.append(_tried(rows[rows["dataset"] == dataset]))
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _tried(rows: pd.DataFrame) -> str:
    """Returns the means of a treatment's strengths on a data set, the chosen one in bold."""
    if rows.empty:
        return NO_NUMBER
    row = rows.iloc[0]
    texts = []
    for strength in ("weak", "published", "strong"):
        value = row.get(strength, np.nan)
        text = NO_NUMBER if pd.isna(value) else f"{value:.2f}"
        texts.append(f"**{text}**" if strength == row["chosen"] else text)
    return ", ".join(texts)


def _signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "−")
