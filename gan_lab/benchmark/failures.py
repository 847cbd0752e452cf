"""Fabricated failures: what a generator with one known failure of a known severity would make.

Each is a function `(real, severity, n, rng) -> samples (n, *shape)`, so that it is known what the verdict has to say.
`POINTS` and `IMAGES` list them with the severities of the trial (`gan_lab.benchmark.verdict`) and with the labels of
the verdict that have to notice them.
"""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

SMALL_NOISE = 0.05  # standard deviation of noise that hides a repeated or copied image from a test of equality
CIRCLE = 1.5  # σ: the radius of a mode that is a circle; a Gaussian's points have a mean distance of 1.25 σ
MAX_GAUSSIAN = 2_000  # training images whose mean and covariance Gaussian images have
BLOB = 0.2  # of the image's side: the standard deviation of the blur that makes blobs of noise


@dataclass(frozen=True)
class RealSamples:
    """Real samples that failures are made of.

    Attributes:
        train: what a GAN would have been trained on, `(m, *shape)` float32.
        train_labels: `(m,)` int64; zeros for data without labels.
        fresh: real samples that neither the GAN nor the verdict's reference contains, `(f, *shape)`.
        fresh_labels: `(f,)` int64.
        classes: number of classes; 1 for data without labels.
        centres: `(M, 2)`, the modes of Gaussians in the plane; None for images.
        std: their standard deviation along each axis.
    """

    train: Tensor
    train_labels: Tensor
    fresh: Tensor
    fresh_labels: Tensor
    classes: int = 1
    centres: Tensor | None = None
    std: float = 0.0


Make = Callable[[RealSamples, float, int, torch.Generator], Tensor]


@dataclass(frozen=True)
class Failure:
    """A failure, and how it is tried.

    Attributes:
        make: makes the samples.
        severities: in the order from harmless to grave.
        axis: what the severity is, for tables and charts.
        noticed_by: the labels of the verdict of which one has to notice it; empty if the verdict should stay as good
            as that of real data.
        repeats: whether the samples may be more than the fresh ones, as a generator that repeats itself makes them.
        needs_classes: whether it is made of the samples of single classes.
        removes_modes: whether the severity is a number of modes that are left out, of which data must have more.
    """

    make: Make
    severities: tuple[float, ...]
    axis: str
    noticed_by: tuple[str, ...]
    repeats: bool = False
    needs_classes: bool = False
    removes_modes: bool = False

    def text(self, severity: float) -> str:
        """Returns a severity as text, shares in percent."""
        return f"{100 * severity:.0f} %" if self.axis.startswith("share") else f"{severity:g}"


def take(samples: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """Returns n samples in random order: different ones, or of too few each as often as the others (±1)."""
    rounds = math.ceil(n / len(samples))
    orders = [torch.randperm(len(samples), generator=rng) for _ in range(rounds)]
    return samples[torch.cat(orders)[:n]]


def mix(good: Tensor, bad: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Replaces a share of samples `(n, *shape)`, at random places, by others `(m, *shape)`."""
    number = round(share * len(good))
    mixed = good.clone()
    if number:
        places = torch.randperm(len(good), generator=rng)[:number]
        mixed[places] = take(bad, number, rng)
    return mixed


def fresh(real: RealSamples, severity: float, n: int, rng: torch.Generator) -> Tensor:
    """Returns fresh real samples: no failure."""
    return take(real.fresh, n, rng)


# Collapse within the modes -------------------------------------------------------------------------------------------


def one_sample(real: RealSamples, severity: float, n: int, rng: torch.Generator) -> Tensor:
    """Repeats one real sample."""
    return take(take(real.fresh, 1, rng), n, rng)


def few_samples(real: RealSamples, number: float, n: int, rng: torch.Generator) -> Tensor:
    """Repeats a fixed number of real samples."""
    return take(take(real.fresh, int(number), rng), n, rng)


def few_samples_with_noise(real: RealSamples, number: float, n: int, rng: torch.Generator) -> Tensor:
    """Repeats a fixed number of real samples, with a little noise."""
    return noisy(few_samples(real, number, n, rng), SMALL_NOISE, rng)


def few_per_class(real: RealSamples, number: float, n: int, rng: torch.Generator) -> Tensor:
    """Repeats a fixed number of real samples of each class."""
    kept = [take(samples, min(int(number), len(samples)), rng) for samples in samples_by_class(real)]
    return take(torch.cat(kept), n, rng)


def class_means(real: RealSamples, severity: float, n: int, rng: torch.Generator) -> Tensor:
    """Repeats the mean of each class's training samples."""
    return take(means_of_classes(real), n, rng)


def medoids(real: RealSamples, severity: float, n: int, rng: torch.Generator) -> Tensor:
    """Repeats the most typical fresh sample of each class, that with the smallest mean distance to the others."""
    typical = []
    for samples in samples_by_class(real):
        flat = samples.flatten(1)
        typical.append(samples[torch.cdist(flat, flat).sum(1).argmin()])
    return take(torch.stack(typical), n, rng)


def reduced_spread(real: RealSamples, severity: float, n: int, rng: torch.Generator) -> Tensor:
    """Pulls every sample towards the mean of its class: 0 leaves it, 1 gives the mean."""
    indices = take(torch.arange(len(real.fresh)), n, rng)
    means = means_of_classes(real)[real.fresh_labels[indices]]
    return torch.lerp(real.fresh[indices], means, severity)


def part_of_each_class(real: RealSamples, lost: float, n: int, rng: torch.Generator) -> Tensor:
    """Leaves out a share of each class: the samples on one side along its first principal component."""
    kept = []
    for samples in samples_by_class(real):
        centred = samples.flatten(1) - samples.flatten(1).mean(0)
        components = torch.linalg.svd(centred, full_matrices=False).Vh
        order = (centred @ components[0]).argsort()
        kept.append(samples[order[: max(1, round((1 - lost) * len(order)))]])
    samples = torch.cat(kept)
    return take(samples, min(n, len(samples)), rng)


# Missing and rare modes ----------------------------------------------------------------------------------------------


def missing_classes(real: RealSamples, number: float, n: int, rng: torch.Generator) -> Tensor:
    """Leaves out the first classes."""
    kept = real.fresh[real.fresh_labels >= number]
    return take(kept, min(n, len(kept)), rng)


def frequent_class(real: RealSamples, factor: float, n: int, rng: torch.Generator) -> Tensor:
    """Makes the first class several times as often as the data have it, compared with the others; it repeats itself."""
    is_first = real.fresh_labels == 0
    first = real.fresh[is_first]
    others = real.fresh[~is_first]
    number = round(n * factor * len(first) / (factor * len(first) + len(others)))
    samples = torch.cat([take(first, number, rng), take(others, n - number, rng)])
    return take(samples, n, rng)


def rare_class(real: RealSamples, lost: float, n: int, rng: torch.Generator) -> Tensor:
    """Leaves out a share of the first class."""
    is_kept = torch.rand(len(real.fresh), generator=rng) >= lost
    kept = real.fresh[is_kept | (real.fresh_labels != 0)]
    return take(kept, min(n, len(kept)), rng)


def few_modes_with_noise(real: RealSamples, noise: float, n: int, rng: torch.Generator) -> Tensor:
    """Makes three tenths of the modes only, with noise that lets a classifier read others into the images."""
    made = take(real.fresh[real.fresh_labels < 0.3 * real.classes], n, rng)
    return noisy(made, noise, rng)


# Images that are none ------------------------------------------------------------------------------------------------


def uniform_noise(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the images by uniform noise."""
    good = fresh(real, 0, n, rng)
    return mix(good, torch.rand(good.shape, generator=rng), share, rng)


def shuffled_pixels(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the images by others whose pixels are in random order, one order for each image."""
    good = fresh(real, 0, n, rng)
    order = torch.rand(good.flatten(1).shape, generator=rng).argsort(1)
    return mix(good, good.flatten(1).gather(1, order).view_as(good), share, rng)


def independent_pixels(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the images by others whose every pixel is from another training image: junk."""
    good = fresh(real, 0, n, rng)
    pixels = real.train.flatten(1)
    sources = torch.randint(len(pixels), (n, pixels.shape[1]), generator=rng)
    return mix(good, pixels.gather(0, sources).view_as(good), share, rng)


def gaussian_images(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the images by Gaussian ones that have the mean and covariance of the training images."""
    good = fresh(real, 0, n, rng)
    pixels = take(real.train, min(MAX_GAUSSIAN, len(real.train)), rng).flatten(1)
    mean = pixels.mean(0)
    # A random combination of m centred images, with weights of variance 1 / m, has their covariance.
    weights = torch.randn(n, len(pixels), generator=rng) / math.sqrt(len(pixels))
    images = mean + weights @ (pixels - mean)
    return mix(good, images.clamp(0, 1).view_as(good), share, rng)


def blobs(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the images by coloured blobs: blurred noise that has each colour's mean and deviation."""
    good = fresh(real, 0, n, rng)
    noise = blur(torch.randn(good.shape, generator=rng), BLOB * good.shape[-1])
    noise = noise / noise.std((0, 2, 3), keepdim=True)
    mean = real.train.mean((0, 2, 3), keepdim=True)
    std = real.train.std((0, 2, 3), keepdim=True)
    return mix(good, (mean + std * noise).clamp(0, 1), share, rng)


# Images of another kind, or of less quality --------------------------------------------------------------------------


def added_noise(real: RealSamples, std: float, n: int, rng: torch.Generator) -> Tensor:
    """Adds Gaussian noise to every image."""
    return noisy(fresh(real, 0, n, rng), std, rng)


def blurred(real: RealSamples, std: float, n: int, rng: torch.Generator) -> Tensor:
    """Blurs every image; `std` is in pixels."""
    return blur(fresh(real, 0, n, rng), std)


def fewer_levels(real: RealSamples, levels: float, n: int, rng: torch.Generator) -> Tensor:
    """Rounds every colour to a few levels."""
    steps = levels - 1
    return (fresh(real, 0, n, rng) * steps).round() / steps


def jpeg(real: RealSamples, quality: float, n: int, rng: torch.Generator) -> Tensor:
    """Compresses every image by JPEG; the quality is in percent."""
    compressed = []
    for image in (fresh(real, 0, n, rng) * 255).round().to(torch.uint8):
        buffer = io.BytesIO()
        # Of one channel (H, W), of three (H, W, 3).
        pixels = image.movedim(0, -1).squeeze(-1).numpy()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=int(quality))
        compressed.append(np.asarray(Image.open(buffer)))
    images = torch.from_numpy(np.stack(compressed)).float() / 255
    return images.view(n, *images.shape[1:3], -1).movedim(-1, 1).contiguous()


def less_contrast(real: RealSamples, lost: float, n: int, rng: torch.Generator) -> Tensor:
    """Scales every image towards black."""
    return fresh(real, 0, n, rng) * (1 - lost)


def checkerboard(real: RealSamples, amplitude: float, n: int, rng: torch.Generator) -> Tensor:
    """Adds the pattern that transposed convolutions leave: every other pixel brighter, the rest darker."""
    images = fresh(real, 0, n, rng)
    height, width = images.shape[-2:]
    is_odd = (torch.arange(height)[:, None] + torch.arange(width)) % 2
    return (images + amplitude * (2 * is_odd - 1)).clamp(0, 1)


def between_two(real: RealSamples, weight: float, n: int, rng: torch.Generator) -> Tensor:
    """Mixes pairs of real images, as between two modes: `weight` is the share of the second."""
    return torch.lerp(fresh(real, 0, n, rng), fresh(real, 0, n, rng), weight)


def two_halves(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the images by the left half of one and the right half of another."""
    left = fresh(real, 0, n, rng)
    right = fresh(real, 0, n, rng)
    middle = left.shape[-1] // 2
    return mix(left, torch.cat([left[..., :middle], right[..., middle:]], -1), share, rng)


def mirrored(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the images by mirror images."""
    images = fresh(real, 0, n, rng)
    return mix(images, images.flip(-1), share, rng)


def rotated(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the images by images rotated by 90 degrees."""
    images = fresh(real, 0, n, rng)
    return mix(images, images.rot90(1, (-2, -1)), share, rng)


def inverted(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the images by negatives."""
    images = fresh(real, 0, n, rng)
    return mix(images, 1 - images, share, rng)


def not_finite(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the samples by NaN."""
    good = fresh(real, 0, n, rng)
    return mix(good, torch.full_like(good[:1], torch.nan), share, rng)


# Copies --------------------------------------------------------------------------------------------------------------


def copies(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the samples by training samples."""
    return mix(fresh(real, 0, n, rng), real.train, share, rng)


def noisy_copies(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the images by training images with a little noise."""
    originals = take(real.train, n, rng)
    return mix(fresh(real, 0, n, rng), noisy(originals, SMALL_NOISE, rng), share, rng)


def shifted_copies(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the images by training images shifted to the left by one pixel."""
    originals = take(real.train, n, rng)
    shifted = F.pad(originals[..., 1:], (0, 1))
    return mix(fresh(real, 0, n, rng), shifted, share, rng)


# Points of Gaussians in the plane ------------------------------------------------------------------------------------


def narrower(real: RealSamples, lost: float, n: int, rng: torch.Generator) -> Tensor:
    """Draws every mode with a smaller standard deviation: 1 gives the centres."""
    return draw_points(real, n, rng, (1 - lost, 1 - lost))


def wider(real: RealSamples, factor: float, n: int, rng: torch.Generator) -> Tensor:
    """Draws every mode with a larger standard deviation."""
    return draw_points(real, n, rng, (factor, factor))


def lines(real: RealSamples, lost: float, n: int, rng: torch.Generator) -> Tensor:
    """Draws every mode with a smaller standard deviation along y only: 1 gives lines."""
    return draw_points(real, n, rng, (1, 1 - lost))


def narrow_with_tails(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Draws every mode with 0.8 σ, and a share of the points with 6 σ: their share within 3 σ hardly changes."""
    return mix(draw_points(real, n, rng, (0.8, 0.8)), draw_points(real, n, rng, (6, 6)), share, rng)


def circles(real: RealSamples, severity: float, n: int, rng: torch.Generator) -> Tensor:
    """Draws every mode as a circle instead of a disc."""
    angle = 2 * math.pi * torch.rand(n, generator=rng)
    radius = CIRCLE * real.std
    return draw_points(real, n, rng, (0, 0)) + radius * torch.stack([angle.cos(), angle.sin()], 1)


def shifted(real: RealSamples, sigmas: float, n: int, rng: torch.Generator) -> Tensor:
    """Moves every mode along x."""
    return draw_points(real, n, rng) + torch.tensor([sigmas * real.std, 0])


def uniform_points(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the points by uniform ones in the square around the data: junk."""
    return mix(draw_points(real, n, rng), uniform_square(real, n, rng), share, rng)


def three_at_each_centre(real: RealSamples, severity: float, n: int, rng: torch.Generator) -> Tensor:
    """Draws uniform points in the square around the data, and three points at each centre."""
    points = uniform_square(real, n, rng)
    at_centres = centres_of(real).repeat(3, 1)
    points[: len(at_centres)] = at_centres
    return points


def missing_modes(real: RealSamples, number: float, n: int, rng: torch.Generator) -> Tensor:
    """Leaves out the first modes."""
    return draw_points(real, n, rng, first_mode=int(number))


def frequent_mode(real: RealSamples, factor: float, n: int, rng: torch.Generator) -> Tensor:
    """Makes the first mode several times as often as each of the others."""
    modes = len(centres_of(real))
    extra = (factor - 1) / (factor - 1 + modes)
    return mix(draw_points(real, n, rng), draw_points(real, n, rng, last_mode=1), extra, rng)


def bridges(real: RealSamples, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Replaces a share of the points by points on the lines between two centres, as a continuous G makes them."""
    ends = [draw_points(real, n, rng, (0, 0)) for _ in range(2)]
    on_lines = torch.lerp(ends[0], ends[1], torch.rand(n, 1, generator=rng))
    return mix(draw_points(real, n, rng), on_lines, share, rng)


# What the failures are made with -------------------------------------------------------------------------------------


def samples_by_class(real: RealSamples) -> list[Tensor]:
    """Returns the fresh samples of each class that has some."""
    return [real.fresh[real.fresh_labels == label] for label in real.fresh_labels.unique()]


def means_of_classes(real: RealSamples) -> Tensor:
    """Returns the mean training sample of each class, `(classes, *shape)`."""
    return torch.stack([real.train[real.train_labels == label].mean(0) for label in range(real.classes)])


def noisy(images: Tensor, std: float, rng: torch.Generator) -> Tensor:
    """Adds Gaussian noise to images in [0, 1], which stay there."""
    return (images + std * torch.randn(images.shape, generator=rng)).clamp(0, 1)


def blur(images: Tensor, std: float) -> Tensor:
    """Blurs images `(n, C, H, W)` with a Gaussian; `std` is in pixels."""
    half = max(1, int(3 * std))
    line = torch.exp(-0.5 * (torch.arange(-half, half + 1) / std) ** 2)
    line = line / line.sum()
    channels = images.shape[1]
    kernel = line.expand(channels, 1, 1, -1)
    rows = F.conv2d(F.pad(images, (half, half, 0, 0), mode="replicate"), kernel, groups=channels)
    return F.conv2d(F.pad(rows, (0, 0, half, half), mode="replicate"), kernel.mT, groups=channels)


def centres_of(real: RealSamples) -> Tensor:
    """Returns the centres `(M, 2)` of points' modes."""
    assert real.centres is not None
    return real.centres


def draw_points(
    real: RealSamples,
    n: int,
    rng: torch.Generator,
    scale: tuple[float, float] = (1, 1),
    first_mode: int = 0,
    last_mode: int | None = None,
) -> Tensor:
    """Draws points of the mixture, `(n, 2)`.

    Args:
        real: gives centres and standard deviation.
        n: number of points.
        rng: of modes and points.
        scale: factors of the standard deviation along x and y.
        first_mode: the first mode that is drawn.
        last_mode: the mode behind the last one; None for all.
    """
    centres = centres_of(real)[first_mode:last_mode]
    modes = torch.randint(len(centres), (n,), generator=rng)
    return centres[modes] + real.std * torch.tensor(scale) * torch.randn(n, 2, generator=rng)


def uniform_square(real: RealSamples, n: int, rng: torch.Generator) -> Tensor:
    """Draws points uniformly in the square that holds all modes up to 3 σ, `(n, 2)`."""
    half = centres_of(real).abs().max() + 3 * real.std
    return (2 * torch.rand(n, 2, generator=rng) - 1) * half


WITHIN = ("within_modes",)
# A sample that is not like the data may also be found to be of no mode.
UNLIKE = ("likeness", "collapse")
MODES = ("collapse",)
COPIES = ("copies",)
SHARES = (0.1, 0.25, 0.5, 1.0)
COPY_SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)

IMAGES: Mapping[str, Failure] = {
    "one image": Failure(one_sample, (1,), "–", ("within_modes", "collapse"), repeats=True),
    "few images": Failure(few_samples, (100, 30, 10), "different images", WITHIN, repeats=True),
    "few images, noise 0.05": Failure(few_samples_with_noise, (100, 30), "different images", WITHIN, repeats=True),
    "few images of each class": Failure(
        few_per_class, (20, 10, 5, 2, 1), "different images of a class", WITHIN, repeats=True, needs_classes=True
    ),
    "class means": Failure(class_means, (1,), "–", WITHIN, repeats=True, needs_classes=True),
    "medoids": Failure(medoids, (1,), "–", WITHIN, repeats=True, needs_classes=True),
    "less spread": Failure(reduced_spread, (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0), "share of the spread lost", WITHIN),
    "part of each class missing": Failure(
        part_of_each_class, (0.1, 0.25, 0.5, 0.75, 0.9), "share of each class lost", WITHIN
    ),
    "missing classes": Failure(
        missing_classes, (1, 2, 5, 9, 30, 100, 300), "classes missing", MODES, needs_classes=True, removes_modes=True
    ),
    "one class too often": Failure(frequent_class, (2, 3, 5, 10), "times too often", MODES, needs_classes=True),
    "one class too rare": Failure(
        rare_class, (0.3, 0.5, 0.7, 0.9), "share of the class lost", MODES, needs_classes=True
    ),
    "three tenths of the modes": Failure(
        few_modes_with_noise, (0.0, 0.1, 0.2), "noise added", MODES, repeats=True, needs_classes=True
    ),
    "uniform noise": Failure(uniform_noise, SHARES, "share of junk", UNLIKE),
    "shuffled pixels": Failure(shuffled_pixels, SHARES, "share of junk", UNLIKE),
    "independent pixels": Failure(independent_pixels, (0.02, 0.05, 0.1, 0.25, 0.5, 0.9, 1.0), "share of junk", UNLIKE),
    "Gaussian images": Failure(gaussian_images, SHARES, "share of junk", UNLIKE),
    "blobs": Failure(blobs, SHARES, "share of junk", UNLIKE),
    "added noise": Failure(added_noise, (0.02, 0.05, 0.1, 0.2, 0.3, 0.5), "standard deviation", UNLIKE),
    "blur": Failure(blurred, (0.3, 0.5, 0.7, 1.0, 2.0), "standard deviation, pixels", UNLIKE),
    "few grey levels": Failure(fewer_levels, (9, 5, 3, 2), "levels", UNLIKE),
    "JPEG": Failure(jpeg, (90, 50, 20, 5), "quality", UNLIKE),
    "less contrast": Failure(less_contrast, (0.1, 0.3, 0.5), "share of the contrast lost", UNLIKE),
    "checkerboard": Failure(checkerboard, (0.02, 0.05, 0.1, 0.2), "amplitude", UNLIKE),
    "mixtures of two images": Failure(between_two, (0.1, 0.2, 0.35, 0.5), "weight of the second", UNLIKE),
    "halves of two images": Failure(two_halves, SHARES, "share of such images", UNLIKE),
    "mirror images": Failure(mirrored, SHARES, "share of such images", UNLIKE),
    "rotated images": Failure(rotated, SHARES, "share of such images", UNLIKE),
    "negatives": Failure(inverted, SHARES, "share of such images", UNLIKE),
    "NaN samples": Failure(not_finite, (0.02, 0.1, 0.5, 1.0), "share of NaN", UNLIKE),
    "copies": Failure(copies, COPY_SHARES, "share of copies", COPIES),
    "copies, noise 0.05": Failure(noisy_copies, (0.05, 0.1, 0.25, 0.5, 1.0), "share of copies", COPIES),
    "copies, shifted": Failure(shifted_copies, (0.25, 0.5, 1.0), "share of copies", COPIES),
}
POINTS: Mapping[str, Failure] = {
    "narrower modes": Failure(narrower, (0.05, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0), "share of σ lost", WITHIN),
    "wider modes": Failure(wider, (1.1, 1.2, 1.5, 2.0, 3.0), "times σ", UNLIKE),
    "lines": Failure(lines, (0.1, 0.25, 0.5, 0.9, 1.0), "share of σ along y lost", WITHIN),
    "circles": Failure(circles, (1,), "–", ("within_modes", "likeness")),
    "narrow, with tails": Failure(narrow_with_tails, (0.01, 0.02, 0.05, 0.1), "share in the tails", WITHIN + UNLIKE),
    "shifted modes": Failure(shifted, (0.1, 0.3, 1.0, 2.0, 3.0), "σ", UNLIKE),
    "uniform points": Failure(uniform_points, (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.99), "share of junk", UNLIKE),
    "three at each centre": Failure(three_at_each_centre, (1,), "–", UNLIKE),
    "missing modes": Failure(missing_modes, (1, 2, 4, 7, 12, 20), "modes missing", MODES, removes_modes=True),
    "one mode too often": Failure(frequent_mode, (2, 3, 5, 10, 30), "times too often", MODES),
    "bridges": Failure(bridges, (0.02, 0.05, 0.1, 0.25, 0.5), "share between modes", UNLIKE),
    "few points": Failure(few_samples, (1000, 300, 100, 30), "different points", WITHIN, repeats=True),
    "NaN samples": Failure(not_finite, (0.02, 0.1, 0.5, 1.0), "share of NaN", UNLIKE),
    "copies": Failure(copies, COPY_SHARES, "share of copies", COPIES),
}
