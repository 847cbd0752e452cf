"""The request for a latent vector experiment: which settings go together, its title, and the name of its files."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.explore.latent_vectors import LatentSpec
from gan_lab.explore.predictions import LabelPredictor
from gan_lab.gan.latent import linear, slerp

# By `op`: the formula and the function of two latent vectors.
ARITHMETIC: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "add": ("a + b", torch.add),
    "subtract": ("a − b", torch.sub),
    "multiply": ("a · b", torch.mul),
}
# By `mode`.
INTERPOLATIONS = {"linear": linear, "slerp": slerp}
# The values of `op` that lead along a path.
PATHS = ("interpolate", "walk")
# Frames of a walk from one vector to the next.
FRAMES = 12
# Vectors in a walk, or in a row of a grid with one row per class.
MAX_VECTORS = 100
# Samples in a row under which D's answers stand.
MAX_SURFACE_SAMPLES = 20
MAX_SAMPLES = 1000  # in a picture


class Request(NamedTuple):
    """The settings of an experiment: the keys of conf/explore.yaml, whose bounds gan_lab.config.schema checks."""

    op: str
    a: str
    b: str
    by: str
    n: int
    mode: str
    normalize: str
    pairs: int
    confidence: float
    seed: int
    tries: int
    member: int | None = None


def check(request: Request) -> None:
    """Refuses settings that the experiment would ignore, and walks that are too long.

    Raises:
        LabError: for the first such setting.
    """
    if request.op not in ARITHMETIC and request.normalize != "false":
        raise _ignored("normalize", request, tuple(ARITHMETIC))
    if request.op not in ARITHMETIC and request.pairs > 1:
        raise _ignored("pairs", request, tuple(ARITHMETIC))
    if request.op not in PATHS and request.mode != "linear":
        raise _ignored("mode", request, PATHS)
    if request.op == "surface" and request.n > MAX_SURFACE_SAMPLES:
        raise LabError(
            f"n={request.n} samples are too many for a row in which D's answers can be read.",
            f"Set n={MAX_SURFACE_SAMPLES} or less.",
            code="invalid",
            key="n",
        )
    if not 2 <= request.n <= MAX_SAMPLES:
        raise LabError(
            f"n={request.n} is not a number of samples for a picture.",
            f"Choose 2 to {MAX_SAMPLES}; more are written by scripts/sample.py.",
            code="invalid",
            key="n",
        )
    if request.op == "walk" and request.n > MAX_VECTORS:
        raise LabError(
            f"n={request.n} makes the walk too long: its animation has {FRAMES} frames per vector.",
            f"Set n={MAX_VECTORS} or less.",
            code="invalid",
            key="n",
        )


def _ignored(key: str, request: Request, ops: Sequence[str]) -> LabError:
    """Returns the error for a setting that has an effect on these operations only."""
    value = request._asdict()[key]
    return LabError(
        f"{key}={value} has no effect on op={request.op}.",
        f"Use it with op={', '.join(ops)}.",
        code="conflict",
        key=key,
    )


def title(request: Request, a: LatentSpec, b: LatentSpec, predictor: LabelPredictor) -> str:
    """Describes the experiment in one sentence without a full stop."""
    if request.op in ARITHMETIC:
        formula, _ = ARITHMETIC[request.op]
        return f"{formula}, where a is {_describe(a, predictor)} and b is {_describe(b, predictor)}"
    if request.op == "interpolate":
        line = {"linear": "the straight line", "slerp": "the arc (slerp)"}[request.mode]
        ends = f"from a ({_describe(a, predictor)}) to b ({_describe(b, predictor)})"
        return f"Interpolation {ends} in {request.n} steps along {line}"
    if request.op == "walk":
        lines = {"linear": "straight lines", "slerp": "arcs (slerp)"}[request.mode]
        return f"Closed walk through {request.n} vectors along {lines}, starting at {_describe(a, predictor)}"
    if a.label is None:
        return f"{request.n} samples, starting at {_describe(a, predictor)}"
    return f"{request.n} samples classified as {predictor.class_name(a.label)}"


def _describe(spec: LatentSpec, predictor: LabelPredictor) -> str:
    """Describes a latent vector in a few words, by its seed or its class."""
    if spec.seed is not None:
        return f"vector {spec.seed}"
    assert spec.label is not None
    return f"a vector that generates {predictor.class_name(spec.label)}"


def file_stem(request: Request, a: LatentSpec, b: LatentSpec, step: int) -> str:
    """Returns the name of the experiment's files without their endings; it contains all that they depend on."""
    specs = [a]
    if request.op == "interpolate" or request.op in ARITHMETIC:
        specs.append(b)
    words = [request.op, *map(str, specs)]
    if request.op in PATHS:
        words.append(request.mode)
    if request.op not in ARITHMETIC:
        words.append(f"n{request.n}")
    if request.normalize == "true":
        words.append("normalised")
    elif request.normalize == "both":
        words.append("both")
    if request.pairs > 1:
        words.append(f"pairs{request.pairs}")
    if any(spec.label is not None for spec in specs):
        # Only vectors that are searched for depend on these two.
        words.append(f"confidence{float(request.confidence)}")
        words.append(f"from{request.seed}")
    if request.member:
        words.append(f"member{request.member}")
    words.append(f"step{step}")
    return "_".join(words)
