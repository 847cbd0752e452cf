"""What runs have shown, as a Markdown document: sentences, tables and pictures from the runs' own files.

Nothing is trained or evaluated, nothing is looked up in configurations: no torch, no Hydra.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import stdev
from typing import Any

import pandas as pd

from gan_lab.atlas.table import cell_of
from gan_lab.atlas.write import sources, write_atlas
from gan_lab.commands.published import BENCHMARKS, Score
from gan_lab.comparison import charts, origin, panels, snapshots
from gan_lab.comparison.charts import ProgressPanel
from gan_lab.comparison.collect import Record, as_number, find_runs, read_record, read_summary
from gan_lab.comparison.comparison import compare
from gan_lab.comparison.effects import Summary
from gan_lab.comparison.factors import is_factor
from gan_lab.comparison.findings import Findings
from gan_lab.comparison.numbers import NO_NUMBER, format_estimate
from gan_lab.comparison.pages import dict_at
from gan_lab.comparison.questions import Variant
from gan_lab.comparison.report import DESIGNS, MAX_SENTENCES
from gan_lab.comparison.sentences import topic
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import printable
from gan_lab.evaluation.metrics.registry import METRICS, shown_in

# The folder of the pictures, next to the document.
PICTURES = "pictures"
METHOD = """\
## How the numbers were obtained

- Every number comes from the evaluation of a run after its last step, in its `summary.json`. The lines below each table
  say how many samples were evaluated, in which feature space, and how accurate the label classifier is. Means are over
  seeds (members of `replicas` count as seeds); ± is the standard deviation (n − 1).
- Modes: a mode is captured if at least one sample belongs to it. In the plane a sample belongs to a mode within 3
  standard deviations of its centre (high quality); for images a classifier trained on the labels decides. The *expected
  count* of a mode is the number of samples that equally many samples of the data would have there.
- KL: divergence of the generated samples' modes from uniform shares, or from the data's own, in nats. N perfect samples
  of M modes have about (M − 1) / 2N, the *sampling limit*.
- Precision and recall (Kynkäänniemi et al. 2019, k = 3) and coverage (Naeem et al. 2020, k = 5) compare equally many
  generated and real samples. *Fresh real data* are other real samples, evaluated as if they were generated; their modes
  and KL are those of as many draws from the data's shares of the modes, without a reader's errors.
- Modes made: like modes, but a sample counts only if it lies among the real ones (98 % of held-out images do) and two
  readers, the label classifier and the nearest training image, agree on its class; a mode needs half of its expected
  count of them. Junk is the share of samples outside the real data.
- *Processor seconds* are those of all threads of the training's process, evaluations during the training included.
- In the plane 39.3 % of the data lie within 1σ of their centre, 98.9 % within 3σ (*high quality*), 0.0004 % beyond 5σ.
- Variety, coverage and width within the modes are relative to real data's. The AUC of the two-sample test is 0.5 for
  samples that cannot be told from real ones, 1 for those that always can. docs/verdict.md has the thresholds of the
  words.
- Short form: the same recipe with a tenth of the steps, which can be repeated in minutes; ± is the standard deviation.
- Copies: more samples than real ones are much nearer to one training sample than to the next ones (p < 0.001).
- Intervals, p-values and their correction: see the notes of each comparison.
- Published numbers are others', taken from their papers; none was measured here.
"""

# The words of a verdict that are counted, with what introduces them.
WORDS = {"collapse": "", "within_modes": "within the modes ", "likeness": "likeness "}
EARLIER = (
    "Caution: judged by an earlier verdict, which took every image for the class that the label classifier reads,"
    " whatever it looks like. Its words and numbers of modes are too kind, the more so the worse the samples;"
    " docs/verdict.md says how they are found now."
)

# The metrics whose progress is drawn where a run has recorded it, and from how many points on.
PROGRESS = ("kl_uniform", "modes_robust")
MIN_CURVE_POINTS = 4
SECONDS_PER_MINUTE = 60
PERCENTAGES = ("high_quality", "within_1_sigma", "beyond_5_sigma")

# A row of a table: cells by the heads of their columns.
TableRow = dict[str, str]


@dataclass
class Section:
    """The runs of one experiment.

    Attributes:
        name: of the experiment.
        records: the runs, also those that are not compared.
        findings: what they say.
        summaries: their summary.json, by the path that `findings.runs` has.
        pictures: PNGs by file name, for the document.
        short: the same with a tenth of the steps, where there are such runs.
    """

    name: str
    records: list[Record]
    findings: Findings
    summaries: dict[str, dict[str, Any]]
    pictures: dict[str, bytes] = field(default_factory=dict)
    short: "Section | None" = None

    @property
    def any_summary(self) -> dict[str, Any]:
        """One of the summaries, for what is equal in all of them."""
        return next(iter(self.summaries.values()))

    @property
    def dataset(self) -> str:
        return str(self.any_summary.get("dataset"))

    def add_picture(self, subject: str, content: bytes, alt: str) -> list[str]:
        """Adds a picture and returns the lines that show it."""
        name = re.sub(r"[^\w-]+", "_", f"results_{self.name}_{subject}") + ".png"
        self.pictures[name] = content
        escaped = alt.replace("]", "\\]")
        return [f"![{escaped}]({PICTURES}/{name})", ""]


def write_results(folders: Sequence[str | Path], target: str | Path | None) -> str:
    """Writes what the runs below the folders have shown to `target`, and its pictures into a folder next to it.

    Returns:
        What was written, for a terminal.

    Raises:
        LabError: if a folder is missing or has no finished run, a run's files are damaged, or nothing can be written.
    """
    if not folders or not target:
        raise LabError(
            "runs and target have to be named.",
            "For example: runs=[outputs/<name>] target=docs/results.md.",
            code="missing",
            key="target" if folders else "runs",
        )
    target = Path(target)
    records_of_atlas = sources(folders)
    if records_of_atlas is not None:
        return _write_atlas(folders, records_of_atlas, target)
    sections = []
    for name, records in _records_by_experiment(folders).items():
        sections.append(_section(name, records))
    # The document comes first: it adds the sections' pictures.
    document = _document(sections)
    paths = [target]
    try:
        for section in sections:
            for name, content in section.pictures.items():
                path = target.parent / PICTURES / name
                with atomic(path) as temporary:
                    temporary.write_bytes(content)
                paths.append(path)
        with atomic(target) as temporary:
            temporary.write_text(document, encoding="utf-8", errors="backslashreplace", newline="\n")
    except OSError as error:
        raise _not_written(error) from error
    return f"Written: {', '.join(map(str, paths))}"


def _write_atlas(paths: Sequence[str | Path], records: Sequence[Record], target: Path) -> str:
    """Writes the atlas, where that is all there is.

    Returns:
        What was written, for a terminal.

    Raises:
        LabError: as `write_results` does.
    """
    try:
        return f"Written: {', '.join(map(str, write_atlas(paths, records, target)))}"
    except OSError as error:
        raise _not_written(error) from error


def _not_written(error: OSError) -> LabError:
    return LabError(
        f"{error.filename}: {error.strerror}.",
        "Solve that, or name another target=<file.md>.",
        code="storage",
        key="target",
    )


def _records_by_experiment(folders: Sequence[str | Path]) -> dict[str, list[Record]]:
    """Returns the runs by their experiment, else by their name or their folder's; each once.

    Raises:
        LabError: if a folder is missing or has no run, or a run is damaged.
    """
    groups: dict[str, list[Record]] = {}
    # The same run may lie below two of the folders, or be linked to.
    places: set[Path] = set()
    for folder in folders:
        records = []
        for run in find_runs(folder):
            record = read_record(run)
            # The atlas has a document of its own.
            if record.status != "foreign" and cell_of(record) is None:
                records.append(record)
        if not records:
            raise LabError(
                f"There is no run in {printable(str(folder))}.",
                "Name a folder with runs, for example outputs/<name>.",
                code="missing",
                key="runs",
            )
        # A job that failed before it was a run has no experiment: it belongs to that of its neighbours.
        experiments = {origin.experiment(record) for record in records} - {None, ""}
        default = Path(folder).resolve().name
        if len(experiments) == 1:
            default = str(experiments.pop())
        for record in records:
            _refuse_damaged(record)
            place = record.run.folder.resolve()
            if place not in places:
                places.add(place)
                groups.setdefault(origin.experiment(record) or default, []).append(record)
    return groups


def _refuse_damaged(record: Record) -> None:
    if record.status == "damaged":
        raise LabError(
            f"{printable(str(record.run.folder))}: {record.reason}.",
            "Train it again, or leave it out: runs=[…] may name the folders of single runs.",
            code="damaged",
            key="runs",
        )


def _section(name: str, records: list[Record]) -> Section:
    """Returns the section of an experiment; finished runs with a tenth of the steps are its short form."""
    short = _short_form(records)
    section = _compare(name, [record for record in records if record not in short])
    if short:
        section.short = _compare(name, short)
    return section


def _short_form(records: list[Record]) -> list[Record]:
    """Returns the finished runs with a tenth of the steps of all others, where nothing else differs; else none."""
    finished = [record for record in records if not record.reason]
    recipes = []
    records_by_steps: dict[float, list[Record]] = {}
    for record in finished:
        recipe = {key: value for key, value in record.settings.items() if is_factor(key) and key != "steps"}
        if recipe not in recipes:
            recipes.append(recipe)
        records_by_steps.setdefault(as_number(record.settings.get("steps")), []).append(record)
    if len(recipes) != 1 or len(records_by_steps) != 2:
        return []
    few, many = sorted(records_by_steps)
    return records_by_steps[few] if many == 10 * few else []


def _compare(name: str, records: list[Record]) -> Section:
    """Compares the runs of an experiment, and reads their summaries once more for what a comparison leaves out."""
    findings = compare([record.run.folder for record in records])
    summaries = {}
    for path in findings.runs["run"].unique():
        summaries[path] = read_summary(Run(findings.folder / path))
    return Section(name, records, findings, summaries)


def _document(sections: Sequence[Section]) -> str:
    """Returns the document; runs with equal settings are benchmarks, the others comparisons."""
    benchmarks = []
    comparisons = []
    for section in sections:
        if section.findings.design == "one":
            benchmarks.append(section)
        else:
            comparisons.append(section)
    lines = ["# Results", "", "Written by `scripts/results.py` from the runs' own files: do not edit it by hand.", ""]
    if benchmarks:
        lines += ["## Benchmarks", ""]
    for section in benchmarks:
        lines += [f"### {_escape(section.name)}", "", *_benchmark(section), *_conditions(section)]
    if comparisons:
        lines += ["## Comparisons", ""]
    for section in comparisons:
        lines += [f"### {_escape(section.name)}", "", *_comparison(section), *_conditions(section)]
    return "\n".join([*lines, METHOD])


# Runs with equal settings.


def _benchmark(section: Section) -> list[str]:
    """Returns the repetitions, one by one, and what others have published on the same data."""
    findings = section.findings
    runs = _rows(findings.runs)
    benchmark = BENCHMARKS.get(section.dataset)
    table = []
    for run in runs:
        table.append({"": f"seed {_escape(run['seed'])}", **_scores(section, [run])})
    if len(runs) > 1:
        table.append({"": f"**mean of {len(runs)}**", **_scores(section, runs)})
    if section.short:
        short_runs = _rows(section.short.findings.runs)
        row = {"": f"*short form, mean of {len(short_runs)}*", **_scores(section.short, short_runs, with_spread=True)}
        table.append(row)
    table += [_real_data_row(section), _sampling_limit_row(section)]
    if benchmark:
        for score in benchmark.scores:
            table.append({"": f"*published:* {_escape(score.method)}", **_published(score)})
    seeds = "1 seed" if len(runs) == 1 else f"{len(runs)} seeds"
    verdicts = _verdicts(findings.runs) or "no verdict"
    lines = [f"{seeds} on {_escape(section.dataset)}: {verdicts}.", ""]
    lines += [*_caution_of_earlier(section), *_markdown_table(table)]
    if benchmark:
        lines += [f"Caution: {benchmark.caution}", ""]
    return [*lines, *_progress(section), *_samples(section)]


# The values of a metric over processor time in seconds, by repetition.
Curves = dict[str, "pd.Series[float]"]


def _progress(section: Section) -> list[str]:
    """Returns a picture of how KL divergence and modes came to their last values, over the time that was spent."""
    curves_by_metric = {metric: curves for metric, curves in _read_progress(section).items() if curves}
    if not curves_by_metric:
        return []
    longest = max(curve.index.max() for curves in curves_by_metric.values() for curve in curves.values())
    in_minutes = longest > 2 * SECONDS_PER_MINUTE
    unit = f"processor time in {'minutes' if in_minutes else 'seconds'}"
    real_data = dict_at(section.any_summary, "real_data")
    drawn = []
    for metric, curves in curves_by_metric.items():
        if in_minutes:
            curves = {name: curve.set_axis(curve.index / SECONDS_PER_MINUTE) for name, curve in curves.items()}
        real = as_number(real_data.get(metric))
        label = METRICS[metric].label
        drawn.append(ProgressPanel(label, curves, real if math.isfinite(real) else None, metric.startswith("kl")))
    labels = " and ".join(panel.label for panel in drawn)
    alt = f"{labels[0].upper()}{labels[1:]} over the {unit}, {_escape(section.name)}"
    return section.add_picture("progress", charts.png(charts.progress(drawn, unit)), alt)


def _read_progress(section: Section) -> dict[str, Curves]:
    """Returns the progress of each metric in `PROGRESS`.

    Only evaluations with as many samples as the last one count: the metrics depend on how many there are. Steps are
    taken to cost equally much.

    Raises:
        LabError: if a metrics.csv is damaged.
    """
    curves_by_metric: dict[str, Curves] = {metric: {} for metric in PROGRESS}
    runs = section.findings.runs
    for path, summary in section.summaries.items():
        file = Run(section.findings.folder / path).metrics
        seconds = as_number(summary.get("processor_seconds"))
        steps = as_number(summary.get("steps"))
        # Written so that NaN, an unknown number, has no curve either.
        if not (file.is_file() and seconds > 0 and steps > 0):
            continue
        samples = as_number(dict_at(summary, "metrics").get("samples"))
        try:
            tables = panels.read_curves(file, [f"metric/{name}" for name in (*PROGRESS, "samples")])
        except (OSError, ValueError, LookupError) as error:
            raise LabError(
                f"{printable(str(file))} can't be read: {printable(str(error))}.",
                "Train the run again, or remove that file: then there is no curve.",
                code="damaged",
                key="runs",
            ) from error
        seconds /= max(1, as_number(summary.get("replicas", 1)))
        rows = runs.loc[runs["run"] == path]
        for seed, member in zip(rows["seed"], rows["member"], strict=True):
            # A run of one GAN has one table, and its member has no number.
            number = as_number(member)
            table = tables[int(number)] if 0 <= number < len(tables) else tables[0]
            _add_curves(curves_by_metric, f"seed {seed}", table, samples, seconds / steps)
    return curves_by_metric


def _add_curves(
    curves_by_metric: dict[str, Curves], name: str, table: pd.DataFrame, samples: float, seconds_per_step: float
) -> None:
    """Adds a repetition's curves, from the rows of a table by step with so many samples, where these are enough."""
    if "metric/samples" not in table:
        return
    rows = table.loc[table["metric/samples"] == samples]
    for metric, curves in curves_by_metric.items():
        column = f"metric/{metric}"
        if column not in rows:
            continue
        curve = rows[column].dropna()
        if len(curve) >= MIN_CURVE_POINTS:
            curves[name] = curve.set_axis(curve.index * seconds_per_step)


def _samples(section: Section) -> list[str]:
    """Returns the last samples of the first run, images beside real ones."""
    image, gap = snapshots.last_samples(Run(section.findings.folder / str(section.findings.runs["run"].iloc[0])))
    if image is None:
        return [f"No picture: {_escape(gap)}.", ""]
    alt = f"Samples of {_escape(section.name)} at the end of training"
    return section.add_picture("samples", snapshots.small_png(image), alt)


def _rows(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows of a frame by the names of its columns."""
    rows = []
    for row in runs.to_dict("records"):
        rows.append({str(name): value for name, value in row.items()})
    return rows


def _metric_by_head() -> dict[str, str]:
    """Returns the names of the metrics by the heads of their columns."""
    return {metric.heading or metric.label: metric.name for metric in shown_in("results")}


def _verdicts(runs: pd.DataFrame) -> str:
    """Returns how often each word was given: '4 covered, 1 partial; within the modes 5 varied; 1 copying'."""
    verdicts = []
    for column, introduction in WORDS.items():
        counts = Counter(runs[column].dropna().map(_escape))
        if counts:
            verdicts.append(introduction + ", ".join(f"{n} {word}" for word, n in sorted(counts.items())))
    # Other values than True and False are unknown: a run without a verdict, or a damaged one.
    copying = [copies for copies in runs["copies"].tolist() if copies is True]
    if copying:
        verdicts.append(f"{len(copying)} copying")
    return "; ".join(verdicts)


def _caution_of_earlier(section: Section) -> list[str]:
    """Returns a caution if a run was judged by an earlier version's verdict, which had no word for within the modes."""
    verdicts = [summary.get("verdict") for summary in section.summaries.values()]
    if all("within_modes" in verdict for verdict in verdicts if isinstance(verdict, dict) and "collapse" in verdict):
        return []
    return [EARLIER, ""]


def _scores(section: Section, runs: Sequence[dict[str, Any]], with_spread: bool = False) -> TableRow:
    """Returns the cells of one repetition, or of the means of several, perhaps with their standard deviations."""
    cells = {}
    for head, metric in _metric_by_head().items():
        values = [run.get(metric) for run in runs]
        cells[head] = _format_mean(metric, values)
        if with_spread and cells[head] != NO_NUMBER:
            cells[head] += _format_spread(metric, values)
    copies = [run["copies"] for run in runs if isinstance(run["copies"], bool)]
    if copies:
        cells["copies"] = _format_copies(copies, several=len(runs) > 1)
    for head in ("samples", "steps"):
        cells[head] = _format_mean(head, [run.get(head) for run in runs])
    seconds = []
    processor_seconds = []
    for run in runs:
        # The replicas of a run are trained together, so each one took a share of its time.
        replicas = as_number(section.summaries[run["run"]].get("replicas", 1))
        seconds.append(run["seconds"] / max(1, replicas))
        processor = as_number(section.summaries[run["run"]].get("processor_seconds"))
        processor_seconds.append(processor / max(1, replicas))
    cells["seconds per seed"] = _format_mean("seconds", seconds)
    cells["processor seconds per seed"] = _format_mean("seconds", processor_seconds)
    return cells


def _format_copies(copies: Sequence[bool], several: bool) -> str:
    """Returns whether a run copies training data; of several runs how many do."""
    if several:
        return f"{sum(copies)} of {len(copies)}"
    if copies[0]:
        return "yes"
    return "no"


def _finite(values: Iterable[Any]) -> list[float]:
    """Returns those that are finite numbers."""
    numbers = [as_number(value) for value in values]
    return [number for number in numbers if math.isfinite(number)]


def _format_spread(metric: str, values: Iterable[Any]) -> str:
    """Returns ' ± ' and the standard deviation (n − 1); '' for fewer than two numbers."""
    finite = _finite(values)
    if len(finite) < 2:
        return ""
    spread = stdev(finite)
    if metric in PERCENTAGES:
        return f" ± {spread:.1%}"
    return f" ± {format_estimate(spread, digits=2)}"


def _format_mean(metric: str, values: Iterable[Any]) -> str:
    """Returns the mean of those that are numbers; shares of points near modes are percentages, as in the papers."""
    finite = _finite(values)
    if not finite:
        return NO_NUMBER
    mean = sum(finite) / len(finite)
    if metric in PERCENTAGES:
        return f"{mean:.2%}" if mean < 0.01 else f"{mean:.1%}"
    # Seconds vary with the load of the machine: a third digit would say nothing.
    digits = 2 if metric == "seconds" else 3
    return format_estimate(mean, digits=digits)


def _published(score: Score) -> TableRow:
    """Returns a published score as its paper has it."""
    row = {
        "modes": f"{score.modes:g}",
        "high quality": NO_NUMBER,
        "KL from uniform": NO_NUMBER,
        "source": _escape(score.source),
    }
    if score.high_quality is not None:
        row["high quality"] = f"{100 * score.high_quality:g}%"
    if score.kl is not None:
        row["KL from uniform"] = f"{score.kl:g}"
    return row


def _real_data_row(section: Section) -> TableRow:
    """Returns what fresh real data scored when the runs were evaluated."""
    scores = []
    for summary in section.summaries.values():
        real_data = summary.get("real_data")
        if isinstance(real_data, dict):
            scores.append(real_data)
    row = {"": "*fresh real data*"}
    for head, metric in _metric_by_head().items():
        row[head] = _format_mean(metric, [metrics.get(metric) for metrics in scores])
    row["source"] = "the runs' own"
    return row


def _sampling_limit_row(section: Section) -> TableRow:
    """Returns what as many samples of the data score: as published for the same number, else by the rule of thumb."""
    metrics = section.any_summary.get("metrics", {})
    samples = as_number(metrics.get("samples"))
    modes = as_number(metrics.get("modes_total"))
    benchmark = BENCHMARKS.get(section.dataset)
    if benchmark and benchmark.samples == samples:
        return {"": "*sampling limit*", **_published(benchmark.limit)}
    # Written so that NaN, an unknown number, gives no row either.
    if not modes > 1 or not samples > 0:
        return {}
    kl = format_estimate((modes - 1) / (2 * samples), digits=2)
    return {"": "*sampling limit*", "KL from uniform": kl, "KL from the data": kl, "source": "(M − 1) / 2N"}


# Runs that differ.


def _comparison(section: Section) -> list[str]:
    """Returns sentences, charts and a table of the variants."""
    findings = section.findings
    runs = len(findings.runs)
    variants = len(findings.variants)
    design = DESIGNS[findings.design]
    lines = [f"{runs:,} runs of {variants:,} variants on {_escape(section.dataset)}. {design}", ""]
    lines += _caution_of_earlier(section)
    for metric in findings.headline:
        lines += _sentences(findings, metric)
    for metric in findings.headline[:1]:
        alt = f"What each change did to {_escape(topic(findings.measures[metric]))}, with 95 % intervals"
        lines += section.add_picture(metric, panels.forest_png(findings, metric), alt)
    sheet = snapshots.sheet_png(findings)
    if sheet:
        alt = "Samples of each variant's first run at the end of training"
        lines += section.add_picture("samples", sheet, alt)
    summaries = findings.summaries_by_cell()
    table = [_variant_row(findings, variant, summaries) for variant in findings.variants]
    table += [_real_data_row(section), _sampling_limit_row(section)]
    lines += _markdown_table(table)
    return [*lines, *(f"- {_escape(note)}" for note in findings.notes), ""]


def _variant_row(findings: Findings, variant: Variant, summaries: dict[tuple[Variant, str], Summary]) -> TableRow:
    """Returns a variant's means, with the standard deviation of its modes."""
    runs = findings.runs_of(variant)
    row = {"": _escape(findings.names[variant]), "seeds": str(len(runs))}
    for head, metric in _metric_by_head().items():
        summary = summaries.get((variant, metric))
        if summary is None or summary.mean is None:
            continue
        row[head] = _format_mean(metric, [summary.mean])
        if metric in ("modes_valid", "modes") and summary.std is not None:
            row[head] += f" ± {format_estimate(summary.std, digits=2)}"
    row["verdict"] = _verdicts(runs)
    return row


def _sentences(findings: Findings, metric: str) -> list[str]:
    """Returns a metric's answers; of many those without a shown difference are folded away."""
    significant = []
    inconclusive = []
    items = []
    for effect, sentence in findings.answers_in(metric):
        item = f"- {_escape(sentence)}."
        items.append(item)
        if effect.significant:
            significant.append(item)
        else:
            inconclusive.append(item)
    if len(items) > MAX_SENTENCES:
        # A difference that was shown must not be folded away.
        items = significant + inconclusive
    folded = items[MAX_SENTENCES:]
    effects = f"Effects on {_escape(topic(findings.measures[metric]))} ({findings.role(metric)} metric):"
    lines = [effects, "", *items[:MAX_SENTENCES]]
    if folded:
        lines += ["", f"<details><summary>{len(folded)} more</summary>", "", *folded, "", "</details>"]
    return [*lines, ""]


# Both.


def _markdown_table(rows: Iterable[TableRow]) -> list[str]:
    """Returns a table with columns in the order in which they appear, without those that are empty."""
    rows = [row for row in rows if row]
    # A column that is empty in one row may have its place from there.
    heads: dict[str, bool] = {}
    for row in rows:
        for head, cell in row.items():
            heads[head] = heads.get(head, False) or cell not in (NO_NUMBER, "")
    columns = [head for head, has_content in heads.items() if has_content]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for row in rows:
        cells = []
        for head in columns:
            # A dash is for a missing number; a source is text.
            missing = "" if head == "source" else NO_NUMBER
            cells.append(row.get(head, missing))
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _conditions(section: Section) -> list[str]:
    """Returns what all runs share, which ones are not compared, what they ran on, and the commands that made them."""
    findings = section.findings
    conditions = dict(findings.common)
    features = set()
    for summary in section.summaries.values():
        if summary.get("features"):
            features.add(str(summary["features"]))
    if features:
        conditions["compared by"] = ", ".join(sorted(features))
    shared = "; ".join(f"{name} {value}" for name, value in conditions.items())
    lines = [f"The same in all runs: {_escape(shared)}.", ""]
    if len(findings.excluded):
        lines += ["Not compared:", ""]
        for run, reason in findings.excluded_folders():
            lines.append(f"- {_escape(run)}: {_escape(reason)}")
        lines.append("")
    environment = [origin.environment(section.summaries.values()), origin.days_of_end(section.records)]
    lines += [f"Environment: {_escape('; '.join(filter(None, environment)))}.", ""]
    commands = origin.commands(section.records)
    if section.short:
        commands += ["# The short form", *origin.commands(section.short.records)]
    return [*lines, "```", *commands, "```", ""]


def _escape(text: Any) -> str:
    """Returns text that Markdown does not interpret."""
    return re.sub(r"([\\`*_{}|<>#$~[])", r"\\\1", printable(str(text)))
