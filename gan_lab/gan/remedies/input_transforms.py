"""Input transforms: changes of the samples that the discriminator sees, real ones and fakes alike.

An input transform takes samples `(…, B, *shape)`, the step (counted from 0) and random numbers. Gradients pass through
it to the samples. D is built for the shape of its result, `output_shape`. Real samples and fakes, and in phase 3 G's
fakes, pass the same transform with different random numbers.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gan_lab.core.declare import declares
from gan_lab.core.errors import LabError
from gan_lab.core.rng import StepRNG


def sample_ndim(samples: Tensor) -> int:
    """Returns how many of the last axes belong to one sample.

    1 for vectors, `(B, d)` or `(K, B, d)`; 3 for images, `(B, C, H, W)` or `(K, B, C, H, W)`.
    """
    return 1 if samples.ndim < 4 else 3


class InputTransform:
    """Base of input transforms.

    Attributes:
        order: transforms with a smaller number are applied first.
        random: whether it draws random numbers, so that the same samples give another result each time.
    """

    order = 0
    random = True

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape of D's input for samples of the given shape.

        Raises:
            LabError: if the transform can't be applied to samples of this shape.
        """
        return tuple(shape)

    def __call__(self, samples: Tensor, step: int, rng: StepRNG) -> Tensor:
        """Returns D's input for samples `(…, B, *shape)`."""
        raise NotImplementedError


@declares(
    settings={
        "std": {"type": "float", "low": 0, "help": "standard deviation at the first step"},
        "steps": {"type": "int", "low": 1, "high": 1_000_000_000, "help": "steps until there is no noise"},
    },
    weak={"std": 0.03},
    strong={"std": 0.3},
)
class InstanceNoise(InputTransform):
    """Adds normal noise whose standard deviation falls linearly to 0: std · max(0, 1 − step/steps).

    From Sønderby et al. 2017 (arXiv:1610.04490) and Arjovsky & Bottou 2017 (arXiv:1701.04862). Samples can have any
    shape. Images with noise may leave [0, 1].

    Args:
        std: of the noise at step 0, in units of the data; ≥ 0.
        steps: number of steps until there is no noise, > 0.

    Raises:
        LabError: if a value is out of bounds.
    """

    order = 1

    def __init__(self, std: float = 0.1, steps: int = 10_000):
        if std < 0 or steps <= 0:
            raise LabError(
                f"Instance noise can't fall from std={std} to 0 over steps={steps}.",
                "Choose std ≥ 0 and steps > 0.",
                code="invalid",
                key="remedy.instance_noise",
            )
        self.std = std
        self.steps = steps

    def __call__(self, samples: Tensor, step: int, rng: StepRNG) -> Tensor:
        std = self.std * max(0.0, 1 - step / self.steps)
        if std == 0:
            return samples
        return samples + std * rng.normal(samples.shape, samples.dtype)


@declares(
    settings={
        "policy": {
            "type": "list",
            "entries": "str",
            "among": ("color", "translation", "cutout"),
            "help": "the augmentations",
        },
    },
    weak={"policy": ["translation"]},
)
class DiffAugment(InputTransform):
    """Changes images at random, differentiably (Zhao et al. 2020, arXiv:2006.10738). Each image has its own changes.

    - `color`: adds U(−½, ½) to the brightness, multiplies the saturation (differences from each pixel's mean) by
      U(0, 2), and the contrast (differences from the image's mean) by U(½, 3/2).
    - `translation`: moves the image by up to an eighth of its side in both directions.
    - `cutout`: blanks a rectangle with half the height and width of the image, which may extend beyond its edges.

    The paper's numbers are for pixels in [−1, 1], where blank pixels are 0, a medium grey. Images in [0, 1] are
    converted to that range and back; the result may leave [0, 1]. Only for images `(…, B, C, H, W)`.

    Args:
        policy: names of the changes, in the order in which they are applied.

    Raises:
        LabError: for a name that is not one of these.
    """

    def __init__(self, policy: Sequence[str] = ("color", "translation", "cutout")):
        self.changes = {"color": self.color, "translation": self.translation, "cutout": self.cutout}
        unknown = sorted(set(policy) - self.changes.keys())
        if unknown:
            raise LabError(
                f"DiffAugment has no {', '.join(unknown)}.",
                f"Choose from: {', '.join(self.changes)}.",
                code="unknown",
                key="remedy.diffaugment.policy",
            )
        self.policy = tuple(policy)

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if len(shape) != 3:
            raise LabError(
                f"DiffAugment changes images (C, H, W); this dataset's samples have the shape {tuple(shape)}.",
                "Use instance noise, or a dataset of images (mnist, fashion_mnist).",
                code="conflict",
                key="remedy.diffaugment",
            )
        return tuple(shape)

    def __call__(self, samples: Tensor, step: int, rng: StepRNG) -> Tensor:
        if samples.ndim < 4:
            raise LabError(
                f"DiffAugment changes images (…, B, C, H, W), not a tensor of shape {tuple(samples.shape)}.",
                "Use instance noise, or a dataset of images (mnist, fashion_mnist).",
                code="conflict",
                key="remedy.diffaugment",
            )
        batch_shape = samples.shape[:-3]  # (…, B), flattened to one axis N below
        images = samples.flatten(0, -4) * 2 - 1
        for name in self.policy:
            change = self.changes[name]
            images = change(images, batch_shape, rng)
        return ((images + 1) / 2).reshape(samples.shape)

    @staticmethod
    def color(images: Tensor, batch_shape: Sequence[int], rng: StepRNG) -> Tensor:
        """Changes brightness, saturation and contrast of images `(N, C, H, W)` in [−1, 1]."""
        numbers = rng.uniform((*batch_shape, 3), images.dtype).view(-1, 3, 1, 1, 1)
        brightness, saturation, contrast = numbers.unbind(1)
        images = images + brightness - 0.5
        grey = images.mean(1, keepdim=True)
        images = grey + (images - grey) * (2 * saturation)
        grey = images.mean((1, 2, 3), keepdim=True)
        return grey + (images - grey) * (contrast + 0.5)

    @staticmethod
    def translation(images: Tensor, batch_shape: Sequence[int], rng: StepRNG) -> Tensor:
        """Moves images `(N, C, H, W)`; pixels that come from outside of an image are 0."""
        n, _, height, width = images.shape
        rows = _source_places(height, batch_shape, rng)  # (N, H): the row that each row of the result comes from
        columns = _source_places(width, batch_shape, rng)  # (N, W)
        inside = _inside(rows, height)[:, :, None] & _inside(columns, width)[:, None, :]
        rows = rows.clamp(0, height - 1)
        columns = columns.clamp(0, width - 1)
        image_indices = torch.arange(n, device=images.device)[:, None, None]
        moved = images.movedim(1, -1)[image_indices, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
        return (moved * inside[..., None]).movedim(-1, 1)

    @staticmethod
    def cutout(images: Tensor, batch_shape: Sequence[int], rng: StepRNG) -> Tensor:
        """Sets a rectangle of half the height and width of images `(N, C, H, W)` to 0."""
        _, _, height, width = images.shape
        rows = _cut_places(height, batch_shape, rng)  # (N, H)
        columns = _cut_places(width, batch_shape, rng)  # (N, W)
        return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


def _source_places(side: int, batch_shape: Sequence[int], rng: StepRNG) -> Tensor:
    """Returns where along one axis each pixel of a moved image comes from, `(N, side)`; may lie outside the image."""
    farthest = int(side / 8 + 0.5)
    offsets = rng.integers(-farthest, farthest + 1, batch_shape).view(-1, 1)
    return torch.arange(side, device=offsets.device) + offsets


def _cut_places(side: int, batch_shape: Sequence[int], rng: StepRNG) -> Tensor:
    """Returns which places along one axis are cut out, `(N, side)`: half of them, fewer at an edge."""
    size = int(side / 2 + 0.5)
    centres = rng.integers(0, side + (1 - size % 2), batch_shape).view(-1, 1)
    places = torch.arange(side, device=centres.device) - centres + size // 2
    return _inside(places, size)


def _inside(places: Tensor, side: int) -> Tensor:
    return (places >= 0) & (places < side)


@declares(
    conflicts={"conditional": ("a pack has samples of several classes, and D gets one", "Leave one of them out.")},
    settings={"m": {"type": "int", "low": 1, "high": 64, "help": "samples in a pack"}},
    strong={"m": 4},
)
class Pack(InputTransform):
    """Makes D score m samples together, so that a lack of variety becomes visible (PacGAN, Lin et al. 2018).

    `(…, m·B, C, H, W)` → `(…, B, m·C, H, W)` and `(…, m·B, d)` → `(…, B, m·d)` (arXiv:1712.04086). Only D's input
    grows, so D is built for `output_shape`; it returns B scores.

    As in the authors' code the batch size B counts packs, D's inputs: a training with packs sees as many of these in a
    step as one without sees samples, and m times as many samples of the data and of G.

    Args:
        m: samples in a pack, ≥ 1; 2 to 4 in the paper.

    Raises:
        LabError: for m < 1, and for a batch that m doesn't divide.
    """

    order = 2
    random = False

    def __init__(self, m: int = 2):
        if m < 1:
            raise LabError(
                f"A pack can't have m={m} samples.", "Choose m=2, 3 or 4.", code="invalid", key="remedy.pac.m"
            )
        self.m = m

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (self.m * shape[0], *shape[1:])

    def __call__(self, samples: Tensor, step: int, rng: StepRNG) -> Tensor:
        ndim = sample_ndim(samples)
        batch_size = samples.shape[-ndim - 1]
        if batch_size % self.m:
            next_multiple = math.ceil(batch_size / self.m) * self.m
            raise LabError(
                f"A batch of {batch_size} samples can't be divided into packs of m={self.m}.",
                f"Give a multiple of {self.m}, such as {next_multiple}.",
                code="conflict",
                key="remedy.pac.m",
            )
        packs = samples.unflatten(-ndim - 1, (batch_size // self.m, self.m))  # (…, B/m, m, *shape)
        return packs.flatten(-ndim - 1, -ndim)
