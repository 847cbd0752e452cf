"""Reads samples: which mode is each one, and is it one of it at all?

A label classifier gives every image a label, noise too. So an image counts for a mode only if it lies among the real
images of that mode, and if a second reader, the nearest training image, sees the same mode.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset, choose, stacked_labels
from gan_lab.evaluation.classifier import LabelClassifier
from gan_lab.evaluation.feature_spaces import PrincipalComponents, RandomNetwork
from gan_lab.evaluation.metrics.modes import assign_modes
from gan_lab.evaluation.metrics.neighbours import nearest_in_classes

PASS_RATE = 0.98  # share of held-out samples that lie among the real ones
COMPONENTS = 40
MAX_TRAIN = 10_000  # training samples among which a sample is looked for
MAX_HELDOUT = 2_500  # held-out samples that say where the data end
MIN_HELDOUT = 20  # fewer do not say where the data end
BATCH = 3_000  # samples that are read at once
CHANNELS = 3  # of stacked images


@dataclass
class Reading:
    """What is seen in n samples, all of them finite.

    Attributes:
        modes: `(n,)` int64; the first reader's mode.
        second_modes: `(n,)`; the second reader's.
        in_range: `(n,)` bool, whether a sample lies among the real ones of its mode.
        second_in_range: the same, of the second reader's mode.
        has_limit: whether it is known where the real samples end; else all samples are in range.
        points: `(n, F)`, the space in which samples of a mode are compared.
        junk: the share of images outside the data; of stacked images, which are outside if one channel is, that of
            their channels.
        second_junk: the same, by the second reader's modes.
    """

    modes: Tensor
    second_modes: Tensor
    in_range: Tensor
    second_in_range: Tensor
    has_limit: bool
    points: Tensor
    junk: float
    second_junk: float

    @property
    def is_valid(self) -> Tensor:
        """Whether each sample is one of its mode, `(n,)`: it lies among the real ones, and both readers agree."""
        return self.in_range & (self.modes == self.second_modes)


class Reader(Protocol):
    """Reads samples of one dataset."""

    def __call__(self, samples: Tensor) -> Reading:
        """Reads finite samples `(n, *shape)`."""

    def points(self, samples: Tensor) -> Tensor:
        """Returns samples `(n, *shape)` in the space in which those of a mode are compared, `(n, F)`."""


class CentreReader:
    """Reads points of a mixture of Gaussians: the nearest centre, within 3σ.

    Args:
        centres: `(M, D)`.
        std: of every mode along every axis.
    """

    def __init__(self, centres: Tensor, std: float):
        self.centres = centres
        self.std = std

    def __call__(self, samples: Tensor) -> Reading:
        """Reads finite points `(n, D)`."""
        modes, in_range = assign_modes(samples, self.centres, self.std)
        junk = _share_outside(in_range)
        return Reading(modes, modes, in_range, in_range, True, samples, junk, junk)

    def points(self, samples: Tensor) -> Tensor:
        """Returns the points themselves."""
        return samples


class RangeReader:
    """Reads images, and data without known modes as one mode.

    A sample's distance is that to the nearest training sample of its mode, in units of the mode's usual distance: the
    median of its training samples' distances to the nearest other one. It is measured in two spaces, of images without
    labels and of points in one or two of them, and the larger counts, each in units of the quantile `PASS_RATE` of
    held-out samples: principal components, including what lies off them, which noise does; and the label classifier's
    features (of images without labels: a random network's), which see shape. The limit lets `PASS_RATE` of held-out
    samples pass.

    Args:
        dataset: real samples.
        label_classifier: the first reader of images with labels; None: all samples are of one mode.
        pass_rate: the share of held-out samples that are in range.
    """

    def __init__(self, dataset: Dataset, label_classifier: LabelClassifier | None, pass_rate: float = PASS_RATE):
        self.classifier = label_classifier
        self.modes = 1 if label_classifier is None else label_classifier.classes
        self.components = PrincipalComponents(dataset, COMPONENTS)
        self.second_space: Callable[[Tensor], Tensor] | None = None
        if label_classifier is not None:
            self.second_space = label_classifier.features
        elif len(dataset.shape) == 3:
            self.second_space = RandomNetwork(dataset.shape)
        self._learn_distances(dataset)
        self._learn_limit(dataset, pass_rate)

    def _learn_distances(self, dataset: Dataset) -> None:
        """Keeps training samples, sorted by mode, in each space, and the usual distance of each mode."""
        indices = choose(dataset.train, MAX_TRAIN, make_generator(0, "reader/train"))
        labels = torch.zeros(len(indices), dtype=torch.int64)
        if self.classifier is not None:
            labels = dataset.train.labels_of(indices)
        order = labels.argsort(stable=True)
        labels = labels[order]
        samples = dataset.train[indices[order]]
        self._counts = labels.bincount(minlength=self.modes).tolist()
        self._train = self._spaces(samples)
        self._scales = self._usual_distances(labels, self.components.residual(samples, self._train[0]))

    def _learn_limit(self, dataset: Dataset, pass_rate: float) -> None:
        """Sets the limit by held-out samples; there is none if these are too few."""
        self._limit: float | None = None
        heldout = dataset.heldout[choose(dataset.heldout, MAX_HELDOUT, make_generator(0, "reader/heldout"))]
        if len(heldout) < MIN_HELDOUT:
            return
        _, _, ratios, _, _ = self._read_batches(heldout)
        self._units = torch.quantile(ratios, pass_rate, dim=1, keepdim=True)
        self._limit = torch.quantile((ratios / self._units).amax(0), pass_rate).item()

    def __call__(self, samples: Tensor) -> Reading:
        """Reads finite samples `(n, *shape)`."""
        modes, second_modes, ratios, second_ratios, points = self._read_batches(samples)
        in_range = self._is_in_range(ratios)
        second_in_range = self._is_in_range(second_ratios)
        return Reading(
            modes=modes,
            second_modes=second_modes,
            in_range=in_range,
            second_in_range=second_in_range,
            has_limit=self._limit is not None,
            points=points,
            junk=_share_outside(in_range),
            second_junk=_share_outside(second_in_range),
        )

    def points(self, samples: Tensor) -> Tensor:
        """Returns the principal components of samples `(n, *shape)`, `(n, F)`."""
        return self.components(samples)

    def _is_in_range(self, ratios: Tensor) -> Tensor:
        """Returns which samples are in range, `(n,)`, by their relative distances in each space `(spaces, n)`."""
        if self._limit is None:
            return torch.ones(ratios.shape[1], dtype=torch.bool)
        return (ratios / self._units).amax(0) <= self._limit

    def _spaces(self, samples: Tensor) -> list[Tensor]:
        """Returns samples in each space, `(n, F)`."""
        if self.second_space is None:
            return [self.components(samples)]
        return [self.components(samples), self.second_space(samples)]

    def _read_batches(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Does the same as `_read` for any number of samples, in little memory."""
        batches = [self._read(batch) for batch in samples.split(BATCH)]
        modes, second_modes, ratios, second_ratios, points = zip(*batches, strict=True)
        return (
            torch.cat(modes),
            torch.cat(second_modes),
            torch.cat(ratios, 1),
            torch.cat(second_ratios, 1),
            torch.cat(points),
        )

    def _read(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns both readers' modes, by each the relative distances `(spaces, n)`, and the components."""
        spaces = self._spaces(samples)
        distances = nearest_in_classes(spaces[0], self._train[0], self._counts)
        # Off the plane of the components, x and a training sample t hardly correlate: their distance is taken for |x⊥|.
        distances = (distances.square() + self.components.residual(samples, spaces[0])[:, None].square()).sqrt()
        second_modes = distances.argmin(1)
        modes = second_modes
        if self.classifier is not None:
            modes = self.classifier.labels_of_features(spaces[1])
        ratios = self._ratios(distances, spaces, modes)
        second_ratios = ratios.clone()
        differs = modes != second_modes
        if differs.any():
            differing = [features[differs] for features in spaces]
            second_ratios[:, differs] = self._ratios(distances[differs], differing, second_modes[differs])
        return modes, second_modes, ratios, second_ratios, spaces[0]

    def _ratios(self, distances: Tensor, spaces: list[Tensor], modes: Tensor) -> Tensor:
        """Returns the distances from samples' modes in units of these modes' usual ones, `(spaces, n)`.

        Args:
            distances: from each mode in the first space, `(n, M)`.
            spaces: the samples in each space, `(n, F)`.
            modes: `(n,)`.
        """
        ratios = [distances.gather(1, modes[:, None])[:, 0] / self._scales[0][modes]]
        for features, train, scales in zip(spaces[1:], self._train[1:], self._scales[1:], strict=True):
            ratios.append(self._distances_in_mode(features, train, modes) / scales[modes])
        return torch.stack(ratios)

    def _distances_in_mode(self, features: Tensor, train: Tensor, modes: Tensor) -> Tensor:
        """Returns each sample's distance to the nearest training sample of its mode, `(n,)`."""
        distances = torch.full((len(features),), torch.inf)
        for mode, points in enumerate(train.split(self._counts)):
            is_of_mode = modes == mode
            if len(points) and is_of_mode.any():
                distances[is_of_mode] = nearest_in_classes(features[is_of_mode], points, [len(points)])[:, 0]
        return distances

    def _usual_distances(self, labels: Tensor, residual: Tensor) -> list[Tensor]:
        """Returns for each space the median distance of a mode's training samples to the nearest other one, `(M,)`."""
        scales = []
        for number, points in enumerate(self._train):
            parts = [part for part in points.split(self._counts) if len(part)]
            distances = torch.cat([_distances_to_nearest(part) for part in parts])
            if number == 0:
                distances = (distances.square() + residual.square()).sqrt()
            medians = torch.stack([distances[labels == mode].median() for mode in range(self.modes)])
            # Of a mode with no training sample or one, the distance is unknown.
            scales.append(medians.nan_to_num(distances.median().item(), posinf=1.0).clamp(min=1e-9))
        return scales


class StackedReader:
    """Reads stacked images channel by channel: one is in range if all its channels are.

    Args:
        dataset: stacked images.
        label_classifier: of stacked images.
    """

    def __init__(self, dataset: Dataset, label_classifier: LabelClassifier):
        assert dataset.base is not None
        single = LabelClassifier(label_classifier.network, len(dataset.base.classes), 0)
        self.channels = RangeReader(dataset.base, single, PASS_RATE ** (1 / CHANNELS))

    def __call__(self, samples: Tensor) -> Reading:
        """Reads finite images `(n, 3, H, W)`."""
        reading = self.channels(samples.flatten(0, 1).unsqueeze(1))
        return Reading(
            modes=stacked_labels(reading.modes),
            second_modes=stacked_labels(reading.second_modes),
            in_range=reading.in_range.view(-1, CHANNELS).all(1),
            second_in_range=reading.second_in_range.view(-1, CHANNELS).all(1),
            has_limit=reading.has_limit,
            points=reading.points.view(len(samples), -1),
            junk=reading.junk,
            second_junk=reading.second_junk,
        )

    def points(self, samples: Tensor) -> Tensor:
        """Returns the channels' principal components, `(n, 3 F)`."""
        return self.channels.points(samples.flatten(0, 1).unsqueeze(1)).view(len(samples), -1)


def reader_for(dataset: Dataset, label_classifier: LabelClassifier | None) -> Reader:
    """Returns the reader of a dataset.

    Args:
        dataset: real samples.
        label_classifier: of images with labels; None for other data.
    """
    if dataset.centres is not None:
        assert dataset.std is not None
        return CentreReader(dataset.centres, dataset.std)
    if dataset.base is not None:
        assert label_classifier is not None
        return StackedReader(dataset, label_classifier)
    return RangeReader(dataset, label_classifier)


def _distances_to_nearest(points: Tensor) -> Tensor:
    """Returns each point's distance to the nearest other one, `(n,)`."""
    return nearest_in_classes(points, points, [len(points)], skip_self=True)[:, 0]


def _share_outside(in_range: Tensor) -> float:
    """Returns the share of samples `(n,)` that are not in range."""
    return 1 - in_range.double().mean().item()
