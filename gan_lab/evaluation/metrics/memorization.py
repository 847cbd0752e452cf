"""Whether a generator repeats its training samples.

All samples must be finite: the caller leaves out those with NaN or infinite numbers.
"""

import torch
from torch import Tensor

from gan_lab.evaluation.metrics.neighbours import finite, nearest, partition
from gan_lab.evaluation.metrics.registry import Undefined

MIN_IN_CELL = 20  # held-out samples and fakes that a cell needs to count, as in the authors' code (τ = 20/m)


def c_t(train: Tensor, heldout: Tensor, fake: Tensor, cells: int = 3, seed: int = 0) -> float:
    """Computes the data-copying test C_T (Meehan et al. 2020): are fakes nearer to training samples than real ones are?

    In every k-means cell of the training samples, z = (U − nm/2 + ½) / √(nm(n + m + 1)/12). U counts the pairs of a
    fake and a held-out sample in which the fake is farther from its nearest training sample (equal: ½). C_T is the mean
    of z, weighted by the cells' held-out samples. Cells with fewer than 20 fakes or held-out samples are left out.
    Pitfall: a collapse onto one point near a training sample is far below 0 as well.

    Args:
        train: `(l, d)`, with at least `cells` different samples.
        heldout: `(n, d)`, of the data's distribution, not trained on.
        fake: `(m, d)`.
        cells: the number of k-means cells.
        seed: of k-means.

    Returns:
        A z-score of any sign: about 0 for fresh samples of the data's distribution, far below 0 (−3, say) for copies,
        far above 0 for fakes away from the data.

    Raises:
        Undefined: if no cell has enough samples.
    """
    train = finite(train, 1, "samples")
    heldout = finite(heldout, 1, "samples")
    fake = finite(fake, 1, "samples")
    train_cells, heldout_cells, fake_cells = partition(train, [heldout, fake], cells, seed)
    scores = []
    weights = []
    for cell in range(cells):
        cell_train = train[train_cells == cell]
        cell_heldout = heldout[heldout_cells == cell]
        cell_fake = fake[fake_cells == cell]
        if min(len(cell_heldout), len(cell_fake)) < MIN_IN_CELL:
            continue
        fake_distances, _ = nearest(cell_fake, cell_train, 1)
        heldout_distances, _ = nearest(cell_heldout, cell_train, 1)
        scores.append(_z_score(fake_distances.ravel(), heldout_distances.ravel()))
        weights.append(len(cell_heldout))
    if not scores:
        raise Undefined(f"no cell has {MIN_IN_CELL} held-out samples and {MIN_IN_CELL} fakes")
    return sum(score * weight for score, weight in zip(scores, weights, strict=True)) / sum(weights)


def authenticity(train: Tensor, fake: Tensor) -> float:
    """Returns the share of fakes that are farther from their nearest training sample than it is from its own nearest.

    Alaa et al. 2022, in [0, 1]; a copier has 0. Pitfall: fresh data have less than a half, not 1 (0.41 in 2-D), because
    the nearest training sample tends to be one whose own neighbours are far; and junk far from all data has 1.

    Args:
        train: `(m, d)`, m ≥ 2.
        fake: `(n, d)`, n ≥ 1.
    """
    train = finite(train, 2, "training samples")
    fake = finite(fake, 1, "fakes")
    distances, indices = nearest(fake, train, 1)
    originals, position = indices[:, 0].unique(return_inverse=True)
    # The nearest is the training sample itself, or a copy of it; the second nearest is its neighbour.
    neighbour_distances, _ = nearest(train[originals], train, 2)
    room = neighbour_distances[:, 1]
    return (distances[:, 0] > room[position]).double().mean().item()


def _z_score(fake_distances: Tensor, heldout_distances: Tensor) -> float:
    """Returns Mann-Whitney's U as a z-score, with a continuity correction as in the authors' code."""
    m = len(fake_distances)
    n = len(heldout_distances)
    ranked = heldout_distances.sort().values
    # Held-out distances that are smaller, and those that are smaller or equal: equal ones count half.
    smaller = torch.searchsorted(ranked, fake_distances, right=False).sum().item()
    smaller_or_equal = torch.searchsorted(ranked, fake_distances, right=True).sum().item()
    u = (smaller + smaller_or_equal) / 2
    return (u - n * m / 2 + 0.5) / (n * m * (n + m + 1) / 12) ** 0.5
