"""A classifier two-sample test: can anything that looks at samples tell generated ones from real ones?"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gan_lab.core.rng import make_generator
from gan_lab.evaluation.metrics.registry import Undefined

RIDGE = 0.01
NOISE = 0.1  # added to images in [0, 1]: what it hides, such as the number of grey levels, no one sees either
MIN_SAMPLES = 20  # of each kind, in each half
BLOCK = 256  # samples whose features are float64 at the same time
MAX_SIDE = 32  # pixels: what a glance at a grid of images shows


def two_sample_auc(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Computes how well a linear classifier tells real samples from fakes that it has not seen.

    Lopez-Paz & Oquab 2017 (arXiv:1610.06545), with Fisher's linear discriminant: it learns on one half of the samples
    and is asked about the other. It needs no training that may go well or badly, takes a tenth of a network's time, and
    finds at least as much on these features. Pitfall: it finds whatever differs; the features decide what that may be.

    Args:
        train: features of real samples and of as many fakes, each `(n, d)`, to learn on.
        test: features of other real samples `(h, d)` and of other fakes `(m, d)`.

    Returns:
        The area under the ROC curve, 0.5 for samples that cannot be told apart and 1 for samples that always can; and
        its standard error (Hanley & McNeil 1982).

    Raises:
        Undefined: if there are fewer than `MIN_SAMPLES` of one kind in one half.
    """
    if min(len(features) for features in (*train, *test)) < MIN_SAMPLES:
        raise Undefined(f"{2 * MIN_SAMPLES} samples and {MIN_SAMPLES} held-out ones are needed")
    real, fake = train
    number = len(real) + len(fake)
    mean = (real.sum(0, dtype=torch.float64) + fake.sum(0, dtype=torch.float64)) / number
    real_products, real_sum = _centred_products(real, mean)
    fake_products, fake_sum = _centred_products(fake, mean)
    products = real_products + fake_products
    std = (products.diagonal() / (number - 1)).sqrt() + 1e-6
    # Ridge regression of the targets 1 (real) and −1 (fake) on standardised features.
    ridge = RIDGE * number * torch.eye(len(mean), dtype=torch.float64)
    weights = torch.linalg.solve(products / torch.outer(std, std) + ridge, (real_sum - fake_sum) / std)
    real_scores, fake_scores = (_projections(features, weights / std) for features in test)
    value = auc(real_scores, fake_scores)
    return value, auc_error(value, len(real_scores), len(fake_scores))


def _centred_products(features: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the sums of (x − mean)(x − mean)ᵀ, `(d, d)`, and of x − mean, `(d,)`, over features `(n, d)`."""
    products = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    total = torch.zeros(len(mean), dtype=torch.float64)
    for block in features.split(BLOCK):
        centred = block.double() - mean
        products += centred.T @ centred
        total += centred.sum(0)
    return products, total


def _projections(features: Tensor, direction: Tensor) -> Tensor:
    """Returns the products of features `(n, d)` with a direction `(d,)`, `(n,)` float64."""
    return torch.cat([block.double() @ direction for block in features.split(BLOCK)])


def auc(high: Tensor, low: Tensor) -> float:
    """Returns the probability that a value of `high` `(n,)` exceeds one of `low` `(m,)`; equal values count half."""
    ranked = low.sort().values
    high = high.contiguous()
    smaller = torch.searchsorted(ranked, high, right=False).double()
    smaller_or_equal = torch.searchsorted(ranked, high, right=True).double()
    return ((smaller + smaller_or_equal) / 2).mean().item() / len(low)


def auc_error(value: float, n: int, m: int) -> float:
    """Returns the standard error of an area under the ROC curve of n and m scores (Hanley & McNeil 1982)."""
    both_high = value / (2 - value)
    both_low = 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (n - 1) * (both_high - value**2) + (m - 1) * (both_low - value**2)
    return math.sqrt(max(0.0, variance) / (n * m))


class GlanceFeatures:
    """Features of images for the two-sample test: what someone sees who looks at a grid of small images.

    Images are shrunk to a side of at most `MAX_SIDE`, and get Gaussian noise of `NOISE`. Then come the responses of a
    random network; absolute, squared and fourth powers of the differences of neighbouring pixels, and mean, standard
    deviation, third and fourth moments of the pixels, on three scales; principal components and their squares.

    Args:
        network: features of small images `(n, C, h, w)`.
        components: principal components of images of full size.
        seed: of the noise; each call of an object continues its stream.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], components: Callable[[Tensor], Tensor], seed: int = 0):
        self.network = network
        self.components = components
        self.rng = make_generator(seed, "metrics/two_sample")

    def __call__(self, images: Tensor) -> Tensor:
        """Returns features `(n, F)` of images `(n, C, H, W)` in [0, 1]."""
        noisy = images + NOISE * torch.randn(images.shape, generator=self.rng)
        small = shrink(noisy)
        features = [self.network(small)]
        for _ in range(3):
            if min(small.shape[-2:]) < 4:
                break
            features += [_difference_moments(small.diff(dim=-1)), _difference_moments(small.diff(dim=-2))]
            features.append(_pixel_moments(small.flatten(1)))
            small = F.avg_pool2d(small, 2)
        components = self.components(noisy)
        return torch.cat([*features, components, components.square()], 1)


class PointFeatures:
    """Features of points for the two-sample test: values, their squares, and kinks along random directions.

    Args:
        train: training points `(m, d)`: the unit of each coordinate is their standard deviation.
        directions: how many.
    """

    def __init__(self, train: Tensor, directions: int = 64):
        self.mean = train.mean(0)
        self.std = train.std(0) + 1e-9
        self.rng = make_generator(0, "metrics/two_sample")
        self.weights = torch.randn(train.shape[1], directions, generator=self.rng)
        self.biases = torch.randn(directions, generator=self.rng)

    def __call__(self, points: Tensor) -> Tensor:
        """Returns features `(n, F)` of points `(n, d)`."""
        values = (points.flatten(1) - self.mean) / self.std
        values = values + NOISE * torch.randn(values.shape, generator=self.rng)
        return torch.cat([values, values.square(), (values @ self.weights + self.biases).relu()], 1)


def shrink(images: Tensor) -> Tensor:
    """Halves images `(n, C, H, W)` until no side exceeds `MAX_SIDE`."""
    while max(images.shape[-2:]) > MAX_SIDE and min(images.shape[-2:]) > 1:
        images = F.avg_pool2d(images, 2)
    return images


def _difference_moments(differences: Tensor) -> Tensor:
    """Returns the means of absolute, squared and fourth powers of each image's differences, `(n, 3)`."""
    flat = differences.flatten(1)
    squares = flat.square()
    return torch.stack([flat.abs().mean(1), squares.mean(1), squares.square().mean(1)], 1)


def _pixel_moments(values: Tensor) -> Tensor:
    """Returns mean, standard deviation, third and fourth moment of each image's values `(n, d)`, `(n, 4)`."""
    mean = values.mean(1)
    deviation = (values - mean[:, None]).square().mean(1).sqrt()
    return torch.stack([mean, deviation, (values**3).mean(1), (values**4).mean(1)], 1)
