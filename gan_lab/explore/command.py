"""The command `explore`: loads a run, makes one latent vector experiment, describes it and writes its files."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from gan_lab.assembly.build import load
from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import join_lines, printable
from gan_lab.explore import results
from gan_lab.explore.experiments import has_row_per_class, run_experiment
from gan_lab.explore.latent_vectors import LatentSpec, SeededSampler
from gan_lab.explore.predictions import LabelPredictor, PredictionCount, compare_counts, count_predictions
from gan_lab.explore.request import ARITHMETIC, Request, check, file_stem, title
from gan_lab.explore.results import ExperimentResult
from gan_lab.explore.surface import write_surface

FRESH_SAMPLES = 1_000  # show how often each label is predicted anyway
MAX_TABLE_ROWS = 30  # results with more samples are not printed one by one
FRESH = "fresh vectors"


class LabelCounts(NamedTuple):
    """How often labels are predicted for one kind of results.

    Attributes:
        targets: the counts of the target labels, see `count_predictions`.
        non_targets: how often each label occurs that is no target label.
    """

    targets: list[PredictionCount]
    non_targets: Counter[int]


def explore(
    run: Run,
    request: Request,
    threads: int | str,
    data_dir: str | None,
    cache_dir: str | Path,
    trust: Sequence[str] = (),
    path: str | None = None,
) -> str:
    """Makes one experiment with the run's last checkpoint and writes its files into the run's `explore` folder.

    The same request gives the same files, byte for byte; another request gives other files.

    Args:
        run: a run with a checkpoint.
        request: the settings of the experiment.
        threads: the number of CPU threads, or `auto` for as many as the training used.
        data_dir: the folder of the data; None for the one that the training used.
        cache_dir: the folder of trained label classifiers.
        trust: see `gan_lab.assembly.build.load`.
        path: the packed file of the data; None for the one that the training used.

    Returns:
        A description of the results, and the paths of the files.

    Raises:
        LabError: if the run cannot be loaded, if settings do not go together, or if no vector of a class is found.
    """
    loaded, dataset = load(run, data_dir, trust, path, threads)
    member = request.member or 0
    module = loaded.member(member)
    check(request)
    checkpoint = f"step {module.step:,}"
    if loaded.replica_dims:
        checkpoint += f", member {member}"
    if request.op == "surface":
        headline = printable(f"{run.folder.absolute().name}, {checkpoint}")
        picture = write_surface(run, module, dataset, request.n, member, headline)
        return join_lines([f"{run.folder}, {checkpoint}. What D answers.", "Written:", f"  {picture}"])
    predictor = LabelPredictor(dataset, cache_dir)
    sampler = SeededSampler(module, predictor)
    a = parse_spec("a", request.a, request.by, predictor)
    b = parse_spec("b", request.b, request.by, predictor)
    if request.pairs > 1 and (a.label is None or b.label is None):
        raise LabError(
            "pairs repeats the experiment with other vectors of the same classes, so it needs classes.",
            "Name them, for example a=five b=three.",
            code="missing",
            key="pairs",
        )
    result, notes = run_experiment(request, a, b, sampler)

    headline = title(request, a, b, predictor)
    if has_row_per_class(request, a, module):
        headline = _class_grid_title(request, a, result)
    result.file_stem = file_stem(request, a, b, module.step)
    result.title = printable(f"{headline}. {run.folder.absolute().name}, {checkpoint}")
    lines = [f"{run.folder}, {checkpoint}. {headline}.", *notes]
    if len(result.names) <= MAX_TABLE_ROWS:
        lines += results.table(result, predictor)
    if request.op in ARITHMETIC:
        lines += _describe_predictions(request, a, b, sampler, result)
    files = results.write(result, run, predictor, module.step, join_lines(lines))
    lines.append("Written:")
    lines += [f"  {file}" for file in files]
    return join_lines(lines)


def parse_spec(key: str, word: str, by: str, predictor: LabelPredictor) -> LatentSpec:
    """Reads the value of `a` or `b`: whole numbers are seeds with `by=seed`, all else are classes."""
    if by == "seed" and re.fullmatch("[0-9]+", word):
        return LatentSpec(seed=int(word))
    return LatentSpec(label=predictor.parse_label(key, word))


def _class_grid_title(request: Request, a: LatentSpec, result: ExperimentResult) -> str:
    """Describes a conditional GAN's grid with a row per class."""
    if len(result.row_names) == result.classes:
        classes = "each class"
    else:
        classes = f"each of the first {len(result.row_names)} classes"
    return f"{request.n} vectors, starting at vector {a.seed}, with {classes} as target class: one row per class"


def _describe_predictions(
    request: Request, a: LatentSpec, b: LatentSpec, sampler: SeededSampler, result: ExperimentResult
) -> list[str]:
    """Counts the labels predicted for the results of several pairs, adds the counts to `result`, and describes them."""
    if request.pairs > 1:
        label_counts = _count_labels(request, a, b, sampler, result)
        for name, counts in label_counts.items():
            result.counts[name] = counts.targets
        return _describe_counts(request, label_counts, sampler.predictor)
    if a.label is not None and b.label is not None:
        return ["  A single pair is a single observation; pairs=100 repeats this with other vectors and counts."]
    return []


def _count_labels(
    request: Request, a: LatentSpec, b: LatentSpec, sampler: SeededSampler, result: ExperimentResult
) -> dict[str, LabelCounts]:
    """Counts how often each result, and samples of fresh latent vectors, are classified as a's class, b's, neither."""
    predictor = sampler.predictor
    # a and b may be of the same class, which then counts once.
    target_labels = [label for label in dict.fromkeys((a.label, b.label)) if label is not None]
    names = [predictor.class_name(label) for label in target_labels]

    def count(labels: Tensor, confidences: Tensor) -> LabelCounts:
        # The confidence of a nearest mode is 1 or 0 and tells nothing more.
        informative = confidences if predictor.classifier is not None else None
        targets = count_predictions(labels, informative, target_labels, names)
        non_targets: Counter[int] = Counter()
        for label in labels.tolist():
            if label not in target_labels:
                non_targets[label] += 1
        return LabelCounts(targets, non_targets)

    label_counts = {}
    # Each row has a, b, and from column 2 on the results.
    for column in range(2, result.columns):
        labels = result.labels[column :: result.columns]
        confidences = result.confidences[column :: result.columns]
        label_counts[result.names[column]] = count(labels, confidences)
    # Fresh vectors show what this GAN generates anyway; of a conditional one, for the same target class.
    module = sampler.module
    z = module.latent((FRESH_SAMPLES, module.latent_dim), make_generator(request.seed, "explore/fresh"))
    fresh_samples = sampler.sample(sampler.with_target_label(z, a.label))
    label_counts[FRESH] = count(*predictor(fresh_samples))
    return label_counts


def _describe_counts(request: Request, label_counts: dict[str, LabelCounts], predictor: LabelPredictor) -> list[str]:
    """Returns the counts of each result, then whether they differ from those of fresh vectors."""
    lines = [
        f"  {request.pairs:,} pairs of different vectors, each classified with confidence ≥ {request.confidence:g}. "
        "Predicted classes of the results:"
    ]
    for name, (targets, non_targets) in label_counts.items():
        lines.append(f"  {name}")
        width = max(len(count.prediction) for count in targets)
        lines += [f"    {count.prediction:<{width}}  {count}" for count in targets]
        if non_targets:
            # The last line counts what is in no target class.
            most_frequent = []
            for label, times in non_targets.most_common(3):
                most_frequent.append(f"{predictor.class_name(label)} ({times:,})")
            lines[-1] += f"; most often {', '.join(most_frequent)}"
    # The last count but one is that of all target labels together, or that of the only one.
    fresh = label_counts[FRESH].targets[-2]
    for name, counts in label_counts.items():
        if name != FRESH:
            lines.append(f"  {compare_counts(name, counts.targets[-2], fresh)}")
    if predictor.classifier is not None:
        images = len(predictor.dataset.heldout)
        accuracy = predictor.classifier.accuracy
        lines.append(f"  The label classifier is right on {accuracy:.1%} of {images:,} held-out real images.")
    return lines
