"""The result of a comparison: the one value that notes, tables and report are made from."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gan_lab.comparison.effects import Effect, Summary
from gan_lab.comparison.questions import Variant
from gan_lab.evaluation.metrics.registry import Metric


@dataclass(frozen=True)
class Findings:
    """What a set of runs says.

    Attributes:
        title: of a report.
        folder: where the tables go; paths of runs below it are relative to it.
        runs: a row per repetition of the compared runs, variant by variant: `run` (path), `variant` (its name), a
            column of strings per factor, `seed`, `member` (replica, from 0), `status`, `steps`, `seconds`, `collapse`
            (the verdict), `collapsed` (bool, None without a known verdict), the other words of the verdict, then all
            metrics as floats, NaN where undefined.
        factors: what differs between the variants; ['variant'] where nothing does.
        variants: combinations of the factors' values that have runs, in order.
        names: names of the variants, including those of which no run finished.
        design: factorial, ladder, control or pairs, see `questions.design`; 'one' where there is a single variant.
        metrics: what is summarised and compared: the primary metric first, then the other headline ones, 'collapsed'
            (the share of runs) last. If the variants make very many pairs, only the headline metrics are compared, or
            none; a note says so.
        measures: how each metric is presented.
        summaries: every variant in every metric.
        effects: every comparison in every metric.
        answers: the headline metrics' effects with their sentences, the ones to read first.
        notes: what cannot be concluded, and how the numbers were obtained.
        excluded: a row per repetition that is not compared: `run` and `reason`, then the columns of `runs` as far as
            known.
        common: settings that all compared runs share, by their names.
    """

    title: str
    folder: Path
    runs: pd.DataFrame
    factors: list[str]
    variants: list[Variant]
    names: dict[Variant, str]
    design: str
    metrics: list[str]
    measures: dict[str, Metric]
    summaries: list[Summary]
    effects: list[Effect]
    answers: list[tuple[Effect, str]]
    notes: list[str]
    excluded: pd.DataFrame
    common: dict[str, str]

    def runs_of(self, variant: Variant) -> pd.DataFrame:
        """Returns a variant's rows of `runs`."""
        return self.runs[self.runs["variant"] == self.names[variant]]

    def excluded_folders(self) -> list[tuple[str, str]]:
        """Returns the folders of the runs that are not compared, each once, with the reason."""
        return list(dict.fromkeys(zip(self.excluded["run"], self.excluded["reason"], strict=True)))

    def effects_in(self, metric: str) -> list[Effect]:
        """Returns a metric's effects."""
        return [effect for effect in self.effects if effect.metric == metric]

    def answers_in(self, metric: str) -> list[tuple[Effect, str]]:
        """Returns a headline metric's effects with their sentences."""
        return [(effect, sentence) for effect, sentence in self.answers if effect.metric == metric]

    def role(self, metric: str) -> str:
        """Returns 'primary' for the metric that was chosen beforehand, 'secondary' for all others."""
        if metric == self.metrics[0]:
            return "primary"
        return "secondary"

    def summaries_by_cell(self) -> dict[tuple[Variant, str], Summary]:
        """Returns the summaries by variant and metric."""
        return {(summary.variant, summary.metric): summary for summary in self.summaries}

    @property
    def headline(self) -> list[str]:
        """The metrics that the answers are about."""
        return list(dict.fromkeys(effect.metric for effect, _ in self.answers))
