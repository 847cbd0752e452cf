"""What can be said of data and of an untrained generator before training: pure functions of tensors (S6, S8)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset, Samples, choose

LOOKED = 100_000  # samples looked at, at most
BATCH = 1_000  # of them at once

# What makes a warning; each is a judgement of ours, the number stands beside it.
REPEATED = 0.01  # this share of the samples came before
UNEVEN = 10  # the largest class has this many times the samples of the smallest
DIM = 0.5  # values that may reach 1 stay below this
STIFF = 0.05  # G varies with z by less than this share of how much the data vary
MARGIN = 0.02  # G's reach may fall short of the data's range by this share of it


@dataclass
class Check:
    """One check's result.

    Attributes:
        name: a word, also its picture's file name.
        title: what was looked at, in words.
        facts: what was found, in words, by a label each.
        numbers: the same for machines.
        warnings, failures: what is wrong and how to mend it, a sentence or two each.
    """

    name: str
    title: str
    facts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """`pass`, `warning` or `failure`."""
        return "failure" if self.failures else "warning" if self.warnings else "pass"


@dataclass(frozen=True)
class Survey:
    """Samples in numbers; what isn't finite counts in `broken` and nowhere else.

    Attributes:
        looked: how many samples these numbers are of.
        low, high: smallest and largest value at each position, `(*shape)`.
        mean: of all values.
        spread: standard deviation over the samples, averaged over the positions.
        broken: samples that hold NaN or infinity.
        constant: samples that are one and the same value all over.
        repeated: samples that came before.
        hashes: of the samples.
    """

    looked: int
    low: Tensor
    high: Tensor
    mean: float
    spread: float
    broken: int
    constant: int
    repeated: int
    hashes: set[int]

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return self.low.min().item(), self.high.max().item()

    @property
    def alike(self) -> bool:
        """Whether all samples are the same, or differ by rounding only."""
        return self.spread <= 1e-6 * max(map(abs, self.range))


def survey(part: Samples, seed: int) -> Survey:
    """Looks at all samples, or at `LOOKED` of them at random."""
    chosen = choose(part, LOOKED, make_generator(seed, "preflight/survey"))
    low, high = torch.full(part.shape, torch.inf), torch.full(part.shape, -torch.inf)
    sums, squares = torch.zeros(part.shape, dtype=torch.float64), torch.zeros(part.shape, dtype=torch.float64)
    origin, broken, constant, hashes = None, 0, 0, set[int]()
    for indices in chosen.split(BATCH):
        samples = part[indices]
        flat = samples.flatten(1)
        hashes.update(hash(row.tobytes()) for row in flat.numpy())
        whole = flat.isfinite().all(1)
        broken += int((~whole).sum())
        if not whole.any():
            continue
        samples, flat = samples[whole], flat[whole]
        constant += int((flat == flat[:, :1]).all(1).sum())
        low, high = torch.minimum(low, samples.amin(0)), torch.maximum(high, samples.amax(0))
        origin = samples[0].double() if origin is None else origin  # near the mean: no digits are lost
        sums += (samples.double() - origin).sum(0)
        squares += (samples.double() - origin).square().sum(0)
    n = max(1, len(chosen) - broken)
    spread = (squares / n - (sums / n).square()).clamp(min=0).sqrt().mean().item()
    mean = (sums / n + origin).mean().item() if origin is not None else float("nan")
    repeated = len(chosen) - len(hashes)
    return Survey(len(chosen), low, high, mean, spread, broken, constant, repeated, hashes)


def check_data(dataset: Dataset, train: Survey, batch_size: int, seed: int) -> Check:
    """Check 1: are these data that a GAN can be trained on?

    Args:
        train: the survey of `dataset.train`.
    """
    held = survey(dataset.heldout, seed)
    leaked = len(train.hashes & held.hashes)
    low, high = train.range
    of = f"{train.looked:,}" + f" of {len(dataset.train):,}" * (train.looked < len(dataset.train))
    size = " × ".join(map(str, dataset.shape))
    check = Check("data", "the data")
    check.facts = {
        "samples": f"{len(dataset.train):,} to train on, {len(dataset.heldout):,} held out; each has {size} values",
        "values": f"{low:.4g} to {high:.4g}, mean {train.mean:.3g}; they vary by {train.spread:.3g} "
        "(standard deviation over samples)",
        "flaws": f"{train.broken:,} with NaN or infinity, {train.repeated:,} that repeat another"
        + f", {train.constant:,} of a single colour" * (len(dataset.shape) == 3)
        + f"; {of} looked at",
        "held out": f"{leaked:,} of them are trained on as well",
    }
    check.numbers = {
        "samples": len(dataset.train),
        "heldout": len(dataset.heldout),
        "shape": list(dataset.shape),
        "looked_at": train.looked,
        "low": low,
        "high": high,
        "mean": train.mean,
        "spread": train.spread,
        "not_finite": train.broken + held.broken,
        "repeated": train.repeated,
        "constant": train.constant,
        "leaked": leaked,
    }
    if train.broken or held.broken:
        check.failures.append(
            f"{train.broken + held.broken:,} samples hold NaN or infinity: one in a batch makes every weight NaN."
            " Leave them out, or mend the file that they come from."
        )
    if train.broken < train.looked:
        _judge_values(check, dataset, train, leaked)
    if dataset.classes:
        _judge_classes(check, dataset)
    if len(dataset.train) < batch_size:
        check.warnings.append(
            f"One batch of {batch_size:,} holds each of the {len(dataset.train):,} samples more than once: G will"
            " learn them by heart. More data, or a smaller batch_size."
        )
    return check


def _judge_values(check: Check, dataset: Dataset, train: Survey, leaked: int) -> None:
    low, high = train.range
    if train.alike:
        check.failures.append(
            "All samples are the same: a GAN could learn one output only, and its variety can't be judged. Is the right"
            " file or folder named, is dataset.samples more than 1?"
        )
    elif train.repeated > REPEATED * train.looked:
        check.warnings.append(
            f"{train.repeated / train.looked:.0%} of the samples came before: G is drawn to what comes often. Leave the"
            " copies out, unless they are meant."
        )
    if dataset.bounded and (low < 0 or high > 1):
        check.failures.append(
            f"The values go from {low:.4g} to {high:.4g}, but have to lie between 0 and 1, where G's last sigmoid ends."
            " Rescale them: bytes, for example, are divided by 255."
        )
    elif dataset.bounded and high < DIM:
        check.warnings.append(f"No value is above {high:.4g}, where 1 is possible: have they been scaled down twice?")
    if len(dataset.shape) == 3 and train.constant:
        check.warnings.append(
            f"{train.constant:,} images are one colour all over: empty, or broken when they were read?"
        )
    if leaked > REPEATED * len(dataset.heldout):
        check.warnings.append(
            f"{leaked:,} held-out samples are trained on as well: copies can't be told from fresh data."
        )


def _judge_classes(check: Check, dataset: Dataset) -> None:
    counts = dataset.train.label_counts(len(dataset.classes))
    few, many = int(counts.min()), int(counts.max())
    check.facts["classes"] = f"{len(counts):,}, with {few:,} to {many:,} samples each"
    check.numbers |= {"classes": len(counts), "smallest_class": few, "largest_class": many}
    empty = [name for name, n in zip(dataset.classes, counts.tolist(), strict=True) if n == 0]
    if empty:
        some = ", ".join(empty[:5]) + ", …" * (len(empty) > 5)
        check.warnings.append(f"{len(empty):,} classes have no sample ({some}): G can't learn to make them.")
    elif many > UNEVEN * few:
        check.warnings.append(
            f"The largest class has {many / few:.0f} times as many samples as the smallest, which G may forget."
        )


def check_generator(generator: nn.Module, fake: Tensor, z: Tensor, dataset: Dataset, train: Survey, seed: int) -> Check:
    """Check 3: does the untrained G make output of the right form?

    Args:
        fake: its samples `(n, *shape)` for the latent vectors `z` `(n, latent_dim)`.
        train: the survey of `dataset.train`.
    """
    (low, high), (least, most) = _range(fake), train.range
    spread = fake.double().std(0, correction=0).mean().item()
    constant = bool((z == z[0]).all())
    check = Check("generator", "the untrained G")
    answer = ", ".join(f"{value:.2f}" for value in fake[0].flatten()[:8].tolist())
    check.facts = {
        "shape": f"{' × '.join(map(str, fake.shape[1:]))}, as the data's",
        "values": f"{low:.4g} to {high:.4g}" + f" over {len(fake):,} samples" * (not constant) + "; "
        f"the data's are {least:.4g} to {most:.4g}",
        "variety": f"the latent vector is always {z[0, 0]:.4g}, so the output is always the same"
        if constant
        else f"varies with z by {spread:.3g}, the data vary by {train.spread:.3g} (standard deviation over samples)",
    }
    if constant and fake[0].numel() <= 8:
        check.facts["answer"] = f"to {z[0, 0]:.4g}: {answer}"
    check.numbers = {"samples": len(fake), "low": low, "high": high, "spread": spread, "constant_latent": constant}
    if not fake.isfinite().all():
        check.failures.append("It makes NaN or infinity before any training. Look at the network's layers.")
        return check
    reach = _reach(generator, z[:BATCH], fake, seed)
    check.numbers |= {"reach_low": reach[0], "reach_high": reach[1]}
    short = MARGIN * (most - least)
    if dataset.bounded and (low < 0 or high > 1):
        check.failures.append(
            f"Its output goes from {low:.4g} to {high:.4g}, the data lie between 0 and 1: D could tell by the range"
            " alone. End G in a sigmoid (model.generator with bounded=true does)."
        )
    elif reach[0] > least + short or reach[1] < most - short:
        check.failures.append(
            f"It can't make values outside {reach[0]:.4g} to {reach[1]:.4g}, whatever its weights, but the data go from"
            f" {least:.4g} to {most:.4g}. End G without sigmoid or tanh, or rescale the data."
        )
    if not constant and spread == 0:
        check.failures.append(
            "It makes the same output for every z: it ignores its latent vector, a collapse at birth."
        )
    elif not constant and spread < STIFF * train.spread:
        check.warnings.append(
            "It hardly varies with z, which makes a collapse likely. A normalisation (norm=layer), a larger latent_dim"
            " or other activations (activation=leaky_relu) let z through."
        )
    return check


def _range(values: Tensor) -> tuple[float, float]:
    return values.min().item(), values.max().item()


@torch.no_grad()
def _reach(generator: nn.Module, z: Tensor, fake: Tensor, seed: int) -> tuple[float, float]:
    """Between which values a generator's outputs stay, whatever its weights: tried out with wild ones, on a copy."""
    copied, random = copy.deepcopy(generator).eval(), make_generator(seed, "preflight/reach")
    kept = [p.detach().clone() for p in copied.parameters()]
    outputs = [fake]
    for _ in range(8):
        for p, own in zip(copied.parameters(), kept, strict=True):
            p.copy_(own + 10 * torch.randn(p.shape, generator=random))
        outputs.append(copied(z).nan_to_num(0, torch.inf, -torch.inf))
    return min(map(_range, outputs))[0], max(high for _, high in map(_range, outputs))


def right_order(real: Tensor, fake: Tensor) -> float:
    """The share of pairs of a real score and a fake one in which the real one is higher (ties: half), in [0, 1].

    The area under the ROC curve, as Mann and Whitney count it; chance is 0.5. NaN gives NaN.
    """
    if not (real.isfinite().all() and fake.isfinite().all()):
        return float("nan")
    ranked = fake.sort().values
    below = sum(torch.searchsorted(ranked, real.contiguous(), right=right) for right in (False, True))
    return (below.double().mean() / 2 / len(fake)).item()  # type: ignore[union-attr]


def noise(n: int, train: Survey, bounded: bool, generator: torch.Generator) -> Tensor:
    """Uniform noise `(n, *shape)`: `torch.rand` for data in [0, 1], else over the data's range at each position."""
    drawn = torch.rand(n, *train.low.shape, generator=generator)
    return drawn if bounded else train.low + drawn * (train.high - train.low)


def joined(names: Sequence[str], most: int = 3) -> str:
    """A few of many names."""
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)
