"""How many of the data's modes a generator has, and in which proportions."""

import math
from statistics import NormalDist

import torch
from torch import Tensor

from gan_lab.evaluation.metrics.neighbours import nearest, partition
from gan_lab.evaluation.metrics.registry import Undefined


def assign_modes(samples: Tensor, centres: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """The nearest mode of each sample, and whether the sample is of high quality: |x − centre| < 3 std.

    Srivastava et al. 2017 (VEEGAN), strict as in Lin et al. 2018 (PacGAN). Perfect 2-D data have 1 − e^(−4.5) = 98.9 %
    of high quality. Pitfall: clearly more than that is no merit, it says that the modes have shrunk.

    Args:
        samples: `(N, D)`; one with a NaN or an infinite number has mode −1 and isn't of high quality.
        centres: `(M, D)`.
        std: of every mode, along every axis.

    Returns:
        Numbers of modes `(N,)`, int64 in [−1, M), and `(N,)` booleans.
    """
    usable = samples.isfinite().all(1)
    if not usable.any():
        raise Undefined("there is no sample without NaN or infinite numbers")
    modes = torch.full((len(samples),), -1)
    high_quality = torch.zeros(len(samples), dtype=torch.bool)
    distances, indices = nearest(samples[usable], centres, 1)
    modes[usable] = indices[:, 0]
    high_quality[usable] = distances[:, 0] < 3 * std
    return modes, high_quality


def high_quality_share(near_centre: Tensor) -> float:
    """Returns the share of ones among the flags `(N,)` of `assign_modes`, given as numbers 0 and 1."""
    return near_centre.mean().item()


def mode_counts(labels: Tensor, total: int) -> Tensor:
    """How many samples each of the `total` modes has: `(total,)` int64 from labels `(N,)` in [−1, total).

    Pitfall: −1 is 'none' and isn't counted, so the counts can add up to less than N.
    """
    if len(labels) and labels.max() >= total:
        raise ValueError(f"label {int(labels.max())} of {total} modes")
    return labels[labels >= 0].bincount(minlength=total)


def class_accuracy(labels: Tensor, asked: Tensor) -> float:
    """Of samples that a conditional GAN made, the share that is read as the class that was asked for, in [0, 1].

    The GAN-test of Shmelkov et al. 2018 (arXiv:1807.09499), all samples counted. Pitfall: a classifier's own errors
    count as the GAN's; its accuracy on real samples is what to compare with. It knows nothing of variety in a class.

    Args:
        labels: what each sample is read as, `(N,)`, N > 0; −1: nothing.
        asked: classes `(N,)`.
    """
    return (labels == asked).double().mean().item()


def captured(counts: Tensor) -> int:
    """The number of modes with at least one sample, 0 … M, from counts `(M,)` (Metz et al. 2017; VEEGAN).

    Pitfall: where a classifier names the modes, its errors add modes: at 0.75 % per channel, 26,000 samples from 100
    of stacked MNIST's 1,000 modes count as about 458.
    """
    return int((counts > 0).sum())


def robust(counts: Tensor, shares: Tensor) -> Tensor:
    """Which modes have at least half of the samples that the data would have there: counts ≥ N·shares / 2.

    This project's own, to stand beside `captured`: a classifier's errors hardly reach that many. N is the sum of the
    counts. Pitfall: it should be some 25 per mode, else perfect data miss modes by chance (at 26 per mode, 2 of 1,000).

    Args:
        counts: `(M,)` ≥ 0.
        shares: `(M,)` ≥ 0 with sum 1, the data's own; a mode without a share can't be captured.

    Returns:
        `(M,)` bool.
    """
    expected = counts.sum().item() * shares.double()
    enough = counts >= expected / 2 * (1 - 1e-6)  # half is enough, also where a float32 share rounds up
    return (counts > 0) & (expected > 0) & enough


def captured_robustly(counts: Tensor, shares: Tensor) -> int:
    """The number of `robust` modes, 0 … M."""
    return int(robust(counts, shares).sum())


def kl(counts: Tensor, shares: Tensor) -> float:
    """KL(generated ‖ data) = Σ p ln(p / shares) in nats with p = counts / N; 0 for the data's shares, ln M for one of M
    equal modes.

    PacGAN's reverse KL where `counts` are of high-quality samples and `shares` are uniform. Pitfall: N samples of
    perfect data have about (M − 1) / 2N, not 0 (0.0014 for 8 modes, 0.0049 for 25, at 2,500 samples).

    Args:
        counts: `(M,)` ≥ 0.
        shares: `(M,)` ≥ 0 with sum 1.
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
    """How differently fakes and training samples fill bins (Richardson & Weiss 2018).

    The bins are the k-means cells of the training samples. A bin is different where a two-proportion z-test says so at
    level alpha: |p − q| > z_(1−α/2) · √(r(1 − r)(1/n + 1/m)), with r the share in both sets together.
    Pitfall: it grows with the number of samples, compare at the same n and m only; and some 500 per bin are wanted.

    Args:
        fake: `(n, d)`, finite.
        train: `(m, d)`, finite, with at least `bins` different samples.

    Returns:
        The share of different bins in [0, 1], about alpha for samples of the same distribution, and the Jensen-Shannon
        divergence between the two histograms, in [0, ln 2] nats.
    """
    in_train, in_fake = partition(train, [fake], bins, seed)
    p, q = (labels.bincount(minlength=bins).double() / len(labels) for labels in (in_fake, in_train))
    n, m = len(fake), len(train)
    pooled = (n * p + m * q) / (n + m)
    error = (pooled * (1 - pooled) * (1 / n + 1 / m)).sqrt()
    different = (p - q).abs() > NormalDist().inv_cdf(1 - alpha / 2) * error
    middle = (p + q) / 2
    return different.double().mean().item(), max(0.0, (_kl(p, middle) + _kl(q, middle)) / 2)


def _kl(p: Tensor, q: Tensor) -> float:
    some = p > 0  # 0 ln 0 = 0
    return (p[some] * (p[some] / q[some]).log()).sum().item()
