"""Whether a generator repeats its training samples.

All samples must be finite: the caller leaves out those with NaN or infinite numbers.
"""

import torch
from scipy import special
from torch import Tensor

from gan_lab.evaluation.metrics.neighbours import finite, nearest, partition
from gan_lab.evaluation.metrics.registry import Undefined

COPY_NEIGHBOURS = 5  # training samples with which the nearest one is compared
COPY_LEVEL = 0.005  # share of real samples that look like copies
MIN_ORIGINALS = 100  # training samples from which a copy can be told
MAX_FOR_LIMIT = 5_000  # training samples from which the limit is estimated
MIN_TESTED = 20  # fakes
MIN_COMPARED_SHARE = 0.1  # of the training samples; a copy of another one cannot be found
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


def copy_ratio(samples: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Returns how much nearer the nearest training sample is than the next ones.

    d₁ / mean(d₂ … d₅) ≤ 1 of the distances to the five nearest training samples; 0 for an exact copy.

    Args:
        samples: `(n, d)`.
        train: `(m, d)`, m ≥ 5.

    Returns:
        The ratios `(n,)`, and the indices of the nearest training samples `(n,)`.
    """
    distances, indices = nearest(samples, train, COPY_NEIGHBOURS)
    return _ratio(distances), indices[:, 0]


def copy_limit(train: Tensor) -> float:
    """Returns the ratio below which a sample looks like a copy: that of `COPY_LEVEL` of the training samples.

    Each of the first `MAX_FOR_LIMIT` of them is compared with all others, as a fresh real sample would be.

    Args:
        train: `(m, d)`.

    Returns:
        A number in [0, 1]; 0, below which nothing is, for too few samples.
    """
    if len(train) <= COPY_NEIGHBOURS:
        return 0.0
    distances, _ = nearest(train[:MAX_FOR_LIMIT], train, COPY_NEIGHBOURS + 1)
    # The nearest is the sample itself.
    return torch.quantile(_ratio(distances[:, 1:]), COPY_LEVEL).item()


def copy_test(fake: Tensor, train: Tensor, limit: float, compared_share: float = 1.0) -> tuple[float, float]:
    """Tests whether more fakes are close to one training sample, and to no other, than real samples are.

    A fake looks like a copy if its `copy_ratio` is below the limit. Our own: C_T and authenticity compare whole
    distributions of distances and miss a quarter of copies, or take repeated samples for them. Two binomial tests
    have to agree, one over the fakes and one over the training samples that are the nearest of some: a sample that is
    made over and over counts once. Power at n = 180 fakes of digits: 5 % of copies are found (p < 0.0001), 1 % are not;
    at n = 2,500 2 % are. Pitfall: copies that are shifted by a pixel are not found.

    Args:
        fake: `(n, d)`.
        train: the possible originals `(m, d)`.
        limit: see `copy_limit`.
        compared_share: which share of all training samples these are.

    Returns:
        The estimated share of copies, in [0, 1], and the p-value of there being none.

    Raises:
        Undefined: if there are too few fakes or possible originals.
    """
    if len(fake) < MIN_TESTED:
        raise Undefined(f"{len(fake)} finite samples, but at least {MIN_TESTED} are needed")
    if len(train) < MIN_ORIGINALS:
        raise Undefined(f"{len(train)} training samples, but at least {MIN_ORIGINALS} are needed")
    if compared_share < MIN_COMPARED_SHARE:
        raise Undefined(f"there are too many training samples to compare with ({compared_share:.2%} of them were)")
    ratios, originals = copy_ratio(fake, train)
    is_copy = ratios < limit
    _, group = originals.unique(return_inverse=True)
    sizes = group.bincount()
    copies = torch.zeros(len(sizes)).index_add_(0, group, is_copy.float())
    copied_originals = int((copies > sizes / 2).sum())
    # Twice the level: the limit is itself estimated.
    p_fakes = special.bdtrc(int(is_copy.sum()) - 1, len(fake), 2 * COPY_LEVEL)
    p_originals = special.bdtrc(copied_originals - 1, len(sizes), 2 * COPY_LEVEL)
    share = max(0.0, is_copy.double().mean().item() - COPY_LEVEL) / compared_share
    return min(1.0, share), float(max(p_fakes, p_originals))


def _ratio(distances: Tensor) -> Tensor:
    """Returns d₁ / mean(d₂ …) of distances `(n, k)`; 1 where all are 0: there the data repeat themselves."""
    others = distances[:, 1:].mean(1)
    return torch.where(others > 0, distances[:, 0] / others.clamp(min=1e-12), 1.0)


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
