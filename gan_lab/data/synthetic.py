"""Data whose truth is known: the book's 1010 pattern, and mixtures of Gaussians whose modes can be counted.

The points are drawn once, from generators that don't depend on the run's seed: runs with different seeds train on the
same data.
"""

import math

import torch
from torch import Tensor

from gan_lab.core.declare import declares
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset, Part

HELDOUT = 10_000
PATTERN_WIDTH = 0.2  # of the interval of each number


@declares(sample_shape=(4,), licence="none needed: random numbers that gan_lab draws")
def pattern1010(samples: int = 10_000) -> Dataset:
    """Draws the book's pattern of 4 numbers: high, low, high, low; high in [0.8, 1), low in [0, 0.2) (notebook 06).

    It is one mode, about (0.9, 0.1, 0.9, 0.1): the book asks whether a GAN makes the pattern, not whether it varies it.

    Args:
        samples: number of patterns in the train part.
    """
    return Dataset(
        _patterns(samples, "pattern1010/train"),
        _patterns(HELDOUT, "pattern1010/heldout"),
        classes=["1010 pattern"],
        centres=torch.tensor([[0.9, 0.1, 0.9, 0.1]]),
        std=PATTERN_WIDTH / math.sqrt(12),
    )


def _patterns(count: int, purpose: str) -> Part:
    low = torch.rand(count, 4, generator=make_generator(0, purpose)) * PATTERN_WIDTH
    return Part(low + torch.tensor([0.8, 0, 0.8, 0]), torch.zeros(count, dtype=torch.int64))


@declares(sample_shape=(2,), licence="none needed: random numbers that gan_lab draws")
def ring(modes: int = 8, radius: float = 1.0, std: float = 0.01, samples: int = 100_000) -> Dataset:
    """Draws from Gaussians on a circle, equally spaced and equally likely.

    The defaults are PacGAN's 2D-ring (Lin et al. 2018).

    Args:
        modes: number of Gaussians.
        radius: of the circle about 0.
        std: standard deviation of each Gaussian along each axis.
        samples: number of points in the train part.
    """
    # `modes` angles without the end point 2π, which is the start again: all centres differ.
    angles = torch.arange(modes) * (2 * math.pi / modes)
    centres = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    return _mixture(centres, std, samples, "ring")


@declares(sample_shape=(2,), licence="none needed: random numbers that gan_lab draws")
def grid(side: int = 5, spacing: float = 2.0, std: float = 0.05, samples: int = 100_000) -> Dataset:
    """Draws from side × side Gaussians on a square lattice about 0, equally likely.

    The defaults are PacGAN's 2D-grid (Lin et al. 2018).

    Args:
        side: Gaussians along each axis.
        spacing: distance of neighbours.
        std: standard deviation of each Gaussian along each axis.
        samples: number of points in the train part.
    """
    line = spacing * (torch.arange(side) - (side - 1) / 2)
    return _mixture(torch.cartesian_prod(line, line), std, samples, "grid")


def _mixture(centres: Tensor, std: float, samples: int, name: str) -> Dataset:
    """Draws from a balanced mixture of round Gaussians `(M, 2)`; a point's label is the number of its centre."""
    train = _mixture_part(centres, std, samples, f"{name}/train")
    heldout = _mixture_part(centres, std, HELDOUT, f"{name}/heldout")
    classes = []
    for x, y in centres.tolist():
        # + 0 turns -0.0 into 0.0.
        classes.append(f"({round(x, 2) + 0:g}, {round(y, 2) + 0:g})")
    return Dataset(train, heldout, bounded=False, classes=classes, centres=centres, std=std)


def _mixture_part(centres: Tensor, std: float, count: int, purpose: str) -> Part:
    generator = make_generator(0, purpose)
    labels = torch.randint(len(centres), (count,), generator=generator)
    points = centres[labels] + std * torch.randn(count, 2, generator=generator)
    return Part(points, labels)
