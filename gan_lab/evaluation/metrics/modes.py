"""How many of the data's modes a generator makes, and in which proportions."""

import math
from statistics import NormalDist

import numpy as np
import torch
from scipy import special
from torch import Tensor

from gan_lab.evaluation.metrics.neighbours import nearest, partition
from gan_lab.evaluation.metrics.registry import Undefined

CHANCE = 0.01  # that a perfect generator is said to miss a mode, over all modes together
MIN_SHARE_OF_ALL = 0.02  # of a mode's expected count, among all samples: fewer are junk that happened to fall there
NO_MODE_JUNK = 0.75  # above this share of junk, the rest is junk that slipped through: no mode is made
# Of the modes. Real stacked digits (100 draws of 26,000) miss 0 to 16 of 1,000 modes by half.
MISSED_BY_READERS = 0.02
REAL_DRAWS = 100  # of the modes of real samples
IN_MODE = 3  # standard deviations
MIN_FOR_WIDTH = 20  # samples of a mode
# The root of the smallest eigenvalue of the covariance of n samples in d dimensions is by about this · (d − 1)^⅔ / √n
# below that of the data (2,000 simulated draws of 20 to 1,000 samples in 1 to 4 dimensions).
SMALLEST_EIGENVALUE_BIAS = 0.65


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


def agreement(labels: Tensor, second_labels: Tensor) -> float:
    """Returns the share of finite samples of which two readers see the same mode, in [0, 1].

    A classifier's accuracy on real samples says nothing about its errors on fakes; a second reader that is made in
    another way does. Pitfall: compare with the agreement on real samples, which is not 1 either.

    Args:
        labels: the modes that the first reader sees, `(n,)`.
        second_labels: the modes that the second reader sees, `(n,)`.

    Raises:
        Undefined: if there are no samples.
    """
    if not len(labels):
        raise Undefined("there is no finite sample")
    return (labels == second_labels).double().mean().item()


def junk_share(in_range: Tensor, reference_size: int) -> tuple[float, float]:
    """Computes the share of samples that lie outside the real data.

    About 0.02 for real images and 0.011 for Gaussians in the plane, where 'outside' is beyond 3σ.

    Args:
        in_range: whether each sample lies among the real ones, `(N,)` bool.
        reference_size: the number h of held-out samples from which the limit was estimated; 0: it is known.

    Returns:
        The share p in [0, 1], and its standard error √(p(1 − p)(1/N + 1/h)).

    Raises:
        Undefined: if there are no flags, because the held-out samples are too few to say where the data end.
    """
    if not len(in_range):
        raise Undefined("too few held-out samples to say where the data end")
    share = 1 - in_range.double().mean().item()
    variance = share * (1 - share)
    return share, (variance / len(in_range) + (variance / reference_size if reference_size else 0)) ** 0.5


def modes_made(valid_counts: Tensor, shares: Tensor, samples: Tensor) -> tuple[int, int]:
    """Counts the modes that are made, and those that are missed for certain.

    A mode is made if it has at least half of its expected count of the valid samples, and `MIN_SHARE_OF_ALL` of its
    expected count of all samples. It is missed for certain if a Poisson number whose mean is half of the expected count
    is that small with a probability below `CHANCE` / M, or if it has less than that share of enough samples.

    Args:
        valid_counts: samples of each mode that are one, `(M,)` int64.
        shares: the data's shares, `(M,)`.
        samples: all samples, `(N, *shape)`.

    Returns:
        The number of modes made, and of those missed for certain; the rest are missed by few samples.
    """
    total = len(samples)
    half = shares.double() * valid_counts.sum().item() / 2
    too_few_of_all = valid_counts < shares * total * MIN_SHARE_OF_ALL
    is_made = robust(valid_counts, shares) & ~too_few_of_all
    p = torch.from_numpy(special.pdtr(valid_counts.numpy(), half.numpy()))
    is_missed = ~is_made & (p < CHANCE / len(shares))
    if total >= samples_needed(len(shares)):
        is_missed |= too_few_of_all
    return int(is_made.sum()), int(is_missed.sum())


def missed_by_chance(shares: Tensor, valid: int) -> int:
    """Returns how many modes perfect samples miss by chance, at most: the number that one draw in 500 exceeds.

    At least `MISSED_BY_READERS` of them: readers err more on some modes than on others. Modes of which there are hardly
    any samples are missed for certain all the same, see `modes_made`.

    Args:
        shares: the data's shares, `(M,)`.
        valid: how many samples there are.
    """
    half = np.ceil(shares.double().numpy() * valid / 2) - 1
    # Of a mode with no expected sample, fewer than half of them can't be had.
    is_possible = half >= 0
    chances = special.bdtr(half.clip(min=0), max(valid, 1), shares.double().numpy())
    expected = float((chances * is_possible).sum())
    return max(_poisson_quantile(1 - CHANCE / 5, expected), int(MISSED_BY_READERS * len(shares)))


def _poisson_quantile(p: float, mean: float) -> int:
    """Returns the smallest number that a Poisson number with this mean does not exceed with probability p."""
    quantile = math.ceil(special.pdtrik(p, mean))
    # Its inverse is rounded: the number below may do.
    if quantile > 0 and special.pdtr(quantile - 1, mean) >= p:
        return quantile - 1
    return quantile


def samples_needed(modes: int) -> int:
    """Returns from how many samples an empty mode can be told from bad luck: e^(−N / 2M) ≤ `CHANCE` / M.

    139 for 10 modes, 107 for 8, 392 for 25, 23,026 for 1,000.
    """
    return math.ceil(2 * modes * math.log(modes / CHANCE))


def kl_excess(counts: Tensor, shares: Tensor) -> tuple[float, float]:
    """Computes `kl` less its expectation for perfect samples, (M − 1) / 2N (Miller 1955).

    Returns:
        The excess, slightly below 0 for some perfect samples; and its standard error by the delta method,
        √((Σ p ln²(p / shares) − KL²) / N).

    Raises:
        Undefined: see `kl`.
    """
    value = kl(counts, shares)
    total = counts.sum().item()
    occurs = counts > 0
    p = counts[occurs].double() / total
    squares = (p * (p / shares[occurs].double()).log().square()).sum().item()
    error = math.sqrt(max(0.0, squares - value**2) / total)
    return value - (len(shares) - 1) / (2 * total), error


def mode_width(offsets: Tensor, nearest_mode: Tensor, modes: int) -> tuple[float, float]:
    """Computes the width of a mode relative to the data's, the median over the modes.

    √ of the smallest eigenvalue of the covariance of a mode's samples within 3σ, over what as many samples of a
    Gaussian that is cut at 3σ have. 1 for the data; s if the mode is s times as wide in one direction, 0 for a line, a
    point or repeated samples on one. Pitfall: modes wider than the data are cut at 3σ and stay near 1; the share beyond
    5σ tells of them.

    Args:
        offsets: of each sample from the nearest centre, in standard deviations, `(n, D)`.
        nearest_mode: `(n,)`.
        modes: the number of modes.

    Returns:
        The width, and its standard error: width / √(2n) of n samples.

    Raises:
        Undefined: if no mode has `MIN_FOR_WIDTH` samples.
    """
    dimensions = offsets.shape[1]
    inside = offsets.norm(dim=1) < IN_MODE
    widths = []
    samples = 0
    for mode in range(modes):
        points = offsets[inside & (nearest_mode == mode)].double()
        if len(points) < MIN_FOR_WIDTH:
            continue
        smallest = torch.linalg.eigvalsh(torch.cov(points.T).reshape(dimensions, dimensions))[0].item()
        bias = SMALLEST_EIGENVALUE_BIAS * (dimensions - 1) ** (2 / 3) / len(points) ** 0.5
        widths.append(math.sqrt(max(0.0, smallest) / _cut_variance(dimensions)) / (1 - bias))
        samples += len(points)
    if not widths:
        raise Undefined(f"no mode has {MIN_FOR_WIDTH} samples within 3σ")
    width = float(np.median(widths))
    return width, width / math.sqrt(2 * samples)


def share_within(offsets: Tensor) -> tuple[float, float]:
    """Returns the shares of samples within 1σ and beyond 5σ of the nearest centre, each in [0, 1].

    In the plane 1 − e^(−1/2) = 0.393 of the data lie within 1σ, and e^(−12.5) = 0.000004 beyond 5σ.

    Args:
        offsets: of each sample from the nearest centre, in standard deviations, `(n, D)`.

    Raises:
        Undefined: if there are no samples.
    """
    if not len(offsets):
        raise Undefined("there is no finite sample")
    distances = offsets.double().norm(dim=1)
    return (distances < 1).double().mean().item(), (distances > 5).double().mean().item()


def _cut_variance(dimensions: int) -> float:
    """Returns the variance along one axis of a standard Gaussian that is cut at a radius of 3."""
    # The cumulative distribution of χ² with d degrees of freedom at r² is gammainc(d / 2, r² / 2).
    inside = special.gammainc(dimensions / 2, IN_MODE**2 / 2)
    return float(special.gammainc(dimensions / 2 + 1, IN_MODE**2 / 2) / inside)


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


def of_real_samples(shares: Tensor, samples: int) -> dict[str, float]:
    """Returns what so many real samples score on average in the metrics that depend on their number.

    Their modes are drawn `REAL_DRAWS` times from the data's shares: no reader errs.

    Args:
        shares: the data's, `(M,)` ≥ 0 with sum 1.
        samples: N ≥ 1.

    Returns:
        The means of `modes` (`captured`), `modes_robust` (`captured_robustly`), `kl_uniform` and `kl_data` (`kl`).
    """
    uniform = torch.full_like(shares, 1 / len(shares))
    # Rounded sums may be above 1, which numpy refuses.
    probabilities = shares.double().numpy() / shares.double().sum().item()
    draws = torch.from_numpy(np.random.default_rng(0).multinomial(samples, probabilities, REAL_DRAWS))
    sums = dict.fromkeys(("modes", "modes_robust", "kl_uniform", "kl_data"), 0.0)
    for counts in draws:
        sums["modes"] += captured(counts)
        sums["modes_robust"] += captured_robustly(counts, shares)
        sums["kl_uniform"] += kl(counts, uniform)
        sums["kl_data"] += kl(counts, shares)
    return {name: value / REAL_DRAWS for name, value in sums.items()}


def ndb(fake: Tensor, train: Tensor, bins: int = 100, alpha: float = 0.05, seed: int = 0) -> tuple[float, float]:
    """Compares how fakes and training samples fill bins (NDB; Richardson & Weiss 2018).

    The bins are the k-means cells of the training samples. A bin is different if a two-proportion z-test says so at
    level alpha: |p − q| > z_(1−α/2) · √(r(1 − r)(1/n + 1/m)), where r is the bin's share of both sets together.
    Pitfall: the number of different bins grows with the number of samples; compare only at equal n and m, with about
    500 per bin.

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
