"""A latent vector experiment as it is asked for: what fits together, its title, and the name of its files."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.explore.reading import Reader
from gan_lab.explore.vectors import Wanted
from gan_lab.gan.latent import linear, slerp

SUMS: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "add": ("a + b", torch.add),
    "subtract": ("a − b", torch.sub),
    "multiply": ("a · b", torch.mul),
}
BETWEEN = {"linear": linear, "slerp": slerp}
PATHS = ("interpolate", "walk")
FRAMES = 12  # of a walk, from one vector to the next
LONGEST = 100  # vectors of a walk, or in a row, at most


class Request(NamedTuple):
    """What is asked for; the keys of conf/explore.yaml, bounded by gan_lab.config.schema."""

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
    """Refuses what the op would leave unheeded."""
    unheeded = [
        (request.op not in SUMS and request.normalize != "false", f"normalize={request.normalize}", list(SUMS)),
        (request.op not in SUMS and request.pairs > 1, f"pairs={request.pairs}", list(SUMS)),
        (request.op not in ("interpolate", "walk") and request.mode != "linear", f"mode={request.mode}", PATHS),
    ]
    for is_so, what, ops in unheeded:
        if is_so:
            raise LabError(f"{what} means nothing to op={request.op}.", f"It goes with op={', '.join(ops)}.")
    if request.op == "walk" and request.n > LONGEST:
        raise LabError(
            f"n={request.n} is too long a walk: its film has {FRAMES} frames a vector.", f"Take n={LONGEST}."
        )


def titled(request: Request, a: Wanted, b: Wanted, reader: Reader) -> str:
    """What is done, in words."""

    def one(wanted: Wanted) -> str:
        if wanted.number is not None:
            return f"vector {wanted.number}"
        assert wanted.label is not None
        return f"a vector that makes {reader.name(wanted.label)}"

    way = {"linear": "along straight lines", "slerp": "along arcs (slerp)"}[request.mode]
    if request.op == "interpolate":
        return f"{request.n} steps from a, {one(a)}, to b, {one(b)}, {way}"
    if request.op == "walk":
        return f"A closed walk through {request.n} vectors, {way}, from {one(a)} on"
    if request.op == "grid":
        return f"{request.n} samples" + (
            f", from {one(a)} on" if a.label is None else f" read as {reader.name(a.label)}"
        )
    return f"{SUMS[request.op][0]}: a is {one(a)}, b {one(b)}"


def file_name(request: Request, a: Wanted, b: Wanted, step: int) -> str:
    """Of the files: it holds everything that they depend on."""
    parts: list[Any] = [request.op, a]
    if request.op in ("interpolate", *SUMS):
        parts.append(b)
    if request.op in PATHS:
        parts.append(request.mode)
    if request.op not in SUMS:
        parts.append(f"n{request.n}")
    if request.normalize != "false":
        parts.append({"true": "normalised", "both": "both"}[request.normalize])
    if request.pairs > 1:
        parts.append(f"pairs{request.pairs}")
    if a.label is not None or (b in parts and b.label is not None):
        parts += [f"confidence{float(request.confidence)}", f"from{request.seed}"]
    if request.member:
        parts.append(f"member{request.member}")
    return "_".join(map(str, [*parts, f"step{step}"]))
