"""Where latent vectors come from (the book calls a latent vector a *seed*), and what lies between them.

Each distribution draws a tensor of the given shape, usually ``(…, B, latent_dim)``, on its generator's device, and
knows the mean of a number's square, from which follows how long a vector is (`usual_length`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from gan_lab.errors import LabError

Latent = Callable[[Sequence[int], Generator], Tensor]
Between = Callable[[Tensor, Tensor, Tensor], Tensor]  # a, b and shares of the way to b: see `linear` and `slerp`

STRAIGHT = 1e-6  # vectors whose angle, in radians, is nearer than this to 0 or to π span no arc of their own


@dataclass(frozen=True)
class Normal:
    """Standard normal numbers (``torch.randn``)."""

    mean_square = 1.0

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        return torch.randn(*shape, generator=generator, device=generator.device)


@dataclass(frozen=True)
class Uniform:
    """Numbers spread evenly over [low, high); ``low=0, high=1`` is ``torch.rand``."""

    low: float = -1.0
    high: float = 1.0

    @property
    def mean_square(self) -> float:
        return (self.low**2 + self.low * self.high + self.high**2) / 3

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        return torch.rand(*shape, generator=generator, device=generator.device) * (self.high - self.low) + self.low


@dataclass(frozen=True)
class Constant:
    """The same value everywhere: what the book feeds to the generator of the 1010 pattern."""

    value: float = 0.5

    @property
    def mean_square(self) -> float:
        return self.value**2

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        return torch.full(tuple(shape), self.value, device=generator.device)


def usual_length(latent: Latent, latent_dim: int) -> float:
    """How long the vectors are that G was trained on: the root of their mean squared length, √latent_dim for `Normal`.

    Raises:
        LabError: if the distribution doesn't say its `mean_square`.
    """
    mean_square = getattr(latent, "mean_square", None)
    if mean_square is None:
        raise LabError(f"How long the vectors of {type(latent).__name__} are isn't known.", "Take normalize=false.")
    return math.sqrt(latent_dim * mean_square)


def normalise(z: Tensor, length: float) -> Tensor:
    """Vectors `(…, d)` brought to that length, their direction kept; zero vectors have none and stay."""
    norms = z.double().norm(dim=-1, keepdim=True)
    return (z.double() * torch.where(norms > 0, length / norms, 1.0)).to(z.dtype)


def linear(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Along the straight line from a to b, `(d,)`: vectors `(n, d)` at shares `t`, `(n,)` in [0, 1], of the way."""
    t = t[:, None]
    return (1 - t) * a + t * b


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Along the arc from a to b (Shoemake 1985; for latent vectors White 2016, arXiv:1609.04468).

    The straight line between two normal vectors passes nearer to 0 than the vectors that G was trained on; the arc
    keeps their length. Between parallel vectors, or where one is zero, it is the line. Opposite ones have arcs on all
    sides: it takes the one through the axis that is most nearly perpendicular; in 1-D only the line is left.

    Args:
        a, b: `(d,)`, of any length.
        t: `(n,)` in [0, 1].

    Returns:
        `(n, d)`; exactly a at 0 and b at 1.
    """
    u, v = a.double(), b.double()
    if not (u.any() and v.any()):
        return linear(a, b, t)
    unit_u, unit_v = u / u.norm(), v / v.norm()
    angle = 2 * torch.atan2((unit_u - unit_v).norm(), (unit_u + unit_v).norm())  # exact for small ones as well (Kahan)
    if angle < STRAIGHT or (math.pi - angle < STRAIGHT and len(a) == 1):
        return linear(a, b, t)
    if math.pi - angle < STRAIGHT:
        aside = torch.zeros_like(u)
        aside[u.abs().argmin()] = 1
        aside -= (aside @ unit_u) * unit_u
        middle = (aside / aside.norm() * (u.norm() + v.norm()) / 2).to(a.dtype)
        return torch.where(t[:, None] < 0.5, slerp(a, middle, 2 * t), slerp(middle, b, 2 * t - 1))
    steps = t.double()[:, None]
    of_a, of_b = (((1 - steps) * angle).sin() / angle.sin(), (steps * angle).sin() / angle.sin())
    return (of_a * u + of_b * v).to(a.dtype)


def closed_walk(vectors: Tensor, frames: int, between: Between) -> Tensor:
    """A path through vectors `(n, d)` and back to the first, `(n * frames, d)`: every `frames`-th is one of them."""
    t = torch.arange(frames) / frames
    return torch.cat([between(a, b, t) for a, b in zip(vectors, vectors.roll(-1, 0), strict=True)])
