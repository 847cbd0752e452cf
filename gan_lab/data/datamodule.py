"""Brings data to the training: a stream of batches in which each step's batch follows from seed and step only."""

import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from gan_lab.core.errors import LabError, RunError, worker_died
from gan_lab.core.interrupts import blocked, leave_to_parent
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import MAX_SHUFFLED, Dataset, Samples

# The batches of S steps: (S · n_critic, …, B, *shape) float32; with class labels also (S · n_critic, …, B) int64.
StepBlock = Tensor | tuple[Tensor, Tensor]
# Which steps a block has: it comes after the first number of steps, and has as many as the second one.
Span = tuple[int, int]

# Lightning calls training_step once a block, so that its cost is shared by so many steps; of the compiled step by more,
# since there it would be a larger part;
MAX_BLOCK_STEPS = 20
MAX_COMPILED_BLOCK_STEPS = 100
# but a block is kept in memory, so one of large samples has fewer steps.
MAX_BLOCK_BYTES = 2**22
FLOAT32_BYTES = 4
INT64_BYTES = 8

# Worker processes hand over their blocks in shared memory. torch's loader has this many of each worker there;
BLOCKS_PER_WORKER = 2
# and training has the block it computes with, the one before, and the next one, which Lightning fetches in advance.
BLOCKS_IN_TRAINING = 3
SHARED_MEMORY = Path("/dev/shm")
WITHOUT_WORKERS = "workers=0 loads the data without worker processes."


class BatchStream:
    """The batches of the steps start + 1 … steps, in blocks of a few steps.

    Each epoch goes through the data in a new random order, and a batch may span two epochs. Data of more than
    `MAX_SHUFFLED` samples are drawn with replacement instead. The batch of a step depends on seed and step only: a
    stream that starts in the middle gives the same batches as one from the beginning.

    With K replicas `…` is an axis K, and member i sees what the stream of `seed + i` gives.

    Args:
        part: the samples.
        batch_size: B.
        seed: of the order, ≥ 0.
        steps: the last step.
        start: how many steps were done before.
        boundaries: a block ends at every multiple of each of these numbers, so that what happens every so many steps
            happens exactly after its step.
        stops: a block also ends after each of these steps.
        workers: number of processes that read ahead; the batches don't depend on it.
        replicas: K.
        rank_slice: which samples of each batch are given, where several processes train together.
        n_critic: batches that a step takes.
        labels: the part that gives the class labels of the same samples; None: blocks have no labels.
        max_steps: a block has at most so many steps.
    """

    def __init__(
        self,
        part: Samples,
        batch_size: int,
        seed: int,
        steps: int,
        start: int = 0,
        boundaries: Sequence[int] = (),
        stops: Sequence[int] = (),
        workers: int = 0,
        replicas: int = 1,
        rank_slice: slice = slice(None),
        n_critic: int = 1,
        labels: Samples | None = None,
        max_steps: int = MAX_BLOCK_STEPS,
    ):
        self.part = part
        self.batch_size = batch_size
        self.seeds = range(seed, seed + replicas)
        self.steps = steps
        self.start = start
        self.boundaries = boundaries
        self.stops = stops
        self.workers = workers
        self.rank_slice = rank_slice
        self.n_critic = n_critic
        self.labels = labels
        self.max_steps = max_steps
        self._orders: dict[int, Tensor] = {}  # by epoch; see `_order`

    def __iter__(self) -> Iterator[StepBlock]:
        if not self.workers:
            for span in self.spans():
                yield self.block(span)
            return
        loader: DataLoader[bytes | LabError] = DataLoader(
            _WorkerBlocks(self),
            batch_size=None,  # a block is a batch of batches already
            sampler=self.spans(),
            num_workers=self.workers,
            prefetch_factor=BLOCKS_PER_WORKER,
            collate_fn=_unchanged,
            worker_init_fn=_set_worker_signals,
            # Without a generator of its own, the loader would draw its workers' seeds from the global one.
            generator=torch.Generator(),
        )
        try:
            with blocked():
                # This starts the workers.
                items = iter(loader)
        except OSError as error:
            raise RunError(
                f"The worker processes can't be started: {error}.", WITHOUT_WORKERS, code="unsupported", key="workers"
            ) from error
        try:
            for item in items:
                yield _receive(item)
        finally:
            # This ends the workers; the traceback of an error would keep them until the interpreter ends.
            del items

    def block(self, span: Span) -> StepBlock:
        """Returns the batches of the given steps; see `StepBlock`."""
        start, steps = span
        batches = steps * self.n_critic
        replica_dims = (len(self.seeds),) if len(self.seeds) > 1 else ()
        indices = self.indices(start * self.n_critic, batches)
        indices = indices.view(batches, *replica_dims, self.batch_size)[..., self.rank_slice]
        flat_indices = indices.flatten()
        samples = self.part[flat_indices].unflatten(0, indices.shape)
        if self.labels is None:
            return samples
        return samples, self.labels.labels_of(flat_indices).view(indices.shape)

    def max_block_steps(self) -> int:
        """Returns how many steps a block has at most."""
        values_per_step = math.prod(self.part.shape) * self.batch_size * len(self.seeds) * self.n_critic
        return max(1, min(self.max_steps, MAX_BLOCK_BYTES // (FLOAT32_BYTES * values_per_step)))

    def shared_bytes(self) -> int:
        """Returns how much shared memory the blocks take while worker processes read ahead; 0 without workers."""
        if not self.workers:
            return 0
        steps = min(self.max_block_steps(), *self.boundaries, max(1, self.steps - self.start))
        samples = steps * self.n_critic * len(self.seeds) * len(range(self.batch_size)[self.rank_slice])
        bytes_per_sample = FLOAT32_BYTES * math.prod(self.part.shape)
        if self.labels is not None:
            bytes_per_sample += INT64_BYTES
        return (BLOCKS_PER_WORKER * self.workers + BLOCKS_IN_TRAINING) * samples * bytes_per_sample

    def spans(self) -> Iterator[Span]:
        """Gives the steps of each block; whoever changes `max_steps` meanwhile gets the following blocks so."""
        step = self.start
        while step < self.steps:
            size = min(self.max_block_steps(), self.steps - step)
            for boundary in self.boundaries:
                size = min(size, boundary - step % boundary)
            for stop in self.stops:
                if stop > step:
                    size = min(size, stop - step)
            yield step, size
            step += size

    def indices(self, first: int, count: int) -> Tensor:
        """Returns which samples are in some consecutive batches.

        Args:
            first: how many batches come before.
            count: how many batches.

        Returns:
            `(count * replicas * batch_size,)` int64: batch after batch, and in each replica after replica.
        """
        if len(self.part) > MAX_SHUFFLED:
            draws = []
            for batch in range(first, first + count):
                for seed in self.seeds:
                    draws.append(self._draw_with_replacement(seed, batch))
            return torch.cat(draws)
        length = len(self.part)
        # Places in the endless sequence of epochs.
        start = first * self.batch_size
        stop = (first + count) * self.batch_size
        epochs = range(start // length, (stop - 1) // length + 1)
        # Only the orders that these batches need stay in memory.
        orders = {}
        for epoch in epochs:
            orders[epoch] = self._orders[epoch] if epoch in self._orders else self._order(epoch)
        self._orders = orders
        pieces = []  # of each epoch (K, n)
        for epoch in epochs:
            offset = epoch * length
            pieces.append(orders[epoch][:, max(0, start - offset) : stop - offset])
        sequence = torch.cat(pieces, dim=1)  # (K, count * B)
        return sequence.unflatten(1, (count, self.batch_size)).transpose(0, 1).flatten()

    def _draw_with_replacement(self, seed: int, batch: int) -> Tensor:
        return torch.randint(len(self.part), (self.batch_size,), generator=make_generator(seed, "draw", batch))

    def _order(self, epoch: int) -> Tensor:
        """Returns a random order of all samples for each replica, `(K, N)`."""
        orders = []
        for seed in self.seeds:
            generator = make_generator(seed, "order", epoch)
            orders.append(torch.randperm(len(self.part), generator=generator))
        return torch.stack(orders)


class _WorkerBlocks(TorchDataset[bytes | LabError]):
    """The blocks of a stream, read in a worker process, as `_receive` takes them.

    A `LabError` is returned instead of raised: torch would put the worker's traceback into the message of a raised
    error, and lose its code and key.
    """

    def __init__(self, stream: BatchStream):
        self.stream = stream

    def __getitem__(self, span: Span) -> bytes | LabError:
        try:
            block = self.stream.block(span)
        except LabError as error:
            return error
        # This moves the block to shared memory. torch would do so in a thread, where an error loses the block, and the
        # training waits for it forever.
        try:
            return bytes(ForkingPickler.dumps(block))
        except (RuntimeError, OSError) as error:
            return _not_handed_over(error)


def _receive(item: bytes | LabError) -> StepBlock:
    """Returns the block that a worker process has put into shared memory.

    Raises:
        LabError: that of the worker, or if this process can't open the memory.
        RuntimeError: if the worker has died; see `worker_died`.
    """
    if isinstance(item, LabError):
        raise item
    try:
        return ForkingPickler.loads(item)
    except (RuntimeError, OSError, EOFError) as error:
        if worker_died(error):
            raise
        raise _not_handed_over(error) from error


def _not_handed_over(error: Exception) -> RunError:
    return RunError(
        f"A worker process could not hand over its batches: {str(error) or type(error).__name__}.",
        WITHOUT_WORKERS,
        code="memory",
        key="workers",
    )


def _unchanged(item: Any) -> Any:
    return item


def _set_worker_signals(_: int) -> None:
    """Sets a worker's own handlers in the place of the training's, which it inherits."""
    leave_to_parent()


def refuse_small_shared_memory(needed: int) -> None:
    """Refuses worker processes for which the system has too little shared memory.

    Args:
        needed: bytes; see `BatchStream.shared_bytes`.

    Raises:
        LabError: if there is less.
    """
    free = _free_shared_memory()
    if free is None or needed <= free:
        return
    raise LabError(
        f"The worker processes need {needed / 1e6:,.0f} MB of shared memory, but {SHARED_MEMORY} has "
        f"{free / 1e6:,.0f} MB free.",
        f"A Docker container has 64 MB, and more with docker run --shm-size={math.ceil(needed / 2**30)}g. "
        f"{WITHOUT_WORKERS}",
        code="memory",
        key="workers",
    )


def _free_shared_memory() -> int | None:
    """Returns how many bytes of shared memory are free; None where the system doesn't tell."""
    if sys.platform != "linux":
        return None
    if not os.access(SHARED_MEMORY, os.W_OK):
        return 0
    usage = shutil.disk_usage(SHARED_MEMORY)
    # A tmpfs without a limit has a size of 0.
    return usage.free if usage.total else None


class GANDataModule(pl.LightningDataModule):
    """Gives the training a dataset's train part, from the step at which the module is.

    Args:
        dataset, batch_size, seed, steps, boundaries, stops, workers: see `BatchStream`.
        digest: of the data, for checkpoints; see `gan_lab.data.digest`.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        steps: int,
        boundaries: Sequence[int] = (),
        stops: Sequence[int] = (),
        workers: int = 0,
        digest: str = "",
    ):
        super().__init__()
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.steps = steps
        self.boundaries = boundaries
        self.stops = stops
        self.workers = workers
        self.digest = digest

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint stores of the data; `gan_lab.data.digest.refuse_other_data` compares it."""
        return {"digest": self.digest}

    def refuse_small_shared_memory(self, module: Any, devices: int, nodes: int) -> None:
        """Refuses more workers than the shared memory of this machine suffices for, before a training starts them.

        Args:
            module: the GAN.
            devices: processes on each node, each with its own workers.
            nodes: number of nodes.
        """
        stream = self._stream(module, self.dataset.train, slice(0, None, devices * nodes))
        refuse_small_shared_memory(devices * stream.shared_bytes())

    def train_dataloader(self) -> BatchStream:
        """Returns the stream of the steps that the module has not done yet."""
        trainer = self.trainer
        assert trainer is not None  # Lightning sets it before it asks for data
        part = self.dataset.train
        device = trainer.strategy.root_device
        # Data that lie on the GPU need not be copied to it in every step. Worker processes can't read from there.
        if device.type != "cpu" and not self.workers:
            # Where the data don't fit, batches are copied.
            with suppress(torch.OutOfMemoryError):
                part = part.to(device)
        return self._stream(trainer.lightning_module, part, slice(trainer.global_rank, None, trainer.world_size))

    def _stream(self, module: Any, part: Samples, rank_slice: slice) -> BatchStream:
        return BatchStream(
            part,
            self.batch_size,
            self.seed,
            self.steps,
            start=module.step,
            boundaries=self.boundaries,
            stops=self.stops,
            workers=self.workers,
            replicas=module.replicas,
            rank_slice=rank_slice,
            n_critic=module.n_critic,
            labels=self.dataset.train if module.classes else None,
            max_steps=MAX_COMPILED_BLOCK_STEPS if module.engine == "compiled" else MAX_BLOCK_STEPS,
        )
