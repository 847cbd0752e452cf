"""Makes many independent random number generators from one seed.

Training, the order of the data, pictures and measurements each draw from a generator of their own, so that switching
one of them off does not change the others by a bit.
"""

import functools
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def make_generator(seed: int, purpose: str, index: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    """Makes a new generator whose numbers depend on the arguments and on nothing else.

    Args:
        seed: the run's seed, ≥ 0.
        purpose: what the numbers are for, such as ``"latent"``; different purposes give independent numbers.
        index: a further number ≥ 0, such as the epoch.
        device: where the numbers are drawn; the CPU and a GPU give different numbers for the same seed.
    """
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), index])
    state = sequence.generate_state(1, np.uint64)[0]
    # manual_seed takes 63 bits.
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


class StepRNG:
    """The random numbers of one step, for one GAN or for K replicas.

    They follow from seed, purpose and step, so nothing has to be stored in a checkpoint to resume. With replicas each
    shape begins with K, and row i holds what GAN i would draw if it were trained by itself.

    Args:
        seeds: one for each GAN.
        replica_dims: the leading axes of every shape: `(K,)`, or `()` for one GAN.
        purpose: see `make_generator`.
        step: the index of the generators, ≥ 0.
        device: where the numbers are drawn.
    """

    def __init__(
        self, seeds: Sequence[int], replica_dims: Sequence[int], purpose: str, step: int, device: torch.device
    ):
        self.seeds = seeds
        self.replica_dims = tuple(replica_dims)
        self.purpose = purpose
        self.step = step
        self.device = device

    @functools.cached_property
    def _generators(self) -> list[torch.Generator]:
        # Made when the first number is drawn: making them takes longer than a step of a small network.
        return [make_generator(seed, self.purpose, self.step, self.device) for seed in self.seeds]

    def uniform(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draws from U[0, 1): a tensor of the given shape."""

        def draw_one(sizes: Sequence[int], generator: torch.Generator) -> Tensor:
            return torch.rand(sizes, generator=generator, dtype=dtype, device=self.device)

        return self.draw(draw_one, shape)

    def normal(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Draws from N(0, 1): a tensor of the given shape."""

        def draw_one(sizes: Sequence[int], generator: torch.Generator) -> Tensor:
            return torch.randn(sizes, generator=generator, dtype=dtype, device=self.device)

        return self.draw(draw_one, shape)

    def integers(self, low: int, high: int, shape: Sequence[int]) -> Tensor:
        """Draws whole numbers from low to high − 1, all equally likely: int64 of the given shape."""

        def draw_one(sizes: Sequence[int], generator: torch.Generator) -> Tensor:
            return torch.randint(low, high, sizes, generator=generator, device=self.device)

        return self.draw(draw_one, shape)

    def draw(self, draw_one: Callable[[Sequence[int], torch.Generator], Tensor], shape: Sequence[int]) -> Tensor:
        """Draws with any function, once for each GAN.

        Args:
            draw_one: takes the shape without `replica_dims`, and a generator, and returns a tensor of that shape.
            shape: begins with `replica_dims`.
        """
        shape_of_one = tuple(shape)[len(self.replica_dims) :]
        tensors = [draw_one(shape_of_one, generator) for generator in self._generators]
        return torch.stack(tensors) if self.replica_dims else tensors[0]
