"""The report's pictures: effects, samples, curves and labels, from what the compared runs kept in their folders."""

import base64
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from gan_lab.compare import charts
from gan_lab.compare.effects import Effect
from gan_lab.compare.findings import Findings
from gan_lab.compare.questions import Variant
from gan_lab.compare.sentences import amount, change, helped, instead
from gan_lab.compare.snapshots import small_png, snapshots
from gan_lab.core.errors import LabError
from gan_lab.core.io import MAX_TABLE, read_bytes
from gan_lab.core.run_folder import Run
from gan_lab.evaluation.metrics.registry import Metric

MEMBER = re.compile(r"/[0-9]+$")  # behind the name of a column of one replica
POINTS = 300  # of a curve, at most
LINES = 30  # of a forest plot, at most

Link = Callable[[str], str | None]


@dataclass
class Card:
    """A picture, and what it lacks."""

    name: str
    link: str | None = None
    picture: str | None = None  # a data: URI
    alt: str = ""
    caption: str = ""
    gaps: list[str] = field(default_factory=list)


class Kept(NamedTuple):
    """What a variant's runs kept beside their results."""

    tables: list[pd.DataFrame]
    labels: list[np.ndarray]  # shares, which sum to 1
    ideal: float | None  # of the losses
    no_table: list[str]
    no_labels: list[str]


def forests(findings: Findings) -> list[Card]:
    """The effects in every metric that has sentences."""
    return [_forest(findings, metric) for metric in findings.headline]


def _forest(findings: Findings, metric: str) -> Card:
    measure = findings.measures[metric]
    every = sum(effect.metric == metric for effect in findings.effects)
    card = Card(measure.label)
    if every > LINES:
        card.gaps.append(f"The {LINES} largest of {every:,} comparisons, those with a shown difference first.")
    drawn = lines(findings, metric)
    axis = _axis(measure)
    card.picture = _uri(charts.svg(charts.forest(drawn, axis, measure.higher_is_better)).encode(), "svg+xml")
    card.alt = f"{axis}: " + "; ".join(f"{line.label} {line.numbers}" for line in drawn)
    return card


def forest_png(findings: Findings, metric: str) -> bytes:
    """The effects in a metric as a picture for a document, of `snapshots.BYTES` at most."""
    measure = findings.measures[metric]
    drawn = charts.png(charts.forest(lines(findings, metric), _axis(measure), measure.higher_is_better))
    return small_png(Image.open(io.BytesIO(drawn)).convert("RGB"))


def _axis(measure: Metric) -> str:
    return f"difference in {measure.label}" + (f" ({measure.unit})" if measure.unit else "")


def lines(findings: Findings, metric: str) -> list[charts.Line]:
    """A metric's effects, as a forest plot draws them; of very many, or of remedies, those shown first."""
    measure = findings.measures[metric]
    effects = [effect for effect in findings.effects if effect.metric == metric]
    if len(effects) > LINES or findings.design == "control":
        effects = sorted(effects, key=lambda effect: (not effect.shown, -abs(effect.difference)))[:LINES]
    return [
        charts.Line(
            _label(effect),
            amount(effect.difference, effect.low, effect.high, digits=2, signed=True),
            effect.difference,
            effect.low,
            effect.high,
            effect.shown,
            helped(effect, measure),
        )
        for effect in effects
    ]


def _label(effect: Effect) -> str:
    """'Adam instead of SGD', as its sentence says it."""
    if effect.compared.kind == "interaction":
        return " × ".join(map(instead, effect.compared.changes))
    return change(effect)


def look_into(findings: Findings, variant: Variant) -> Kept:
    """Reads the tables and summaries of a variant's runs, each once."""
    kept = Kept([], [], None, [], [])
    ideals = []
    for run in findings.runs_of(variant).drop_duplicates("run").itertuples():
        folder = Run(findings.folder / str(run.run))
        try:
            kept.tables.extend(_tables(folder.metrics))
        except (OSError, ValueError, LookupError) as error:  # pandas' own errors are ValueErrors
            kept.no_table.append(f"seed {run.seed}: metrics.csv {_reason(error)}")
        try:
            summary = folder.read_summary()
            ideals.append(summary["losses"]["equilibrium"])
            kept.labels.append(_shares(summary["labels"]))
        except (OSError, LabError, ValueError, LookupError, TypeError) as error:
            kept.no_labels.append(f"seed {run.seed}: summary.json {_reason(error)}")
    return kept._replace(ideal=next((float(ideal) for ideal in ideals if isinstance(ideal, int | float)), None))


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    if isinstance(error, KeyError):
        return f"has no {error.args[0]}"
    return "can't be read" if isinstance(error, OSError) else "is damaged"


def _tables(path: Path) -> list[pd.DataFrame]:
    """The losses and modes of a metrics.csv by step, at most `POINTS` rows: means over equal stretches of steps.

    One table, or with replicas one for each.
    """
    wanted = {"step", *charts.LOSSES, charts.MODES}
    content = io.BytesIO(read_bytes(path, MAX_TABLE))
    table = pd.read_csv(content, usecols=lambda name: MEMBER.sub("", name) in wanted, dtype=float)
    table = table.replace([np.inf, -np.inf], np.nan).dropna(subset="step")
    if len(table) > POINTS:
        width = table["step"].max() / POINTS
        table["step"] = np.ceil(table["step"] / width) * width
    table = table.groupby("step").mean()
    members = dict.fromkeys(found[0] for name in table if (found := MEMBER.search(str(name))))
    of_each = [table.filter(regex=f"{member}$") for member in members] or [table]
    return [own.rename(columns=lambda name: MEMBER.sub("", name)) for own in of_each]


def _shares(counts: object) -> np.ndarray:
    shares = np.asarray(counts, dtype=float)
    if shares.ndim != 1 or not len(shares) or not np.isfinite(shares).all() or shares.sum() <= 0:
        raise ValueError("no counts")
    return shares / shares.sum()


def curves(findings: Findings, kept: dict[Variant, Kept]) -> list[Card]:
    """Losses and modes over the steps; equal axes for equal losses."""
    bands = {variant: _bands(each.tables) for variant, each in kept.items()}
    tops: dict[float | None, list[float]] = {}
    most_modes = 1.0
    for variant, drawn in bands.items():
        highs = [drawn[column]["high"].to_numpy() for column in charts.LOSSES if column in drawn]
        tops.setdefault(kept[variant].ideal, []).extend(np.concatenate(highs) if highs else [])
        if charts.MODES in drawn:
            most_modes = max(most_modes, drawn[charts.MODES]["high"].max())
    cards = []
    for variant, drawn in bands.items():
        ideal, values = kept[variant].ideal, tops[kept[variant].ideal]
        card = Card(findings.names[variant], gaps=kept[variant].no_table)
        if drawn:
            top = 1.1 * max(float(np.quantile(values, 0.995)) if values else 0, 1.5 * (ideal or 0), 1e-9)
            card.picture = _uri(charts.curves(drawn, ideal, top, most_modes).encode(), "svg+xml")
            card.alt = f"Losses and modes over the steps, {card.name}"
        else:
            card.gaps = card.gaps or ["No losses were recorded."]
        cards.append(card)
    return cards


def _bands(tables: list[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Mean, smallest and largest over the runs, by column."""
    bands = {}
    for column in (*charts.LOSSES, charts.MODES):
        lines = [table[column].dropna() for table in tables if column in table]
        wide = pd.concat(lines, axis=1).sort_index() if lines else pd.DataFrame()
        if not wide.empty:
            wide = wide.interpolate(method="index", limit_area="inside")  # runs that logged at other steps
            bands[column] = pd.DataFrame({"mean": wide.mean(axis=1), "low": wide.min(axis=1), "high": wide.max(axis=1)})
    return bands


def labels(findings: Findings, kept: dict[Variant, Kept]) -> list[Card]:
    """How often each class was made; equal axes. Nothing where no run counted labels."""
    if not any(each.labels for each in kept.values()):
        return []
    top = 1.05 * max(float(shares.max()) for each in kept.values() for shares in each.labels)
    cards = []
    for variant, each in kept.items():
        card = Card(findings.names[variant], gaps=each.no_labels)
        alike = [shares for shares in each.labels if len(shares) == len(each.labels[0])]
        if alike:
            card.picture = _uri(charts.labels(np.stack(alike), top).encode(), "svg+xml")
            means = ", ".join(f"{share:.0%}" for share in np.mean(alike, axis=0)[: charts.NAMED_BARS])
            card.alt = f"Share of each class, {card.name}: {means}"
        cards.append(card)
    return cards


def samples(findings: Findings, link: Link) -> list[Card]:
    """The last samples of each variant's first run that has a picture, and real samples."""
    taken, real = snapshots(findings)
    cards = []
    for shot in taken:
        card = Card(shot.name, gaps=shot.gaps)
        if shot.image is not None and shot.run is not None:
            card.picture, card.link = _uri(small_png(shot.image), "png"), link(shot.run)
            card.caption, card.alt = f"seed {shot.seed}", f"Samples of {shot.name}, seed {shot.seed}"
        cards.append(card)
    if real:
        picture, caption = _uri(small_png(real), "png"), "what G should learn to make"
        cards.append(Card("Real data", picture=picture, alt="Real samples", caption=caption))
    return cards


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
