"""Whether a generator repeats its training samples.

All samples must be finite: whoever calls leaves out those with NaN or infinite numbers.
"""

import torch
from torch import Tensor

from gan_lab.evaluation.metrics.neighbours import finite, nearest, partition
from gan_lab.evaluation.metrics.registry import Undefined

LEAST = 20  # samples of a kind that a cell needs: the τ = 20/m of fld


def c_t(train: Tensor, heldout: Tensor, fake: Tensor, cells: int = 3, seed: int = 0) -> float:
    """The data-copying test C_T (Meehan et al. 2020): are fakes nearer to training samples than held-out samples are?

    In every k-means cell of the training samples, z = (U − nm/2 + ½) / √(nm(n + m + 1)/12), where U counts the pairs
    with the fake farther from its nearest training sample than the held-out sample is from its own (equal: ½); C_T is
    the mean of z weighted by the cells' held-out samples. Cells with fewer than 20 fakes or held-out samples are left
    out. Pitfall: a collapse onto one point that lies near a training sample is far below 0 as well.

    Args:
        train: `(l, d)`, with at least `cells` different samples.
        heldout: `(n, d)`, of the data's distribution, not trained on.
        fake: `(m, d)`.

    Returns:
        A z-score of any sign: about 0 for fresh samples of the data's distribution, far below 0 (−3, say) for copies,
        far above 0 for fakes away from the data.
    """
    sets = train, heldout, fake = tuple(finite(values, 1, "samples") for values in (train, heldout, fake))
    labels = partition(train, [heldout, fake], cells, seed)
    scores, weights = [], []
    for cell in range(cells):
        in_train, in_heldout, in_fake = (values[label == cell] for values, label in zip(sets, labels, strict=True))
        if min(len(in_heldout), len(in_fake)) >= LEAST:
            scores.append(_z(*(nearest(values, in_train, 1)[0].ravel() for values in (in_fake, in_heldout))))
            weights.append(len(in_heldout))
    if not scores:
        raise Undefined(f"no cell has {LEAST} held-out samples and {LEAST} fakes")
    return sum(score * weight for score, weight in zip(scores, weights, strict=True)) / sum(weights)


def authenticity(train: Tensor, fake: Tensor) -> float:
    """The share of fakes farther from their nearest training sample than that one is from its own nearest, in [0, 1].

    Alaa et al. 2022. A copier has 0. Pitfall: fresh data don't have 1 but less than a half (0.41 in 2-D), for the
    nearest sample is one with much room about it; and junk far from all data has 1.

    Args:
        train: `(m, d)`, m ≥ 2.
        fake: `(n, d)`, n ≥ 1.
    """
    train, fake = finite(train, 2, "training samples"), finite(fake, 1, "fakes")
    distances, indices = nearest(fake, train, 1)
    hit, back = indices[:, 0].unique(return_inverse=True)
    room = nearest(train[hit], train, 2)[0][:, 1]  # the nearest is the sample itself, or a copy of it
    return (distances[:, 0] > room[back]).double().mean().item()


def _z(fakes: Tensor, heldouts: Tensor) -> float:
    """Mann-Whitney's U of two sets of distances as a z-score, with a continuity correction as in the authors' code."""
    m, n = len(fakes), len(heldouts)
    ranked = heldouts.sort().values
    u = sum(torch.searchsorted(ranked, fakes, right=right).sum().item() for right in (False, True)) / 2
    return (u - n * m / 2 + 0.5) / (n * m * (n + m + 1) / 12) ** 0.5
