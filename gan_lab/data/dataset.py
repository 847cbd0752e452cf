"""What GANs are trained on: a dataset is a train part and a held-out part of the same kind."""

import re
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from gan_lab.core.errors import LabError

MAX_SHUFFLED = 2**24  # samples; the random order of so many takes 128 MiB
STACKED_BASE_CLASSES = 10  # classes of each channel of a stacked image
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MAX_LISTED_CLASSES = 30  # a message lists more classes than this by the first and the last ones


class Samples(Protocol):
    """The interface of a dataset's parts: N samples of one shape, read by index."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""

    @property
    def labels(self) -> Tensor | None:
        """Class numbers, `(N,)` int64, or None."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Returns the samples `(n, *shape)`, float32, at the indices `(n,)`."""

    def stored(self, indices: Tensor) -> Tensor:
        """Returns the same as indexing, but in the type they are stored in: images may be uint8, 0 to 255."""

    def labels_of(self, indices: Tensor) -> Tensor:
        """Returns the class numbers `(n,)`, int64, at the indices `(n,)`.

        Raises:
            LabError: if there are no labels.
        """

    def label_counts(self, classes: int) -> Tensor:
        """Returns how many samples each class has, `(classes,)` int64.

        Raises:
            LabError: if there are no labels.
        """

    def to(self, device: torch.device) -> "Samples":
        """Returns the same samples on a device, without labels: for training. Samples in a file stay there."""


class LabelledSamples:
    """The base of parts whose class numbers are in memory.

    Attributes:
        labels: class numbers, `(N,)` int64, or None if they aren't known.
    """

    labels: Tensor | None

    def labels_of(self, indices: Tensor) -> Tensor:
        """Returns the class numbers `(n,)`, int64, at the indices `(n,)`.

        Raises:
            LabError: if there are no labels.
        """
        if self.labels is None:
            raise LabError(
                "A part of the dataset, train or heldout, has no labels.",
                "Give both parts labels; digits, mnist and fashion_mnist, for example, have them.",
                code="unsupported",
                key="dataset",
            )
        return self.labels.index_select(0, indices)

    def label_counts(self, classes: int) -> Tensor:
        """Returns how many samples each class has, `(classes,)` int64.

        Raises:
            LabError: if there are no labels.
        """
        every_label = self.labels_of(torch.arange(len(self)))
        return every_label.bincount(minlength=classes)

    def __len__(self) -> int:
        raise NotImplementedError


@dataclass(frozen=True)
class Part(LabelledSamples):
    """Samples in memory.

    Attributes:
        values: `(N, *shape)`, float32, or uint8 for images (0–255 stand for 0–1).
        labels: class numbers, `(N,)` int64, or None.
    """

    values: Tensor
    labels: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.values.shape[1:])

    def __len__(self) -> int:
        return len(self.values)

    def stored(self, indices: Tensor) -> Tensor:
        """Returns `values` at the indices `(n,)`: `(n, *shape)`."""
        return self.values.index_select(0, indices.to(self.values.device))

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Returns the samples `(n, *shape)`, float32, at the indices `(n,)`; uint8 values are divided by 255."""
        values = self.stored(indices)
        if values.dtype == torch.uint8:
            return values.float().div_(255)
        return values

    def to(self, device: torch.device) -> "Part":
        """Returns the samples on a device, without labels."""
        return Part(self.values.to(device))


@dataclass(frozen=True)
class StackedPart:
    """Colour images made of three single-channel images each, put together when they are read.

    Attributes:
        base: single-channel images `(n, 1, H, W)` with at most ten classes.
        triples: `(N, 3)` int64, which images of `base` are red, green and blue. None: all n³ triples in the
            order of counting: sample i has the digits of i to the base n.
    """

    base: Part
    triples: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample, `(3, H, W)`."""
        return (3, *self.base.shape[1:])

    @property
    def labels(self) -> Tensor | None:
        """Class numbers 100 r + 10 g + b, `(N,)` int64; None for all n³ triples, which are too many for memory."""
        if self.triples is None:
            return None
        return self.labels_of(torch.arange(len(self)))

    def __len__(self) -> int:
        if self.triples is None:
            return len(self.base) ** 3
        return len(self.triples)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Returns the samples `(n, 3, H, W)`, float32, at the indices `(n,)`."""
        channels = self._channel_indices(indices).flatten()
        return self.base[channels].reshape(len(indices), *self.shape)

    def stored(self, indices: Tensor) -> Tensor:
        """Returns the samples `(n, 3, H, W)` at the indices `(n,)`, in the type of `base`."""
        channels = self._channel_indices(indices).flatten()
        return self.base.stored(channels).reshape(len(indices), *self.shape)

    def to(self, device: torch.device) -> "StackedPart":
        """Returns the samples on a device, without labels."""
        return StackedPart(self.base.to(device), self.triples)

    def labels_of(self, indices: Tensor) -> Tensor:
        """Returns the class numbers 100 r + 10 g + b, `(n,)` int64, at the indices `(n,)`.

        Raises:
            LabError: if the base has no labels.
        """
        channels = self._channel_indices(indices).flatten()
        return stacked_labels(self.base.labels_of(channels))

    def label_counts(self, classes: int = 1000) -> Tensor:
        """Returns how many samples each class has, `(classes,)` int64.

        Raises:
            LabError: if the base has no labels.
        """
        if self.triples is not None:
            every_label = self.labels_of(torch.arange(len(self)))
            return every_label.bincount(minlength=classes)
        # All triples: class (r, g, b) has count(r) · count(g) · count(b) of them; to count them would take hours.
        counts = self.base.label_counts(STACKED_BASE_CLASSES)
        return torch.einsum("r,g,b->rgb", counts, counts, counts).flatten()

    def _channel_indices(self, indices: Tensor) -> Tensor:
        """Returns the indices `(n, 3)` in `base` of the samples' channels."""
        if self.triples is not None:
            return self.triples.index_select(0, indices)
        n = len(self.base)
        red = indices // n**2
        green = indices // n % n
        blue = indices % n
        return torch.stack([red, green, blue], dim=1)


@dataclass(frozen=True)
class FlippedPart:
    """Images followed by their mirror images: sample N + i is sample i with left and right swapped.

    An epoch has both. Which of them is in a step's batch depends, as for all samples, on seed and step only.

    Attributes:
        base: the N images.
    """

    base: Samples

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample, `(C, H, W)`."""
        return self.base.shape

    @property
    def labels(self) -> Tensor | None:
        """Class numbers, `(2 N,)` int64, or None."""
        if self.base.labels is None:
            return None
        return self.base.labels.repeat(2)

    def __len__(self) -> int:
        return 2 * len(self.base)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Returns the samples `(n, C, H, W)`, float32, at the indices `(n,)`."""
        return self._flip_second_half(self.base[indices % len(self.base)], indices)

    def stored(self, indices: Tensor) -> Tensor:
        """Returns the samples `(n, C, H, W)` at the indices `(n,)`, in the type of `base`."""
        return self._flip_second_half(self.base.stored(indices % len(self.base)), indices)

    def _flip_second_half(self, images: Tensor, indices: Tensor) -> Tensor:
        """Mirrors, in place, the images `(n, C, H, W)` whose indices `(n,)` are in the second half of the part."""
        is_mirrored = (indices >= len(self.base)).to(images.device)
        images[is_mirrored] = images[is_mirrored].flip(-1)
        return images

    def to(self, device: torch.device) -> "FlippedPart":
        """Returns the samples on a device, without labels; those in a file stay there."""
        return FlippedPart(self.base.to(device))

    def labels_of(self, indices: Tensor) -> Tensor:
        """Returns the class numbers `(n,)`, int64, at the indices `(n,)`.

        Raises:
            LabError: if there are no labels.
        """
        return self.base.labels_of(indices % len(self.base))

    def label_counts(self, classes: int) -> Tensor:
        """Returns how many samples each class has, `(classes,)` int64.

        Raises:
            LabError: if there are no labels.
        """
        return 2 * self.base.label_counts(classes)


def choose(samples: Samples, most: int, generator: torch.Generator) -> Tensor:
    """Chooses samples at random.

    Args:
        samples: the part to choose from.
        most: how many, or all if there are fewer.
        generator: of random numbers.

    Returns:
        Different indices in random order, `(n,)` int64. Of more than `MAX_SHUFFLED` samples they are drawn with
        replacement: an order of so many takes too much memory, and hardly any is drawn twice.
    """
    if len(samples) <= MAX_SHUFFLED:
        return torch.randperm(len(samples), generator=generator)[:most]
    return torch.randint(len(samples), (most,), generator=generator)


def stacked_labels(channel_labels: Tensor) -> Tensor:
    """Returns the classes 100 r + 10 g + b, `(n,)`, of images whose channels have these classes, `(3 * n,)` int64."""
    return (channel_labels.view(-1, 3) * torch.tensor([100, 10, 1])).sum(1)


@dataclass(frozen=True)
class Dataset:
    """Data to imitate.

    Images with labels and `classes`, and points with labels, `classes`, `centres` and `std`, have modes that the
    verdict counts. All other data are compared by coverage; points with labels and `classes` only can train a
    conditional GAN.

    Attributes:
        train: what the GAN is trained on.
        heldout: data of the same kind that training never sees.
        bounded: whether values are in [0, 1], so that a generator may end in a sigmoid.
        classes: a name for each label.
        centres: `(M, dims)`, the modes of a mixture of Gaussians, or None.
        std: their standard deviation along each axis, or None.
        base: for a stacked dataset, the single-channel dataset whose label classifier reads each channel; else None.
        source: what a packed file says about the origin of its images; else ''.

    Raises:
        LabError: for centres that are incomplete, and for points with labels or `classes` only.
    """

    train: Samples
    heldout: Samples
    bounded: bool = True
    classes: list[str] = field(default_factory=list)
    centres: Tensor | None = None
    std: float | None = None
    base: "Dataset | None" = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.centres is not None or self.std is not None:
            self._check_centres()
        if len(self.shape) == 1:
            self._check_labels_of_points()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: `(C, H, W)` for images, `(dims,)` for vectors."""
        return self.train.shape

    @property
    def has_modes(self) -> bool:
        """Whether generated samples can be assigned to modes: those of labelled images, and to Gaussians.

        One class of images is no label: every sample would be of it.
        """
        if len(self.shape) == 3:
            return len(self.classes) > 1
        return self.centres is not None

    def class_number(self, key: str, word: str, hint: str) -> int:
        """Finds the class that a word names: by its name in the data, by its number, or as `five` for 5.

        Args:
            key: the configuration key whose value the word is, for the error message.
            word: in any case.
            hint: how to mend it, for the error message.

        Raises:
            LabError: if there is no such class.
        """
        name = word.lower()
        # Digits are called 0 to 9 in the data.
        if name in DIGIT_WORDS:
            name = str(DIGIT_WORDS.index(name))
        labels_by_name = {class_name.lower(): label for label, class_name in enumerate(self.classes)}
        if name in labels_by_name:
            return labels_by_name[name]
        if re.fullmatch("[0-9]+", word) and int(word) < len(self.classes):
            return int(word)
        listed = self.classes
        if len(listed) > MAX_LISTED_CLASSES:
            listed = [*listed[:3], "…", listed[-1]]
        raise LabError(
            f"{key}={word}: These data have no class {word}. Their classes: {', '.join(listed)}.",
            hint,
            code="unknown",
            key=key,
        )

    def _check_centres(self) -> None:
        """Refuses centres that samples could not be assigned to."""
        if self.centres is None or self.std is None:
            raise LabError(
                "The dataset has only one of centres and std.",
                "Give both, or neither: then the verdict uses coverage.",
                code="invalid",
                key="dataset",
            )
        if tuple(self.centres.shape) != (len(self.classes), *self.shape):
            raise LabError(
                f"The dataset has {len(self.classes)} classes and samples of the shape {tuple(self.shape)}, which do "
                f"not fit centres of the shape {tuple(self.centres.shape)}.",
                "Give a centre (dims) for each class, and labels that are the numbers of the centres.",
                code="invalid",
                key="dataset",
            )

    def _check_labels_of_points(self) -> None:
        """Refuses points with labels but no classes, or the reverse."""
        for name, part in (("train", self.train), ("heldout", self.heldout)):
            has_labels = part.labels is not None
            if has_labels == bool(self.classes):
                continue
            if has_labels:
                problem = f"The {name} part of the dataset has labels, but the dataset has no classes."
            else:
                problem = f"The dataset has classes, but its {name} part has no labels."
            raise LabError(
                problem,
                "Points need labels in both parts and classes, a name for each label, or none of them.",
                code="invalid",
                key="dataset",
            )
