"""What GANs are trained on: a dataset is a train part and a held-out part of the same kind."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Samples held in memory.

    Attributes:
        values: `(N, *shape)`, float32, or uint8 for images (0–255 stand for 0–1).
        labels: `(N,)` int64 class numbers, or None.
    """

    values: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Samples `(n, *shape)` as float32 at the indices `(n,)`."""
        picked = self.values.index_select(0, indices)
        return picked.float().div_(255) if picked.dtype == torch.uint8 else picked


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
    """

    train: Part
    heldout: Part
    bounded: bool = True
    classes: list[str] = field(default_factory=list)
    centres: Tensor | None = None
    std: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """A sample's shape: `(C, H, W)` for images, `(dims,)` for vectors."""
        return tuple(self.train.values.shape[1:])
