"""One seed, many independent streams of random numbers.

Training, the order of the data, pictures and measurements each draw from a stream of their own, so that switching one
of them off does not change the others by a bit.
"""

import zlib

import numpy as np
import torch


def stream(seed: int, purpose: str, index: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh generator that depends on nothing but its arguments.

    Args:
        seed: the run's seed, ≥ 0.
        purpose: what the numbers are for, e.g. ``"latent"``; different purposes give independent streams.
        index: a further number ≥ 0, e.g. the epoch.
        device: where the numbers are drawn; the CPU and a GPU give different numbers for the same seed.
    """
    state = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), index]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))  # manual_seed takes 63 bits
