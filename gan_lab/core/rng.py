"""One seed, many independent streams of random numbers.

Training, the order of the data, pictures and measurements each draw from a stream of their own, so that switching one
of them off does not change the others by a bit.
"""

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def make_generator(seed: int, purpose: str, index: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh generator that depends on nothing but its arguments.

    Args:
        seed: the run's seed, ≥ 0.
        purpose: what the numbers are for, e.g. ``"latent"``; different purposes give independent streams.
        index: a further number ≥ 0, e.g. the epoch.
        device: where the numbers are drawn; the CPU and a GPU give different numbers for the same seed.
    """
    state = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), index]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))  # manual_seed takes 63 bits


class StepRNG:
    """Random numbers for one step of K GANs: a shape's leading K says whose they are, `[i]` are what GAN i alone draws.

    They follow from seed, purpose and step: nothing has to be kept to go on later.

    Args:
        seeds: one for each GAN.
        lead: the axes before a batch, `(K,)`, or `()` for one GAN.
    """

    def __init__(
        self, seeds: Sequence[int], replica_dims: Sequence[int], purpose: str, step: int, device: torch.device
    ):
        self.replica_dims, self.device = tuple(replica_dims), device
        self._make = lambda: [make_generator(seed, purpose, step, device) for seed in seeds]

    @functools.cached_property
    def _streams(self) -> list[torch.Generator]:
        return self._make()  # not before something is drawn: it takes longer than a small network

    def uniform(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """From U[0, 1)."""
        return self._drawn(torch.rand, shape, dtype=dtype)

    def normal(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """From N(0, 1)."""
        return self._drawn(torch.randn, shape, dtype=dtype)

    def integers(self, low: int, high: int, shape: Sequence[int]) -> Tensor:
        """From low … high − 1."""
        return self._drawn(lambda own, **options: torch.randint(low, high, own, **options), shape)

    def draw(self, draw: Callable[[Sequence[int], torch.Generator], Tensor], shape: Sequence[int]) -> Tensor:
        """What a function draws of that shape."""
        own = tuple(shape)[len(self.replica_dims) :]
        drawn = [draw(own, each) for each in self._streams]
        return torch.stack(drawn) if self.replica_dims else drawn[0]

    def _drawn(self, draw: Callable[..., Tensor], shape: Sequence[int], **options: Any) -> Tensor:
        return self.draw(lambda own, generator: draw(own, generator=generator, device=self.device, **options), shape)
