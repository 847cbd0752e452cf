"""Latent vectors: distributions to draw them from, and paths between them. (The book calls a latent vector a *seed*.)

A distribution is called with a shape, usually `(…, B, latent_dim)`, and a random generator, and returns a tensor of
that shape on the generator's device. Its `mean_square`, the expected square of a component, gives the length of a
typical vector (`typical_norm`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from gan_lab.core.errors import LabError

Latent = Callable[[Sequence[int], Generator], Tensor]

# Called with two vectors `(d,)` and the fractions `(n,)` of the way from the first to the second at which to stop,
# returns `(n, d)`: `linear` and `slerp` are two of them.
Interpolation = Callable[[Tensor, Tensor, Tensor], Tensor]

# Times that `Truncated` draws components again: enough where one in a hundred is small enough.
MAX_REDRAWS = 5_000

# Vectors whose angle, in radians, is nearer than this to 0 or to π don't determine an arc between them.
MIN_ANGLE = 1e-6


@runtime_checkable
class HasMeanSquare(Protocol):
    """A distribution that knows the expected square of a component."""

    @property
    def mean_square(self) -> float: ...


@dataclass(frozen=True)
class Normal:
    """Standard normal components, as `torch.randn` draws them."""

    mean_square = 1.0

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        return torch.randn(*shape, generator=generator, device=generator.device)


@dataclass(frozen=True)
class Uniform:
    """Components uniform over [low, high); `low=0, high=1` is `torch.rand`."""

    low: float = -1.0
    high: float = 1.0

    @property
    def mean_square(self) -> float:
        return (self.low**2 + self.low * self.high + self.high**2) / 3

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        return torch.rand(*shape, generator=generator, device=generator.device) * (self.high - self.low) + self.low


@dataclass(frozen=True)
class Mixture:
    """A mixture of 2^d normal distributions with equal weights, at the corners {−1, 1}^d of a cube.

    G is continuous: from a latent space in one piece it makes samples between separate modes, too (Tanielian et al.
    2020, arXiv:2006.04596). A latent space in pieces spares it these. As in Gurumurthy et al. 2017 (DeLiGAN,
    arXiv:1706.02071), but there are fewer normal distributions there, and their means are learnt.

    Args:
        std: standard deviation of each; from 0.5 on, the pieces touch.
    """

    std: float = 0.2

    @property
    def mean_square(self) -> float:
        return 1 + self.std**2

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        corners = self.corners(shape, generator)
        return corners + self.std * torch.randn(*shape, generator=generator, device=generator.device)

    def corners(self, shape: Sequence[int], generator: Generator) -> Tensor:
        """Draws corners, each as likely as the others: components of −1 and 1."""
        return torch.randint(0, 2, tuple(shape), generator=generator, device=generator.device) * 2 - 1


@dataclass(frozen=True)
class Constant:
    """The same value for every component: the book's input of the generator of the 1010 pattern."""

    value: float = 0.5

    @property
    def mean_square(self) -> float:
        return self.value**2

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        return torch.full(tuple(shape), self.value, device=generator.device)


@dataclass(frozen=True)
class LabelledLatent:
    """Latent vectors of a conditional GAN: their last components are a one-hot class label (the book's notebook 16).

    Args:
        latent: distribution of the components before the label.
        class_probabilities: probability of each class: its fraction of the data.
    """

    latent: Latent
    class_probabilities: tuple[float, ...]

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        *batch, length = shape
        classes = len(self.class_probabilities)
        z = self.latent((*batch, length - classes), generator)
        probabilities = torch.tensor(self.class_probabilities, device=generator.device)
        labels = torch.multinomial(probabilities, math.prod(batch), replacement=True, generator=generator)
        labels_onehot = one_hot(labels.view(*batch), classes).to(z.dtype)
        return torch.cat([z, labels_onehot], -1)


@dataclass(frozen=True)
class Truncated:
    """Latent vectors whose components are at most `threshold` in size: larger ones are drawn again.

    The truncation trick of Brock et al. 2019 (arXiv:1809.11096, section 3.1): a smaller threshold gives more typical
    and less varied samples.

    Args:
        latent: distribution of the components; with class labels, those are left as they are.
        threshold: largest absolute value of a component; of a `Mixture` the largest distance from the corner, in
            standard deviations.
    """

    latent: Latent
    threshold: float

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        if isinstance(self.latent, LabelledLatent):
            components = Truncated(self.latent.latent, self.threshold)
            return LabelledLatent(components, self.latent.class_probabilities)(shape, generator)
        if isinstance(self.latent, Mixture):
            corners = self.latent.corners(shape, generator)
            return corners + self.latent.std * Truncated(Normal(), self.threshold)(shape, generator)
        z = self.latent(shape, generator)
        for _ in range(MAX_REDRAWS):
            is_large = z.abs() > self.threshold
            if not is_large.any():
                return z
            z = torch.where(is_large, self.latent(shape, generator), z)
        raise LabError(
            f"Hardly any component of these latent vectors is at most {self.threshold:g} in size.",
            "Choose a larger threshold, or none.",
            code="conflict",
            key="truncation",
        )


def set_labels(z: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Replaces the class labels in latent vectors of a conditional GAN.

    Args:
        z: latent vectors `(…, d)` whose last `classes` components are a label.
        labels: class numbers `(…)` for G to generate.
        classes: number of classes.

    Returns:
        A copy of `z` whose last `classes` components are `labels`, one-hot.
    """
    return torch.cat([z[..., :-classes], one_hot(labels, classes).to(z.dtype)], -1)


def typical_norm(latent: Latent, latent_dim: int) -> float:
    """Returns the root mean squared length of the vectors that G is trained on: √latent_dim for `Normal`.

    Raises:
        LabError: if the distribution has no `mean_square`.
    """
    if not isinstance(latent, HasMeanSquare):
        raise LabError(
            f"The length of a typical vector of {type(latent).__name__} is not known: it has no mean_square.",
            "Set normalize=false.",
            code="unsupported",
            key="latent",
        )
    return math.sqrt(latent_dim * latent.mean_square)


def normalise(z: Tensor, length: float) -> Tensor:
    """Scales vectors `(…, d)` to the given length without changing their direction; zero vectors stay zero."""
    norms = z.double().norm(dim=-1, keepdim=True)
    factors = torch.where(norms > 0, length / norms, 1.0)
    return (z.double() * factors).to(z.dtype)


def linear(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Interpolates along the straight line from `a` to `b`.

    Args:
        a, b: vectors `(d,)`.
        t: fractions of the way from `a` to `b`, `(n,)` in [0, 1].

    Returns:
        `(n, d)`.
    """
    t = t[:, None]
    return (1 - t) * a + t * b


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Interpolates along the arc from `a` to `b` (Shoemake 1985; for latent vectors White 2016, arXiv:1609.04468).

    Points on the straight line between two normal vectors are nearer to 0 than the vectors that G was trained on;
    points on the arc are not. The direction turns at a constant rate, and the length changes linearly from a's to b's.
    (White applies the formula for unit vectors to `a` and `b` as they are. For vectors of equal length the result is
    the same; for nearly opposite vectors of different length it is far too long.)

    Between parallel vectors, or if one of them is zero, the result is `linear`. Between opposite vectors every plane
    through them has an arc; the one used passes the axis to which `a` is most nearly perpendicular. In one dimension
    there is none, and the result is `linear`.

    Args:
        a, b: vectors `(d,)` of any length.
        t: fractions of the way from `a` to `b`, `(n,)` in [0, 1].

    Returns:
        `(n, d)`; exactly `a` at 0 and `b` at 1.
    """
    start = a.double()
    end = b.double()
    fractions = t.double()[:, None]
    if not (start.any() and end.any()):
        return linear(a, b, t)
    lengths = (1 - fractions) * start.norm() + fractions * end.norm()
    start = start / start.norm()
    end = end / end.norm()
    # Kahan's formula: unlike acos of the dot product it is accurate for small angles, too.
    angle = 2 * torch.atan2((start - end).norm(), (start + end).norm())
    opposite = math.pi - angle < MIN_ANGLE
    if angle < MIN_ANGLE or (opposite and len(a) == 1):
        return linear(a, b, t)
    if opposite:
        normal = _perpendicular(start)
        directions = (fractions * math.pi).cos() * start + (fractions * math.pi).sin() * normal / normal.norm()
    else:
        directions = (((1 - fractions) * angle).sin() * start + (fractions * angle).sin() * end) / angle.sin()
    arc = (lengths * directions).to(a.dtype)
    return torch.where(fractions == 0, a, torch.where(fractions == 1, b, arc))


def _perpendicular(direction: Tensor) -> Tensor:
    """Returns a vector perpendicular to a unit vector `(d,)`, d > 1, near the axis at the largest angle to it."""
    axis = torch.zeros_like(direction)
    axis[direction.abs().argmin()] = 1
    return axis - (axis @ direction) * direction


def with_linear_labels(interpolation: Interpolation, classes: int) -> Interpolation:
    """Extends an interpolation to latent vectors of a conditional GAN.

    Args:
        interpolation: applied to the components before the class label.
        classes: number of components of the label, at the end of a vector; they are interpolated linearly.
    """

    def interpolate(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        noise_dim = len(a) - classes
        noise = interpolation(a[:noise_dim], b[:noise_dim], t)
        labels = linear(a[noise_dim:], b[noise_dim:], t)
        return torch.cat([noise, labels], -1)

    return interpolate


def closed_walk(vectors: Tensor, frames: int, interpolation: Interpolation) -> Tensor:
    """Returns a closed path through vectors `(n, d)`, from the first to the last and back to the first.

    Args:
        vectors: the corners of the path.
        frames: points from one corner to the next, the next one not included.
        interpolation: the path between two corners.

    Returns:
        `(n · frames, d)`; every `frames`-th point is a corner.
    """
    t = torch.arange(frames) / frames
    edges = []
    for start, end in zip(vectors, vectors.roll(-1, 0), strict=True):
        edges.append(interpolation(start, end, t))
    return torch.cat(edges)
