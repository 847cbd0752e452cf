"""Class labels as a further input of D, for a conditional GAN.

After Mirza & Osindero 2014 (arXiv:1411.1784) and the book's notebook 16. G's labels are part of its latent vectors, see
`gan_lab.gan.latent.LabelledLatent`.
"""

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn


class FeatureDiscriminator(Protocol):
    """A discriminator that also returns its last hidden features."""

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the last layer, `(…, B, F)`, for D's input `(…, B, *shape)`."""


class ConditionalDiscriminator(nn.Module):
    """A discriminator together with the labels of one batch.

    Losses and remedies call it like any discriminator, with samples only.

    Args:
        discriminator: built for the shape `shape_with_labels`.
        labels_onehot: labels of the batch, `(…, B, classes)`.
        flat: whether the discriminator takes vectors, see `join_labels`.
    """

    def __init__(self, discriminator: nn.Module, labels_onehot: Tensor, flat: bool):
        super().__init__()
        self.discriminator = discriminator
        self.labels_onehot = labels_onehot
        self.flat = flat

    def forward(self, samples: Tensor) -> Tensor:  # (…, B, *shape)
        return self.discriminator(join_labels(samples, self.labels_onehot, self.flat))  # (…, B)

    def features(self, samples: Tensor) -> Tensor:
        """Returns the discriminator's last hidden features, `(…, B, F)`."""
        discriminator = cast(FeatureDiscriminator, self.discriminator)
        return discriminator.features(join_labels(samples, self.labels_onehot, self.flat))


def join_labels(samples: Tensor, labels_onehot: Tensor, flat: bool) -> Tensor:
    """Appends labels to samples.

    Args:
        samples: `(…, B, *shape)`.
        labels_onehot: `(…, B, classes)`.
        flat: whether D takes vectors.

    Returns:
        If `flat`, vectors `(…, B, d + classes)`, the label at the end. Else images with one more channel per class,
        `(…, B, C + classes, H, W)`: the channel of a sample's own class is 1 everywhere, the others are 0.
    """
    if flat:
        vectors = samples.flatten(labels_onehot.ndim - 1)
        return torch.cat([vectors, labels_onehot], -1)
    height, width = samples.shape[-2:]
    channels = labels_onehot[..., None, None].expand(*labels_onehot.shape, height, width)
    return torch.cat([samples, channels], -3)


def shape_with_labels(shape: tuple[int, ...], classes: int, flat: bool) -> tuple[int, ...]:
    """Returns the shape of a sample of this shape once `join_labels` has appended its label."""
    if flat:
        return (math.prod(shape) + classes,)
    return (shape[0] + classes, *shape[1:])
