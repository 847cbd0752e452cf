"""Spaces in which images are compared: what a metric calls near depends on them, so that each has a plain name."""

import math
from pathlib import Path
from typing import Protocol

import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset, choose
from gan_lab.evaluation.classifier import LabelClassifier, label_classifier

BATCH = 100
WIDTH = 16  # filters a scale of the random network
COMPONENTS = 64  # principal components
FITTED = 2_000  # training images at most that they are of


class Features(Protocol):
    """Puts samples `(n, *shape)` into a space, `(n, F)`; `name` tells a reader which."""

    name: str

    def __call__(self, samples: Tensor) -> Tensor: ...


class PixelFeatures:
    """The samples themselves: for points, whose distances need no network."""

    name = "their own values"

    def __call__(self, samples: Tensor) -> Tensor:
        return samples.flatten(1)


class ClassifierFeatures:
    """An evaluator's last hidden layer; the network has learnt to tell these data's classes apart."""

    name = "an evaluator trained on the labels"

    def __init__(self, network: LabelClassifier):
        self.network = network

    def __call__(self, samples: Tensor) -> Tensor:
        return self.network.features(samples)


class RandomNetwork:
    """A convolutional network with fixed random weights, for images without labels.

    Random networks tell images apart well enough to rank generators (Naeem et al. 2020, arXiv:2002.09797, section 5.2).
    Each 4×4 convolution halves the picture, down to a side of 4; of every filter's response (ReLU) the means over the
    picture's quarters are kept, so that colours, layout and texture of each scale count.

    Args:
        shape: of an image, `(C, H, W)`, sides ≥ 2.
    """

    name = "a random convolutional network (fixed weights, nothing learnt)"

    def __init__(self, shape: tuple[int, ...]):
        channels, *sides = shape
        self.filters: list[Tensor] = []
        generator = make_generator(0, "features/random")
        while not self.filters or min(sides) > 4:
            scale = math.sqrt(2 / (channels * 16))  # He et al. 2015: keeps the responses' size from layer to layer
            self.filters.append(torch.randn(WIDTH, channels, 4, 4, generator=generator) * scale)
            channels, sides = WIDTH, [side // 2 for side in sides]

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> Tensor:
        return torch.cat([self._of(batch) for batch in samples.split(BATCH)])

    def _of(self, images: Tensor) -> Tensor:
        response, found = images - 0.5, []
        for filters in self.filters:
            response = nn.functional.conv2d(response, filters, stride=2, padding=1).relu()
            found.append(nn.functional.adaptive_avg_pool2d(response, 2).flatten(1))
        return torch.cat(found, 1)


class PrincipalComponents:
    """The first principal components of training images: the directions in which these data vary most.

    Pitfall: what lies off these directions isn't seen; noise looks like an average image.
    """

    def __init__(self, dataset: Dataset):
        images = dataset.train[choose(dataset.train, FITTED, make_generator(0, "features/pca"))].flatten(1)
        number = min(COMPONENTS, *images.shape)
        self._pca = PCA(number, svd_solver="randomized", random_state=0).fit(images.numpy())
        self.name = f"the first {number} principal components of {len(images):,} training images"

    def __call__(self, samples: Tensor) -> Tensor:
        batches = samples.flatten(1).split(BATCH)
        return torch.cat([torch.from_numpy(self._pca.transform(batch.numpy())).float() for batch in batches])


def classifier_for(dataset: Dataset, cache_dir: Path) -> LabelClassifier | None:
    """The evaluator of labelled images; None for other data."""
    labelled = len(dataset.shape) == 3 and dataset.classes
    return label_classifier(dataset, cache_dir) if labelled else None


def features_of(dataset: Dataset, network: LabelClassifier | None, asked: str | None) -> Features:
    """The space that is asked for.

    Args:
        network: the dataset's evaluator, None if it has none.
        asked: `evaluator`, `random` (see `RandomNetwork`), `pca` (see `PrincipalComponents`), or None: the first of
            `evaluator` and `random` that these data allow, for points their own values.

    Raises:
        LabError: if these data don't allow it.
    """
    if len(dataset.shape) != 3:
        if asked:
            raise LabError(f"features={asked} is for images.", "Leave it out: points are compared by their own values.")
        return PixelFeatures()
    if asked == "evaluator" and network is None:
        raise LabError(
            "features=evaluator needs images with labels; this dataset has none.", "Take features=random or pca."
        )
    if asked == "pca":
        return PrincipalComponents(dataset)
    return ClassifierFeatures(network) if network and asked != "random" else RandomNetwork(dataset.shape)
