"""The experiments: which latent vectors an operation needs, what it makes of them, and the samples of the results."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.explore.latent_vectors import LatentSpec, SeededSampler
from gan_lab.explore.request import ARITHMETIC, FRAMES, INTERPOLATIONS, MAX_VECTORS, PATHS, Request
from gan_lab.explore.results import ExperimentResult
from gan_lab.gan.latent import Interpolation, LabelledLatent, closed_walk, normalise, typical_norm, with_linear_labels
from gan_lab.training.callbacks.sample_grids import shown_classes
from gan_lab.training.gan_module import GANModule

# Samples in a row of the picture, unless the operation says how many.
GRID_COLUMNS = 12


class Arrangement(NamedTuple):
    """The N latent vectors of an experiment in the order in which the picture shows their samples, row by row.

    Attributes:
        names: N names, e.g. `vector 3` or `a + b`.
        seeds: N seeds; None for vectors that were computed from others.
        z: `(N, latent_dim)`.
        columns: the number of samples in a row of the picture.
        row_names: the name of each row, if rows have names.
    """

    names: list[str]
    seeds: list[int | None]
    z: Tensor
    columns: int
    row_names: Sequence[str] = ()


def run_experiment(
    request: Request, a: LatentSpec, b: LatentSpec, sampler: SeededSampler
) -> tuple[ExperimentResult, list[str]]:
    """Draws or finds the latent vectors, applies the operation, generates the samples and predicts their labels.

    Returns:
        The result, still without title and file stem, and lines of text about the latent vectors.

    Raises:
        LabError: if a vector cannot be found, or if the operation cannot be applied to these vectors.
    """
    specs = _required_specs(request, a, b, sampler)
    seeds = sampler.find_seeds(specs, request.confidence, request.seed, request.tries)
    notes: list[str] = []
    if has_row_per_class(request, a, sampler.module):
        arrangement = _arrange_classes(request, seeds, sampler)
    else:
        z = sampler.draw(seeds, [spec.label for spec in specs])
        notes += _describe_target_classes(request, z, sampler)
        notes += _describe_equal_vectors(seeds, z)
        arrangement = _arrange(request, seeds, z, sampler.module)
    samples = sampler.sample(arrangement.z)
    labels, confidences = sampler.predictor(samples)
    result = ExperimentResult(
        op=request.op,
        names=arrangement.names,
        seeds=arrangement.seeds,
        z=arrangement.z,
        samples=samples,
        labels=labels,
        confidences=confidences,
        columns=arrangement.columns,
        classes=sampler.module.classes,
        row_names=arrangement.row_names,
    )
    return result, notes


def has_row_per_class(request: Request, a: LatentSpec, module: GANModule) -> bool:
    """Whether the picture has a row per class: a conditional GAN's grid of vectors that are specified by seed."""
    return request.op == "grid" and a.label is None and bool(module.classes)


def _required_specs(request: Request, a: LatentSpec, b: LatentSpec, sampler: SeededSampler) -> list[LatentSpec]:
    """Returns the specs of all latent vectors that the operation starts from; of several pairs a, b, a, b, …"""
    if request.op == "interpolate":
        return [a, b]
    if request.op in ARITHMETIC:
        return [a, b] * request.pairs
    if request.op == "grid" and a.label is not None:
        return [a] * request.n
    # Of data without classes only seeds are counted up, and the number of classes does not matter.
    classes = max(1, len(sampler.predictor.dataset.classes))
    return [a.successor(steps, classes) for steps in range(request.n)]


def _describe_equal_vectors(seeds: Sequence[int], z: Tensor) -> list[str]:
    """Says why the latent vectors `(n, latent_dim)` are all the same; no line where they are not."""
    if not (z == z[0]).all():
        return []
    if len(set(seeds)) == 1:
        return ["  a and b are the same vector: there is nothing between them."]
    return [
        "  All latent vectors of this run are the same: it can generate only one sample, and latent vector arithmetic "
        "shows nothing."
    ]


def _describe_target_classes(request: Request, z: Tensor, sampler: SeededSampler) -> list[str]:
    """Describes the target classes of a conditional GAN's latent vectors `(n, latent_dim)`.

    Raises:
        LabError: for arithmetic with two vectors of different target classes.
    """
    labels = sampler.module.target_labels(z)
    if labels is None or request.op == "grid":
        return []
    names = [sampler.predictor.class_name(label) for label in labels.tolist()]
    # Even rows are a, odd ones b.
    if request.op in ARITHMETIC and (labels[0::2] != labels[1::2]).any():
        formula, _ = ARITHMETIC[request.op]
        raise LabError(
            f"The target class of a is {names[0]}, that of b is {names[1]}: {formula} would have no class.",
            "Take two vectors of one class (a=five b=five); op=interpolate goes from one class to another.",
            code="conflict",
            key="b",
        )
    if request.op == "walk":
        description = f"  The target classes are {', '.join(names)}"
    else:
        description = f"  The target class of a is {names[0]}, that of b is {names[1]}"
    if request.op in PATHS and len(set(names)) > 1:
        description += "; vectors between them mix the classes, which G was never trained on"
    return [f"{description}."]


def _arrange_classes(request: Request, seeds: list[int], sampler: SeededSampler) -> Arrangement:
    """Arranges a row per class, in which each vector has this class as target class.

    Raises:
        LabError: if the rows would be too long.
    """
    if request.n > MAX_VECTORS:
        raise LabError(
            f"n={request.n} makes the rows too long: there is a row of n samples for each class.",
            f"Set n={MAX_VECTORS} or less.",
            code="invalid",
            key="n",
        )
    rows = []
    names = []
    row_names = []
    all_seeds: list[int | None] = []
    for label in shown_classes(sampler.module):
        class_name = sampler.predictor.class_name(label)
        row_names.append(class_name)
        rows.append(sampler.draw(seeds, [label] * len(seeds)))
        names += [f"{class_name}, vector {seed}" for seed in seeds]
        all_seeds += seeds
    return Arrangement(names, all_seeds, torch.cat(rows), request.n, row_names)


def _arrange(request: Request, seeds: list[int], z: Tensor, module: GANModule) -> Arrangement:
    """Applies the operation to latent vectors `(n, latent_dim)` of these seeds."""
    if request.op == "grid":
        return Arrangement([f"vector {seed}" for seed in seeds], [*seeds], z, GRID_COLUMNS)
    if request.op in ARITHMETIC:
        return _arrange_arithmetic(request, seeds, z, module)
    interpolation = with_linear_labels(INTERPOLATIONS[request.mode], module.classes)
    if request.op == "interpolate":
        return _arrange_interpolation(request.n, seeds, z, interpolation)
    return _arrange_walk(seeds, z, interpolation)


def _arrange_interpolation(n: int, seeds: list[int], z: Tensor, interpolation: Interpolation) -> Arrangement:
    """Interpolates in n steps from the first of two latent vectors to the second."""
    t = torch.linspace(0, 1, n)
    names = ["a"]
    point_seeds: list[int | None] = [seeds[0]]
    # What lies between the ends was not drawn with a seed.
    for fraction in t[1:-1].tolist():
        names.append(f"{fraction:.2f}")
        point_seeds.append(None)
    names.append("b")
    point_seeds.append(seeds[1])
    return Arrangement(names, point_seeds, interpolation(z[0], z[1], t), GRID_COLUMNS)


def _arrange_walk(seeds: list[int], z: Tensor, interpolation: Interpolation) -> Arrangement:
    """Goes from each latent vector to the next one and from the last one back to the first, in `FRAMES` steps each."""
    names: list[str] = []
    frame_seeds: list[int | None] = []
    for seed in seeds:
        names.append(f"vector {seed}")
        frame_seeds.append(seed)
        for step in range(1, FRAMES):
            names.append(f"+ {step}/{FRAMES}")
            frame_seeds.append(None)
    return Arrangement(names, frame_seeds, closed_walk(z, FRAMES, interpolation), FRAMES)


def _arrange_arithmetic(request: Request, seeds: list[int], z: Tensor, module: GANModule) -> Arrangement:
    """Adds, subtracts or multiplies pairs of latent vectors, component by component; the target class stays.

    Args:
        seeds: of a, b, a, b, …
        z: `(2 * pairs, latent_dim)`, a and b alternately.

    Returns:
        A row per pair: a, b, the result, the result with the typical norm; `normalize` says which of the last two.
    """
    noise_dim = module.latent_dim - module.classes
    a = z[0::2]
    b = z[1::2]
    formula, operation = ARITHMETIC[request.op]
    result = operation(a[:, :noise_dim], b[:, :noise_dim])
    target_class = a[:, noise_dim:]
    columns = {"a": a, "b": b}
    if request.normalize != "true":
        columns[formula] = torch.cat([result, target_class], -1)
    if request.normalize != "false":
        latent = module.latent
        if isinstance(latent, LabelledLatent):
            latent = latent.latent
        normalised = normalise(result, typical_norm(latent, noise_dim))
        columns[f"{formula}, normalised"] = torch.cat([normalised, target_class], -1)
    column_seeds: list[int | None] = []
    for seed_a, seed_b in zip(seeds[0::2], seeds[1::2], strict=True):
        column_seeds += [seed_a, seed_b]
        # Results have no seed: they were computed.
        column_seeds += [None] * (len(columns) - 2)
    # (pairs, columns, latent_dim) -> (pairs * columns, latent_dim): the picture has a row per pair.
    vectors = torch.stack(list(columns.values()), 1).flatten(0, 1)
    return Arrangement(list(columns) * request.pairs, column_seeds, vectors, len(columns))
