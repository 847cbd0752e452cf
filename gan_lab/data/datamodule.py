"""How data reach the training: an endless stream in which every step's batch is known beforehand."""

import math
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import SHUFFLED, Dataset, Samples

StepBlock = Tensor | tuple[Tensor, Tensor]  # (S, …, B, *shape): the batches of some steps; with classes (S, …, B)

CHUNK = 20  # steps a chunk at most: spreads Lightning's cost per training_step over this many steps
LARGE = 2**22  # bytes of a chunk beyond which it has fewer


class BatchStream:
    """The batches of steps start + 1 … steps, in chunks `(S, B, *shape)` of a few steps each; of several replicas
    `(S, K, B, *shape)`, where member i sees what the stream of `seed + i` gives.

    Epoch after epoch goes through the data in a new random order; a batch may span two epochs. Data of more than
    `SHUFFLED` samples are drawn with replacement instead. The batch of a step depends on nothing but seed and step: a
    stream that starts in the middle gives what the whole one gives there.

    Args:
        marks: a chunk ends at every multiple of each of these, so that what happens every so many steps sees exactly
            that step.
        workers: so many processes read ahead; the batches are the same.
        share: which of each batch's samples are given, where several processes train together.
        n_critic: a step takes so many batches: chunks are `(S · n_critic, …, B, *shape)`.
        labels: of the same samples: with each chunk come their classes, `(S · n_critic, …, B)` int64.
    """

    def __init__(
        self,
        part: Samples,
        batch_size: int,
        seed: int,
        steps: int,
        start: int = 0,
        boundaries: Sequence[int] = (),
        workers: int = 0,
        replicas: int = 1,
        share: slice = slice(None),
        n_critic: int = 1,
        labels: Samples | None = None,
    ):
        self.part, self.batch_size = part, batch_size
        self.seeds = range(seed, seed + replicas)
        self.steps, self.start, self.boundaries, self.workers = steps, start, boundaries, workers
        self.share, self.n_critic, self.labels = share, n_critic, labels
        self._orders: dict[int, Tensor] = {}

    def __iter__(self) -> Iterator[StepBlock]:
        if not self.workers:
            yield from map(self.__getitem__, self.spans())
            return
        ahead: DataLoader[StepBlock] = DataLoader(
            self,  # type: ignore[arg-type]
            batch_size=None,
            sampler=self.spans(),
            num_workers=self.workers,
            worker_init_fn=_usual_signals,
            generator=torch.Generator(),  # else it draws from the global stream
        )
        try:
            yield from ahead
        except LabError as error:  # torch puts the worker's traceback before the message
            kind = type(error)
            raise kind(str(error).partition(f"{kind.__module__}.{kind.__name__}: ")[2].strip()) from error

    def __getitem__(self, span: tuple[int, int]) -> StepBlock:
        """The chunk of so many steps after a step."""
        step, size = (steps * self.n_critic for steps in span)
        replica_dims = (len(self.seeds),) if len(self.seeds) > 1 else ()
        own = self.indices(step, size).view(size, *replica_dims, self.batch_size)[..., self.share]
        samples = self.part[own.flatten()].unflatten(0, own.shape)
        return samples if self.labels is None else (samples, self.labels.labels_of(own.flatten()).view(own.shape))

    def spans(self) -> Iterator[tuple[int, int]]:
        """For each chunk the step that it comes after, and how many steps it has."""
        step, own = self.start, 4 * math.prod(self.part.shape) * self.batch_size * len(self.seeds) * self.n_critic
        most = max(1, min(CHUNK, LARGE // own))
        while step < self.steps:
            size = min(most, self.steps - step, *(boundary - step % boundary for boundary in self.boundaries))
            yield step, size
            step += size

    def indices(self, step: int, size: int) -> Tensor:
        """Which samples the `size` batches after `step` of them have, `(size * replicas * batch_size,)`."""
        if len(self.part) > SHUFFLED:
            return torch.cat([self._drawn(seed, t) for t in range(step, step + size) for seed in self.seeds])
        length, start, stop = len(self.part), step * self.batch_size, (step + size) * self.batch_size
        epochs = range(start // length, (stop - 1) // length + 1)
        self._orders = {e: self._orders[e] if e in self._orders else self._order(e) for e in epochs}
        seen = [self._orders[e][:, max(0, start - e * length) : stop - e * length] for e in epochs]
        return torch.cat(seen, dim=1).unflatten(1, (size, self.batch_size)).transpose(0, 1).flatten()

    def _drawn(self, seed: int, step: int) -> Tensor:
        return torch.randint(len(self.part), (self.batch_size,), generator=make_generator(seed, "draw", step))

    def _order(self, epoch: int) -> Tensor:  # (K, N)
        generators = [make_generator(seed, "order", epoch) for seed in self.seeds]
        return torch.stack([torch.randperm(len(self.part), generator=each) for each in generators])


def _usual_signals(_: int) -> None:
    """Ctrl-C reaches workers, too, but to stop is the training's own business; SIGTERM ends them, as it has to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class GANDataModule(pl.LightningDataModule):
    """Feeds a dataset's train part to the training, from the module's own step onwards.

    Args:
        digest: of the data, for checkpoints; see `gan_lab.data.digest`.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        steps: int,
        boundaries: Sequence[int] = (),
        workers: int = 0,
        digest: str = "",
    ):
        super().__init__()
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.steps, self.boundaries, self.workers = steps, boundaries, workers
        self.digest = digest

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint says of the data; `gan_lab.data.digest.refuse_other_data` reads it."""
        return {"digest": self.digest}

    def train_dataloader(self) -> BatchStream:
        module: Any = self.trainer.lightning_module  # type: ignore[union-attr]
        part, device = self.dataset.train, self.trainer.strategy.root_device  # type: ignore[union-attr]
        if device.type != "cpu" and not self.workers:
            with suppress(torch.OutOfMemoryError):  # then batches travel
                part = part.on(device)
        share = slice(self.trainer.global_rank, None, self.trainer.world_size)  # type: ignore[union-attr]
        labels = self.dataset.train if module.classes else None
        where = (self.batch_size, self.seed, self.steps, module.step, self.boundaries)
        return BatchStream(part, *where, self.workers, module.replicas, share, module.n_critic, labels)
