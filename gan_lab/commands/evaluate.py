"""Evaluates a run again, or samples that another program made: the verdict, and each metric's mean and spread."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lab.assembly.build import load
from gan_lab.commands.next_step import after_training, for_other_generators
from gan_lab.commands.run_generator import leave_out_average
from gan_lab.comparison.run_page import write_run_page
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic
from gan_lab.core.run_folder import Run, in_folder
from gan_lab.core.terminal import join_lines, say
from gan_lab.data.dataset import Dataset, Part
from gan_lab.evaluation import aggregate
from gan_lab.evaluation.metrics.custom import UserMetric
from gan_lab.evaluation.metrics.registry import MetricValues
from gan_lab.evaluation.verdict import (
    EvaluationResult,
    VerdictEvaluator,
    evaluator_for,
    protocol_samples,
    too_few_samples,
)
from gan_lab.pack.sample_request import MAX_VALUES, SampleRequest
from gan_lab.pack.samples import class_numbers_of, read_samples
from gan_lab.plotting.samples import compare_samples, mode_frequencies, nearest_neighbours
from gan_lab.plotting.style import Figure
from gan_lab.training.gan_module import GANModule
from gan_lab.training.sampling import fresh_labels, fresh_samples

# In the pictures of samples from another program:
IMAGES_SHOWN = 64
POINTS_SHOWN = 2_500
NEIGHBOURS_SHOWN = 12


def _no_user_metrics(dataset: Dataset) -> Mapping[str, UserMetric]:
    return {}


def evaluate(
    run: Run,
    samples: int | None,
    seeds: int,
    threads: int | str,
    data_dir: str | None,
    cache_dir: str,
    trust: Sequence[str] = (),
    path: str | None = None,
    features: str | None = None,
    member: int | None = None,
    ema: bool = True,
    user_metrics: Callable[[Dataset], Mapping[str, UserMetric]] = _no_user_metrics,
) -> dict[str, Any]:
    """Evaluates the run's last checkpoint, and writes `evaluation.json` and the run's page.

    Args:
        run: the run.
        samples: per evaluation; None: as many as papers take, see `gan_lab.evaluation.verdict.protocol_samples`.
        seeds: the number of evaluations; each draws its own latent vectors, everything else stays.
        threads: of the CPU, see `gan_lab.assembly.build.load`.
        data_dir: see `gan_lab.assembly.build.load`.
        cache_dir: the folder of the label classifier's file.
        trust: see `gan_lab.assembly.build.load`.
        path: see `gan_lab.assembly.build.load`.
        features: the space in which samples are compared, see `gan_lab.evaluation.feature_spaces.features_of`.
        member: of replicas, the one to evaluate; None: all that have not failed.
        ema: of a run with remedy=[ema], whether samples come from the average of G's weights or from the weights.
        user_metrics: returns the user's own metrics by name, see `gan_lab.assembly.instantiate.build_user_metrics`.

    Returns:
        `run`, `step`, `samples`, `seeds`, `features` (in words), `weights` (average or own), `members`; by metric
        `mean`, `spread` (standard deviation over the seeds, or of several members over their means; None for one) and
        `real_data`; under `undefined` the metrics that some evaluation does not define, with the reason (of several
        members, these are left out of a member's mean); `verdicts`, one for each member and seed; `reference`, the real
        samples in feature space, in words; `next_step`, what to try after the first of the verdicts.

    Raises:
        LabError: if the run has no readable checkpoint, its data are missing, or ema=False and it has no average.
    """
    module, dataset = load(run, data_dir, trust, path, threads)
    if not ema:
        leave_out_average(module, run)
    _warn_of_few_samples(samples, dataset)
    evaluator = evaluator_for(dataset, Path(cache_dir), features, user_metrics(dataset))
    number = samples or protocol_samples(dataset)
    members = module.members() if member is None else [(member, module.member(member))]
    results: dict[int, list[EvaluationResult]] = {}
    for i, network in members:
        results[i] = [_evaluate_once(evaluator, network, number, seed) for seed in range(seeds)]
    rows = [_defined(member_results) for member_results in results.values()]
    # The rows of one member are its seeds, those of several members their means.
    values = [aggregate.mean(row) for row in rows] if len(rows) > 1 else rows[0]
    undefined: dict[str, str] = {}
    verdicts = []
    for i, member_results in results.items():
        for result in member_results:
            undefined |= result.undefined
            verdicts.append({"member": i, **result.verdict})
    evaluation = {
        "run": str(run.folder),
        "step": module.step,
        "samples": number,
        "seeds": seeds,
        "features": evaluator.features.name,
        "reference": evaluator.reference,
        "weights": "own" if module.averaged is None else "average",
        "members": list(results),
        "mean": aggregate.mean(values),
        "spread": aggregate.spread(values),
        "real_data": next(iter(results.values()))[0].real,
        "undefined": undefined,
        "verdicts": verdicts,
        "next_step": _next_step(run, next(iter(results.values()))[0], are_images=len(dataset.shape) == 3),
    }
    run.write_json(run.evaluation.name, evaluation)
    write_run_page(run)
    return evaluation


def evaluate_samples(
    generated: SampleRequest,
    dataset: Dataset,
    samples: int | None,
    parts: int,
    cache_dir: str,
    features: str | None,
    user_metrics: Callable[[Dataset], Mapping[str, UserMetric]],
    folder: Path,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluates samples of a file or folder, and writes `evaluation.json` and pictures.

    Args:
        generated: which samples; its shape and limit are set here.
        dataset: what they are compared with.
        samples: per evaluation; None: as many as papers take, or all if there are fewer.
        parts: of how many disjoint sets of so many samples each is evaluated by itself, at most.
        cache_dir, features, user_metrics: see `evaluate`.
        folder: where the files go.
        notes: sentences for the user about the data.

    Returns:
        See `evaluate`; instead of a run, its step, weights and members `generated`, the path, `total`, how many samples
        are there, and `notes`.

    Raises:
        LabError: if the samples can't be read, are of another form than the data, or fewer than asked for.
    """
    number = samples or protocol_samples(dataset)
    # As many parts as fit into memory; one is refused if it doesn't.
    parts = max(1, min(parts, MAX_VALUES // (number * math.prod(dataset.shape))))
    request = generated._replace(shape=dataset.shape, limit=parts * number)
    sample_set = read_samples(request)
    labels, label_notes = class_numbers_of(sample_set, dataset.classes, request.labels == "folders")
    available = len(sample_set.values)
    if samples is not None and samples > available:
        raise LabError(
            f"samples={samples}, but {request} has {available:,}.", "Leave it out.", code="conflict", key="samples"
        )
    number = min(number, available)
    _warn_of_few_samples(number, dataset)
    evaluator = evaluator_for(dataset, Path(cache_dir), features, user_metrics(dataset))
    every_sample = Part(sample_set.values, labels)
    results = []
    for indices in torch.arange(available).split(number)[: available // number]:
        values = every_sample[indices]
        results.append(evaluator.evaluate(values, None if labels is None else labels[indices]))
    rows = _defined(results)
    evaluation = {
        "generated": str(request.path),
        "total": sample_set.total,
        "samples": number,
        "seeds": len(results),
        "features": evaluator.features.name,
        "reference": evaluator.reference,
        "mean": aggregate.mean(rows),
        "spread": aggregate.spread(rows),
        "real_data": results[0].real,
        "undefined": {name: reason for result in results for name, reason in result.undefined.items()},
        "notes": [*notes, *sample_set.notes, *label_notes],
        "verdicts": [result.verdict for result in results],
        "next_step": for_other_generators(results[0].verdict, results[0].metrics),
    }
    for name, figure in _figures(evaluator, results[0], every_sample).items():
        with atomic(folder / f"{name}.png") as path:
            figure.savefig(path)
    Run(folder).write_json("evaluation.json", evaluation)
    return evaluation


def _warn_of_few_samples(samples: int | None, dataset: Dataset) -> None:
    warning = too_few_samples(samples, dataset)
    if warning:
        say(warning)


def _next_step(run: Run, result: EvaluationResult, are_images: bool) -> str | None:
    """Returns what to try next; None as well if the run's summary, which says how it was trained, is missing."""
    summary = run.read_summary()
    if not summary:
        return None
    verdict = {**summary.get("verdict", {}), **result.verdict}
    return after_training(verdict, result.metrics, summary, are_images)


def _figures(evaluator: VerdictEvaluator, result: EvaluationResult, samples: Part) -> dict[str, Figure]:
    """Draws some of the samples beside real ones, their modes, and images above their nearest originals."""
    dataset = evaluator.dataset
    are_images = len(dataset.shape) == 3
    real = evaluator.heldout_samples[: IMAGES_SHOWN if are_images else POINTS_SHOWN]
    figures = {"samples": compare_samples(_some(samples, len(real)), real, dataset, "generated")}
    if len(result.counts):
        title = f"Modes in {result.metrics['samples']:,} samples"
        figures["labels"] = mode_frequencies(result.counts, evaluator.shares, dataset.classes, title)
    shown = _some(samples, NEIGHBOURS_SHOWN)
    if are_images and torch.isfinite(shown).all():
        figures["neighbours"] = nearest_neighbours(shown, evaluator.nearest_originals(shown))
    return figures


def _some(samples: Part, most: int) -> Tensor:
    """Returns samples spread evenly over a file that may be sorted by class, `(n, *shape)`."""
    return samples[torch.linspace(0, len(samples) - 1, min(most, len(samples))).long()]


def _evaluate_once(evaluator: VerdictEvaluator, module: GANModule, number: int, seed: int) -> EvaluationResult:
    samples = fresh_samples(module, number, "evaluate", seed)
    target_labels = fresh_labels(module, number, "evaluate", seed)
    return evaluator.evaluate(samples, target_labels)


def _defined(results: Sequence[EvaluationResult]) -> list[MetricValues]:
    """Returns the metrics of each result, without those that one of the results does not define."""
    undefined = {name for result in results for name in result.undefined}
    rows = []
    for result in results:
        rows.append({name: value for name, value in result.metrics.items() if name not in undefined})
    return rows


def describe(evaluation: dict[str, Any]) -> str:
    """Returns an evaluation as a table for a terminal."""
    members = evaluation.get("members", [])
    has_members = len(members) > 1
    lines = [_headline(evaluation)]
    lines += [f"  {note}" for note in evaluation.get("notes", [])]
    if evaluation.get("weights") == "average":
        lines.append("  Samples come from the moving average of G's weights.")
    lines.append(f"  Samples are compared by {evaluation['features']} with {evaluation['reference']}.")
    lines.append(f"  {'':<20}{'mean':>12}{'± spread':>12}{'fresh real':>12}")
    for name, mean in evaluation["mean"].items():
        spread = evaluation["spread"][name]
        real = evaluation["real_data"].get(name)
        lines.append(f"  {name:<20}{_cell(mean):>12}{_cell(spread):>12}{_cell(real):>12}")
    for name, reason in evaluation["undefined"].items():
        lines.append(f"  {name:<20}{'undefined':>12}  {reason}")
    # Of several members the first seed's verdict: all would be too many.
    step = evaluation["seeds"] if has_members else 1
    for verdict in evaluation["verdicts"][::step]:
        member = f"member {verdict['member']}: " if has_members else ""
        # The numbers behind the words are in a line of their own.
        lines += [f"  {line}" for line in f"{member}{verdict['sentence']}".splitlines()]
    if evaluation["next_step"]:
        # Samples of other programs have no run.
        folder = Path(evaluation.get("run", ""))
        lines.append(f"  {in_folder(evaluation['next_step'], folder)}")
    return join_lines(lines)


def _headline(evaluation: dict[str, Any]) -> str:
    """Returns which samples were evaluated, and how often."""
    samples = f"{evaluation['samples']:,} samples"
    seeds = evaluation["seeds"]
    if "generated" in evaluation:
        samples = f"{evaluation['samples']:,} of {evaluation['total']:,} samples"
        if seeds == 1:
            return f"{evaluation['generated']}: {samples}"
        return f"{evaluation['generated']}: {seeds} times {samples}, mean and standard deviation"
    repetitions = f"{seeds} evaluation seed(s)"
    if len(evaluation["members"]) > 1:
        repetitions = f"{len(evaluation['members'])} members, each evaluated {seeds} time(s)"
    return (
        f"{evaluation['run']}, step {evaluation['step']:,}: {samples}, mean and standard deviation over {repetitions}"
    )


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"
