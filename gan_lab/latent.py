"""Where latent vectors come from (the book calls a latent vector a *seed*).

Each function draws a tensor of the given shape, usually ``(…, B, latent_dim)``, on its generator's device.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

Latent = Callable[[Sequence[int], Generator], Tensor]


def normal(shape: Sequence[int], generator: Generator) -> Tensor:
    """Standard normal numbers (``torch.randn``)."""
    return torch.randn(*shape, generator=generator, device=generator.device)


def uniform(shape: Sequence[int], generator: Generator, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Numbers spread evenly over [low, high); ``low=0, high=1`` is ``torch.rand``."""
    return torch.rand(*shape, generator=generator, device=generator.device) * (high - low) + low


def constant(shape: Sequence[int], generator: Generator, value: float = 0.5) -> Tensor:
    """The same value everywhere: what the book feeds to the generator of the 1010 pattern."""
    return torch.full(tuple(shape), value, device=generator.device)
