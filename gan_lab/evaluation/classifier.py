"""The label classifier: a small network, trained on the real data, that labels a generator's images."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gan_lab.core.checkpoint_file import load_plain
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic, corruption, file_lock, read_bytes
from gan_lab.core.rng import make_generator
from gan_lab.core.terminal import progress_bar, say
from gan_lab.data.dataset import Dataset, Samples, stacked_labels

FEATURES = 64  # width of the last hidden layer
BATCH = 100  # images per forward pass: what fits a core's cache takes half the time of 1,000 or less

# How the network is trained. Raise VERSION if the network or the training changes: old files are then ignored.
VERSION = 1
TRAIN_BATCH = 64
MAX_LR = 4e-3
SAMPLES_SEEN = 120_000  # decides the number of epochs, within these bounds:
EPOCHS = (6, 50)


class Classifier(nn.Module):
    """A convolutional network for small images: halved until they are 4×4 at most, then one hidden layer.

    Args:
        shape: of an image, `(C, H, W)`; meant for 8×8 to 64×64.
        classes: the number of classes.
    """

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        channels, *sides = shape
        width = 32
        stride = 2 if max(sides) >= 16 else 1
        layers: list[nn.Module] = []
        while not layers or max(sides) > 4:
            layers += [
                nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            # Rounded up, as a padded convolution does.
            sides = [-(-side // stride) for side in sides]
            channels = width
            width = 64
            stride = 2
        flat = channels * sides[0] * sides[1]
        layers += [nn.Flatten(), nn.Linear(flat, FEATURES, bias=False), nn.BatchNorm1d(FEATURES), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, classes)

    def features(self, x: Tensor) -> Tensor:
        """Returns the last hidden layer `(B, 64)`, ≥ 0, of images `(B, C, H, W)` in [0, 1]."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits `(B, classes)` of images `(B, C, H, W)` in [0, 1]."""
        return self.head(self.features(x))


class LabelClassifier:
    """Labels images on the CPU, and puts them into a feature space in which they can be compared.

    Attributes:
        network: the trained classifier, in eval mode and frozen; gradients still reach its input.
        stacked: whether images are three single-channel ones, which the network classifies one by one.
        classes: the number of classes that `labels` distinguishes.
        accuracy: the share of held-out images that `labels` labels correctly; of stacked ones, in all three channels.
    """

    def __init__(self, network: Classifier, classes: int, accuracy: float, stacked: bool = False):
        self.network = network.eval().requires_grad_(False)
        self.classes = classes
        self.accuracy = accuracy
        self.stacked = stacked

    def labels(self, images: Tensor) -> Tensor:
        """Returns the most probable class `(N,)`, int64, of images `(N, C, H, W)` in [0, 1].

        The class of a stacked image is 100 r + 10 g + b.
        """
        labels = self._in_batches(lambda batch: self.network(batch).argmax(1), images)
        return stacked_labels(labels) if self.stacked else labels

    @torch.no_grad()
    def labels_of_features(self, features: Tensor) -> Tensor:
        """Returns the most probable class `(N,)`, int64, of the features `(N, 64)` of images that are not stacked."""
        return self.network.head(features).argmax(1)

    def labels_and_confidences(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the most probable class, as `labels` does, and its probability.

        The probability is the network's softmax; of stacked images the product of the three channels'. Pitfall: a
        network can be certain and wrong about images unlike those that it was trained on.

        Args:
            images: `(N, C, H, W)` in [0, 1].

        Returns:
            Classes `(N,)` int64, and probabilities `(N,)` in [0, 1].
        """
        probabilities = self._in_batches(lambda batch: self.network(batch).softmax(1), images)
        confidences, labels = probabilities.max(1)
        if self.stacked:
            return stacked_labels(labels), confidences.view(-1, 3).prod(1)
        return labels, confidences

    def features(self, images: Tensor) -> Tensor:
        """Returns features `(N, 64)`, ≥ 0, of images `(N, C, H, W)` in [0, 1]; `(N, 3 * 64)` of stacked ones."""
        features = self._in_batches(self.network.features, images)
        return features.view(len(images), -1) if self.stacked else features

    @torch.no_grad()
    def _in_batches(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Applies a function to all images, to those of each channel if they are stacked."""
        if self.stacked:
            images = images.flatten(0, 1).unsqueeze(1)
        return torch.cat([function(batch) for batch in images.split(BATCH)])


def label_classifier(dataset: Dataset, cache_dir: str | Path) -> LabelClassifier:
    """Returns the label classifier of a dataset: trained once, then loaded from `<cache_dir>/evaluator_<key>.pt`.

    The key depends on the data and on how the network is trained. A damaged file is replaced. The training has its own
    random streams and leaves all others as they were.

    Raises:
        LabError: if the data are not images with labels.
    """
    base = dataset.base or dataset
    require_labels(base)
    path = Path(cache_dir) / f"evaluator_{cache_key(base)}.pt"

    def train() -> tuple[Classifier, float]:
        network = train_network(base)
        return network, accuracy_on(LabelClassifier(network, number_of_classes(base), 0).labels, base.heldout)

    network, base_accuracy = load_or_train(path, new_network(base), train, "label classifier")
    if dataset.base is None:
        return LabelClassifier(network, number_of_classes(base), base_accuracy)
    # The network of the single-channel images labels each channel; three channels are right less often than one.
    classifier = LabelClassifier(network, len(dataset.classes), 0, stacked=True)
    classifier.accuracy = accuracy_on(classifier.labels, dataset.heldout)
    return classifier


def require_labels(dataset: Dataset) -> None:
    """Checks that both parts of a dataset are images with labels.

    Raises:
        LabError: if they are not.
    """
    unlabelled = [part for part in (dataset.train, dataset.heldout) if part.labels is None]
    if len(dataset.shape) != 3 or unlabelled:
        raise LabError(
            "A label classifier needs images with labels; this dataset has none.",
            "Take dataset=digits, for example.",
            code="unsupported",
            key="dataset",
        )


def number_of_classes(dataset: Dataset) -> int:
    """Returns the number of classes; without names for them, one more than the largest label of the train part."""
    if dataset.classes:
        return len(dataset.classes)
    assert dataset.train.labels is not None
    return int(dataset.train.labels.max()) + 1


def cache_key(dataset: Dataset, settings: tuple[Any, ...] = ()) -> str:
    """Returns 16 hexadecimal digits that depend on the data and on how a network is trained on them.

    Args:
        dataset: images with labels.
        settings: of the training; empty: the label classifier's.
    """
    settings = settings or (VERSION, TRAIN_BATCH, MAX_LR, SAMPLES_SEEN, EPOCHS, FEATURES)
    description = [*settings, number_of_classes(dataset), dataset.shape]
    digest = hashlib.sha256(repr(description).encode())
    for part in (dataset.train, dataset.heldout):
        for indices in torch.arange(len(part)).split(BATCH):
            digest.update(part[indices].numpy().tobytes())
            digest.update(part.labels_of(indices).numpy().tobytes())
    return digest.hexdigest()[:16]


Network = TypeVar("Network", bound=nn.Module)


def load_or_train(
    path: Path, network: Network, train: Callable[[], tuple[Network, float]], description: str
) -> tuple[Network, float]:
    """Loads a trained network from its file, or trains it and writes the file; one process at a time.

    Args:
        path: the file.
        network: an untrained network, into which the weights are loaded.
        train: returns the trained network and its accuracy.
        description: what the network is, for messages.

    Returns:
        The network and its accuracy, in [0, 1].
    """
    accuracy = _load(path, network, description)
    if accuracy is not None:
        return network, accuracy
    with file_lock(path, f"training the {description} of these data") as had_to_wait:
        # The other process has probably trained the same network.
        if had_to_wait:
            accuracy = _load(path, network, description)
        if accuracy is None:
            network, accuracy = train()
            _store(path, network, accuracy, description)
    return network, accuracy


def _load(path: Path, network: nn.Module, description: str) -> float | None:
    """Loads the weights from a file and returns the accuracy; None if there is no such file or it is damaged.

    Raises:
        OSError: if the system cannot read it: it may be whole, so it is not replaced.
    """
    if not path.is_file():
        return None
    content = read_bytes(path)
    try:
        reason = corruption(content)
        if reason:
            raise ValueError(reason)
        loaded = load_plain(content)
        accuracy = float(loaded["accuracy"])
        if not 0 <= accuracy <= 1:
            raise ValueError(f"its accuracy is {accuracy}")
        network.load_state_dict(loaded["state_dict"])
        return accuracy
    except Exception as error:  # whatever is wrong with the file, training replaces it
        reason = str(error).partition("\n")[0]
        say(f"{path} is damaged ({reason}): the {description} is trained again.", stderr=True)
        return None


def _store(path: Path, network: nn.Module, accuracy: float, description: str) -> None:
    try:
        with atomic(path) as temporary:
            torch.save({"state_dict": network.state_dict(), "accuracy": accuracy}, temporary)
    except OSError as error:
        say(f"The {description} cannot be stored for the next run: {error}", stderr=True)


def new_network(dataset: Dataset) -> Classifier:
    """Returns an untrained network, always with the same weights; the global random stream is left as it was."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs, too.
        torch.default_generator.manual_seed(0)
        return Classifier(dataset.shape, number_of_classes(dataset))


def train_network(dataset: Dataset) -> Classifier:
    """Returns a new network, trained on the train part.

    The same data give the same bits on one machine with equally many threads.
    """
    network = new_network(dataset).train()
    part = dataset.train
    size = min(TRAIN_BATCH, len(part))
    epochs = min(max(round(SAMPLES_SEEN / len(part)), EPOCHS[0]), EPOCHS[1])
    steps = len(part) // size  # the rest of an epoch is left out
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LR, total_steps=epochs * steps)
    # Another purpose would give other weights under the same file name.
    rng = make_generator(0, "evaluator")
    description = "training the label classifier (once per dataset)"
    with progress_bar(description, epochs * steps, "batch") as bar:
        if bar.disable:
            say(f"{description.capitalize()}: {epochs} epochs of {len(part):,} samples.", stderr=True, flush=True)
        for _ in range(epochs):
            order = torch.randperm(len(part), generator=rng)
            for indices in order[: steps * size].split(size):
                logits = network(shift_randomly(part[indices], rng))
                F.cross_entropy(logits, part.labels_of(indices)).backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                bar.update()
    return network


def shift_randomly(images: Tensor, rng: torch.Generator) -> Tensor:
    """Shifts each image `(N, C, H, W)` by up to a twelfth of its side, at least a pixel, along both axes.

    Zeros (black) fill the border.
    """
    n, _, height, width = images.shape
    max_shift = max(1, max(height, width) // 12)
    offsets = torch.randint(2 * max_shift + 1, (2, n, 1), generator=rng)
    rows = offsets[0] + torch.arange(height)  # (N, H)
    columns = offsets[1] + torch.arange(width)  # (N, W)
    padded = F.pad(images, (max_shift,) * 4)
    # The channel, a slice between index tensors, comes last: (N, H, W, C).
    shifted = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return shifted.movedim(-1, 1).contiguous()


def accuracy_on(labels: Callable[[Tensor], Tensor], part: Samples) -> float:
    """Returns the share of a part's samples that a function labels correctly, in [0, 1].

    Args:
        labels: takes samples `(n, *shape)` and returns their classes `(n,)`.
        part: samples with labels.
    """
    correct = 0
    for indices in torch.arange(len(part)).split(BATCH):
        correct += int((labels(part[indices]) == part.labels_of(indices)).sum())
    return correct / len(part)
