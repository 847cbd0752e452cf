"""Networks that are told a class: D's part of a conditional GAN (Mirza & Osindero 2014, arXiv:1411.1784; the book's
notebook 16)."""

import torch
from torch import Tensor, nn


class ConditionalDiscriminator(nn.Module):
    """D asked about samples of known classes.

    Args:
        discriminator: built for what `join_labels` gives.
        classes: one-hot `(…, B, classes)`.
        flat: whether D takes vectors: see `join_labels`.
    """

    def __init__(self, discriminator: nn.Module, classes: Tensor, flat: bool):
        super().__init__()
        self.discriminator, self.classes, self.flat = discriminator, classes, flat

    def forward(self, samples: Tensor) -> Tensor:  # (…, B, *shape) → (…, B)
        return self.discriminator(join_labels(samples, self.classes, self.flat))

    def features(self, samples: Tensor) -> Tensor:
        """Those of D, `(…, B, F)`."""
        return self.discriminator.features(join_labels(samples, self.classes, self.flat))  # type: ignore[operator]


def join_labels(samples: Tensor, classes: Tensor, flat: bool) -> Tensor:
    """Samples `(…, B, *shape)` with their one-hot classes `(…, B, classes)`: as one vector, the classes last
    (`flat`), or images with a plane per class, that of their own all 1."""
    if flat:
        return torch.cat([samples.flatten(classes.ndim - 1), classes], -1)
    planes = classes[..., None, None].expand(*classes.shape, *samples.shape[-2:])
    return torch.cat([samples, planes], -3)


def shape_with_labels(shape: tuple[int, ...], classes: int, flat: bool) -> tuple[int, ...]:
    """The shape of what `join_labels` gives for a sample."""
    return (torch.Size(shape).numel() + classes,) if flat else (shape[0] + classes, *shape[1:])
