"""Whether fakes look like the data, and whether they are as varied: distances in a space of features.

Real samples `(n, d)` and fakes `(m, d)` must be finite: whoever calls leaves out samples with NaN or infinite numbers.
"""

import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from gan_lab.core.rng import make_generator
from gan_lab.evaluation.metrics.neighbours import blocks, finite, nearest
from gan_lab.evaluation.metrics.registry import Undefined

PAIRS_AT_ONCE = 1_000  # all at once they were what a small training needed most memory for


def finite_share(samples: Tensor) -> float:
    """Returns the share of samples `(N, *shape)`, N > 0, without NaN or infinite numbers, in [0, 1]."""
    finite_rows = torch.isfinite(samples.flatten(1)).all(1)
    return int(finite_rows.sum()) / len(samples)


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019).

    Precision is the share of fakes within the ball of at least one real sample, a ball reaching to its owner's k-th
    neighbour of the same set, the surface included; recall is the same with real samples and fakes exchanged.
    Pitfall: one outlier's ball covers much of the space, and recall doesn't see how unequal the modes are.

    Args:
        real: `(n, d)`, n > k.
        fake: `(m, d)`, m > k.

    Returns:
        Precision and recall, each in [0, 1].
    """
    real, fake = finite(real, k + 1, "real samples"), finite(fake, k + 1, "fakes")
    return _covered(fake, real, k), _covered(real, fake, k)


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020).

    Density is the mean number of real samples' balls that hold a fake, over k; coverage is the share of real samples'
    balls that hold a fake. A ball reaches to its owner's k-th neighbour among the real samples, without the surface.
    Pitfall: perfect fakes cover 1 − 2⁻ᵏ (0.969 at k = 5) at equally many samples, not 1; and density can pass 1.

    Args:
        real: `(n, d)`, n > k.
        fake: `(m, d)`, m ≥ 1.

    Returns:
        Density ≥ 0, 1 for perfect fakes, and coverage in [0, 1].
    """
    real, fake = finite(real, k + 1, "real samples"), finite(fake, 1, "fakes")
    radii = nearest(real, real, k, skip_self=True)[0][:, -1]
    if not radii.any():
        raise Undefined(f"every real sample has {k} copies: there is no neighbourhood that a fake could be in")
    balls, held = 0, torch.zeros(len(real), dtype=torch.bool)
    for distances in blocks(fake, real):
        inside = distances < radii
        balls += int(inside.sum())
        held |= inside.any(0)
    return balls / (k * len(fake)), held.double().mean().item()


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """The Fréchet distance of two Gaussians with the sets' means and covariances (Heusel et al. 2017).

    |μ − μ'|² + Tr(Σ + Σ' − 2(ΣΣ')^½) ≥ 0, computed by torchmetrics in float64. Pitfall: it is biased upward at few
    samples, compare at the same n and m only; and it doesn't see junk that has the data's mean and covariance.

    Args:
        real: `(n, d)`, n ≥ 2.
        fake: `(m, d)`, m ≥ 2.
    """
    real, fake = finite(real, 2, "real samples"), finite(fake, 2, "fakes")
    features = torch.nn.Identity()
    features.register_buffer("num_features", torch.tensor(real.shape[1]))
    metric = FrechetInceptionDistance(features, sync_on_compute=False)
    centre = real.mean(0)  # torchmetrics subtracts n·μμᵀ from sums of squares: harmless only about μ = 0
    metric.update(real - centre, real=True)
    metric.update(fake - centre, real=False)
    return max(0.0, metric.compute().item())


def pairwise_ratio(real: Tensor, fake: Tensor, pairs: int = 20_000, seed: int = 0) -> float:
    """The mean distance between two fakes over that between two real samples, from random pairs.

    ≥ 0: 1 for fakes as varied as the data, 0 for one point. This project's own, after the multi-scale similarity of
    pairs in Odena et al. 2017. Pitfall: noise is varied too; and a few far-away modes are 'more varied' than all modes.

    Args:
        real: `(n, d)`, n ≥ 2, not all the same.
        fake: `(m, d)`, m ≥ 2.
    """
    spread = [
        _spread(finite(values, 2, name), pairs, seed) for values, name in ((real, "real samples"), (fake, "fakes"))
    ]
    if spread[0] == 0:
        raise Undefined("all real samples are the same: there is no variety to compare with")
    return spread[1] / spread[0]


def _covered(queries: Tensor, owners: Tensor, k: int) -> float:
    radii = nearest(owners, owners, k, skip_self=True)[0][:, -1]
    return sum(int((distances <= radii).any(1).sum()) for distances in blocks(queries, owners)) / len(queries)


def _spread(values: Tensor, pairs: int, seed: int) -> float:
    generator = make_generator(seed, "metrics/pairs")
    first = torch.randint(len(values), (pairs,), generator=generator)
    step = torch.randint(1, len(values), (pairs,), generator=generator)  # never back to the same sample
    second = (first + step) % len(values)
    parts = zip(first.split(PAIRS_AT_ONCE), second.split(PAIRS_AT_ONCE), strict=True)
    return torch.cat([(values[a] - values[b]).norm(dim=1) for a, b in parts]).mean().item()
