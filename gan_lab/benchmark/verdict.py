"""The trial of the verdict: how often it finds fault with fresh real data, and how often it notices each failure.

A draw splits real data anew into a reference, which the verdict gets as held-out data, and fresh samples, which stand
for a generator: as they are, and with each failure of `gan_lab.benchmark.failures`.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig
from scipy.stats import binomtest
from torch import Tensor
from tqdm import tqdm

from gan_lab.benchmark import failures
from gan_lab.benchmark.failures import Failure, RealSamples
from gan_lab.core.csv_table import write_csv
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.rng import make_generator
from gan_lab.data import color, images, synthetic
from gan_lab.data.dataset import Dataset, Part, StackedPart
from gan_lab.evaluation.classifier import label_classifier
from gan_lab.evaluation.feature_spaces import features_of
from gan_lab.evaluation.verdict import VerdictEvaluator
from gan_lab.plotting.style import Figure

REAL = "real data"  # the case without a failure
FAILURE_ROUNDS = 10  # of so many draws one is also tried with all failures
SAVE_EVERY = 30  # seconds between two writes of the draws
UNLABELLED = "unlabelled_"  # before the name of a dataset: the same without labels

FOLDS = 5  # digits: which fifth is held out
MAX_TRAIN = 10_000  # samples of the train part
MAX_FRESH = 2_500  # samples that are judged
STACKED_TRAIN = 128_000  # stacked images of the train part
STACKED_REFERENCE = 10_000  # stacked images of the reference
STACKED_FRESH = 26_000  # stacked images that are judged
POINTS_FRESH = 100_000  # points from which `MAX_FRESH` are drawn

GOOD_WORDS: Mapping[str, Any] = {
    "collapse": "covered",
    "within_modes": "varied",
    "likeness": "good",
    "copies": False,
}
WORDS: Mapping[str, Sequence[Any]] = {
    "collapse": ("covered", "partial", "collapsed", "unknown"),
    "within_modes": ("varied", "narrow", "collapsed", "borderline", "unknown"),
    "likeness": ("good", "borderline", "poor", "unknown"),
    "copies": (False, True, None),
}
UNDECIDED = ("borderline", "unknown", "None")
METRICS = (
    "modes",
    "modes_valid",
    "junk",
    "agreement",
    "variety_within",
    "coverage_within",
    "two_sample_auc",
    "copy_share",
    "mode_width",
    "within_1_sigma",
    "beyond_5_sigma",
)
# Of 1,000 modes; the others take minutes or need each class's images.
STACKED_FAILURES = (
    "few images",
    "few images of each class",
    "three tenths of the modes",
    "uniform noise",
    "shuffled pixels",
    "independent pixels",
    "added noise",
    "missing classes",
    "copies",
)
# The failures whose rates are a table in full: of images, and of points.
DETAILED = (("copies", "copies"), ("less spread", "narrower modes"), ("independent pixels", "uniform points"))


@dataclasses.dataclass(frozen=True)
class Split:
    """Real data, split into what the verdict knows and what stands for a generator.

    Attributes:
        evaluator: has a train part and the reference.
        real: the train part and the fresh samples.
        samples: how many fresh samples are judged.
        repeated: how many samples are judged of a generator that repeats itself.
    """

    evaluator: VerdictEvaluator
    real: RealSamples
    samples: int
    repeated: int


def split_digits(number: int, cache_dir: Path, labelled: bool = True) -> Split:
    """Splits digits: one fifth is held out, half of it is the reference, 180 images are fresh."""
    fold = digits_fold(number % FOLDS)
    return split_images(fold, number, cache_dir, labelled)


def split_mnist(number: int, data_dir: str, cache_dir: Path, labelled: bool = True) -> Split:
    """Splits MNIST's test images in two; of the training images 10,000 are compared."""
    return split_images(images.mnist(data_dir), number, cache_dir, labelled)


def split_patches(number: int, cache_dir: Path, labelled: bool = True) -> Split:
    """Splits the held-out patches in two."""
    return split_images(color.patches(), number, cache_dir, labelled)


def split_images(dataset: Dataset, number: int, cache_dir: Path, labelled: bool) -> Split:
    """Splits the held-out images of a dataset in two: the verdict's reference, and fresh images.

    Args:
        dataset: images with labels.
        number: of the split.
        cache_dir: the folder of label classifiers.
        labelled: whether the verdict gets the labels.
    """
    rng = make_generator(number, "verdict trial/split")
    heldout, fresh = _halves(dataset.heldout, rng)
    train = _subset(dataset.train, torch.randperm(len(dataset.train), generator=rng)[:MAX_TRAIN])
    assert train.labels is not None
    assert fresh.labels is not None
    classes = len(dataset.classes)
    classifier = None
    known = Dataset(Part(train.values), Part(heldout.values))
    if labelled:
        # That of all data: whichever images are the reference, it has learnt from the train part only.
        classifier = label_classifier(dataset, cache_dir)
        known = Dataset(train, heldout, classes=dataset.classes)
    evaluator = VerdictEvaluator(known, classifier, features_of(known, classifier, None))
    real = RealSamples(train.values, train.labels, fresh.values, fresh.labels, classes)
    samples = min(len(fresh), MAX_FRESH)
    return Split(evaluator, real, samples, MAX_FRESH)


def digits_fold(number: int) -> Dataset:
    """Returns digits with another fifth held out, stratified by class; 0 to 4."""
    from sklearn.model_selection import StratifiedKFold

    whole = images.digits()
    pixels = torch.cat([whole.train[torch.arange(len(whole.train))], whole.heldout[torch.arange(len(whole.heldout))]])
    labels = torch.cat([part.labels_of(torch.arange(len(part))) for part in (whole.train, whole.heldout)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(pixels.flatten(1), labels)
    train, heldout = list(folds)[number]
    return Dataset(Part(pixels[train], labels[train]), Part(pixels[heldout], labels[heldout]), classes=whole.classes)


def split_stacked_digits(number: int, cache_dir: Path) -> Split:
    """Splits digits in three: images of the train part, of the reference and fresh ones are stacked.

    Of fewer than a third, 26,000 stacked images would visibly repeat the single ones.
    """
    singles = images.digits(heldout=2 / 3)
    rng = make_generator(number, "verdict trial/split")
    reference, fresh = _halves(singles.heldout, rng)
    base = Dataset(singles.train, reference, classes=singles.classes)
    classes = [f"{label:03d}" for label in range(1000)]
    train = _stack(singles.train, STACKED_TRAIN, rng)
    known = Dataset(train, _stack(reference, STACKED_REFERENCE, rng), classes=classes, base=base)
    classifier = label_classifier(dataclasses.replace(known, base=singles), cache_dir)
    evaluator = VerdictEvaluator(known, classifier, features_of(known, classifier, None))
    stacked = _stack(fresh, STACKED_FRESH, rng)
    indices = torch.arange(STACKED_FRESH)
    some = torch.arange(MAX_TRAIN)
    real = RealSamples(train[some], train.labels_of(some), stacked[indices], stacked.labels_of(indices), len(classes))
    return Split(evaluator, real, STACKED_FRESH, STACKED_FRESH)


def split_points(dataset: Dataset, number: int) -> Split:
    """Draws fresh points of a mixture; train part and reference stay the same."""
    assert dataset.centres is not None
    assert dataset.std is not None
    train = dataset.train[torch.arange(len(dataset.train))]
    labels = dataset.train.labels_of(torch.arange(len(dataset.train)))
    real = RealSamples(train, labels, train, labels, len(dataset.classes), dataset.centres, dataset.std)
    points = failures.draw_points(real, POINTS_FRESH, make_generator(number, "verdict trial/split"))
    modes = torch.cdist(points, dataset.centres).argmin(1)
    real = dataclasses.replace(real, fresh=points, fresh_labels=modes)
    return Split(VerdictEvaluator(dataset, None, features_of(dataset, None, None)), real, MAX_FRESH, MAX_FRESH)


def _halves(part: Any, rng: torch.Generator) -> tuple[Part, Part]:
    """Splits labelled samples at random in two halves with equally many of each class."""
    order = torch.randperm(len(part), generator=rng)
    by_class = order[part.labels_of(order).argsort(stable=True)]
    return _subset(part, by_class[::2]), _subset(part, by_class[1::2])


def _subset(part: Any, indices: Tensor) -> Part:
    return Part(part[indices], part.labels_of(indices))


def _stack(part: Any, number: int, rng: torch.Generator) -> StackedPart:
    return StackedPart(part, torch.randint(len(part), (number, 3), generator=rng))


# How many draws share a split, as a new one takes time; which of its fresh samples are judged is drawn anew.
DRAWS_PER_SPLIT = {"digits": 1, "mnist": 20, "patches": 20, "stacked_digits": 10, "ring": 1_000, "grid": 1_000}
DATASETS = (*DRAWS_PER_SPLIT, *(f"{UNLABELLED}{name}" for name in ("digits", "mnist", "patches")))


def new_split(name: str, number: int, data_dir: str, cache_dir: Path) -> Split:
    """Returns a split of a dataset by its name in `DATASETS`."""
    base = name.removeprefix(UNLABELLED)
    splits: dict[str, Callable[[], Split]] = {
        "digits": lambda: split_digits(number, cache_dir, base == name),
        "mnist": lambda: split_mnist(number, data_dir, cache_dir, base == name),
        "patches": lambda: split_patches(number, cache_dir, base == name),
        "stacked_digits": lambda: split_stacked_digits(number, cache_dir),
        "ring": lambda: split_points(synthetic.ring(samples=MAX_TRAIN), number),
        "grid": lambda: split_points(synthetic.grid(samples=MAX_TRAIN), number),
    }
    return splits[base]()


@dataclasses.dataclass(frozen=True)
class Case:
    """One evaluation of the trial: a dataset, a failure (or real data) of some severity, the number of the draw."""

    dataset: str
    failure: str
    severity: float
    draw: int


def cases_of(dataset: str, rounds: int) -> Iterator[Case]:
    """Lists the cases of a dataset, draw by draw: real data in each, all failures in a tenth, at least in one."""
    with_failures = max(1, rounds // FAILURE_ROUNDS)
    for draw in range(rounds):
        yield Case(dataset, REAL, 0, draw)
        if draw >= with_failures:
            continue
        for name, failure in failures_of(dataset).items():
            for severity in failure.severities:
                yield Case(dataset, name, severity, draw)


def failures_of(dataset: str) -> Mapping[str, Failure]:
    """Returns the failures that make sense for a dataset."""
    base = dataset.removeprefix(UNLABELLED)
    if base in ("ring", "grid"):
        return failures.POINTS
    if base == "stacked_digits":
        return {name: failures.IMAGES[name] for name in STACKED_FAILURES}
    return failures.IMAGES


def judge(case: Case, split: Split) -> dict[str, Any]:
    """Makes the samples of a case and returns a row of the draws: the verdict's labels and numbers."""
    rng = make_generator(case.draw, f"verdict trial/{case.failure}")
    if case.failure == REAL:
        samples = failures.fresh(split.real, 0, split.samples, rng)
    else:
        failure = failures_of(case.dataset)[case.failure]
        number = split.repeated if failure.repeats else split.samples
        samples = failure.make(split.real, case.severity, number, rng)
    start = time.process_time()
    result = split.evaluator.evaluate(samples)
    seconds = time.process_time() - start
    row = dataclasses.asdict(case) | {"samples": len(samples), "seconds": round(seconds, 3)}
    for label in GOOD_WORDS:
        # As text: a missing label and one that is null are the same.
        row[label] = str(result.verdict.get(label))
    return row | {name: result.metrics.get(name) for name in METRICS}


def run(folder: Path, cfg: DictConfig) -> list[Path]:
    """Runs the trial and writes its tables and charts.

    Args:
        folder: where they are written.
        cfg: the keys of conf/benchmark.yaml. The draws of `cfg.table`, a CSV file, are not repeated; new ones are added
            to it, so that a trial can be interrupted.

    Returns:
        The paths of the files.
    """
    draws_path = Path(cfg.table) if cfg.table else folder / "verdict_draws.csv"
    rows = read_draws(draws_path) if draws_path.exists() else []
    make_draws(rows, draws_path, cfg)
    summary = summarize(pd.DataFrame(rows))
    with atomic(folder / "verdict.csv") as path:
        write_csv(summary, path)
    with atomic(folder / "verdict.md") as path:
        path.write_text(tables(summary), encoding="utf-8")
    paths = [draws_path, folder / "verdict.csv", folder / "verdict.md"]
    return paths + draw_charts(summary, folder)


def read_draws(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of an earlier trial's draws.

    Raises:
        LabError: if the file has no draws.
    """
    words = dict.fromkeys(GOOD_WORDS, str)
    columns = {*(field.name for field in dataclasses.fields(Case)), "samples", *GOOD_WORDS, *METRICS}
    try:
        draws = pd.read_csv(path, dtype=words, keep_default_na=False, na_values=dict.fromkeys(METRICS, ""))
    except ValueError:
        draws = pd.DataFrame()
    if not columns <= set(draws.columns):
        raise LabError(
            f"{path} is not a table of draws.",
            "Name a file that what=verdict has written (verdict_draws.csv), or a new one.",
            code="invalid",
            key="table",
        )
    return [dict(zip(draws.columns, row, strict=True)) for row in draws.itertuples(index=False)]


def make_draws(rows: list[dict[str, Any]], path: Path, cfg: DictConfig) -> None:
    """Adds the rows of all cases that have none yet, and writes all rows to a CSV file now and then."""
    fields = [field.name for field in dataclasses.fields(Case)]
    done = {tuple(row[name] for name in fields) for row in rows}
    cases = [case for dataset in cfg.datasets for case in cases_of(dataset, cfg.rounds)]
    new_cases = [case for case in cases if dataclasses.astuple(case) not in done]
    saved = time.monotonic()
    key: tuple[str, int] | None = None
    split: Split | None = None
    try:
        for case in tqdm(new_cases, desc="verdicts", disable=None):
            base = case.dataset.removeprefix(UNLABELLED)
            number = case.draw // DRAWS_PER_SPLIT[base]
            if split is None or key != (case.dataset, number):
                key = (case.dataset, number)
                split = new_split(*key, cfg.data_dir, Path(cfg.cache_dir))
            rows.append(judge(case, split))
            if time.monotonic() - saved > SAVE_EVERY:
                _save(rows, path)
                saved = time.monotonic()
    finally:
        _save(rows, path)


def _save(rows: list[dict[str, Any]], path: Path) -> None:
    with atomic(path) as temporary:
        write_csv(pd.DataFrame(rows), temporary)


def summarize(draws: pd.DataFrame) -> pd.DataFrame:
    """Makes a row for each dataset, failure and severity: how often each word was said, and medians of numbers.

    `noticed` counts the draws in which a label of the failure's `noticed_by` has a word for a failure, `undecided`
    those in which none has, but one is borderline or unknown, and `good` those in which all labels are good. For real
    data all labels count.
    """
    rows = []
    for _, group in draws.groupby(["dataset", "failure", "severity"], sort=False):
        row: dict[str, Any] = {name: group[name].iloc[0] for name in ("dataset", "failure", "severity")}
        labels = tuple(GOOD_WORDS)
        if row["failure"] != REAL:
            labels = failures_of(row["dataset"])[row["failure"]].noticed_by
        row |= {"samples": int(group["samples"].median()), "draws": len(group)}
        row["good"] = int(_is_good(group, tuple(GOOD_WORDS)).sum())
        noticed = _is_noticed(group, labels)
        row["noticed"] = int(noticed.sum())
        row["undecided"] = int((~noticed & ~_is_good(group, labels)).sum())
        for label, words in WORDS.items():
            for word in words:
                row[f"{label}: {word}"] = int((group[label] == str(word)).sum())
        for name in METRICS:
            row[name] = pd.to_numeric(group[name]).astype(float).round(4).median()
        rows.append(row)
    return pd.DataFrame(rows)


def _is_good(draws: pd.DataFrame, labels: Sequence[str]) -> pd.Series:
    good = pd.Series(True, index=draws.index)
    for label in labels:
        good &= draws[label] == str(GOOD_WORDS[label])
    return good


def _is_noticed(draws: pd.DataFrame, labels: Sequence[str]) -> pd.Series:
    noticed = pd.Series(False, index=draws.index)
    for label in labels:
        noticed |= ~draws[label].isin([str(GOOD_WORDS[label]), *UNDECIDED])
    return noticed


def interval(successes: int, draws: int) -> tuple[float, float]:
    """Returns the 95 % confidence interval (Clopper and Pearson 1934) of a probability."""
    bounds = binomtest(successes, draws).proportion_ci()
    return bounds.low, bounds.high


def tables(summary: pd.DataFrame) -> str:
    """Makes the tables of docs/verdict.md, in Markdown: false alarms, and how grave failures are that are noticed.

    Args:
        summary: see `summarize`.
    """
    detailed = [_rates_table(summary, *names) for names in DETAILED]
    return "\n\n".join([_false_alarms(summary), *filter(None, detailed), *_noticed_tables(summary)]) + "\n"


def _false_alarms(summary: pd.DataFrame) -> str:
    lines = [
        "| real data | samples | draws | not good in all | at most (95 %) | "
        + " | ".join(f"not {word if label != 'copies' else 'free of copies'}" for label, word in GOOD_WORDS.items())
        + " |",
        "|---" * (5 + len(GOOD_WORDS)) + "|",
    ]
    for _, row in summary[summary["failure"] == REAL].iterrows():
        alarms = int(row["draws"] - row["good"])
        cells = [row["dataset"], f"{row['samples']:,}", row["draws"], alarms]
        cells.append(f"{interval(alarms, int(row['draws']))[1]:.1%}")
        for label, word in GOOD_WORDS.items():
            cells.append(int(row["draws"] - row[f"{label}: {word}"]))
        lines.append(_line(cells))
    return "\n".join(lines)


def _rates_table(summary: pd.DataFrame, of_images: str, of_points: str) -> str:
    """Makes a table of how often a failure is noticed: a row for each severity, a column for each dataset; '' if none.

    Args:
        summary: see `summarize`.
        of_images: the failure of images.
        of_points: the corresponding one of points.
    """
    rows = summary[summary["failure"].isin([of_images, of_points])]
    if rows.empty:
        return ""
    failure = failures.IMAGES[of_images]
    datasets = list(rows["dataset"].unique())
    lines = [_line([f"{of_images}: {failure.axis}", *datasets]), "|---" * (1 + len(datasets)) + "|"]
    for severity in sorted(rows["severity"].unique()):
        cells = [f"{severity:g}"]
        for dataset in datasets:
            found = rows[(rows["dataset"] == dataset) & (rows["severity"] == severity)]
            cells.append("" if found.empty else f"{found['noticed'].iloc[0]} of {found['draws'].iloc[0]}")
        lines.append(_line(cells))
    return "\n".join(lines)


def _noticed_tables(summary: pd.DataFrame) -> Iterator[str]:
    """Yields a table for images and one for points; what no dataset has is left out."""
    for listed in (failures.IMAGES, failures.POINTS):
        datasets = [name for name in summary["dataset"].unique() if failures_of(name).keys() <= listed.keys()]
        if not datasets:
            continue
        lines = [_line(["failure", "severity", "tried", *datasets]), "|---" * (3 + len(datasets)) + "|"]
        for name, failure in listed.items():
            tried = ", ".join(f"{severity:g}" for severity in failure.severities)
            cells = [name, failure.axis, tried]
            for dataset in datasets:
                rows = summary[(summary["dataset"] == dataset) & (summary["failure"] == name)]
                cells.append(_noticed_from(rows))
            lines.append(_line(cells))
        yield "\n".join(lines)


def _noticed_from(rows: pd.DataFrame) -> str:
    """Returns the severity from which on all draws notice a failure, or how many notice the gravest.

    Args:
        rows: of one dataset and failure, in the order of their severities.
    """
    if rows.empty:
        return ""
    first = None
    for _, row in rows[::-1].iterrows():
        if row["noticed"] < row["draws"]:
            break
        first = row["severity"]
    if first is not None:
        return f"{first:g}"
    gravest = rows.iloc[-1]
    return f"no ({gravest['noticed']} of {gravest['draws']})"


def _line(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def draw_charts(summary: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws how often failures are noticed against their severity: a chart for images and one for points."""
    paths = []
    for name, listed in (("images", failures.IMAGES), ("points", failures.POINTS)):
        kind = [dataset for dataset in summary["dataset"].unique() if failures_of(dataset).keys() <= listed.keys()]
        rows = summary[summary["dataset"].isin(kind) & (summary["failure"] != REAL)]
        if rows.empty:
            continue
        path = folder / f"verdict_{name}.png"
        with atomic(path) as temporary:
            noticed_chart(rows, listed).savefig(temporary, dpi=80)
        paths.append(path)
    return paths


def noticed_chart(rows: pd.DataFrame, listed: Mapping[str, Failure]) -> Figure:
    """Draws a panel for each failure with several severities, and in it a curve for each dataset.

    Args:
        rows: of `summarize`.
        listed: the failures in the order of the panels.
    """
    names = [name for name in listed if len(listed[name].severities) > 1 and (rows["failure"] == name).any()]
    columns = 4
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(15, 2.5 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, gridspec_kw={"hspace": 0.12}).flatten()
    datasets = list(rows["dataset"].unique())
    handles: dict[str, Any] = {}
    for axes, name in zip(panels, names, strict=False):
        severities = list(listed[name].severities)
        for i, dataset in enumerate(datasets):
            part = rows[(rows["dataset"] == dataset) & (rows["failure"] == name)]
            # Side by side, so that curves that coincide can be told apart.
            places = [
                severities.index(severity) + 0.08 * (i - (len(datasets) - 1) / 2) for severity in part["severity"]
            ]
            shares = part["noticed"] / part["draws"]
            bounds = [interval(*counts) for counts in zip(part["noticed"], part["draws"], strict=True)]
            below = [max(0.0, share - low) for share, (low, _) in zip(shares, bounds, strict=True)]
            above = [max(0.0, high - share) for share, (_, high) in zip(shares, bounds, strict=True)]
            marker = "os^vDPX*<"[i % 9]
            handle = axes.errorbar(
                places, shares, (below, above), color=f"C{i}", marker=marker, markersize=5, linewidth=1, elinewidth=0.5
            )
            handles.setdefault(dataset, handle)
        axes.set_xticks(range(len(severities)), [f"{severity:g}" for severity in severities])
        axes.set(ylim=(-0.05, 1.05), xlabel=listed[name].axis, yticks=[0, 0.5, 1])
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(datasets), frameon=False)
    figure.supylabel("share of draws in which it is noticed, with 95 % intervals", fontsize=10)
    return figure
