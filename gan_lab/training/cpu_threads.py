"""How many threads a training computes with: by its work, or by trials. See docs/performance.md, Threads."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gan_lab.core.errors import LabError
from gan_lab.training.callbacks.base import GANCallback
from gan_lab.training.gan_module import GANModule

FLOPS_PER_THREAD = 1e9  # operations of a matrix product for which another thread is worth its waiting time
TRIAL_SECONDS = 0.4  # a trial ends after this time, but not before two steps …
TRIAL_STEPS = 10_000  # … or after so many steps
ROUNDS = 3  # of trials, each with every number of threads in turn: a machine's load comes and goes


class ProductCounter(TorchDispatchMode):
    """Counts the floating point operations of each matrix product and convolution.

    Attributes:
        flops: of each, in the order of their execution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops: list[float] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns what torch asks: whether it has to import its compiler, which takes a second, to leave this out."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        count_flops = flop_registry.get(func._overloadpacket)
        if count_flops:
            self.flops.append(float(count_flops(*args, **options, out_val=result)))
        return result


@torch.no_grad()
def typical_product(networks: Callable[[torch.Tensor], Any], z: torch.Tensor, batch_size: int) -> float:
    """Returns the floating point operations of a typical matrix product of a step.

    It is the mean over the products, weighted by their operations, so that one large product among thousands of small
    ones counts for little. It is the same on every machine.

    Args:
        networks: applies generator and discriminator to latent vectors.
        z: a few latent vectors `(…, n, latent_dim)`; their operations are scaled up to the batch.
        batch_size: of the training.
    """
    with ProductCounter() as counter:
        networks(z)
    total = sum(counter.flops)
    if total == 0:
        return 0.0
    mean = sum(flops**2 for flops in counter.flops) / total
    return mean * batch_size / z.shape[-2]


def threads_for(flops: float, cores: Callable[[], int]) -> int:
    """Returns the threads for matrix products of this size: a power of two from 1 to `cores()`."""
    threads = 1
    # Whether there are more cores is only asked if they could be used: it takes some time.
    while 2 * threads * FLOPS_PER_THREAD <= flops and 2 * threads <= cores():
        threads *= 2
    return threads


def threads_for_members(members: int, cores: Callable[[], int]) -> int:
    """Returns how many threads train the members of replicas: one for each member, as far as there are cores.

    OMP_NUM_THREADS, by which users and launchers limit a process, limits these threads too.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    most = min(members, int(limit)) if limit.isdecimal() and int(limit) else members
    # Whether there are more cores is only asked if they could be used: it takes some time.
    return min(most, cores()) if most > 1 else 1


def candidates(cores: int) -> list[int]:
    """Returns 1, 2, 4 … up to `cores`."""
    return [2**exponent for exponent in range(cores.bit_length())]


def fastest(seconds: Callable[[int], float], numbers: Sequence[int]) -> int:
    """Returns the number of threads whose trials take the fewest seconds (median over ROUNDS), the smaller if equal.

    Args:
        seconds: makes a trial with a number of threads and times it.
        numbers: of threads to try.
    """
    if len(numbers) == 1:
        return numbers[0]
    trials: dict[int, list[float]] = {number: [] for number in sorted(numbers)}
    for _ in range(ROUNDS):
        for number, times in trials.items():
            times.append(seconds(number))
    return min(trials, key=lambda number: statistics.median(trials[number]))


class Stopwatch(GANCallback):
    """Times the steps after the first, and ends the training after TRIAL_SECONDS.

    Attributes:
        steps: number of steps timed so far.
        seconds: that they took.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.seconds = 0.0
        self._start = 0.0

    def on_block_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        if module.step == 1:
            self._start = time.perf_counter()
        self.steps = module.step - 1
        self.seconds = time.perf_counter() - self._start
        trainer.should_stop = self.seconds > TRIAL_SECONDS


def set_threads(number: int | str) -> None:
    """Sets the number of threads for something other than a training; `auto` means 1.

    Raises:
        LabError: for `tune`, which needs a training to try.
    """
    if number == "tune":
        raise LabError(
            "threads=tune works only for training.",
            "Give a number, or threads=auto for as many threads as the run had.",
            code="conflict",
            key="threads",
        )
    torch.set_num_threads(1 if isinstance(number, str) else number)
