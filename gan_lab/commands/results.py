"""What runs have shown, as a Markdown document: sentences, tables and pictures from the runs' own files.

Nothing is trained or measured here, nothing is looked up in configurations: no torch, no Hydra.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gan_lab.commands.published import BENCHMARKS, Score
from gan_lab.compare import Findings, compare, origin, panels, snapshots
from gan_lab.compare.collect import Record, find, number, read, read_summary
from gan_lab.compare.report import DESIGNS, SENTENCES
from gan_lab.compare.sentences import amount
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable
from gan_lab.evaluation.metrics.registry import shown_in

PICTURES = "pictures"  # beside the document
METHOD = """\
## How the numbers came about

- Every number is of the run's own verdict at its last step, from `summary.json`; how many samples were judged, in which
  space, and how good the evaluator is, stands below each table. Means are over seeds (members of `replicas` are seeds),
  ± is their standard deviation (n − 1).
- Modes: those that at least one sample belongs to; in the plane one within 3 standard deviations of the mode's centre
  (high quality), for images by an evaluator network trained on the labels. *Expected count*: the number of
  samples that as many samples of the data would have there.
- KL: of the generated samples' modes from uniform shares, or from the data's own, in nats. N perfect samples of M modes
  have about (M − 1) / 2N, which is what *sampling limit* says.
- Precision and recall (Kynkäänniemi et al. 2019, k = 3), coverage (Naeem et al. 2020, k = 5): of equally many
  generated and real samples. *Fresh real data* is what other real samples score in the place of generated ones.
- Copies: C_T (Meehan et al. 2020) below −3 and authenticity (Alaa et al. 2022) below half of what real data have.
- Intervals, p-values and their correction: as the notes of each comparison say.
- Published numbers are others', read off their papers; none was measured here.
"""


def _columns() -> dict[str, str]:
    """Returns the names of the metrics by the heads of their columns."""
    return {metric.heading or metric.label: metric.name for metric in shown_in("results")}


@dataclass
class Section:
    """The runs of one experiment, and what they say; `summaries` are by the path that `findings.runs` has."""

    name: str
    records: list[Record]
    findings: Findings
    summaries: dict[str, dict[str, Any]]
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        return str(next(iter(self.summaries.values())).get("dataset"))

    def picture(self, what: str, content: bytes, words: str) -> list[str]:
        """The lines that show a picture, which is kept."""
        name = re.sub(r"[^\w-]+", "_", f"results_{self.name}_{what}") + ".png"
        self.pictures[name] = content
        shown = words.replace("]", "\\]")
        return [f"![{shown}]({PICTURES}/{name})", ""]


def write_results(folders: Sequence[str | Path], target: str | Path | None) -> str:
    """Writes what the runs below the folders have shown to `target`, its pictures into a folder beside it.

    Returns:
        What was written, for a terminal.

    Raises:
        LabError: if a folder is missing or has no finished run, a run's files are damaged, or nothing can be written.
    """
    if not folders or not target:
        raise LabError("runs and target have to be named.", "Say runs=[outputs/<name>] target=docs/results.md.")
    target = Path(target)
    sections = [_section(name, records) for name, records in _groups(folders).items()]
    text = _document(sections)
    paths = [target]
    try:
        for name, content in itertools.chain(*(section.pictures.items() for section in sections)):
            paths.append(target.parent / PICTURES / name)
            with atomic(paths[-1]) as half:
                half.write_bytes(content)
        with atomic(target) as half:
            half.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    except OSError as error:
        raise LabError(
            f"{error.filename}: {error.strerror}.", "Mend that, or name another target=<file.md>."
        ) from error
    return f"Written: {', '.join(map(str, paths))}"


def _groups(folders: Sequence[str | Path]) -> dict[str, list[Record]]:
    """The runs by their experiment, else by their name or their folder's; each once."""
    groups: dict[str, list[Record]] = {}
    seen: set[Path] = set()
    for folder in folders:
        records = [record for record in map(read, find(folder)) if record.status != "foreign"]
        if not records:
            raise LabError(f"There is no run in {printable(str(folder))}.", "Name one with runs, outputs/<name>, say.")
        known = {name for record in records if (name := origin.experiment(record))}
        usual = known.pop() if len(known) == 1 else Path(folder).resolve().name
        for record in records:
            if record.status == "damaged":
                raise LabError(
                    f"{printable(str(record.run.folder))}: {record.reason}.",
                    "Train it again, or leave it out: runs=[…] may name the folders of single runs.",
                )
            if (place := record.run.folder.resolve()) not in seen:
                seen.add(place)
                groups.setdefault(origin.experiment(record) or usual, []).append(record)
    return groups


def _section(name: str, records: list[Record]) -> Section:
    findings = compare([record.run.folder for record in records])
    paths = findings.runs["run"].unique()
    return Section(name, records, findings, {path: read_summary(Run(findings.folder / path)) for path in paths})


def _document(sections: Sequence[Section]) -> str:
    recipes = [section for section in sections if section.findings.design == "one"]
    sweeps = [section for section in sections if section.findings.design != "one"]
    lines = ["# Results", "", "Written by `scripts/results.py` from the runs' own files: not to be edited by hand.", ""]
    for title, members, tell in (("Benchmarks", recipes, _recipe), ("Comparisons", sweeps, _comparison)):
        lines += [f"## {title}", ""] * bool(members)
        for section in members:
            lines += [f"### {_plain(section.name)}", "", *tell(section), *_about(section)]
    return "\n".join([*lines, METHOD])


def _recipe(section: Section) -> list[str]:
    """A recipe's repetitions, one by one, beside what is published."""
    findings, runs = section.findings, section.findings.runs
    every = _rows(runs)
    rows = [{"": f"seed {_plain(row['seed'])}", **_scores(section, [row])} for row in every]
    if len(every) > 1:
        rows.append({"": f"**mean of {len(every)}**", **_scores(section, every)})
    benchmark = BENCHMARKS.get(section.dataset)
    rows += [_real(section), _limit(section)]
    for score in benchmark.scores if benchmark else ():
        rows.append({"": f"*published:* {_plain(score.method)}", **_published(score)})
    told = f"{len(runs)} seed{'s'[: len(every) > 1]} on {_plain(section.dataset)}"
    lines = [f"{told}: {_verdicts(runs) or 'no verdict'}.", "", *_table(rows)]
    lines += [f"Caution: {benchmark.caution}", ""] if benchmark else []
    run = Run(findings.folder / str(runs["run"].iloc[0]))
    image, gap = snapshots.last_samples(run)
    if image is None:
        return [*lines, f"No picture: {_plain(gap)}.", ""]
    words_of_it = f"Samples of {_plain(section.name)} at the end of training"
    return [*lines, *section.picture("samples", snapshots.small_png(image), words_of_it)]


def _rows(runs: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in runs.to_dict("records")]


def _verdicts(runs: pd.DataFrame) -> str:
    """'4 covered, 1 partial, 1 copying'."""
    words = Counter(_plain(word) for word in runs["collapse"].dropna())
    copying = sum(copies is True for copies in runs["copies"].tolist())
    return ", ".join(f"{n} {word}" for word, n in [*sorted(words.items()), ("copying", copying)] if n)


def _scores(section: Section, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The cells of one repetition, or of the means of several."""
    cells = {head: _mean(metric, [row.get(metric) for row in rows]) for head, metric in _columns().items()}
    copies = [row["copies"] for row in rows if isinstance(row["copies"], bool)]
    if copies:
        cells["copies"] = f"{sum(copies)} of {len(copies)}" if len(rows) > 1 else "yes" if copies[0] else "no"
    seconds = [row["seconds"] / max(1, number(section.summaries[row["run"]].get("replicas", 1))) for row in rows]
    cells |= {head: _mean(head, [row.get(head) for row in rows]) for head in ("samples", "steps")}
    return cells | {"seconds per seed": _mean("seconds", seconds)}


def _mean(metric: str, values: Iterable[Any]) -> str:
    """Of those that are numbers; a share of high-quality samples in percent, as papers have it."""
    finite = [value for value in map(number, values) if math.isfinite(value)]
    if not finite:
        return "–"
    mean = sum(finite) / len(finite)
    return f"{mean:.1%}" if metric == "high_quality" else amount(mean, digits=2 if metric == "seconds" else 3)


def _published(score: Score) -> dict[str, str]:
    """As it stands in the paper."""
    share = None if score.high_quality is None else f"{100 * score.high_quality:g}%"
    cells = {"modes": f"{score.modes:g}", "high quality": share, "KL from uniform": score.kl and f"{score.kl:g}"}
    return {head: cell or "–" for head, cell in cells.items()} | {"source": _plain(score.source)}


def _real(section: Section) -> dict[str, str]:
    """What fresh real data score in the runs' own verdicts."""
    real = [summary.get("real_data") for summary in section.summaries.values()]
    cells = {
        head: _mean(metric, [each.get(metric) for each in real if isinstance(each, dict)])
        for head, metric in _columns().items()
    }
    return {"": "*fresh real data*", **cells, "source": "the runs' own"}


def _limit(section: Section) -> dict[str, str]:
    """What as many samples of the data have: published where it is of as many, else by the rule of thumb."""
    metrics = next(iter(section.summaries.values())).get("metrics", {})
    samples, modes = number(metrics.get("samples")), number(metrics.get("modes_total"))
    known = BENCHMARKS.get(section.dataset)
    if known and known.samples == samples:
        return {"": "*sampling limit*", **_published(known.limit)}
    if not modes > 1 or not samples > 0:
        return {}
    kl = amount((modes - 1) / (2 * samples), digits=2)
    return {"": "*sampling limit*", "KL from uniform": kl, "KL from the data": kl, "source": "(M − 1) / 2N"}


def _comparison(section: Section) -> list[str]:
    """Sentences, chart and table of runs that differ."""
    findings = section.findings
    runs, variants = findings.runs["run"].nunique(), len(findings.variants)
    lines = [f"{runs:,} runs of {variants:,} variants on {_plain(section.dataset)}. {DESIGNS[findings.design]}", ""]
    for metric in findings.headline:
        lines += _sentences(findings, metric)
    for metric in findings.headline[:1]:
        words = f"What each change did to the {_plain(findings.measures[metric].label)}, with 95 % intervals"
        lines += section.picture(metric, panels.forest_png(findings, metric), words)
    if sheet := snapshots.sheet_png(findings):
        lines += section.picture("samples", sheet, "Samples of each variant's first seed at the end of training")
    found = {(summary.variant, summary.metric): summary for summary in findings.summaries}
    rows = []
    for variant in findings.variants:
        own = findings.runs_of(variant)
        row = {"": _plain(findings.names[variant]), "seeds": str(len(own))}
        for head, metric in _columns().items():
            if (summary := found.get((variant, metric))) and summary.mean is not None:
                spread = f" ± {amount(summary.std, digits=2)}" if metric == "modes" and summary.std is not None else ""
                row[head] = _mean(metric, [summary.mean]) + spread
        rows.append(row | {"verdict": _verdicts(own)})
    lines += _table([*rows, _real(section), _limit(section)])
    return [*lines, *(f"- {_plain(note)}" for note in findings.notes), ""]


def _sentences(findings: Findings, metric: str) -> list[str]:
    """A metric's answers; of many those that say little are folded away."""
    told = [(effect, f"- {_plain(text)}.") for effect, text in findings.answers if effect.metric == metric]
    if len(told) > SENTENCES:
        told.sort(key=lambda answer: not answer[0].shown)
    lines = [line for _, line in told]
    if more := lines[SENTENCES:]:
        lines[SENTENCES:] = ["", f"<details><summary>{len(more)} more</summary>", "", *more, "", "</details>"]
    return [f"On the {_plain(findings.measures[metric].label)}:", "", *lines, ""]


def _table(rows: Iterable[dict[str, str]]) -> list[str]:
    """Columns in the order in which they come up, without those that nothing stands in."""
    rows = [row for row in rows if row]
    heads = [
        head
        for head in dict.fromkeys(itertools.chain(*rows))
        if any(row.get(head, "–") not in ("–", "") for row in rows)
    ]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return [
        *lines,
        *(f"| {' | '.join(row.get(head, '–' if head != 'source' else '') for head in heads)} |" for row in rows),
        "",
    ]


def _about(section: Section) -> list[str]:
    """What was the same in all runs, what didn't count, on what they ran, and the command lines that made them."""
    findings = section.findings
    features = {str(s["features"]) for s in section.summaries.values() if s.get("features")}
    common = findings.common | ({"compared by": ", ".join(sorted(features))} if features else {})
    lines = [f"The same in all runs: {_plain('; '.join(f'{name} {value}' for name, value in common.items()))}.", ""]
    if len(findings.apart):
        lines += ["Not counted:", ""]
        lines += [f"- {_plain(run)}: {_plain(why)}" for run, why in findings.apart[["run", "reason"]].to_numpy()] + [""]
    facts = filter(None, (origin.environment(section.summaries.values()), origin.ended(section.records)))
    lines += [f"Environment: {_plain('; '.join(facts))}.", ""]
    return [*lines, "```", *origin.commands(section.records), "```", ""]


def _plain(text: Any) -> str:
    """Text that Markdown takes for nothing else."""
    return re.sub(r"([\\`*_{}|<>#$~[])", r"\\\1", printable(str(text)))
