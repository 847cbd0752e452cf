"""Where latent vectors come from (the book calls a latent vector a *seed*), and what lies between them.

Each distribution draws a tensor of the given shape, usually ``(…, B, latent_dim)``, on its generator's device, and
knows the mean of a number's square, from which follows how long a vector is (`typical_norm`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from gan_lab.core.errors import LabError

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


@dataclass(frozen=True)
class LabelledLatent:
    """Latent vectors of a conditional GAN: the last numbers are a class, one-hot (the book's notebook 16).

    Args:
        latent: draws the rest.
        shares: of each class in the data.
    """

    latent: Latent
    shares: tuple[float, ...]

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        *batch, length = shape
        z = self.latent((*batch, length - len(self.shares)), generator)
        shares = torch.tensor(self.shares, device=generator.device)
        labels = torch.multinomial(shares, math.prod(batch), replacement=True, generator=generator).view(*batch)
        return torch.cat([z, one_hot(labels, len(self.shares)).to(z.dtype)], -1)


def set_labels(z: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Latent vectors `(…, d)` that ask for the classes `labels` `(…)`: the last numbers, so many as there are classes,
    become one-hot, the rest stays."""
    return torch.cat([z[..., :-classes], one_hot(labels, classes).to(z.dtype)], -1)


def typical_norm(latent: Latent, latent_dim: int) -> float:
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
    doesn't. The direction turns evenly, the length goes evenly from a's to b's. (White puts a and b as they are into
    the formula for unit vectors: the same if they are equally long, else far too long between nearly opposite ones.)

    Between parallel vectors, or where one is zero, it is the line. Opposite ones have arcs on all sides: it takes the
    one past the axis to which a is nearest to perpendicular; in one dimension there is none, and it is the line.

    Args:
        a, b: `(d,)`, of any length.
        t: `(n,)` in [0, 1].

    Returns:
        `(n, d)`; exactly a at 0 and b at 1.
    """
    u, v, steps = a.double(), b.double(), t.double()[:, None]
    if not (u.any() and v.any()):
        return linear(a, b, t)
    lengths = (1 - steps) * u.norm() + steps * v.norm()
    u, v = u / u.norm(), v / v.norm()
    angle = 2 * torch.atan2((u - v).norm(), (u + v).norm())  # exact for small ones as well (Kahan)
    opposite = math.pi - angle < STRAIGHT
    if angle < STRAIGHT or (opposite and len(a) == 1):
        return linear(a, b, t)
    if opposite:
        aside = torch.zeros_like(u)
        aside[u.abs().argmin()] = 1
        aside = aside - (aside @ u) * u
        directions = (steps * math.pi).cos() * u + (steps * math.pi).sin() * aside / aside.norm()
    else:
        directions = (((1 - steps) * angle).sin() * u + (steps * angle).sin() * v) / angle.sin()
    arc = (lengths * directions).to(a.dtype)
    return torch.where(steps == 0, a, torch.where(steps == 1, b, arc))


def with_linear_labels(between: Between, classes: int) -> Between:
    """A way between vectors whose last numbers are a class: these go evenly from one to the other, whatever the way of
    the rest."""

    def both(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        rest = len(a) - classes
        return torch.cat([between(a[:rest], b[:rest], t), linear(a[rest:], b[rest:], t)], -1)

    return both


def closed_walk(vectors: Tensor, frames: int, between: Between) -> Tensor:
    """A path through vectors `(n, d)` and back to the first, `(n * frames, d)`: every `frames`-th is one of them."""
    t = torch.arange(frames) / frames
    return torch.cat([between(a, b, t) for a, b in zip(vectors, vectors.roll(-1, 0), strict=True)])
