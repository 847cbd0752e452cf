"""How much of the variety within each mode a generator makes.

All samples are points of one feature space, finite, with the number of their mode. Modes with too few samples are left
out; at most `MAX_PER_MODE` samples of a mode are looked at.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from gan_lab.evaluation.metrics.neighbours import nearest
from gan_lab.evaluation.metrics.registry import Undefined

PAIR_SHARE = 1e-3  # which pairs within a mode are near: this share of all, the nearest ones
PAIR_SHARE_ONE_MODE = 1e-4  # of data without modes, whose pairs are mostly of different kinds of sample
MIN_NEAR_PAIRS = 5  # fewer say too little
MAX_PAIR_SHARE = 0.05  # more are no longer near
MIN_PER_MODE = 10  # samples
MIN_HELDOUT_PER_MODE = 5
MAX_PER_MODE = 1_000
MANY_MODES = 50  # of more modes, the pairs of all are pooled: there are few samples of each
MAX_POOLED_PER_MODE = 40
MAX_COVERED_MODES = 200  # coverage is measured in so many modes at most, evenly spread: the mean needs no more
PARTS = 4  # disjoint parts of the samples, whose scatter is the error
COLLISION = 0.5  # samples are the same if they are nearer than this fraction of the real near-pair distance


def variety_within(fake: Tensor, fake_modes: Tensor, real: Tensor, real_modes: Tensor, modes: int) -> Tensor:
    """Computes for each mode how far apart near samples are, relative to real ones.

    The near-pair distance is the quantile of the distances of all pairs within the mode below which `PAIR_SHARE` of
    them lie; the value is that of the fakes over that of the real samples. It is the birthday test of Arora & Zhang
    2017 (arXiv:1706.08224) turned around: the share of colliding pairs is fixed and the distance is measured, so that
    no distance has to be chosen at which two samples are the same. A generator that shrinks each mode by a factor s has
    s; one that repeats fewer than 1 / `PAIR_SHARE` samples has 0. Pitfall: it does not see a part of the mode that is
    missing, if the rest is varied; `coverage_within` does. Noise is varied, too: leave out what is no sample of a mode.

    Args:
        fake: `(n, d)`.
        fake_modes: `(n,)` int64 in [0, modes).
        real: `(m, d)`.
        real_modes: `(m,)`.
        modes: the number of modes. Of more than `MANY_MODES` all pairs are pooled.

    Returns:
        `(modes,)`, or `(1,)` for pooled pairs, ≥ 0 and about 1 for real samples; NaN where there are too few pairs.
    """
    share = PAIR_SHARE if modes > 1 else PAIR_SHARE_ONE_MODE
    if modes > MANY_MODES:
        fake_pairs = torch.cat([torch.pdist(part) for part in _by_mode(fake, fake_modes, modes, MAX_POOLED_PER_MODE)])
        real_pairs = torch.cat([torch.pdist(part) for part in _by_mode(real, real_modes, modes, MAX_POOLED_PER_MODE)])
        return torch.tensor([_near_pair_ratio(fake_pairs, real_pairs, share)])
    ratios = []
    for fake_part, real_part in zip(_by_mode(fake, fake_modes, modes), _by_mode(real, real_modes, modes), strict=True):
        # pdist grows with the square: a mode that no one can compare is not worth it.
        if min(len(fake_part), len(real_part)) < MIN_PER_MODE:
            ratios.append(math.nan)
        else:
            ratios.append(_near_pair_ratio(torch.pdist(fake_part), torch.pdist(real_part), share))
    return torch.tensor(ratios)


def variety_summary(
    fake: Tensor, fake_modes: Tensor, real: Tensor, real_modes: Tensor, modes: int
) -> tuple[float, float, float]:
    """Summarises `variety_within`, whose arguments it takes.

    Returns:
        The median over the modes; the lowest; and the standard error of the median, from the scatter over `PARTS`
        disjoint parts of the fakes. Where these are too small, it is that of a quantile of so few pairs in two
        dimensions, where it is largest.

    Raises:
        Undefined: if no mode has enough samples.
    """
    ratios = variety_within(fake, fake_modes, real, real_modes, modes)
    if not ratios.isfinite().any():
        raise Undefined("no mode has enough samples to compare their distances")
    medians = []
    for part in torch.arange(len(fake)).chunk(PARTS):
        medians.append(variety_within(fake[part], fake_modes[part], real, real_modes, modes).nanmedian())
    median = ratios.nanmedian().item()
    error = torch.stack(medians).std().item() / PARTS**0.5
    if not math.isfinite(error):
        error = median / (2 * (MIN_NEAR_PAIRS * int(ratios.isfinite().sum())) ** 0.5)
    return median, ratios[ratios.isfinite()].min().item(), error


def distinct_samples(fake: Tensor, fake_modes: Tensor, real: Tensor, real_modes: Tensor, modes: int) -> float:
    """Estimates how many different samples a mode has, by the birthday paradox (Arora & Zhang 2017).

    K equally frequent samples collide in a share 1 / K of all pairs. Two samples count as the same if they are nearer
    than `COLLISION` times the real near-pair distance. Pitfall: of n samples of a mode, up to about n² / 2 can be
    counted; without any collision the number is only a lower bound.

    Args:
        fake, fake_modes, real, real_modes, modes: as in `variety_within`.

    Returns:
        The median over the modes, ≥ 1.

    Raises:
        Undefined: if no mode has enough samples.
    """
    numbers = []
    most = MAX_PER_MODE if modes <= MANY_MODES else MAX_POOLED_PER_MODE
    parts = zip(_by_mode(fake, fake_modes, modes, most), _by_mode(real, real_modes, modes, most), strict=True)
    for fake_part, real_part in parts:
        if min(len(fake_part), len(real_part)) < MIN_PER_MODE:
            continue
        real_pairs = torch.pdist(real_part)
        radius = COLLISION * _near_pair_distance(real_pairs, max(PAIR_SHARE, 1 / len(real_pairs)))
        pairs = torch.pdist(fake_part)
        collisions = int((pairs <= radius).sum())
        numbers.append(len(pairs) / max(1, collisions))
    if not numbers:
        raise Undefined("no mode has enough samples to count different ones")
    return float(np.median(numbers))


def coverage_within(
    fake: Tensor,
    fake_modes: Tensor,
    train: Tensor,
    train_modes: Tensor,
    heldout: Tensor,
    heldout_modes: Tensor,
    modes: int,
    k: int = 5,
) -> tuple[float, float]:
    """Computes how much of each mode is covered, relative to what fresh real samples cover.

    Clipped Coverage (Salvy et al. 2025, arXiv:2510.01265) with held-out centres: the ball of a held-out sample reaches
    to its k-th nearest training sample of the mode, so that k / (m + 1) of fresh real samples are expected in it. It
    counts min(1, found / expected), and the mean is divided by its exact expectation for real samples, whatever their
    distribution: the number found is beta-binomial (n, k, m + 1 − k). Pitfall: balls of few training samples are large
    and see only large gaps.

    Args:
        fake: `(n, d)`.
        fake_modes: `(n,)`.
        train: `(m, d)`.
        train_modes: `(m,)`.
        heldout: `(h, d)`.
        heldout_modes: `(h,)`.
        modes: the number of modes.
        k: which neighbour a ball reaches to; more where a mode has so few fakes that less than 3 are expected in it.

    Returns:
        The mean over the modes, ≥ 0 and about 1 for real samples; and its standard error, from the scatter over the
        held-out samples.

    Raises:
        Undefined: if no mode has enough samples.
    """
    values = []
    variances = []
    stride = max(1, modes // MAX_COVERED_MODES)
    fakes = _by_mode(fake, fake_modes, modes)
    trains = _by_mode(train, train_modes, modes, len(train))
    heldouts = _by_mode(heldout, heldout_modes, modes, len(heldout))
    for mode in range(0, modes, stride):
        n, m, h = len(fakes[mode]), len(trains[mode]), len(heldouts[mode])
        if n < MIN_PER_MODE or m < MIN_PER_MODE or h < MIN_HELDOUT_PER_MODE:
            continue
        neighbours = min(m - 1, max(k, math.ceil(3 * (m + 1) / n)))
        radii = nearest(heldouts[mode], trains[mode], neighbours)[0][:, -1:]
        found = (torch.cdist(heldouts[mode].double(), fakes[mode].double()) <= radii).sum(1)
        covered = (found / (n * neighbours / (m + 1))).clamp(max=1)
        of_real = _expected_coverage(n, neighbours, m)
        values.append(covered.mean().item() / of_real)
        variances.append(covered.double().var().item() / h / of_real**2)
    if not values:
        raise Undefined("no mode has enough samples to say how much of it is covered")
    return sum(values) / len(values), sum(variances) ** 0.5 / len(values)


@functools.cache
def _expected_coverage(n: int, k: int, m: int) -> float:
    """Returns the expectation of min(1, found / expected) for n real samples and balls to the k-th of m."""
    from scipy.stats import betabinom

    found = np.arange(n + 1)
    covered = np.minimum(1, found / (n * k / (m + 1)))
    return float((betabinom.pmf(found, n, k, m + 1 - k) * covered).sum())


def _by_mode(points: Tensor, labels: Tensor, modes: int, most: int = MAX_PER_MODE) -> list[Tensor]:
    """Returns the points of each mode, the first `most` of them."""
    order = labels.argsort(stable=True)
    counts = labels.bincount(minlength=modes).tolist()
    return [part[:most] for part in points[order].split(counts)]


def _near_pair_ratio(fake_pairs: Tensor, real_pairs: Tensor, share: float) -> float:
    """Returns the near-pair distance of fakes over that of real samples; NaN if there are too few pairs."""
    if not len(fake_pairs) or not len(real_pairs):
        return math.nan
    share = max(share, MIN_NEAR_PAIRS / len(fake_pairs))
    real_distance = _near_pair_distance(real_pairs, share)
    if share > MAX_PAIR_SHARE or not real_distance:
        return math.nan
    return _near_pair_distance(fake_pairs, share) / real_distance


def _near_pair_distance(pairs: Tensor, share: float) -> float:
    """Returns the distance below which a share of the pairs `(p,)` lies."""
    return pairs.kthvalue(min(len(pairs), max(1, round(share * len(pairs))))).values.item()
