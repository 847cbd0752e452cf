"""The trial of the verdict: how often it finds fault with fresh real data, and how often it notices each failure.

A draw splits real data anew into a reference, which the verdict gets as held-out data, and fresh samples, which stand
for a generator: as they are, and with each failure of `gan_lab.benchmark.failures`.
"""

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig
from scipy.stats import binomtest
from torch import Tensor
from torchvision.utils import make_grid
from tqdm import tqdm

from gan_lab.benchmark import failures
from gan_lab.benchmark.failures import Failure, RealSamples
from gan_lab.core.csv_table import write_csv
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.rng import make_generator
from gan_lab.core.terminal import say
from gan_lab.data import color, images, synthetic
from gan_lab.data.dataset import Dataset, Part, StackedPart
from gan_lab.evaluation import words
from gan_lab.evaluation.classifier import LabelClassifier, label_classifier
from gan_lab.evaluation.feature_spaces import PixelFeatures
from gan_lab.evaluation.metrics.registry import MetricInputs
from gan_lab.evaluation.readers import Reading
from gan_lab.evaluation.verdict import VerdictEvaluator
from gan_lab.plotting.style import Figure

REAL = "real data"  # the case without a failure
FAILURE_ROUNDS = 10  # of so many draws one is also tried with all failures
SLOW_FAILURE_ROUNDS = 40  # the same for datasets of which a verdict takes a second or more
SLOW = ("mnist", "patches", "stacked_digits")
SAVE_EVERY = 30  # seconds between two writes of the draws
UNLABELLED = "unlabelled_"  # before the name of a dataset: the same without labels

FOLDS = 5  # digits: which fifth is held out
MAX_TRAIN = 10_000  # samples of the train part
IMAGES_JUDGED = 1_000  # of 5,000 fresh ones of MNIST and 2,000 of patches, so that they differ from draw to draw
POINTS_JUDGED = 2_500
STACKED_TRAIN = 128_000  # stacked images of the train part
STACKED_REFERENCE = 10_000  # stacked images of the reference
STACKED_FRESH = 100_000  # stacked images of which 26,000 are judged
STACKED_JUDGED = 26_000
POINTS_FRESH = 100_000  # points of which those that are judged are drawn

GOOD_WORDS: Mapping[str, Any] = {
    "collapse": "covered",
    "within_modes": "varied",
    "likeness": "good",
    "copies": False,
}
WORDS: Mapping[str, Sequence[Any]] = {
    "collapse": ("covered", "partial", "collapsed", "unknown"),
    "within_modes": ("varied", "narrow", "collapsed", "unknown"),
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
# The numbers of real data in the table of ranges: what decides a word, the head of its column, and its threshold.
RANGES = (
    ("junk", "junk", f"above {words.MUCH_JUNK}"),
    ("agreement", "agreement", "–"),
    ("variety_within", "variety", f"below {words.NARROW_VARIETY}"),
    ("coverage_within", "coverage", f"below {words.NARROW_COVERAGE_WITHIN}"),
    ("mode_width", "width", f"below {words.NARROW_WIDTH}"),
    ("two_sample_auc", "two-sample AUC", f"above {words.UNLIKE_AUC}"),
    ("copy_share", "copy share", f"above {words.COPIES_SHARE}"),
)
# The failures whose rates are a table in full: of images, and of points.
DETAILED = (("copies", "copies"), ("less spread", "narrower modes"), ("independent pixels", "uniform points"))
# The failures of the charts.
CHARTED = (
    *("copies", "copies, noise 0.05", "few images of each class", "less spread"),
    *("part of each class missing", "missing classes", "one class too often", "one class too rare"),
    *("independent pixels", "added noise", "blur", "mixtures of two images"),
)
CHARTED_POINTS = (
    *("copies", "narrower modes", "narrow, with tails", "missing modes"),
    *("one mode too often", "uniform points", "wider modes", "shifted modes"),
)
# The failures of which samples are shown.
EXAMPLES = (
    *("less spread", "independent pixels", "added noise", "blur"),
    *("few grey levels", "JPEG", "checkerboard", "mixtures of two images"),
)


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


class WordsEvaluator(VerdictEvaluator):
    """Computes only what the words depend on; the papers' other metrics would take most of the time.

    Args:
        dataset: real data.
        label_classifier: labels images; None for points, and for data without labels.
    """

    def __init__(self, dataset: Dataset, label_classifier: LabelClassifier | None):
        super().__init__(dataset, label_classifier, PixelFeatures())

    def _feature_inputs(self, fake: Tensor) -> MetricInputs:
        return {}

    def _within_inputs(self, reading: Reading, order: Tensor) -> MetricInputs:
        inputs = super()._within_inputs(reading, order)
        if self.dataset.base is not None:
            # Of stacked images half of the time goes into comparing 2,500 of them with 60,000 possible originals.
            inputs["tested_points"] = inputs["tested_points"][:IMAGES_JUDGED]
        return inputs


@functools.lru_cache(maxsize=FOLDS)
def labelled_images(name: str, fold: int, data_dir: str, cache_dir: Path) -> tuple[Dataset, LabelClassifier]:
    """Returns images and their label classifier, which has learnt from the train part only.

    Args:
        name: digits, mnist or patches.
        fold: of digits, which fifth is held out.
        data_dir: the folder of MNIST.
        cache_dir: the folder of label classifiers.
    """
    datasets = {
        "digits": lambda: digits_fold(fold),
        "mnist": lambda: images.mnist(data_dir),
        "patches": color.patches,
    }
    dataset = datasets[name]()
    return dataset, label_classifier(dataset, cache_dir)


def split_images(dataset: Dataset, number: int, classifier: LabelClassifier | None) -> Split:
    """Splits the held-out images of a dataset in two: the verdict's reference, and fresh images.

    Of digits 180 images are fresh, of MNIST 5,000, of patches 2,000; of the training images at most 10,000 are taken.

    Args:
        dataset: images with labels.
        number: of the split.
        classifier: labels them; None: the verdict does not get the labels.
    """
    rng = make_generator(number, "verdict trial/split")
    heldout, fresh = _halves(dataset.heldout, rng)
    train = _subset(dataset.train, torch.randperm(len(dataset.train), generator=rng)[:MAX_TRAIN])
    assert train.labels is not None
    assert fresh.labels is not None
    known = Dataset(Part(train.values), Part(heldout.values))
    if classifier is not None:
        known = Dataset(train, heldout, classes=dataset.classes)
    real = RealSamples(train.values, train.labels, fresh.values, fresh.labels, len(dataset.classes))
    samples = min(len(fresh), IMAGES_JUDGED)
    return Split(WordsEvaluator(known, classifier), real, samples, IMAGES_JUDGED)


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
    stacked = _stack(fresh, STACKED_FRESH, rng)
    indices = torch.arange(STACKED_FRESH)
    some = indices[:MAX_TRAIN]
    real = RealSamples(train[some], train.labels_of(some), stacked[indices], stacked.labels_of(indices), len(classes))
    return Split(WordsEvaluator(known, classifier), real, STACKED_JUDGED, STACKED_JUDGED)


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
    return Split(WordsEvaluator(dataset, None), real, POINTS_JUDGED, POINTS_JUDGED)


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
DRAWS_PER_SPLIT = {"digits": 1, "mnist": 10, "patches": 4, "stacked_digits": 10, "ring": 1_000, "grid": 1_000}
NUMBER_OF_MODES = {"digits": 10, "mnist": 10, "patches": 2, "stacked_digits": 1_000, "ring": 8, "grid": 25}
DATASETS = (*DRAWS_PER_SPLIT, *(f"{UNLABELLED}{name}" for name in ("digits", "mnist", "patches")))


def new_split(name: str, number: int, data_dir: str, cache_dir: Path) -> Split:
    """Returns a split of a dataset by its name in `DATASETS`."""
    base = name.removeprefix(UNLABELLED)
    if base == "stacked_digits":
        return split_stacked_digits(number, cache_dir)
    if base in ("ring", "grid"):
        return split_points(getattr(synthetic, base)(samples=MAX_TRAIN), number)
    fold = number % FOLDS if base == "digits" else 0
    dataset, classifier = labelled_images(base, fold, data_dir, cache_dir)
    return split_images(dataset, number, classifier if base == name else None)


@dataclasses.dataclass(frozen=True)
class Case:
    """One evaluation of the trial: a dataset, a failure (or real data) of some severity, the number of the draw."""

    dataset: str
    failure: str
    severity: float
    draw: int


def cases_of(dataset: str, rounds: int) -> Iterator[Case]:
    """Lists the cases of a dataset: real data in every draw, then all failures in a part of the draws, at least one."""
    for draw in range(rounds):
        yield Case(dataset, REAL, 0, draw)
    for draw in range(max(1, rounds // (SLOW_FAILURE_ROUNDS if is_slow(dataset) else FAILURE_ROUNDS))):
        for name, failure in failures_of(dataset).items():
            for severity in failure.severities:
                if not failure.removes_modes or severity < NUMBER_OF_MODES[dataset.removeprefix(UNLABELLED)]:
                    yield Case(dataset, name, severity, draw)


def is_slow(dataset: str) -> bool:
    """Returns whether a verdict on a dataset takes a second or more."""
    return dataset.removeprefix(UNLABELLED) in SLOW


def failures_of(dataset: str) -> Mapping[str, Failure]:
    """Returns the failures that make sense for a dataset."""
    base = dataset.removeprefix(UNLABELLED)
    if base in ("ring", "grid"):
        return failures.POINTS
    if base == "stacked_digits":
        return {name: failures.IMAGES[name] for name in STACKED_FAILURES}
    return failures.IMAGES


def samples_of(case: Case, split: Split) -> Tensor:
    """Makes the samples of a case."""
    rng = make_generator(case.draw, f"verdict trial/{case.failure}")
    if case.failure == REAL:
        return failures.fresh(split.real, 0, split.samples, rng)
    failure = failures_of(case.dataset)[case.failure]
    return failure.make(split.real, case.severity, split.repeated if failure.repeats else split.samples, rng)


def judge(case: Case, split: Split) -> dict[str, Any]:
    """Evaluates the samples of a case and returns a row of the draws: the verdict's labels and numbers."""
    samples = samples_of(case, split)
    start = time.process_time()
    result = split.evaluator.evaluate(samples)
    seconds = time.process_time() - start
    row = dataclasses.asdict(case) | {"samples": len(samples), "seconds": round(seconds, 3)}
    for label in GOOD_WORDS:
        # As text: a missing label and one that is null are the same.
        row[label] = str(result.verdict.get(label))
    return row | dict.fromkeys(METRICS) | result.metrics


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
    paths = [draws_path, folder / "verdict.csv", folder / "verdict.md", *draw_charts(summary, folder)]
    if "digits" in set(summary["dataset"]):
        paths.append(draw_examples(summary, new_split("digits", 0, cfg.data_dir, Path(cfg.cache_dir)), folder))
    return paths


def read_draws(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of an earlier trial's draws.

    Raises:
        LabError: if the file has no draws.
    """
    as_text = dict.fromkeys(GOOD_WORDS, str)
    columns = {*(field.name for field in dataclasses.fields(Case)), "samples", *GOOD_WORDS, *METRICS}
    try:
        draws = pd.read_csv(path, dtype=as_text, keep_default_na=False, na_values=[""])
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


def available(datasets: Sequence[str], data_dir: str) -> list[str]:
    """Leaves MNIST out where it can't be had, and says so: before the trial, not after hours of it.

    Raises:
        LabError: if nothing remains.
    """
    try:
        if any(name.endswith("mnist") for name in datasets):
            images.mnist(data_dir)
    except LabError as error:
        others = [name for name in datasets if not name.endswith("mnist")]
        if not others:
            raise
        say(f"Without MNIST: {error}", stderr=True)
        return others
    return list(datasets)


def make_draws(rows: list[dict[str, Any]], path: Path, cfg: DictConfig) -> None:
    """Adds the rows of all cases that have none yet, and writes all rows to a CSV file now and then."""
    fields = [field.name for field in dataclasses.fields(Case)]
    done = {tuple(row[name] for name in fields) for row in rows}
    cases = [case for dataset in available(cfg.datasets, cfg.data_dir) for case in cases_of(dataset, cfg.rounds)]
    # Real data of all datasets first; then the slow datasets last and draw by draw, so that none has to be finished.
    cases.sort(key=lambda case: case.failure != REAL and (1 + (1 + case.draw) * is_slow(case.dataset)))
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
    data all labels count, and the lowest and highest numbers are there, too.
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
        for label, possible in WORDS.items():
            for word in possible:
                row[f"{label}: {word}"] = int((group[label] == str(word)).sum())
        for name in METRICS:
            values = pd.to_numeric(group[name]).astype(float)
            row[name] = round(values.median(), 4)
            if row["failure"] == REAL:
                row[f"{name}: lowest"], row[f"{name}: highest"] = round(values.min(), 4), round(values.max(), 4)
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
    parts = [_false_alarms(summary), _ranges(summary), *filter(None, detailed), *_noticed_tables(summary)]
    return "\n\n".join(parts) + "\n"


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
        cells.append(f"{100 * interval(alarms, int(row['draws']))[1]:.1f} %")
        for label, word in GOOD_WORDS.items():
            cells.append(int(row["draws"] - row[f"{label}: {word}"]))
        lines.append(_line(cells))
    return "\n".join(lines)


def _ranges(summary: pd.DataFrame) -> str:
    """Makes a table of the lowest and the highest number of real data, beside the thresholds."""
    lines = [_line(["real data", *(head for _, head, _ in RANGES)]), "|---" * (1 + len(RANGES)) + "|"]
    lines.append(_line(["not good", *(threshold for _, _, threshold in RANGES)]))
    for _, row in summary[summary["failure"] == REAL].iterrows():
        cells = [row["dataset"]]
        for name, _, _ in RANGES:
            low, high = row[f"{name}: lowest"], row[f"{name}: highest"]
            cells.append("" if pd.isna(low) else f"{low:.3f}–{high:.3f}")
        lines.append(_line(cells))
    return "\n".join(lines)


def _rates_table(summary: pd.DataFrame, of_images: str, of_points: str) -> str:
    """Makes a table of how often a failure is noticed: a row for each severity, a column for each dataset; '' if none.

    The first row is for real data: how often one of the labels that notice the failure found fault with them.

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
    real = summary[summary["failure"] == REAL].set_index("dataset")
    alarms = []
    for dataset in datasets:
        row = real.loc[dataset] if dataset in real.index else None
        (label,) = failure.noticed_by[:1]
        number = 0 if row is None else row["draws"] - row[f"{label}: {GOOD_WORDS[label]}"]
        alarms.append("" if row is None else f"{number} of {row['draws']}")
    lines.append(_line(["none (real data)", *alarms]))
    for severity in sorted(rows["severity"].unique()):
        cells = [failure.text(severity)]
        for dataset in datasets:
            found = rows[(rows["dataset"] == dataset) & (rows["severity"] == severity)]
            cells.append("" if found.empty else f"{found['noticed'].iloc[0]} of {found['draws'].iloc[0]}")
        lines.append(_line(cells))
    return "\n".join(lines)


def _noticed_tables(summary: pd.DataFrame) -> Iterator[str]:
    """Yields a table for images and one for points; what no dataset has is left out."""
    for listed in (failures.IMAGES, failures.POINTS):
        with_failures = summary[summary["failure"] != REAL]["dataset"].unique()
        datasets = [name for name in with_failures if failures_of(name).keys() <= listed.keys()]
        if not datasets:
            continue
        heads = [f"{name}, {_draws_with_failures(summary, name)}" for name in datasets]
        lines = [_line(["failure", "severity", "tried", *heads]), "|---" * (3 + len(datasets)) + "|"]
        for name, failure in listed.items():
            cells = [name, failure.axis, ", ".join(map(failure.text, failure.severities))]
            for dataset in datasets:
                rows = summary[(summary["dataset"] == dataset) & (summary["failure"] == name)]
                cells.append(_noticed_from(rows, failure))
            lines.append(_line(cells))
        yield "\n".join(lines)


def _draws_with_failures(summary: pd.DataFrame, dataset: str) -> str:
    """Returns how many draws of a dataset were tried with a failure: '1 draw', '20 draws', '4 to 5 draws'."""
    draws = summary[(summary["dataset"] == dataset) & (summary["failure"] != REAL)]["draws"]
    number = f"{draws.min()}" if draws.nunique() == 1 else f"{draws.min()} to {draws.max()}"
    return f"{number} draw{'s' if draws.max() > 1 else ''}"


def _noticed_from(rows: pd.DataFrame, failure: Failure) -> str:
    """Returns the severity from which on all draws notice a failure, or how many notice the gravest.

    Args:
        rows: of one dataset and failure, in the order of their severities.
        failure: the failure.
    """
    if rows.empty:
        return ""
    first = None
    for _, row in rows[::-1].iterrows():
        if row["noticed"] < row["draws"]:
            break
        first = row["severity"]
    if first is not None:
        return failure.text(first) if len(failure.severities) > 1 else "yes"
    gravest = rows.iloc[-1]
    return f"no ({gravest['noticed']} of {gravest['draws']})"


def _line(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def draw_charts(summary: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws how often failures are noticed against their severity: a chart for images and one for points."""
    paths = []
    charts = (("images", failures.IMAGES, CHARTED), ("points", failures.POINTS, CHARTED_POINTS))
    for name, listed, charted in charts:
        kind = [dataset for dataset in summary["dataset"].unique() if failures_of(dataset).keys() <= listed.keys()]
        rows = summary[summary["dataset"].isin(kind)]
        if not rows["failure"].isin(charted).any():
            continue
        path = folder / f"verdict_{name}.png"
        with atomic(path) as temporary:
            noticed_chart(rows, listed, charted).savefig(temporary, dpi=90)
        paths.append(path)
    return paths


def noticed_chart(rows: pd.DataFrame, listed: Mapping[str, Failure], charted: Sequence[str]) -> Figure:
    """Draws a panel for each failure, and in it a curve for each dataset, which begins with real data.

    Args:
        rows: of `summarize`.
        listed: the failures by name.
        charted: the names of those that are drawn, in the order of the panels.
    """
    names = [name for name in charted if (rows["failure"] == name).any()]
    columns = 4
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(13, 2.6 * lines + 0.7), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).flatten()
    datasets = list(rows["dataset"].unique())
    handles: dict[str, Any] = {}
    for number, (axes, name) in enumerate(zip(panels, names, strict=False)):
        failure = listed[name]
        ticks = ["real", *(failure.text(severity).replace(" %", "%") for severity in failure.severities)]
        for i, dataset in enumerate(datasets):
            part = rows[(rows["dataset"] == dataset) & rows["failure"].isin([REAL, name])]
            if not (part["failure"] == name).any():
                continue
            # Of real data every word that is not good counts, whichever label has it.
            is_real = part["failure"] == REAL
            noticed = part["noticed"].where(~is_real, part["draws"] - part["good"])
            places = [
                0 if real else 1 + failure.severities.index(severity)
                for real, severity in zip(is_real, part["severity"], strict=True)
            ]
            # A little apart, so that curves that coincide can be told apart.
            shift = i - (len(datasets) - 1) / 2
            (handles[dataset],) = axes.plot(
                [place + 0.06 * shift for place in places],
                noticed / part["draws"] * 100 + 1.2 * shift,
                color=f"C{i}",
                marker="os^vDPX*<"[i % 9],
                markersize=5,
                linewidth=1.3,
                alpha=0.85,
            )
        axes.set_xticks(range(len(ticks)), ticks, fontsize=9)
        axes.set(ylim=(-6, 106), yticks=[0, 50, 100], yticklabels=["0 %", "50 %", "100 %"])
        axes.set_xlabel(failure.axis, fontsize=9)
        axes.set_title(name, fontsize=11, fontweight="bold", loc="left")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if number % columns == 0:
            axes.set_ylabel("noticed in … of the draws", fontsize=9)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(datasets), frameon=False)
    return figure


def draw_examples(summary: pd.DataFrame, split: Split, folder: Path) -> Path:
    """Draws what the failures look like: digits of each severity, and in how many draws it was noticed."""
    path = folder / "verdict_examples.png"
    with atomic(path) as temporary:
        examples_chart(summary[summary["dataset"] == "digits"], split).savefig(temporary, dpi=90)
    return path


def examples_chart(rows: pd.DataFrame, split: Split) -> Figure:
    """Draws 9 samples of each severity of the failures in `EXAMPLES`: a row for each failure, from harmless to grave.

    What all draws notice has a red title, what none does a grey one.

    Args:
        rows: of `summarize`, of one dataset.
        split: of that dataset.
    """
    columns = 1 + max(len(failures.IMAGES[name].severities) for name in EXAMPLES)
    figure = Figure(figsize=(1.2 * columns + 1.9, 1.36 * len(EXAMPLES)), layout="constrained")
    panels = figure.subplots(len(EXAMPLES), columns, squeeze=False)
    for line, name in zip(panels, EXAMPLES, strict=True):
        failure = failures.IMAGES[name]
        cases = [Case("digits", REAL, 0, 0), *(Case("digits", name, severity, 0) for severity in failure.severities)]
        for axes in line:
            axes.set_axis_off()
        for axes, case in zip(line, cases, strict=False):
            row = rows[(rows["failure"] == case.failure) & (rows["severity"] == case.severity)]
            samples = samples_of(case, split)[:9]
            axes.imshow(make_grid(samples, 3, pad_value=0.5)[0], cmap="gray", vmin=0, vmax=1)
            axes.set_title("real", fontsize=9)
            if case.failure == REAL or not len(row):
                continue
            noticed, draws = int(row["noticed"].iloc[0]), int(row["draws"].iloc[0])
            colour = {0: "0.5", draws: "C3"}.get(noticed, "black")
            axes.set_title(f"{failure.text(case.severity)}: {noticed} of {draws}", fontsize=9, color=colour)
        line[0].text(-0.15, 0.5, f"{name}\n({failure.axis})", transform=line[0].transAxes, ha="right", va="center")
    return figure
