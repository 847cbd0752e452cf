"""Feature spaces in which samples are compared. What a metric calls near depends on them, so each one has a name."""

import math
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from gan_lab.core.errors import LabError
from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset, choose
from gan_lab.evaluation.classifier import LabelClassifier, label_classifier

BATCH = 100
FILTERS = 16  # of each scale of the random network
MAX_COMPONENTS = 64
SPARE_COMPONENTS = 20  # computed beyond those that are used: the last ones are the least exact
MAX_PCA_IMAGES = 2_000  # training images from which principal components are computed


class Features(Protocol):
    """Puts samples `(n, *shape)` into a feature space, `(n, F)`; `name` completes 'compared by …' for a reader."""

    name: str

    def __call__(self, samples: Tensor) -> Tensor: ...


class PixelFeatures:
    """The samples' own values: for points, whose distances need no network."""

    name = "their own values"

    def __call__(self, samples: Tensor) -> Tensor:
        """Returns the values of samples `(n, *shape)` as `(n, F)`."""
        return samples.flatten(1)


class ClassifierFeatures:
    """The last hidden layer of a label classifier, which has learned to distinguish the classes of these data."""

    name = "the label classifier's features"

    def __init__(self, network: LabelClassifier):
        self.network = network

    def __call__(self, samples: Tensor) -> Tensor:
        """Returns features `(n, 64)` of images `(n, C, H, W)` in [0, 1]; `(n, 3 * 64)` of stacked ones."""
        return self.network.features(samples)


class RandomNetwork:
    """A convolutional network with fixed random weights, for images without labels.

    Random networks distinguish images well enough to rank generators (Naeem et al. 2020, arXiv:2002.09797, section
    5.2). Each 4×4 convolution halves the picture, down to a side of 4. Of every filter's response (ReLU) the means over
    the picture's quarters are features, so that colours, layout and texture of each scale count.

    Args:
        shape: of an image, `(C, H, W)`, sides ≥ 2.
    """

    name = "a random convolutional network (fixed weights, untrained)"

    def __init__(self, shape: tuple[int, ...]):
        channels, *sides = shape
        self.filters: list[Tensor] = []
        rng = make_generator(0, "features/random")
        while not self.filters or min(sides) > 4:
            # He et al. 2015: keeps the size of the responses from layer to layer.
            scale = math.sqrt(2 / (channels * 16))
            self.filters.append(torch.randn(FILTERS, channels, 4, 4, generator=rng) * scale)
            channels = FILTERS
            sides = [side // 2 for side in sides]

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> Tensor:
        """Returns features `(n, scales * 16 * 4)`, ≥ 0, of images `(n, C, H, W)` in [0, 1]."""
        return torch.cat([self._features(batch) for batch in samples.split(BATCH)])

    def _features(self, images: Tensor) -> Tensor:
        # Centred on grey: else every filter would mostly respond to brightness.
        response = images - 0.5
        scales = []
        for filters in self.filters:
            response = nn.functional.conv2d(response, filters, stride=2, padding=1).relu()
            scales.append(nn.functional.adaptive_avg_pool2d(response, 2).flatten(1))
        return torch.cat(scales, 1)


class PrincipalComponents:
    """The first principal components of training images: the directions in which these data vary most.

    Pitfall: it does not see what lies off these directions; noise looks like an average image.

    Args:
        dataset: the training images.
        components: how many directions, at most.
    """

    def __init__(self, dataset: Dataset, components: int = MAX_COMPONENTS):
        indices = choose(dataset.train, MAX_PCA_IMAGES, make_generator(0, "features/pca"))
        images = dataset.train[indices].flatten(1)
        components = min(components, *images.shape)
        self.mean = images.mean(0)
        # It draws from torch's global random stream, which is the training's.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            searched = min(components + SPARE_COMPONENTS, *images.shape)
            _, _, axes = torch.pca_lowrank(images, searched, niter=4)
        self.axes = axes[:, :components].T.contiguous()
        self.name = f"the first {components} principal components of {len(images):,} training images"

    def __call__(self, samples: Tensor) -> Tensor:
        """Returns the components `(n, F)` of images `(n, C, H, W)`."""
        batches = samples.flatten(1).split(BATCH)
        return torch.cat([(batch - self.mean) @ self.axes.T for batch in batches])

    def residual(self, samples: Tensor, components: Tensor) -> Tensor:
        """Returns how far samples `(n, *shape)` with these components `(n, F)` lie off the directions, `(n,)`."""
        squares = (samples.flatten(1) - self.mean).square().sum(1) - components.square().sum(1)
        return squares.clamp(min=0).sqrt()


def classifier_for(dataset: Dataset, cache_dir: Path) -> LabelClassifier | None:
    """Returns the label classifier of labelled images; None for other data."""
    if len(dataset.shape) != 3 or not dataset.has_modes:
        return None
    return label_classifier(dataset, cache_dir)


def features_of(
    dataset: Dataset, network: LabelClassifier | None, option: str | None, cache_dir: Path = Path(".cache")
) -> Features:
    """Returns the feature space that the configuration names.

    Args:
        dataset: the data.
        network: the dataset's label classifier, None if it has none.
        option: `evaluator` (see `ClassifierFeatures`), `random` (see `RandomNetwork`), `pca` (see
            `PrincipalComponents`), `inception` (see `InceptionFeatures`), or None: of images the first of `evaluator`
            and `random` that the data allow, of points their own values.
        cache_dir: the folder of Inception's weights.

    Raises:
        LabError: if these data do not allow that space, or Inception's weights can't be had.
    """
    if len(dataset.shape) != 3:
        if option:
            raise LabError(
                f"features={option} is for images; these samples are points.",
                "Leave it out: points are compared by their own values.",
                code="unsupported",
                key="features",
            )
        return PixelFeatures()
    if option == "evaluator" and network is None:
        raise LabError(
            "features=evaluator needs images with labels; this dataset has none.",
            "Take features=random or features=pca.",
            code="unsupported",
            key="features",
        )
    if option == "pca":
        return PrincipalComponents(dataset)
    if option == "inception":
        # It imports torchvision's models.
        from gan_lab.evaluation.inception import InceptionFeatures

        return InceptionFeatures(cache_dir)
    if network is None or option == "random":
        return RandomNetwork(dataset.shape)
    return ClassifierFeatures(network)
