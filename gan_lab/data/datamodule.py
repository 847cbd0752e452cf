"""How data reach the training: an endless stream in which every step's batch is known beforehand."""

from collections.abc import Iterator, Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from gan_lab.data import SHUFFLED, Dataset, Samples
from gan_lab.streams import stream

CHUNK = 10  # steps a chunk at most: spreads Lightning's cost per training_step over this many steps


class Stream:
    """The batches of steps start + 1 … steps, in chunks `(S, B, *shape)` of a few steps each.

    Epoch after epoch goes through the data in a new random order; a batch may span two epochs. Data of more than
    `SHUFFLED` samples are drawn with replacement instead. The batch of a step depends on nothing but seed and step: a
    stream that starts in the middle gives what the whole one gives there.

    Args:
        marks: a chunk ends at every multiple of each of these, so that what happens every so many steps sees exactly
            that step.
        share: which of each batch's samples are given, where several processes train together.
    """

    def __init__(
        self,
        part: Samples,
        batch_size: int,
        seed: int,
        steps: int,
        start: int = 0,
        marks: Sequence[int] = (),
        share: slice = slice(None),
    ):
        self.part, self.batch_size, self.seed = part, batch_size, seed
        self.steps, self.start, self.marks = steps, start, marks
        self.share = share
        self._orders: dict[int, Tensor] = {}

    def __iter__(self) -> Iterator[Tensor]:
        step = self.start
        while step < self.steps:
            size = min(CHUNK, self.steps - step, *(mark - step % mark for mark in self.marks))
            own = self.indices(step, size).view(size, self.batch_size)[:, self.share]
            yield self.part[own.flatten()].unflatten(0, own.shape)
            step += size

    def indices(self, step: int, size: int) -> Tensor:
        """Which samples the `size` steps after `step` see, `(size * batch_size,)`."""
        if len(self.part) > SHUFFLED:
            return torch.cat([self._drawn(t) for t in range(step, step + size)])
        length, start, stop = len(self.part), step * self.batch_size, (step + size) * self.batch_size
        epochs = range(start // length, (stop - 1) // length + 1)
        self._orders = {e: self._orders[e] if e in self._orders else self._order(e) for e in epochs}
        return torch.cat([self._orders[e][max(0, start - e * length) : stop - e * length] for e in epochs])

    def _drawn(self, step: int) -> Tensor:
        return torch.randint(len(self.part), (self.batch_size,), generator=stream(self.seed, "draw", step))

    def _order(self, epoch: int) -> Tensor:
        return torch.randperm(len(self.part), generator=stream(self.seed, "order", epoch))


class GANDataModule(pl.LightningDataModule):
    """Feeds a dataset's train part to the training, from the module's own step onwards."""

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, steps: int, marks: Sequence[int] = ()):
        super().__init__()
        self.dataset, self.batch_size, self.seed, self.steps, self.marks = dataset, batch_size, seed, steps, marks

    def train_dataloader(self) -> Stream:
        start: int = self.trainer.lightning_module.step  # type: ignore[union-attr, assignment]
        share = slice(self.trainer.global_rank, None, self.trainer.world_size)  # type: ignore[union-attr]
        return Stream(self.dataset.train, self.batch_size, self.seed, self.steps, start, self.marks, share)
