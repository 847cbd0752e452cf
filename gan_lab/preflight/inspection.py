"""Checks 1 and 3 (S6, S8): the data and the untrained generator, as functions of tensors."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset, Samples, choose
from gan_lab.evaluation.metrics import two_sample
from gan_lab.preflight.report import Check

# Of more samples so many are chosen at random.
MAX_INSPECTED = 100_000
# Samples that are held in memory at the same time.
BATCH = 1_000

# What makes a warning. These thresholds are this project's own choice; the checks state the numbers as well.
# As a fraction of the samples.
MAX_DUPLICATES = 0.01
# The size of the largest class divided by that of the smallest one.
MAX_IMBALANCE = 10
# No value is larger, where 1 is possible.
DIM_MAXIMUM = 0.5
# The standard deviation of G's samples divided by that of the data.
MIN_VARIATION = 0.05
# By which fraction of the data's range G's largest possible range may be smaller than that.
RANGE_TOLERANCE = 0.02

# Random sets of weights that show the range of G's output, and their standard deviation.
WEIGHT_TRIALS = 8
WEIGHT_NOISE = 10


@dataclass(frozen=True)
class SampleStatistics:
    """Statistics of samples; those with NaN or infinity count in `not_finite` and nowhere else.

    Attributes:
        inspected: the number of samples that the statistics are of.
        low, high: the smallest and the largest value at each position, `(*shape)`.
        mean: the mean of all values.
        std: the standard deviation over the samples, averaged over the positions.
        not_finite: the number of samples with NaN or infinity.
        constant: the number of samples whose values are all the same.
        duplicates: the number of samples that are equal to an earlier one.
        hashes: the samples' hash values.
    """

    inspected: int
    low: Tensor
    high: Tensor
    mean: float
    std: float
    not_finite: int
    constant: int
    duplicates: int
    hashes: set[int]

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value of all."""
        return self.low.min().item(), self.high.max().item()

    @property
    def all_equal(self) -> bool:
        """Whether the samples are all the same, apart from rounding."""
        low, high = self.range
        return self.std <= 1e-6 * max(abs(low), abs(high))


def collect_statistics(samples: Samples, seed: int) -> SampleStatistics:
    """Computes the statistics of all samples, or of `MAX_INSPECTED` random ones, batch by batch.

    Args:
        samples: the training or the held-out samples.
        seed: of the random choice.
    """
    chosen = choose(samples, MAX_INSPECTED, make_generator(seed, "preflight/survey"))
    low = torch.full(samples.shape, torch.inf)
    high = torch.full(samples.shape, -torch.inf)
    sums = torch.zeros(samples.shape, dtype=torch.float64)
    squares = torch.zeros(samples.shape, dtype=torch.float64)
    origin: Tensor | None = None
    not_finite = 0
    constant = 0
    hashes: set[int] = set()
    for indices in chosen.split(BATCH):
        batch = samples[indices]
        rows = batch.flatten(1)
        for row in rows.numpy():
            hashes.add(hash(row.tobytes()))
        finite = rows.isfinite().all(1)
        not_finite += int((~finite).sum())
        if not finite.any():
            continue
        batch = batch[finite]
        rows = rows[finite]
        constant += int((rows == rows[:, :1]).all(1).sum())
        low = torch.minimum(low, batch.amin(0))
        high = torch.maximum(high, batch.amax(0))
        if origin is None:
            # Sums of differences from a sample keep digits that sums of large values would lose.
            origin = batch[0].double()
        differences = batch.double() - origin
        sums += differences.sum(0)
        squares += differences.square().sum(0)
    n = max(1, len(chosen) - not_finite)
    # Rounding may make the variance of equal values a little negative.
    variances = (squares / n - (sums / n).square()).clamp(min=0)
    mean = float("nan")
    if origin is not None:
        mean = (sums / n + origin).mean().item()
    return SampleStatistics(
        inspected=len(chosen),
        low=low,
        high=high,
        mean=mean,
        std=variances.sqrt().mean().item(),
        not_finite=not_finite,
        constant=constant,
        duplicates=len(chosen) - len(hashes),
        hashes=hashes,
    )


def check_data(dataset: Dataset, train: SampleStatistics, batch_size: int, seed: int) -> Check:
    """Check 1: can a GAN be trained on these data?

    Args:
        dataset: the data.
        train: the statistics of `dataset.train`.
        batch_size: that of the training.
        seed: of the random choice of held-out samples.
    """
    heldout = collect_statistics(dataset.heldout, seed)
    # Held-out samples that are in the training data as well.
    leaked = len(train.hashes & heldout.hashes)
    not_finite = train.not_finite + heldout.not_finite
    low, high = train.range
    check = Check("data", "the data")
    check.facts = {
        "samples": f"{len(dataset.train):,} for training, {len(dataset.heldout):,} held out, of shape "
        + " × ".join(map(str, dataset.shape)),
        "values": f"{low:.4g} to {high:.4g}, mean {train.mean:.3g}, "
        f"standard deviation over the samples {train.std:.3g}",
        "defects": _describe_defects(dataset, train),
        "overlap": f"{leaked:,} held-out samples are in the training data as well",
    }
    check.numbers = {
        "samples": len(dataset.train),
        "heldout": len(dataset.heldout),
        "shape": list(dataset.shape),
        "inspected": train.inspected,
        "low": low,
        "high": high,
        "mean": train.mean,
        "std": train.std,
        "not_finite": not_finite,
        "duplicates": train.duplicates,
        "constant": train.constant,
        "leaked": leaked,
    }
    if not_finite:
        check.failures.append(
            f"{not_finite:,} samples contain NaN or infinity: a single one in a batch makes every weight NaN. Leave"
            " them out, or mend the file that they come from."
        )
    if train.not_finite < train.inspected:
        _check_values(check, dataset, train, leaked)
    if dataset.classes:
        _check_classes(check, dataset)
    if len(dataset.train) < batch_size:
        check.warnings.append(
            f"A batch of {batch_size:,} contains each of the {len(dataset.train):,} training samples more than once: G"
            " may memorise them. Use more data, or a smaller batch_size."
        )
    return check


def _describe_defects(dataset: Dataset, train: SampleStatistics) -> str:
    """Returns how many training samples are not finite, occur twice, or have a single colour."""
    defects = [f"{train.not_finite:,} with NaN or infinity", f"{train.duplicates:,} duplicates"]
    if len(dataset.shape) == 3:
        defects.append(f"{train.constant:,} of a single colour")
    inspected = f"{train.inspected:,}"
    if train.inspected < len(dataset.train):
        inspected += f" of {len(dataset.train):,}"
    return f"{', '.join(defects)}; {inspected} inspected"


def _check_values(check: Check, dataset: Dataset, train: SampleStatistics, leaked: int) -> None:
    """Adds what is wrong with the values of the training samples."""
    low, high = train.range
    if train.all_equal:
        check.failures.append(
            "All samples are the same: a GAN could learn a single output only, and its diversity cannot be measured. Is"
            " it the right file or folder, and is dataset.samples more than 1?"
        )
    elif train.duplicates > MAX_DUPLICATES * train.inspected:
        check.warnings.append(
            f"{train.duplicates / train.inspected:.0%} of the samples are duplicates: G learns to prefer frequent"
            " samples. Remove them unless they are intended."
        )
    if dataset.bounded and (low < 0 or high > 1):
        check.failures.append(
            f"The values go from {low:.4g} to {high:.4g}, but have to lie between 0 and 1, the range of G's last"
            " sigmoid. Rescale them: bytes, for example, are divided by 255."
        )
    elif dataset.bounded and high < DIM_MAXIMUM:
        check.warnings.append(f"No value is above {high:.4g}, where 1 is possible: were the data scaled down twice?")
    if len(dataset.shape) == 3 and train.constant:
        check.warnings.append(
            f"{train.constant:,} images are of a single colour: are they empty, or were they damaged when read?"
        )
    if leaked > MAX_DUPLICATES * len(dataset.heldout):
        check.warnings.append(
            f"{leaked:,} held-out samples are in the training data as well, so they cannot show whether G memorises."
        )


def _check_classes(check: Check, dataset: Dataset) -> None:
    """Adds the sizes of the classes, and warns of empty and of small ones."""
    counts = dataset.train.label_counts(len(dataset.classes))
    smallest = int(counts.min())
    largest = int(counts.max())
    check.facts["classes"] = f"{len(counts):,}, with {smallest:,} to {largest:,} samples each"
    check.numbers |= {"classes": len(counts), "smallest_class": smallest, "largest_class": largest}
    empty = [name for name, count in zip(dataset.classes, counts.tolist(), strict=True) if count == 0]
    if empty:
        check.warnings.append(
            f"{len(empty):,} of {len(counts):,} classes have no sample ({first_names(empty, 5)}): G cannot learn them."
        )
    elif largest > MAX_IMBALANCE * smallest:
        check.warnings.append(
            f"The largest class has {largest / smallest:.0f} times as many samples as the smallest one, which G may"
            " miss."
        )


def check_generator(
    generator: nn.Module, fake: Tensor, z: Tensor, dataset: Dataset, train: SampleStatistics, seed: int
) -> Check:
    """Check 3: do the untrained G's samples have the right range, and do they depend on the latent vector?

    Args:
        generator: the untrained G.
        fake: its samples `(n, *shape)`.
        z: their latent vectors `(n, latent_dim)`.
        dataset: the data.
        train: the statistics of `dataset.train`.
        seed: of the random weights that show which values G can reach.
    """
    low, high = _range(fake)
    data_low, data_high = train.range
    std = fake.double().std(0, correction=0).mean().item()
    constant = bool((z == z[0]).all())
    check = Check("generator", "the untrained G")
    check.facts["shape"] = f"{' × '.join(map(str, fake.shape[1:]))}, like the data"
    check.facts["values"] = f"{low:.4g} to {high:.4g}; the data: {data_low:.4g} to {data_high:.4g}"
    if constant:
        check.facts["variation"] = f"none: all components of the latent vector are always {z[0, 0]:.4g}"
        if fake[0].numel() <= 8:
            output = ", ".join(f"{value:.2f}" for value in fake[0].flatten().tolist())
            check.facts["output"] = f"for {z[0, 0]:.4g}: {output}"
    else:
        check.facts["variation"] = (
            f"standard deviation over {len(fake):,} samples {std:.3g}; that of the data {train.std:.3g}"
        )
    check.numbers = {"samples": len(fake), "low": low, "high": high, "std": std, "constant_latent": constant}
    if not fake.isfinite().all():
        check.failures.append("It generates NaN or infinity before any training. Check the layers of the network.")
        return check
    reachable_low, reachable_high = _reachable_range(generator, z[:BATCH], fake, seed)
    check.numbers |= {"reachable_low": reachable_low, "reachable_high": reachable_high}
    tolerance = RANGE_TOLERANCE * (data_high - data_low)
    if dataset.bounded and (low < 0 or high > 1):
        check.failures.append(
            f"Its output goes from {low:.4g} to {high:.4g}, but the data lie between 0 and 1: D could tell them apart"
            " by their range. End G in a sigmoid (model.generator with bounded=true does)."
        )
    elif reachable_low > data_low + tolerance or reachable_high < data_high - tolerance:
        check.failures.append(
            f"It cannot generate values outside {reachable_low:.4g} to {reachable_high:.4g}, whatever its weights, but"
            f" the data go from {data_low:.4g} to {data_high:.4g}. Remove the sigmoid or tanh at the end of G, or"
            " rescale the data."
        )
    if not constant and std == 0:
        check.failures.append(
            "It generates the same sample for every z: it ignores its latent vector, a collapse before any training."
        )
    elif not constant and std < MIN_VARIATION * train.std:
        check.warnings.append(
            "Its samples hardly depend on z, which makes a collapse likely. A normalisation (norm=layer), a larger"
            " latent_dim or other activations (activation=leaky_relu) help."
        )
    return check


def _range(values: Tensor) -> tuple[float, float]:
    """Returns the smallest and the largest value."""
    return values.min().item(), values.max().item()


@torch.no_grad()
def _reachable_range(generator: nn.Module, z: Tensor, fake: Tensor, seed: int) -> tuple[float, float]:
    """Estimates between which values G's output stays, whatever its weights.

    A copy of G gets random weights of large size: an output that stays in a range even then is bounded by G's last
    layer.

    Args:
        generator: stays as it is.
        z: latent vectors `(B, latent_dim)` for the trials.
        fake: G's samples `(n, *shape)` with its own weights, which count as well.
        seed: of the random weights.
    """
    trial = copy.deepcopy(generator).eval()
    rng = make_generator(seed, "preflight/reach")
    weights = [parameter.detach().clone() for parameter in trial.parameters()]
    low, high = _range(fake)
    for _ in range(WEIGHT_TRIALS):
        for parameter, weight in zip(trial.parameters(), weights, strict=True):
            parameter.copy_(weight + WEIGHT_NOISE * torch.randn(parameter.shape, generator=rng))
        trial_low, trial_high = _range(trial(z).nan_to_num(0, torch.inf, -torch.inf))
        low = min(low, trial_low)
        high = max(high, trial_high)
    return low, high


def auc(real_scores: Tensor, fake_scores: Tensor) -> float:
    """Returns the AUC of D's scores, see `two_sample.auc`; NaN if a score is not finite.

    Args:
        real_scores, fake_scores: `(n,)` and `(m,)`.
    """
    if not (real_scores.isfinite().all() and fake_scores.isfinite().all()):
        return float("nan")
    return two_sample.auc(real_scores, fake_scores)


def uniform_noise(n: int, statistics: SampleStatistics, bounded: bool, generator: torch.Generator) -> Tensor:
    """Draws uniform noise `(n, *shape)`: in [0, 1) for bounded data, else over the data's range at each position."""
    noise = torch.rand(n, *statistics.low.shape, generator=generator)
    if bounded:
        return noise
    return statistics.low + noise * (statistics.high - statistics.low)


def first_names(names: Sequence[str], number: int = 3) -> str:
    """Lists the first few of many names, and says how many more there are."""
    text = ", ".join(names[:number])
    if len(names) > number:
        text += f" and {len(names) - number} more"
    return text
