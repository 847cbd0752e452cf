"""Where latent vectors come from (the book calls a latent vector a *seed*).

Each draws a tensor of the given shape, usually ``(…, B, latent_dim)``, on its generator's device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

Latent = Callable[[Sequence[int], Generator], Tensor]


@dataclass(frozen=True)
class Normal:
    """Standard normal numbers (``torch.randn``)."""

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        return torch.randn(*shape, generator=generator, device=generator.device)


@dataclass(frozen=True)
class Uniform:
    """Numbers spread evenly over [low, high); ``low=0, high=1`` is ``torch.rand``."""

    low: float = -1.0
    high: float = 1.0

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        return torch.rand(*shape, generator=generator, device=generator.device) * (self.high - self.low) + self.low


@dataclass(frozen=True)
class Constant:
    """The same value everywhere: what the book feeds to the generator of the 1010 pattern."""

    value: float = 0.5

    def __call__(self, shape: Sequence[int], generator: Generator) -> Tensor:
        return torch.full(tuple(shape), self.value, device=generator.device)
