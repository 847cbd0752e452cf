"""How many of the data's modes a generator makes, and in which proportions."""

import math
from statistics import NormalDist

import torch
from torch import Tensor

from gan_lab.evaluation.metrics.neighbours import nearest, partition
from gan_lab.evaluation.metrics.registry import Undefined


def assign_modes(samples: Tensor, centres: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """Finds the nearest mode of each sample, and whether the sample is of high quality: |x − centre| < 3 std.

    Srivastava et al. 2017 (VEEGAN); strictly less, as in Lin et al. 2018 (PacGAN). Of perfect 2-D data,
    1 − e^(−4.5) = 98.9 % are of high quality. Pitfall: a clearly higher share is no merit; the modes have shrunk.

    Args:
        samples: `(N, D)`; one with a NaN or infinite number has mode −1 and is not of high quality.
        centres: `(M, D)`.
        std: the standard deviation of every mode along every axis.

    Returns:
        The modes `(N,)`, int64 in [−1, M), and `(N,)` booleans.

    Raises:
        Undefined: if no sample is finite.
    """
    is_finite = samples.isfinite().all(1)
    if not is_finite.any():
        raise Undefined("there is no finite sample")
    modes = torch.full((len(samples),), -1)
    high_quality = torch.zeros(len(samples), dtype=torch.bool)
    distances, indices = nearest(samples[is_finite], centres, 1)
    modes[is_finite] = indices[:, 0]
    high_quality[is_finite] = distances[:, 0] < 3 * std
    return modes, high_quality


def high_quality_share(near_centre: Tensor) -> float:
    """Returns the share of ones among the flags `(N,)` of `assign_modes`, given as numbers 0 and 1."""
    return near_centre.mean().item()


def mode_counts(labels: Tensor, total: int) -> Tensor:
    """Counts the samples of each mode.

    Pitfall: −1 means 'no mode' and is not counted, so the counts can add up to less than N.

    Args:
        labels: `(N,)` int64 in [−1, total).
        total: the number of modes.

    Returns:
        `(total,)` int64.
    """
    if len(labels) and labels.max() >= total:
        raise ValueError(f"label {int(labels.max())} of {total} modes")
    return labels[labels >= 0].bincount(minlength=total)


def class_accuracy(labels: Tensor, target_labels: Tensor) -> float:
    """Returns the share of a conditional GAN's samples that belong to their target class, in [0, 1].

    The GAN-test of Shmelkov et al. 2018 (arXiv:1807.09499), over all samples. Pitfall: the label classifier's own
    errors count as the GAN's, so compare with its accuracy on real samples. It says nothing about variety within a
    class.

    Args:
        labels: the class that the label classifier sees, `(N,)`, N > 0; −1: none.
        target_labels: the class in each sample's latent vector, `(N,)`.
    """
    return (labels == target_labels).double().mean().item()


def captured(counts: Tensor) -> int:
    """Returns the number of modes with at least one sample, 0 … M, from counts `(M,)` (Metz et al. 2017; VEEGAN).

    Pitfall: where a classifier assigns the modes, its errors add modes. At an error of 0.75 % per channel, 26,000
    samples of 100 of stacked MNIST's 1,000 modes count as about 458.
    """
    return int((counts > 0).sum())


def robust(counts: Tensor, shares: Tensor) -> Tensor:
    """Returns which modes have at least half of their expected count: counts ≥ N·shares / 2, N the sum of the counts.

    This project's own, as a complement to `captured`: a classifier's errors hardly reach that many samples. Pitfall: it
    needs an expected count of about 25 or more, else perfect data miss modes by chance (at 26 per mode, 2 of 1,000).

    Args:
        counts: `(M,)` ≥ 0.
        shares: the data's shares, `(M,)` ≥ 0 with sum 1; a mode with share 0 cannot be captured.

    Returns:
        `(M,)` bool.
    """
    expected = counts.sum().item() * shares.double()
    # Exactly half is enough, also where a float32 share was rounded up.
    enough = counts >= expected / 2 * (1 - 1e-6)
    return (counts > 0) & (expected > 0) & enough


def captured_robustly(counts: Tensor, shares: Tensor) -> int:
    """Returns the number of modes with at least half of their expected count, 0 … M; see `robust`."""
    return int(robust(counts, shares).sum())


def kl(counts: Tensor, shares: Tensor) -> float:
    """Returns KL(generated ‖ data) = Σ p ln(p / shares) ≥ 0 in nats, with p = counts / N.

    It is 0 for the data's shares and ln M for one of M equal modes. It is the reverse KL of Lin et al. 2018 (PacGAN) if
    only high-quality samples are counted and `shares` are uniform. Pitfall: N samples of perfect data have about
    (M − 1) / 2N, not 0 (0.0014 for 8 modes, 0.0049 for 25, at 2,500 samples).

    Args:
        counts: `(M,)` ≥ 0.
        shares: `(M,)` ≥ 0 with sum 1.

    Raises:
        Undefined: if there are no samples, or some in a mode of share 0.
    """
    if not math.isclose(shares.double().sum().item(), 1, abs_tol=1e-4):
        raise ValueError("shares must add up to 1")
    if counts.sum() == 0:
        raise Undefined("no sample belongs to any mode")
    if (counts[shares == 0] > 0).any():
        raise Undefined("there are samples in a mode that the data do not have")
    p = counts.double() / counts.sum()
    return max(0.0, _kl(p, shares.double()))


def ndb(fake: Tensor, train: Tensor, bins: int = 100, alpha: float = 0.05, seed: int = 0) -> tuple[float, float]:
    """Compares how fakes and training samples fill bins (NDB; Richardson & Weiss 2018).

    The bins are the k-means cells of the training samples. A bin is different if a two-proportion z-test says so at
    level
    alpha: |p − q| > z_(1−α/2) · √(r(1 − r)(1/n + 1/m)), where r is the bin's share of both sets together. Pitfall: the
    number of different bins grows with the number of samples; compare only at equal n and m, with about 500 per bin.

    Args:
        fake: `(n, d)`, finite.
        train: `(m, d)`, finite, with at least `bins` different samples.
        bins: the number of bins.
        alpha: the level of each test, in (0, 1).
        seed: of k-means.

    Returns:
        The share of different bins in [0, 1], about alpha for samples of the same distribution, and the Jensen-Shannon
        divergence between the two histograms, in [0, ln 2] nats.

    Raises:
        Undefined: if there are too few samples, or too few different ones.
    """
    in_train, in_fake = partition(train, [fake], bins, seed)
    n = len(fake)
    m = len(train)
    p = in_fake.bincount(minlength=bins).double() / n
    q = in_train.bincount(minlength=bins).double() / m
    pooled = (n * p + m * q) / (n + m)
    error = (pooled * (1 - pooled) * (1 / n + 1 / m)).sqrt()
    different = (p - q).abs() > NormalDist().inv_cdf(1 - alpha / 2) * error
    middle = (p + q) / 2
    return different.double().mean().item(), max(0.0, (_kl(p, middle) + _kl(q, middle)) / 2)


def _kl(p: Tensor, q: Tensor) -> float:
    positive = p > 0  # 0 ln 0 = 0
    return (p[positive] * (p[positive] / q[positive]).log()).sum().item()
