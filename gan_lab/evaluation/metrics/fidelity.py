"""Whether fakes look like the data, and whether they are as varied, by distances in a feature space.

Real samples `(n, d)` and fakes `(m, d)` must be finite: the caller leaves out samples with NaN or infinite numbers.
"""

import torch
from torch import Tensor

from gan_lab.core.rng import make_generator
from gan_lab.evaluation.metrics.neighbours import blocks, finite, nearest
from gan_lab.evaluation.metrics.registry import Undefined

PAIRS_AT_ONCE = 1_000  # all pairs together took more memory than anything else in a small training


def finite_share(is_finite: Tensor) -> float:
    """Returns the share of samples without NaN or infinite numbers, in [0, 1], from flags `(N,)`, N > 0."""
    return int(is_finite.sum()) / len(is_finite)


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Computes improved precision and recall (Kynkäänniemi et al. 2019).

    Precision is the share of fakes within the ball of at least one real sample. A ball reaches to its centre's k-th
    neighbour of the same set, the surface included. Recall is the same with real samples and fakes exchanged.
    Pitfall: an outlier's ball covers much of the space, and recall does not see how unequal the modes are.

    Args:
        real: `(n, d)`, n > k.
        fake: `(m, d)`, m > k.
        k: which neighbour a ball reaches to.

    Returns:
        Precision and recall, each in [0, 1].
    """
    real = finite(real, k + 1, "real samples")
    fake = finite(fake, k + 1, "fakes")
    return _covered_share(fake, real, k), _covered_share(real, fake, k)


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """Computes density and coverage (Naeem et al. 2020).

    Density is the mean number of real samples' balls that contain a fake, divided by k. Coverage is the share of real
    samples' balls that contain a fake. A ball reaches to its centre's k-th neighbour among the real samples, without
    the surface. Pitfall: perfect fakes, as many as real samples, cover 1 − 2⁻ᵏ (0.969 at k = 5), not 1; density can
    exceed 1.

    Args:
        real: `(n, d)`, n > k.
        fake: `(m, d)`, m ≥ 1.
        k: which neighbour a ball reaches to.

    Returns:
        Density ≥ 0, 1 for perfect fakes, and coverage in [0, 1].
    """
    real = finite(real, k + 1, "real samples")
    fake = finite(fake, 1, "fakes")
    radii = _radii(real, k)
    if not radii.any():
        raise Undefined(f"every real sample has {k} copies: there is no neighbourhood that a fake could be in")
    memberships = 0
    is_covered = torch.zeros(len(real), dtype=torch.bool)
    for distances in blocks(fake, real):
        is_inside = distances < radii
        memberships += int(is_inside.sum())
        is_covered |= is_inside.any(0)
    return memberships / (k * len(fake)), is_covered.double().mean().item()


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Returns the Fréchet distance of two Gaussians with the sets' means and covariances (Heusel et al. 2017).

    |μ − μ'|² + Tr(Σ + Σ' − 2(ΣΣ')^½) ≥ 0, in float64. Pitfall: it is biased upward for few samples, so compare only at
    equal n and m; and it does not see junk that has the data's mean and covariance.

    Args:
        real: `(n, d)`, n ≥ 2.
        fake: `(m, d)`, m ≥ 2.
    """
    real = finite(real, 2, "real samples")
    fake = finite(fake, 2, "fakes")
    centre = real.mean(0)
    real_mean, real_covariance = _gaussian(real - centre)
    fake_mean, fake_covariance = _gaussian(fake - centre)
    shift = (real_mean - fake_mean).square().sum()
    spread = real_covariance.trace() + fake_covariance.trace()
    # The trace of a matrix's root is the sum of the roots of its eigenvalues.
    root_trace = torch.linalg.eigvals(real_covariance @ fake_covariance).sqrt().real.sum()
    # Rounding can make it negative.
    return max(0.0, (shift + spread - 2 * root_trace).item())


def pairwise_ratio(real: Tensor, fake: Tensor, pairs: int = 20_000, seed: int = 0) -> float:
    """Returns the mean distance between two fakes divided by that between two real samples, over random pairs.

    ≥ 0: 1 for fakes as varied as the data, 0 for one point. This project's own, after the multi-scale similarity of
    pairs in Odena et al. 2017. Pitfall: noise is varied, too; and a few distant modes are 'more varied' than all modes.

    Args:
        real: `(n, d)`, n ≥ 2, not all the same.
        fake: `(m, d)`, m ≥ 2.
        pairs: how many pairs of each set.
        seed: of the choice of pairs.
    """
    real_distance = _mean_distance(finite(real, 2, "real samples"), pairs, seed)
    fake_distance = _mean_distance(finite(fake, 2, "fakes"), pairs, seed)
    if real_distance == 0:
        raise Undefined("all real samples are the same: there is no variety to compare with")
    return fake_distance / real_distance


def _gaussian(values: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean `(d,)` and covariance `(d, d)` of points `(n, d)`, which should lie around 0 to lose no digits."""
    number = len(values)
    mean = values.sum(0) / number
    return mean, (values.T @ values - number * torch.outer(mean, mean)) / (number - 1)


def _radii(values: Tensor, k: int) -> Tensor:
    """Returns each point's distance `(n,)` from its k-th neighbour in the same set."""
    distances, _ = nearest(values, values, k, skip_self=True)
    return distances[:, -1]


def _covered_share(queries: Tensor, centres: Tensor, k: int) -> float:
    """Returns the share of queries within the ball of at least one centre."""
    radii = _radii(centres, k)
    covered = sum(int((distances <= radii).any(1).sum()) for distances in blocks(queries, centres))
    return covered / len(queries)


def _mean_distance(values: Tensor, pairs: int, seed: int) -> float:
    generator = make_generator(seed, "metrics/pairs")
    first = torch.randint(len(values), (pairs,), generator=generator)
    # At least 1 and at most n − 1 further: never the same sample again.
    step = torch.randint(1, len(values), (pairs,), generator=generator)
    second = (first + step) % len(values)
    distances = []
    for a, b in zip(first.split(PAIRS_AT_ONCE), second.split(PAIRS_AT_ONCE), strict=True):
        distances.append((values[a] - values[b]).norm(dim=1))
    return torch.cat(distances).mean().item()
