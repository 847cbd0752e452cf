"""How much of the variety within each mode a generator makes.

All samples are points of one feature space, finite, with the number of their mode. Modes with too few samples are left
out; at most `MAX_PER_MODE` samples of a mode are looked at.
"""

import functools
import math

import numpy as np
import torch
from scipy import special
from torch import Tensor

from gan_lab.evaluation.metrics.neighbours import nearest
from gan_lab.evaluation.metrics.registry import Undefined

PAIR_SHARE = 1e-3  # which pairs within a mode are near: this share of all, the nearest ones
PAIR_SHARE_ONE_MODE = 1e-4  # of data without modes, whose pairs are mostly of different kinds of sample
MIN_NEAR_PAIRS = 5  # fewer say too little
MAX_PAIR_SHARE = 0.05  # more are no longer near
MIN_PER_MODE = 10  # samples
MIN_PAIRS = 45  # of so many samples
MIN_HELDOUT_PER_MODE = 5
MAX_PER_MODE = 1_000
MANY_MODES = 50  # of more modes, the pairs of all are pooled: there are few samples of each
MAX_POOLED_PER_MODE = 40
MAX_COVERED_MODES = 200  # coverage is measured in so many modes at most, evenly spread: the mean needs no more
MIN_EXPECTED = 3  # real samples in a ball
MAX_BALL = 0.05  # of the training samples of data without modes: larger balls cover several kinds of sample
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
    fake_pairs = _pair_distances(fake, fake_modes, modes)
    return _ratios(fake_pairs, _pair_distances(real, real_modes, modes), modes)


def variety_summary(
    fake: Tensor, fake_modes: Tensor, real: Tensor, real_modes: Tensor, modes: int
) -> tuple[float, float, float, float]:
    """Summarises `variety_within`, whose arguments it takes, and counts the different samples of a mode.

    The number follows from the birthday paradox (Arora & Zhang 2017): K equally frequent samples collide in a share
    1 / K of all pairs. Two samples count as the same if they are nearer than `COLLISION` times the real near-pair
    distance. Pitfall: without any collision it is only a lower bound, of about n² / 2 for n samples of a mode.

    Returns:
        The median over the modes; the lowest; the standard error of the median, from the scatter over `PARTS` disjoint
        parts of the fakes (where these are too small, that of a quantile of so few pairs in two dimensions, where it is
        largest); and the number of different samples of a mode, the median over the modes, ≥ 1.

    Raises:
        Undefined: if no mode has enough samples.
    """
    real_pairs = _pair_distances(real, real_modes, modes)
    fake_pairs = _pair_distances(fake, fake_modes, modes)
    ratios = _ratios(fake_pairs, real_pairs, modes)
    is_defined = ratios.isfinite()
    if not is_defined.any():
        raise Undefined("no mode has enough samples to compare their distances")
    medians = []
    for part in torch.arange(len(fake)).chunk(PARTS):
        medians.append(_ratios(_pair_distances(fake[part], fake_modes[part], modes), real_pairs, modes).nanmedian())
    median = ratios.nanmedian().item()
    error = torch.stack(medians).std().item() / PARTS**0.5
    if len(medians) < PARTS or not math.isfinite(error):
        error = median / (2 * (MIN_NEAR_PAIRS * int(is_defined.sum())) ** 0.5)
    numbers = []
    for fakes, reals, defined in zip(fake_pairs, real_pairs, is_defined.tolist(), strict=True):
        if defined:
            radius = COLLISION * _near_pair_distance(reals, PAIR_SHARE)
            numbers.append(len(fakes) / max(1, int((fakes <= radius).sum())))
    return median, ratios[is_defined].min().item(), error, float(np.median(numbers))


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
        neighbours = min(m - 1, max(k, math.ceil(MIN_EXPECTED * (m + 1) / n)))
        if modes == 1 and neighbours > max(k, m * MAX_BALL):
            needed = math.ceil(MIN_EXPECTED * (m + 1) / (m * MAX_BALL))
            raise Undefined(f"{n} samples are too few to say how much of the data they cover; {needed} are needed")
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
    found = np.arange(n + 1)
    covered = np.minimum(1, found / (n * k / (m + 1)))
    # How many of n fall into the ball is beta-binomial, with a = k and b = m + 1 − k.
    log_choices = -np.log(n + 1) - special.betaln(n - found + 1, found + 1)
    log_pmf = log_choices + special.betaln(found + k, n - found + m + 1 - k) - special.betaln(k, m + 1 - k)
    return float((np.exp(log_pmf) * covered).sum())


def _by_mode(points: Tensor, labels: Tensor, modes: int, most: int = MAX_PER_MODE) -> list[Tensor]:
    """Returns the points of each mode, the first `most` of them."""
    order = labels.argsort(stable=True)
    counts = labels.bincount(minlength=modes).tolist()
    return [part[:most] for part in points[order].split(counts)]


def _pair_distances(points: Tensor, labels: Tensor, modes: int) -> list[Tensor]:
    """Returns the distances of all pairs within each mode; of many modes, of all together in one tensor."""
    if modes > MANY_MODES:
        return [torch.cat([torch.pdist(part) for part in _by_mode(points, labels, modes, MAX_POOLED_PER_MODE)])]
    return [torch.pdist(part) for part in _by_mode(points, labels, modes)]


def _ratios(fake_pairs: list[Tensor], real_pairs: list[Tensor], modes: int) -> Tensor:
    share = PAIR_SHARE if modes > 1 else PAIR_SHARE_ONE_MODE
    return torch.tensor(
        [_near_pair_ratio(fakes, reals, share) for fakes, reals in zip(fake_pairs, real_pairs, strict=True)]
    )


def _near_pair_ratio(fake_pairs: Tensor, real_pairs: Tensor, share: float) -> float:
    """Returns the near-pair distance of fakes over that of real samples; NaN if there are too few pairs."""
    if min(len(fake_pairs), len(real_pairs)) < MIN_PAIRS:
        return math.nan
    share = max(share, MIN_NEAR_PAIRS / len(fake_pairs))
    real_distance = _near_pair_distance(real_pairs, share)
    if share > MAX_PAIR_SHARE or not real_distance:
        return math.nan
    return _near_pair_distance(fake_pairs, share) / real_distance


def _near_pair_distance(pairs: Tensor, share: float) -> float:
    """Returns the distance below which a share of the pairs `(p,)` lies."""
    number = min(len(pairs), max(1, round(share * len(pairs))))
    # Takes a fourteenth of the time of torch.kthvalue.
    return float(np.partition(pairs.numpy(), number - 1)[number - 1])
