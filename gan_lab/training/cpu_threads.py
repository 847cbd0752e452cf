"""How many threads torch computes with: by the work of a step, or as trials show. See docs/performance.md, Threads."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gan_lab.core.errors import LabError

WORTH_A_THREAD = 1e9  # floating point operations of a matrix product, per thread: less isn't worth the waiting
TRIAL_SECONDS, TRIAL_STEPS = 0.4, 10_000  # of a trial at most, whatever ends it first; two steps at least
ROUNDS = 3  # of trials, each with every number in turn: a machine's load comes and goes


class Products(TorchDispatchMode):
    """Notes the floating point operations of each matrix product and convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.flops: list[float] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.flops.append(float(count(*args, **(kwargs or {}), out_val=made)))
        return made


@torch.no_grad()
def typical_product(networks: Callable[[torch.Tensor], Any], z: torch.Tensor, batch_size: int) -> float:
    """Floating point operations of the matrix product in which a typical operation of a step is done.

    The mean over products, weighted by their operations: one large product among thousands of small ones counts for
    little. Deterministic, the same on any machine.

    Args:
        networks: plays a generator and a discriminator on latent vectors.
        z: two or so of them, `(…, n, latent_dim)`; operations grow with the batch.
        batch_size: of the training.
    """
    with Products() as products:
        networks(z)
    total = sum(products.flops)
    return sum(flops**2 for flops in products.flops) / total * batch_size / z.shape[-2] if total else 0.0


def for_product(flops: float, cores: Callable[[], int]) -> int:
    """Threads for products of this size: a power of two, at most `cores()`, at least 1."""
    threads = 1
    while 2 * threads * WORTH_A_THREAD <= flops and 2 * threads <= cores():
        threads *= 2
    return threads


def candidates(cores: int) -> list[int]:
    """1, 2, 4 … up to `cores`."""
    return [2**k for k in range(cores.bit_length()) if 2**k <= cores]


def fastest(seconds: Callable[[], float], numbers: Sequence[int]) -> int:
    """The number of threads with which a trial takes the fewest seconds (median over ROUNDS); of equals the smaller.

    Args:
        seconds: makes a trial and times it.
    """
    taken: dict[int, list[float]] = {number: [] for number in sorted(numbers)}
    for _ in range(ROUNDS if len(numbers) > 1 else 0):
        for number, each in taken.items():
            torch.set_num_threads(number)
            each.append(seconds())
    return min(taken, key=lambda number: statistics.median(taken[number] or [0.0]))


class Stopwatch(pl.Callback):
    """Times the steps behind the first, and ends the training when that has taken long enough."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        if module.step == 1:
            self._start = time.perf_counter()
        self.steps, self.seconds = module.step - 1, time.perf_counter() - self._start
        trainer.should_stop = self.seconds > TRIAL_SECONDS


def use(number: int | str) -> None:
    """Lets torch compute with so many threads, outside a training; auto: no run says how many, so 1.

    Raises:
        LabError: for `tune`, which only a training can try out.
    """
    if number == "tune":
        raise LabError("threads=tune is for trainings.", "Say a number, or threads=auto for as many as the run had.")
    torch.set_num_threads(1 if isinstance(number, str) else number)
