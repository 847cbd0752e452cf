"""Data whose truth is known: the book's 1010 pattern and mixtures of Gaussians whose modes can be counted.

The points are drawn once, from a stream that doesn't depend on the run's seed: runs with different seeds train on the
same data.
"""

import math

import torch
from torch import Tensor

from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset, Part

HELDOUT = 10_000


def pattern1010(samples: int = 10_000) -> Dataset:
    """The book's pattern of 4 numbers: high, low, high, low; high in [0.8, 1), low in [0, 0.2) (notebook 06)."""

    def part(n: int, purpose: str) -> Part:
        low = torch.rand(n, 4, generator=make_generator(0, purpose)) * 0.2
        return Part(low + torch.tensor([0.8, 0, 0.8, 0]))

    return Dataset(part(samples, "pattern1010/train"), part(HELDOUT, "pattern1010/heldout"))


def ring(modes: int = 8, radius: float = 1.0, std: float = 0.01, samples: int = 100_000) -> Dataset:
    """Gaussians on a circle, equally spaced and equally likely; the defaults are PacGAN's 2D-ring (Lin et al. 2018)."""
    angles = torch.arange(modes) * (2 * math.pi / modes)  # the end point isn't the start again: all centres differ
    return _mixture(radius * torch.stack([angles.cos(), angles.sin()], dim=1), std, samples, "ring")


def grid(side: int = 5, spacing: float = 2.0, std: float = 0.05, samples: int = 100_000) -> Dataset:
    """side × side Gaussians on a square lattice about 0; the defaults are PacGAN's 2D-grid (Lin et al. 2018)."""
    line = spacing * (torch.arange(side) - (side - 1) / 2)
    return _mixture(torch.cartesian_prod(line, line), std, samples, "grid")


def _mixture(centres: Tensor, std: float, samples: int, name: str) -> Dataset:
    """A balanced mixture of round Gaussians; a point's label is the number of its centre."""

    def part(n: int, purpose: str) -> Part:
        generator = make_generator(0, purpose)
        labels = torch.randint(len(centres), (n,), generator=generator)
        return Part(centres[labels] + std * torch.randn(n, 2, generator=generator), labels)

    classes = [f"({round(x, 2) + 0:g}, {round(y, 2) + 0:g})" for x, y in centres.tolist()]  # + 0 makes -0 a 0
    train, heldout = part(samples, f"{name}/train"), part(HELDOUT, f"{name}/heldout")
    return Dataset(train, heldout, bounded=False, classes=classes, centres=centres, std=std)
