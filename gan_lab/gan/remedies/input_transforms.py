"""What the discriminator is shown in the place of plain samples, real and fake alike.

A view takes samples `(…, B, *shape)`, the step, counted from 0, and a source of random numbers; gradients go through it
to the samples. `output_shape` is the shape of what it gives, for which D has to be built. Both of a batch's sides, and
in phase 3 G's fakes, go through the same view, each with draws of its own.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gan_lab.core.errors import LabError
from gan_lab.core.rng import StepRNG


def sample_axes(samples: Tensor) -> int:
    """How many of the last axes are a sample's: 1 in `(B, d)` and `(K, B, d)`, 3 in `(B, C, H, W)` and
    `(K, B, C, H, W)`."""
    return 1 if samples.ndim < 4 else 3


class InputTransform:
    """What the training step asks of a view.

    Attributes:
        order: views are applied in this order.
    """

    order = 0

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of what D is shown for samples of this shape.

        Raises:
            LabError: for samples that the view can't show.
        """
        return tuple(shape)

    def __call__(self, samples: Tensor, step: int, rng: StepRNG) -> Tensor:
        """What D is shown."""
        raise NotImplementedError


class InstanceNoise(InputTransform):
    """Normal noise on every number, whose standard deviation falls linearly from `std` to 0 over `steps` (Sønderby et
    al. 2017, arXiv:1610.04490; Arjovsky & Bottou 2017, arXiv:1701.04862): std · max(0, 1 − step/steps).

    Works on samples of any shape. Noisy images may leave [0, 1].

    Args:
        std: of the noise at step 0, in the data's units.
        steps: how long there is noise, > 0.
    """

    order = 1

    def __init__(self, std: float = 0.1, steps: int = 10_000):
        if std < 0 or steps <= 0:
            raise LabError(f"Instance noise of std={std} over steps={steps} makes no sense.", "std ≥ 0 and steps > 0.")
        self.std, self.steps = std, steps

    def __call__(self, samples: Tensor, step: int, rng: StepRNG) -> Tensor:
        std = self.std * max(0.0, 1 - step / self.steps)
        if std == 0:
            return samples
        return samples + std * rng.normal(samples.shape, samples.dtype)


class DiffAugment(InputTransform):
    """Random changes of images that gradients pass through (Zhao et al. 2020, arXiv:2006.10738), one draw per image:

    - `color`: brightness + U(−½, ½), saturation · U(0, 2) about each pixel's mean, contrast · U(½, 3/2) about the
      image's mean;
    - `translation`: by up to an eighth of the side, each way;
    - `cutout`: a square of half the side, which may stick out, is blanked.

    The paper's numbers are for pixels in [−1, 1], where 0, a medium grey, fills what is blank: images in [0, 1] are
    brought there and back, which may leave [0, 1]. Only for images `(…, B, C, H, W)`.

    Args:
        policy: which of them, in this order.
    """

    def __init__(self, policy: Sequence[str] = ("color", "translation", "cutout")):
        self.changes = {"color": self.color, "translation": self.translation, "cutout": self.cutout}
        if unknown := set(policy) - self.changes.keys():
            raise LabError(f"DiffAugment has no {', '.join(sorted(unknown))}.", f"It has {', '.join(self.changes)}.")
        self.policy = tuple(policy)

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if len(shape) != 3:
            raise LabError(
                f"DiffAugment changes images (C, H, W); this dataset's samples have the shape {tuple(shape)}.",
                "Use instance noise, or a dataset of images (mnist, fashion_mnist).",
            )
        return tuple(shape)

    def __call__(self, samples: Tensor, step: int, rng: StepRNG) -> Tensor:
        if samples.ndim < 4:
            raise LabError(f"DiffAugment changes images (…, B, C, H, W), not a tensor of shape {tuple(samples.shape)}.")
        images = samples.flatten(0, -4) * 2 - 1
        for name in self.policy:
            images = self.changes[name](images, samples.shape[:-3], rng)
        return ((images + 1) / 2).reshape(samples.shape)

    @staticmethod
    def color(images: Tensor, batch: Sequence[int], rng: StepRNG) -> Tensor:
        """Images `(N, C, H, W)` in [−1, 1] of other brightness, saturation and contrast."""
        drawn = rng.uniform((*batch, 3), images.dtype).view(-1, 3, 1, 1, 1)
        brightness, saturation, contrast = drawn.unbind(1)
        images = images + brightness - 0.5
        grey = images.mean(1, keepdim=True)
        images = grey + (images - grey) * (2 * saturation)
        grey = images.mean((1, 2, 3), keepdim=True)
        return grey + (images - grey) * (contrast + 0.5)

    @staticmethod
    def translation(images: Tensor, batch: Sequence[int], rng: StepRNG) -> Tensor:
        """Images `(N, C, H, W)` moved; 0 where they were not."""
        n, _, height, width = images.shape
        reach = [int(side / 8 + 0.5) for side in (height, width)]
        rows, columns = (
            torch.arange(side, device=images.device) + rng.integers(-most, most + 1, batch).view(n, 1)
            for side, most in zip((height, width), reach, strict=True)
        )  # where each pixel comes from, (n, height) and (n, width)
        inside = _within(rows, height)[:, :, None] & _within(columns, width)[:, None, :]
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        which = torch.arange(n, device=images.device)[:, None, None]
        moved = images.movedim(1, -1)[which, rows[:, :, None], columns[:, None, :]]  # (n, height, width, C)
        return (moved * inside[..., None]).movedim(-1, 1)

    @staticmethod
    def cutout(images: Tensor, batch: Sequence[int], rng: StepRNG) -> Tensor:
        """Images `(N, C, H, W)` with a rectangle of half their height and width set to 0."""
        n, _, height, width = images.shape
        blank = []
        for side in (height, width):
            size = int(side / 2 + 0.5)
            middle = rng.integers(0, side + (1 - size % 2), batch).view(n, 1)
            offset = torch.arange(side, device=images.device) - middle + size // 2
            blank.append(_within(offset, size))
        return images * ~(blank[0][:, None, :, None] & blank[1][:, None, None, :])


class Pack(InputTransform):
    """Shows D m samples at once, which makes a lack of variety visible (PacGAN, Lin et al. 2018, arXiv:1712.04086):
    `(…, B, C, H, W)` → `(…, B/m, m·C, H, W)`, `(…, B, d)` → `(…, B/m, m·d)`. Only D's input grows, so it is built for
    `output_shape`; it answers with B/m scores.

    Works on vectors and images. A batch that m doesn't divide is a LabError.

    Args:
        m: samples in a pack, ≥ 1; 2 to 4 in the paper.
    """

    order = 2

    def __init__(self, m: int = 2):
        if m < 1:
            raise LabError(f"A pack of m={m} samples makes no sense.", "Choose m=2, 3 or 4.")
        self.m = m

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (self.m * shape[0], *shape[1:])

    def __call__(self, samples: Tensor, step: int, rng: StepRNG) -> Tensor:
        axes = sample_axes(samples)
        batch = samples.shape[-axes - 1]
        if batch % self.m:
            raise LabError(
                f"A batch of {batch} samples can't be shown in packs of m={self.m}.",
                f"Choose a batch_size that {self.m} divides, such as {math.ceil(batch / self.m) * self.m}.",
            )
        packs = samples.unflatten(-axes - 1, (batch // self.m, self.m))
        return packs.flatten(-axes - 1, -axes)


def _within(places: Tensor, side: int) -> Tensor:
    return (places >= 0) & (places < side)
