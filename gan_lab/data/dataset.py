"""What GANs are trained on: a dataset is a train part and a held-out part of the same kind."""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from gan_lab.core.errors import LabError

SHUFFLED = 2**24  # samples at most whose order is kept in memory: 128 MiB


class Samples(Protocol):
    """What either part of a dataset offers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """A sample's shape."""

    @property
    def labels(self) -> Tensor | None:
        """`(N,)` int64 class numbers, or None."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Samples `(n, *shape)` as float32 at the indices `(n,)`."""

    def labels_of(self, indices: Tensor) -> Tensor:
        """Class numbers `(n,)`, int64, at the indices `(n,)`."""

    def label_counts(self, classes: int) -> Tensor:
        """How many samples each class has, `(classes,)` int64."""

    def on(self, device: torch.device) -> "Samples":
        """The same samples held on a device; those that memory doesn't hold, as they are. For training: no labels."""


class Labelled:
    """Samples whose class numbers, `(N,)` int64, are held in memory, if they are known."""

    labels: Tensor | None

    def labels_of(self, indices: Tensor) -> Tensor:
        """Class numbers `(n,)`, int64, at the indices `(n,)`.

        Raises:
            LabError: if there are no labels.
        """
        if self.labels is None:
            raise LabError("These data have no labels.", "digits, mnist and fashion_mnist, for example, have some.")
        return self.labels.index_select(0, indices)

    def label_counts(self, classes: int) -> Tensor:
        """How many samples each class has, `(classes,)` int64.

        Raises:
            LabError: if there are no labels.
        """
        return self.labels_of(torch.arange(len(self))).bincount(minlength=classes)

    def __len__(self) -> int:
        raise NotImplementedError


@dataclass(frozen=True)
class Part(Labelled):
    """Samples held in memory.

    Attributes:
        values: `(N, *shape)`, float32, or uint8 for images (0–255 stand for 0–1).
        labels: `(N,)` int64 class numbers, or None.
    """

    values: Tensor
    labels: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """A sample's shape."""
        return tuple(self.values.shape[1:])

    def __len__(self) -> int:
        return len(self.values)

    def stored(self, indices: Tensor) -> Tensor:
        """Returns `values` at the indices `(n,)`, `(n, *shape)`."""
        return self.values.index_select(0, indices.to(self.values.device))

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Samples `(n, *shape)` as float32 at the indices `(n,)`."""
        picked = self.stored(indices)
        return picked.float().div_(255) if picked.dtype == torch.uint8 else picked

    def on(self, device: torch.device) -> "Part":
        return Part(self.values.to(device))


@dataclass(frozen=True)
class StackedPart:
    """Colour images made of three single-channel ones, put together when they are asked for.

    Attributes:
        base: single-channel images with at most ten classes, `(n, 1, H, W)`.
        triples: `(N, 3)` int64, which images of `base` are red, green and blue; None stands for all n³ triples.
    """

    base: Part
    triples: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """A sample's shape, `(3, H, W)`."""
        return (3, *self.base.shape[1:])

    @property
    def labels(self) -> Tensor | None:
        """`(N,)` int64, 100 r + 10 g + b; None where the set of all triples is too large for that: see `labels_of`."""
        return None if self.triples is None else self.labels_of(torch.arange(len(self)))

    def __len__(self) -> int:
        return len(self.base) ** 3 if self.triples is None else len(self.triples)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Samples `(n, 3, H, W)` as float32 at the indices `(n,)`."""
        return self.base[self._channels(indices).flatten()].reshape(len(indices), *self.shape)

    def on(self, device: torch.device) -> "StackedPart":
        return StackedPart(self.base.on(device), self.triples)

    def labels_of(self, indices: Tensor) -> Tensor:
        """Class numbers `(n,)`, int64, 100 r + 10 g + b, at the indices `(n,)`.

        Raises:
            LabError: if the base has no labels.
        """
        return stacked_labels(self.base.labels_of(self._channels(indices).flatten()))

    def label_counts(self, classes: int = 1000) -> Tensor:
        """How many samples each class has, `(classes,)` int64; of all triples computed, not counted.

        Raises:
            LabError: if the base has no labels.
        """
        if self.triples is not None:
            return self.labels_of(torch.arange(len(self))).bincount(minlength=classes)
        return torch.einsum("r,g,b->rgb", *[self.base.label_counts(10)] * 3).flatten()

    def _channels(self, indices: Tensor) -> Tensor:
        """The base's images of each sample, `(n, 3)`."""
        if self.triples is not None:
            return self.triples.index_select(0, indices)
        n = len(self.base)
        return torch.stack([indices // n**2, indices // n % n, indices % n], dim=1)


@dataclass(frozen=True)
class FlippedPart:
    """Images and, behind them, the mirror image of each: sample N + i is sample i with left and right swapped.

    An epoch sees both. Which of them a step sees depends, as with all samples, on nothing but seed and step.

    Attributes:
        base: the N images.
    """

    base: Samples

    @property
    def shape(self) -> tuple[int, ...]:
        """A sample's shape, `(C, H, W)`."""
        return self.base.shape

    @property
    def labels(self) -> Tensor | None:
        """`(2 N,)` int64, or None."""
        return None if self.base.labels is None else self.base.labels.repeat(2)

    def __len__(self) -> int:
        return 2 * len(self.base)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Samples `(n, C, H, W)` as float32 at the indices `(n,)`."""
        images = self.base[indices % len(self.base)]
        mirrored = (indices >= len(self.base)).to(images.device)
        images[mirrored] = images[mirrored].flip(-1)
        return images

    def on(self, device: torch.device) -> "FlippedPart":
        return FlippedPart(self.base.on(device))

    def labels_of(self, indices: Tensor) -> Tensor:
        """Class numbers `(n,)`, int64, at the indices `(n,)`.

        Raises:
            LabError: if there are no labels.
        """
        return self.base.labels_of(indices % len(self.base))

    def label_counts(self, classes: int) -> Tensor:
        """How many samples each class has, `(classes,)` int64.

        Raises:
            LabError: if there are no labels.
        """
        return 2 * self.base.label_counts(classes)


def choose(samples: Samples, most: int, generator: torch.Generator) -> Tensor:
    """The indices of `most` different samples, or of all if there are fewer, in random order."""
    if len(samples) <= SHUFFLED:
        return torch.randperm(len(samples), generator=generator)[:most]
    return torch.randint(len(samples), (most,), generator=generator)  # of so many that hardly any comes twice


def stacked_labels(digits: Tensor) -> Tensor:
    """Class numbers `(n,)` of stacked images, 100 r + 10 g + b, from those of their channels, `(3 * n,)` int64."""
    return (digits.view(-1, 3) * torch.tensor([100, 10, 1])).sum(1)


@dataclass(frozen=True)
class Dataset:
    """Data to imitate.

    Attributes:
        train: what the GAN is trained on.
        heldout: fresh data of the same kind, which training never sees.
        bounded: values lie in [0, 1], so that a generator may end in a sigmoid.
        classes: a name for each label.
        centres: `(M, dims)`, the modes of a mixture of Gaussians, or None.
        std: their standard deviation along each axis, or None.
        base: of a stacked dataset, the single-channel one whose classifier reads each channel, else None.
        source: what a packed file says of where its images come from, else ''.
    """

    train: Samples
    heldout: Samples
    bounded: bool = True
    classes: list[str] = field(default_factory=list)
    centres: Tensor | None = None
    std: float | None = None
    base: "Dataset | None" = None
    source: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """A sample's shape: `(C, H, W)` for images, `(dims,)` for vectors."""
        return self.train.shape
