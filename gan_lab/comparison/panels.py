"""The report's pictures: effects, samples, curves and labels, from the files in the compared runs' folders."""

import io
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from gan_lab.comparison import charts
from gan_lab.comparison.charts import ForestLine
from gan_lab.comparison.effects import Effect
from gan_lab.comparison.films import sheet_film
from gan_lab.comparison.findings import Findings
from gan_lab.comparison.numbers import format_estimate
from gan_lab.comparison.pages import data_uri
from gan_lab.comparison.questions import Variant
from gan_lab.comparison.sentences import describe_change, describe_changes, is_improvement, reason
from gan_lab.comparison.snapshots import small_png, snapshots
from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_TABLE, read_bytes
from gan_lab.core.run_folder import Run
from gan_lab.evaluation.metrics.registry import Metric

# A column of one replica has its number behind its name, `loss/g/3`.
MEMBER = re.compile(r"/[0-9]+$")
MAX_CURVE_POINTS = 300
# Of the film in a report, which is to stay below 9 MB.
MAX_FILM_BYTES = 1_500_000
MAX_FOREST_LINES = 30

# Returns the link to a run's folder, None if that is gone.
Link = Callable[[str], str | None]


@dataclass
class Card:
    """A picture with its caption.

    Attributes:
        name: what it shows.
        link: to the run's folder.
        picture: a data: URI; None if there is none.
        alt: what the picture says, in words.
        caption: more than its name.
        gaps: what is missing, and why.
    """

    name: str
    link: str | None = None
    picture: str | None = None
    alt: str = ""
    caption: str = ""
    gaps: list[str] = field(default_factory=list)


@dataclass
class VariantFiles:
    """What the files of a variant's runs hold besides their results.

    Attributes:
        tables: losses and modes by step, one table per repetition.
        shares: each run's shares of classes, `(classes,)`, which sum to 1.
        ideal: the loss when D can't tell real from fake; None if unknown.
        table_gaps: why tables are missing.
        share_gaps: why shares are missing.
    """

    tables: list[pd.DataFrame] = field(default_factory=list)
    shares: list[np.ndarray] = field(default_factory=list)
    ideal: float | None = None
    table_gaps: list[str] = field(default_factory=list)
    share_gaps: list[str] = field(default_factory=list)


def forest_cards(findings: Findings) -> list[Card]:
    """Draws the effects in every headline metric."""
    cards = []
    for metric in findings.headline:
        measure = findings.measures[metric]
        lines = forest_lines(findings, metric)
        axis = _axis(measure)
        card = Card(measure.label, caption=f"{findings.role(metric)} metric")
        effects = len(findings.effects_in(metric))
        if effects > MAX_FOREST_LINES:
            card.gaps.append(
                f"The {MAX_FOREST_LINES} largest of {effects:,} comparisons, those with a shown difference first."
            )
        drawing = charts.svg(charts.forest(lines, axis, measure.higher_is_better))
        card.picture = data_uri(drawing.encode(), "svg+xml")
        numbers = "; ".join(f"{line.label} {line.numbers} {line.reason}".strip() for line in lines)
        card.alt = f"{axis}: {numbers}"
        cards.append(card)
    return cards


def forest_png(findings: Findings, metric: str) -> bytes:
    """Draws the effects in a metric for a document, in at most `snapshots.MAX_PICTURE_BYTES`."""
    measure = findings.measures[metric]
    figure = charts.forest(forest_lines(findings, metric), _axis(measure), measure.higher_is_better)
    return small_png(Image.open(io.BytesIO(charts.png(figure))).convert("RGB"))


def forest_lines(findings: Findings, metric: str) -> list[ForestLine]:
    """Returns a metric's effects for a forest plot; of very many, or of remedies, the significant ones first."""
    measure = findings.measures[metric]
    effects = findings.effects_in(metric)
    if len(effects) > MAX_FOREST_LINES or findings.design == "control":
        effects.sort(key=lambda effect: (not effect.significant, -abs(effect.difference)))
    lines = []
    for effect in effects[:MAX_FOREST_LINES]:
        line = ForestLine(
            label=_label(effect),
            reason=reason(effect),
            numbers=format_estimate(effect.difference, effect.low, effect.high, digits=2, signed=True),
            difference=effect.difference,
            low=effect.low,
            high=effect.high,
            significant=effect.significant,
            better=is_improvement(effect, measure),
        )
        lines.append(line)
    return lines


def read_variant(findings: Findings, variant: Variant) -> VariantFiles:
    """Reads the tables and summaries of a variant's runs, each once; what is missing or damaged is a gap."""
    files = VariantFiles()
    runs = findings.runs_of(variant).drop_duplicates("run")
    for path, seed in zip(runs["run"], runs["seed"], strict=True):
        run = Run(findings.folder / str(path))
        try:
            files.tables += read_curves(run.metrics)
        except (OSError, ValueError, LookupError) as error:
            # pandas' own errors are ValueErrors.
            files.table_gaps.append(f"seed {seed}: metrics.csv {_reason(error)}")
        try:
            summary = run.read_summary()
            ideal = summary["losses"]["equilibrium"]
            if files.ideal is None and isinstance(ideal, int | float):
                files.ideal = float(ideal)
            files.shares.append(_shares(summary["labels"]))
        except (OSError, LabError, ValueError, LookupError, TypeError) as error:
            files.share_gaps.append(f"seed {seed}: summary.json {_reason(error)}")
    return files


def read_curves(path: Path, names: Collection[str] = (*charts.LOSSES, charts.MODES)) -> list[pd.DataFrame]:
    """Reads columns of a metrics.csv by step, the losses and modes unless others are named.

    Longer tables are thinned to `MAX_CURVE_POINTS` rows, means over equal stretches of steps.

    Returns:
        One table, or one for each replica, in the order of their numbers.

    Raises:
        OSError, ValueError, LookupError: if the file is missing or damaged.
    """
    columns = {"step", *names}
    content = io.BytesIO(read_bytes(path, MAX_TABLE))
    table = pd.read_csv(content, usecols=lambda name: MEMBER.sub("", name) in columns, dtype=float)
    table = table.replace([np.inf, -np.inf], np.nan).dropna(subset="step")
    if len(table) > MAX_CURVE_POINTS:
        stretch = table["step"].max() / MAX_CURVE_POINTS
        table["step"] = np.ceil(table["step"] / stretch) * stretch
    table = table.groupby("step").mean()
    # A run of one GAN has columns without a suffix.
    columns_by_member: dict[str, list[str]] = {}
    for name in table:
        suffix = MEMBER.search(str(name))
        if suffix:
            columns_by_member.setdefault(suffix[0], []).append(str(name))
    if not columns_by_member:
        return [table]
    tables = []
    for member, member_columns in columns_by_member.items():
        names = {name: name.removesuffix(member) for name in member_columns}
        tables.append(table[member_columns].rename(columns=names))
    return tables


def bands_over_repetitions(tables: Sequence[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Returns mean, smallest and largest value over the repetitions at each step, by column of metrics.csv."""
    bands = {}
    for column in (*charts.LOSSES, charts.MODES):
        curves = [table[column].dropna() for table in tables if column in table]
        # pandas cannot concatenate nothing.
        if not curves:
            continue
        wide = pd.concat(curves, axis=1).sort_index()
        if wide.empty:
            continue
        # Runs may have logged at other steps: each counts with the value between its neighbours.
        wide = wide.interpolate(method="index", limit_area="inside")
        bands[column] = pd.DataFrame({"mean": wide.mean(axis=1), "low": wide.min(axis=1), "high": wide.max(axis=1)})
    return bands


def curve_cards(findings: Findings, files: dict[Variant, VariantFiles]) -> list[Card]:
    """Draws losses and modes over the steps; variants with equal ideals have equal axes, so they can be compared."""
    bands = {}
    losses_by_ideal: dict[float | None, list[float]] = {}
    # At least 1, so that the axis has a length where no mode was captured.
    max_modes = 1.0
    for variant, variant_files in files.items():
        variant_bands = bands_over_repetitions(variant_files.tables)
        bands[variant] = variant_bands
        losses = losses_by_ideal.setdefault(variant_files.ideal, [])
        for column in charts.LOSSES:
            if column in variant_bands:
                losses.extend(variant_bands[column]["high"])
        if charts.MODES in variant_bands:
            max_modes = max(max_modes, variant_bands[charts.MODES]["high"].max())
    cards = []
    for variant, variant_bands in bands.items():
        card = Card(findings.names[variant], gaps=files[variant].table_gaps)
        if variant_bands:
            ideal = files[variant].ideal
            top = _top_of_losses(losses_by_ideal[ideal], ideal)
            drawing = charts.curves(variant_bands, ideal, top, max_modes)
            card.picture = data_uri(drawing.encode(), "svg+xml")
            card.alt = f"Losses and modes over the steps, {card.name}"
        elif not card.gaps:
            card.gaps = ["No losses were recorded."]
        cards.append(card)
    return cards


def label_cards(findings: Findings, files: dict[Variant, VariantFiles]) -> list[Card]:
    """Draws how often each class was generated, on equal axes; nothing where no run counted labels."""
    max_share = 0.0
    for variant_files in files.values():
        for shares in variant_files.shares:
            max_share = max(max_share, float(shares.max()))
    # Shares sum to 1, so the largest one is 0 only where there are none.
    if max_share == 0:
        return []
    cards = []
    for variant, variant_files in files.items():
        card = Card(findings.names[variant], gaps=variant_files.share_gaps)
        if variant_files.shares:
            # A damaged summary may have another number of classes.
            classes = len(variant_files.shares[0])
            shares = np.stack([run_shares for run_shares in variant_files.shares if len(run_shares) == classes])
            card.picture = data_uri(charts.labels(shares, top=1.05 * max_share).encode(), "svg+xml")
            means = shares.mean(axis=0)[: charts.MAX_NUMBERED_BARS]
            percentages = ", ".join(f"{share:.0%}" for share in means)
            card.alt = f"Share of each class, {card.name}: {percentages}"
        cards.append(card)
    return cards


def sample_cards(findings: Findings, link: Link) -> list[Card]:
    """Shows the last samples of each variant's first run that has a picture, and real samples."""
    shots, real = snapshots(findings)
    cards = []
    for shot in shots:
        card = Card(shot.name, gaps=shot.gaps)
        if shot.image is not None and shot.run is not None:
            card.picture = data_uri(small_png(shot.image), "png")
            card.link = link(shot.run)
            card.caption = f"seed {shot.seed}"
            card.alt = f"Samples of {shot.name}, seed {shot.seed}"
        cards.append(card)
    if real:
        picture = data_uri(small_png(real), "png")
        cards.append(Card("Real data", picture=picture, alt="Real samples", caption="what G should learn to generate"))
    return cards


def film_cards(findings: Findings) -> list[Card]:
    """Shows side by side, step by step, what the runs of `sample_cards` generated; nothing without common steps."""
    shots, _ = snapshots(findings)
    runs = [(shot.name, Run(findings.folder / shot.run)) for shot in shots if shot.run is not None]
    film = sheet_film(runs, MAX_FILM_BYTES)
    if film is None:
        return []
    names = ", ".join(name for name, _ in runs)
    return [Card("At the same step", picture=data_uri(film, "gif"), alt=f"A film of the samples of {names}")]


def _axis(measure: Metric) -> str:
    """Returns the label of a forest plot's axis."""
    label = f"difference in {measure.label}"
    if measure.unit:
        label += f" ({measure.unit})"
    return label


def _label(effect: Effect) -> str:
    """Returns what was changed: 'Adam instead of SGD'; of an interaction both changes."""
    if effect.comparison.kind == "interaction":
        return " × ".join(describe_changes([change]) for change in effect.comparison.changes)
    return describe_change(effect)


def _reason(error: Exception) -> str:
    """Returns what is wrong with a file, after its name."""
    if isinstance(error, FileNotFoundError):
        return "is missing"
    if isinstance(error, KeyError):
        return f"has no {error.args[0]}"
    if isinstance(error, OSError):
        return "can't be read"
    return "is damaged"


def _shares(counts: object) -> np.ndarray:
    """Returns counts as shares.

    Raises:
        ValueError: if they aren't counts.
    """
    numbers = np.asarray(counts, dtype=float)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all() or numbers.sum() <= 0:
        raise ValueError("no counts")
    return numbers / numbers.sum()


def _top_of_losses(losses: Sequence[float], ideal: float | None) -> float:
    """Returns the upper end of an axis that shows all losses but rare peaks, and the ideal."""
    highest = 0.0
    if losses:
        highest = float(np.quantile(losses, 0.995))
    # The last number gives the axis a length where all losses are 0.
    return 1.1 * max(highest, 1.5 * (ideal or 0), 1e-9)
