"""What a comparison found: the one value that notes, tables and report are made from."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gan_lab.compare.effects import Effect, Summary
from gan_lab.compare.questions import Variant
from gan_lab.evaluation.metrics.registry import Metric


@dataclass(frozen=True)
class Findings:
    """What a set of runs says.

    Attributes:
        title: of a report.
        folder: where the tables go; paths of runs are relative to it where they lie below it.
        runs: a row per repetition, those that count only, variant by variant: `run` (path), `variant` (its name), a
            column of strings per factor, `seed`, `member` (of its replicas, from 0), `status`, `steps`, `seconds`,
            `collapse` (the word), `collapsed` (bool, None where no word is known), the verdict's other words, then all
            metrics as floats, NaN where undefined.
        factors: what differs between the variants; ['variant'] where nothing does.
        variants: combinations of the factors' values, in order.
        names: the variants in words, and those of which no run finished.
        design: factorial, ladder, control or pairs, see `questions.design`; 'one' where there is a single variant.
        metrics: what is summarised and compared, the headline metrics first, 'collapsed' (the share of runs) last. Of
            very many variants' pairs only the headline metrics are compared, or none; a note says so.
        measures: how each metric reads.
        summaries: every variant in every metric.
        effects: every comparison in every metric.
        answers: the headline metrics' sentences, the ones to read first.
        notes: what can't be concluded, and how the numbers came about.
        apart: `run` and `reason` of those that don't count, then the columns of `runs` as far as known.
        common: settings that all compared runs share, in words.
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
    apart: pd.DataFrame
    common: dict[str, str]

    def runs_of(self, variant: Variant) -> pd.DataFrame:
        """A variant's rows of `runs`."""
        return self.runs[self.runs["variant"] == self.names[variant]]

    @property
    def headline(self) -> list[str]:
        """The metrics that the answer is about."""
        return list(dict.fromkeys(effect.metric for effect, _ in self.answers))
