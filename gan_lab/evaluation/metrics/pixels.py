"""How similar images are pixel by pixel: for images such as averages, for which no feature space was made."""

import torch
from torch import Tensor


def correlations(images: Tensor, others: Tensor) -> Tensor:
    """Returns Pearson's correlations over the pixels of every pair of images.

    Args:
        images: `(n, *shape)`.
        others: `(m, *shape)`.

    Returns:
        `(n, m)` in [−1, 1]; NaN where an image has one value everywhere.
    """
    return _standardised(images) @ _standardised(others).T


def _standardised(images: Tensor) -> Tensor:
    """Returns the pixels of each image with mean 0 and norm 1, `(n, pixels)`."""
    centred = images.flatten(1).double()
    centred = centred - centred.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True)


def variety(images: Tensor) -> tuple[float | None, int]:
    """Returns the mean Euclidean distance over all pairs of images `(n, *shape)`, None for n < 2; and their number."""
    distances = torch.pdist(images.flatten(1).double())
    if not len(distances):
        return None, 0
    return distances.mean().item(), len(distances)
