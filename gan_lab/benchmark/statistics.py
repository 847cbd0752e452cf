"""The trial of a comparison's statistics: false alarms, power and coverage on made-up runs whose truth is known."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from scipy.stats import bootstrap
from tqdm import tqdm

from gan_lab.comparison import resampling
from gan_lab.comparison.resampling import ALPHA, Strata
from gan_lab.core.csv_table import write_csv
from gan_lab.core.io import atomic

SEEDS = (3, 5, 6, 10, 20)
DRAWS_PER_ROUND = 500
# Of the bootstrap, which takes longest, so many draws are compared.
BOOTSTRAP_DRAWS = 1_000
BOOTSTRAP_RESAMPLES = 1_999
MODES = 10
LADDER = 5
REMEDIES = 22
CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
PAIRED_SEEDS = (5, 6, 8, 10, 20)
PAIRED_SIZE = 1.5
# All 2ⁿ assignments of signs are enumerated up to this n; of more, as many as `resampling.DRAWS` are drawn.
MOST_SIGNS = 13
# Numbers of seeds that an effect really needs, and the number of seeds from which that is estimated.
TRUE_NEEDS = (6, 14, 64)
ESTIMATED_FROM = 6


@dataclass(frozen=True)
class Design:
    """Made-up runs of some distribution.

    Attributes:
        draw: gets an RNG, the shape `(draws, n)` of a cell, and whether there is an effect; returns the strata.
        truth: the true difference where there is an effect.
    """

    draw: Callable[[np.random.Generator, tuple[int, int], bool], Strata]
    truth: float


def _normal(rng: np.random.Generator, shape: tuple[int, int], effect: bool) -> Strata:
    return [[rng.normal(size=shape), rng.normal(size=shape) + 2 * effect]]


def _lognormal(rng: np.random.Generator, shape: tuple[int, int], effect: bool) -> Strata:
    return [[rng.lognormal(size=shape), rng.lognormal(size=shape) + 4.32 * effect]]


def _counts(rng: np.random.Generator, shape: tuple[int, int], effect: bool) -> Strata:
    after = rng.binomial(MODES, 0.6 if effect else 0.3, size=shape)
    return [[rng.binomial(MODES, 0.3, size=shape).astype(float), after.astype(float)]]


def _ceiling(rng: np.random.Generator, shape: tuple[int, int], effect: bool) -> Strata:
    """Draws counts near the ceiling; with an effect every run after the change reaches it."""
    if effect:
        return [[rng.binomial(MODES, 0.7, size=shape).astype(float), np.full(shape, float(MODES))]]
    return [[rng.binomial(MODES, 0.97, size=shape).astype(float) for _ in range(2)]]


def _unequal(rng: np.random.Generator, shape: tuple[int, int], effect: bool) -> Strata:
    return [[rng.normal(size=shape), 3 * rng.normal(size=shape) + 4.47 * effect]]


def _strata(rng: np.random.Generator, shape: tuple[int, int], effect: bool) -> Strata:
    """Draws four settings of other factors that differ by much more than the effect."""
    strata = []
    for setting in range(4):
        strata.append([rng.normal(size=shape) + 5 * setting, rng.normal(size=shape) + 5 * setting + effect])
    return strata


def _interaction(rng: np.random.Generator, shape: tuple[int, int], effect: bool) -> Strata:
    """Draws two changes with main effects of 3 and 1, which together do 3 more."""
    means = (0, 1, 3, 4 + 3 * effect)
    return [[rng.normal(size=shape) + mean for mean in means]]


DESIGNS = {
    "normal": Design(_normal, 2),
    "lognormal": Design(_lognormal, 4.32),
    "counts": Design(_counts, 3),
    "ceiling": Design(_ceiling, 3),
    "unequal spread": Design(_unequal, 4.47),
    "strata": Design(_strata, 1),
    "interaction": Design(_interaction, 3),
}


def run(folder: Path, cfg: DictConfig) -> list[Path]:
    """Runs the trial and writes its tables.

    Args:
        folder: where they are written.
        cfg: the keys of conf/benchmark.yaml; a round has `DRAWS_PER_ROUND` draws.

    Returns:
        The paths of the files.
    """
    draws = cfg.rounds * DRAWS_PER_ROUND
    frames = {
        "designs": designs(draws),
        "families": families(draws),
        "needs": needs(draws),
        "pairing": pairing(draws),
    }
    paths = []
    for name, frame in frames.items():
        path = folder / f"statistics_{name}.csv"
        with atomic(path) as temporary:
            write_csv(frame, temporary)
        paths.append(path)
    path = folder / "statistics.md"
    with atomic(path) as temporary:
        temporary.write_text(tables(frames, draws), encoding="utf-8")
    return [*paths, path]


def designs(draws: int, seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Returns a row per design and number of seeds: the shares of draws in which each thing happens.

    Columns: `false_alarms` (p ≤ 0.05 without an effect), `power` (p ≤ 0.05 with one), `coverage` (Welch's interval
    has the truth), `bca` (the bootstrap's has), `only_interval` (with an effect the interval leaves 0 out and the test
    shows nothing), `only_test` (the other way round).
    """
    rows = []
    for (name, design), n in tqdm(list(itertools.product(DESIGNS.items(), seeds)), disable=None):
        rng = np.random.default_rng(n)
        without = design.draw(rng, (draws, n), False)
        with_effect = design.draw(rng, (draws, n), True)
        p = resampling.permutation_p(with_effect)
        low, high = resampling.welch_interval(with_effect)
        # Without any spread there is no interval, which covers nothing and leaves nothing out.
        leaves_out = (low > 0) | (high < 0)
        has_interval = np.isfinite(low)
        row = {
            "design": name,
            "seeds": n,
            "false_alarms": _share(resampling.permutation_p(without) <= ALPHA),
            "power": _share(p <= ALPHA),
            "coverage": _share(((low <= design.truth) & (high >= design.truth))[has_interval]),
            "bca": np.nan,
            "only_interval": _share(leaves_out & (p > ALPHA)),
            "only_test": _share(~leaves_out & has_interval & (p <= ALPHA)),
        }
        if len(with_effect) == 1 and len(with_effect[0]) == 2:
            row["bca"] = _share(_bca_covers(with_effect, design.truth))
        rows.append(row)
    return pd.DataFrame(rows)


def families(draws: int, seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Returns how often a family of comparisons without any effect gives at least one false alarm after Holm."""
    rows = []
    for n in seeds:
        rng = np.random.default_rng(n)
        for distribution in ("normal", "counts"):
            cells = _cells(rng, distribution, (REMEDIES + 1, draws, n))
            ladder = [resampling.permutation_p([[cells[i], cells[i + 1]]]) for i in range(LADDER - 1)]
            remedies = [resampling.permutation_p([[cells[0], cell]]) for cell in cells[1:]]
            row: dict[str, float | str] = {"distribution": distribution, "seeds": n}
            for name, p in (("ladder", np.array(ladder)), ("remedies", np.array(remedies))):
                # The smallest p of a family decides whether there is any alarm.
                row[name] = _share(p.min(0) * len(p) <= ALPHA)
            rows.append(row)
    return pd.DataFrame(rows)


def needs(draws: int) -> pd.DataFrame:
    """Returns how often the range of seeds that a test needs has the true number, estimated from few normal runs."""
    rows = []
    sizes = ((ESTIMATED_FROM, ESTIMATED_FROM),)
    for need in TRUE_NEEDS:
        rng = np.random.default_rng(need)
        true_size = resampling.smallest_effect(need)
        assert true_size is not None
        before = rng.normal(size=(draws, ESTIMATED_FROM))
        strata = [[before, rng.normal(size=before.shape) + true_size]]
        differences = resampling.mean_difference(strata)
        stds = resampling.pooled_std(strata)
        points = []
        hits = []
        unbounded = []
        for difference, std in zip(differences, stds, strict=True):
            g = resampling.hedges_g(difference, std, sizes)
            nearest, farthest = resampling.effect_size_range(abs(g), sizes)
            most = resampling.seeds_needed(nearest) if nearest > 0 else np.inf
            points.append(resampling.seeds_needed(g))
            hits.append(resampling.seeds_needed(farthest) <= need <= most)
            unbounded.append(nearest <= 0)
        low, high = np.quantile(points, [0.1, 0.9])
        rows.append(
            {
                "needed": need,
                "single_estimate_low": low,
                "single_estimate_high": high,
                "range_has_it": _share(np.array(hits)),
                "no_upper_end": _share(np.array(unbounded)),
            }
        )
    return pd.DataFrame(rows)


def pairing(draws: int) -> pd.DataFrame:
    """Returns false alarms and power of the test of all runs, and of the test of differences within equal seeds.

    Runs are normal; those of equal seeds are correlated. Each p is compared with 0.05, and with 0.05 / 4, the level of
    the ladder's first comparison.
    """
    rows = []
    for correlation, n in itertools.product(CORRELATIONS, PAIRED_SEEDS):
        rng = np.random.default_rng(n)
        row: dict[str, float] = {"correlation": correlation, "seeds": n}
        for name, size in (("false_alarms", 0.0), ("power", PAIRED_SIZE)):
            shared = np.sqrt(correlation) * rng.normal(size=(draws, n))
            before, after = (shared + np.sqrt(1 - correlation) * rng.normal(size=(draws, n)) for _ in range(2))
            after = after + size
            for kind, p in (
                ("unpaired", resampling.permutation_p([[before, after]])),
                ("paired", paired_p(after - before)),
            ):
                row[f"{name}_{kind}"] = _share(p <= ALPHA)
                row[f"{name}_{kind}_of_4"] = _share(p <= ALPHA / 4)
        rows.append(row)
    return pd.DataFrame(rows)


def paired_p(differences: np.ndarray) -> np.ndarray:
    """Returns the two-sided p of differences within seeds `(draws, n)` by changing their signs (Fisher 1935)."""
    n = differences.shape[1]
    if n <= MOST_SIGNS:
        signs = np.array(list(itertools.product((1, -1), repeat=n)))
    else:
        random = np.random.default_rng(0).choice((1, -1), size=(resampling.DRAWS, n))
        signs = np.concatenate([np.ones((1, n)), random])
    p = np.empty(len(differences))
    for start in range(0, len(differences), DRAWS_PER_ROUND):
        batch = slice(start, start + DRAWS_PER_ROUND)
        sums = np.abs(signs @ differences[batch].T)
        p[batch] = (sums >= sums[0] * (1 - 1e-9)).mean(0)
    return p


def tables(frames: dict[str, pd.DataFrame], draws: int) -> str:
    """Returns the tables of docs/statistics.md, in Markdown."""
    lines = [f"{draws:,} draws of each design (BCa: {min(draws, BOOTSTRAP_DRAWS):,}).", ""]
    for frame in frames.values():
        lines.append(f"| {' | '.join(str(column).replace('_', ' ') for column in frame)} |")
        lines.append("|" + "---|" * len(frame.columns))
        for row in frame.itertuples(index=False):
            lines.append(f"| {' | '.join(map(_text, row))} |")
        lines.append("")
    return "\n".join(lines)


def _text(value: object) -> str:
    """Returns a number of a table; '' for NaN."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3g}"
    return str(value)


def _cells(rng: np.random.Generator, distribution: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns runs without any effect."""
    if distribution == "counts":
        return rng.binomial(MODES, 0.3, size=shape).astype(float)
    return rng.normal(size=shape)


def _share(events: np.ndarray) -> float:
    return float(np.mean(events))


def _bca_covers(strata: Strata, truth: float) -> np.ndarray:
    """Returns whether the bootstrap's bias-corrected and accelerated interval (Efron 1987) has the truth."""
    ((before, after),) = strata
    # scipy has no interval for equal values.
    varied = np.flatnonzero((np.ptp(before, axis=1) > 0) | (np.ptp(after, axis=1) > 0))[:BOOTSTRAP_DRAWS]
    result = bootstrap(
        (before[varied], after[varied]),
        lambda x, y, axis: y.mean(axis) - x.mean(axis),
        n_resamples=BOOTSTRAP_RESAMPLES,
        axis=-1,
        batch=100,
        rng=np.random.default_rng(0),
    )
    return (result.confidence_interval.low <= truth) & (result.confidence_interval.high >= truth)
