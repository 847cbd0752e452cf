"""How alike images are, pixel by pixel: for images that no feature space was made for, such as averages."""

import torch
from torch import Tensor


def correlations(images: Tensor, others: Tensor) -> Tensor:
    """Pearson's correlation over the pixels, `(n, m)` in [-1, 1], of images `(n, …)`, `(m, …)`; NaN for flat ones."""

    def standard(values: Tensor) -> Tensor:
        centred = values.flatten(1).double()
        centred = centred - centred.mean(1, keepdim=True)
        return centred / centred.norm(dim=1, keepdim=True)

    return standard(images) @ standard(others).T


def variety(images: Tensor) -> tuple[float | None, int]:
    """The mean Euclidean distance over all pairs of images `(n, …)`, None for n < 2, and the number of pairs."""
    distances = torch.pdist(images.flatten(1).double())
    return (distances.mean().item() if len(distances) else None), len(distances)
