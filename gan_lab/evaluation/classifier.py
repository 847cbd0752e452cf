"""The evaluator network: a small classifier of the real data, which tells what a generator's images show."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from tqdm import tqdm

from gan_lab.core.checkpoint_file import load_plain
from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic, corruption, file_lock, read_bytes
from gan_lab.core.rng import make_generator
from gan_lab.core.terminal import say
from gan_lab.data.dataset import Dataset, Samples, stacked_labels

FEATURES = 64
BATCH = 100  # images looked at in one go: what fits a core's cache takes half the time of 1,000 or less

# How the network is trained. Whoever changes the network or the training raises VERSION: old files are then left alone.
VERSION = 1
TRAIN_BATCH = 64
RATE = 4e-3
SAMPLES_SEEN = 120_000  # decides the number of epochs, within these bounds:
EPOCHS = (6, 50)


class Classifier(nn.Module):
    """A convolutional network for small images: halved until they are 4×4 at most, then one hidden layer.

    Args:
        shape: of an image, `(C, H, W)`; made for 8×8 to 64×64.
        classes: how many there are.
    """

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        channels, *sides = shape
        layers: list[nn.Module] = []
        width, stride = 32, 2 if max(sides) >= 16 else 1
        while not layers or max(sides) > 4:
            layers += [
                nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            sides = [-(-side // stride) for side in sides]
            channels, width, stride = width, 64, 2
        flat = channels * sides[0] * sides[1]
        layers += [nn.Flatten(), nn.Linear(flat, FEATURES, bias=False), nn.BatchNorm1d(FEATURES), nn.ReLU()]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(FEATURES, classes)

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer `(B, 64)`, ≥ 0, of images `(B, C, H, W)` in [0, 1]."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(B, classes)` of images `(B, C, H, W)` in [0, 1]."""
        return self.head(self.features(x))


class LabelClassifier:
    """What judges images on the CPU: which class each shows, and features in which images can be compared.

    Attributes:
        network: the trained classifier, in eval mode and frozen; gradients still reach its input.
        stacked: images are three single-channel ones, which the network reads one by one.
        classes: how many classes `labels` knows.
        accuracy: the share of held-out images that `labels` gets right; for stacked ones, all three channels.
    """

    def __init__(self, network: Classifier, classes: int, accuracy: float, stacked: bool = False):
        self.network = network.eval().requires_grad_(False)
        self.classes, self.accuracy, self.stacked = classes, accuracy, stacked

    def labels(self, images: Tensor) -> Tensor:
        """The likeliest class `(N,)`, int64, of images `(N, C, H, W)` in [0, 1]; 100 r + 10 g + b of stacked ones."""
        found = self._over(lambda batch: self.network(batch).argmax(1), images)
        return stacked_labels(found) if self.stacked else found

    def readings(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest class as `labels` has it, and its probability, `(N,)` in [0, 1], of images `(N, C, H, W)`.

        The probability is the network's own (softmax); of stacked images the product of the three channels'. Pitfall:
        on images unlike any that it was trained on, a network can be sure and wrong.
        """
        probability, found = self._over(lambda batch: self.network(batch).softmax(1), images).max(1)
        if self.stacked:
            return stacked_labels(found), probability.view(-1, 3).prod(1)
        return found, probability

    def features(self, images: Tensor) -> Tensor:
        """Features `(N, 64)`, ≥ 0, of images `(N, C, H, W)` in [0, 1]; `(N, 3 * 64)` of stacked ones."""
        found = self._over(self.network.features, images)
        return found.view(len(images), -1) if self.stacked else found

    @torch.no_grad()
    def _over(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        read = images.flatten(0, 1).unsqueeze(1) if self.stacked else images
        return torch.cat([function(batch) for batch in read.split(BATCH)])


def label_classifier(dataset: Dataset, cache_dir: str | Path) -> LabelClassifier:
    """The evaluator of a dataset: trained once, then read from `<cache_dir>/evaluator_<key>.pt`.

    The key stands for the data and the training's settings. A file that can't be read is made anew. Training draws from
    streams of its own; nothing else's random numbers change.

    Raises:
        LabError: if the data aren't images with labels.
    """
    base = dataset.base or dataset
    refuse_without_labels(base)
    path = Path(cache_dir) / f"evaluator_{key_of(base)}.pt"

    def train() -> tuple[Classifier, float]:
        network = _trained(base)
        return network, accuracy_of(LabelClassifier(network, classes_of(base), 0).labels, base.heldout)

    network, accuracy = kept(path, _untrained(base), train, "evaluator")
    if dataset.base is None:
        return LabelClassifier(network, classes_of(base), accuracy)
    classifier = LabelClassifier(network, len(dataset.classes), 0, stacked=True)
    classifier.accuracy = accuracy_of(classifier.labels, dataset.heldout)
    return classifier


def refuse_without_labels(dataset: Dataset) -> None:
    if len(dataset.shape) != 3 or any(part.labels is None for part in (dataset.train, dataset.heldout)):
        raise LabError(
            "An evaluator needs images with labels; this dataset has none.", "Take dataset=digits, for example."
        )


def classes_of(dataset: Dataset) -> int:
    return len(dataset.classes) or int(dataset.train.labels.max()) + 1  # type: ignore[union-attr]


def key_of(dataset: Dataset, settings: tuple[Any, ...] = ()) -> str:
    """A name for data and settings, by default the evaluator's."""
    settings = settings or (VERSION, TRAIN_BATCH, RATE, SAMPLES_SEEN, EPOCHS, FEATURES)
    digest = hashlib.sha256(repr([*settings, classes_of(dataset), dataset.shape]).encode())
    for part in (dataset.train, dataset.heldout):
        for indices in torch.arange(len(part)).split(BATCH):
            digest.update(part[indices].numpy().tobytes())
            digest.update(part.labels_of(indices).numpy().tobytes())
    return digest.hexdigest()[:16]


Network = TypeVar("Network", bound=nn.Module)


def kept(path: Path, network: Network, train: Callable[[], tuple[Network, float]], name: str) -> tuple[Network, float]:
    """A trained network and its accuracy: as the file has them, else trained, by one process at a time, and kept."""
    accuracy = _read(path, network, name)
    if accuracy is None:
        with file_lock(path, f"training the {name} of these data") as waited:
            accuracy = _read(path, network, name) if waited else None
            if accuracy is None:
                network, accuracy = train()
                _keep(path, network, accuracy, name)
    return network, accuracy


def _read(path: Path, network: nn.Module, name: str = "evaluator") -> float | None:
    """Fills the network from a file and gives its accuracy; None if there is no such file or it is damaged.

    Raises:
        OSError: if the system can't read it: it may be whole, so none is made in its place.
    """
    if not path.is_file():
        return None
    content = read_bytes(path)
    try:
        if reason := corruption(content):
            raise ValueError(reason)
        loaded = load_plain(content)
        accuracy = float(loaded["accuracy"])
        if not 0 <= accuracy <= 1:
            raise ValueError("its accuracy is no share")
        network.load_state_dict(loaded["state_dict"])
        return accuracy
    except Exception as error:  # whatever is wrong with the file, training mends it
        reason = str(error).partition("\n")[0]
        say(f"{path} can't be read ({reason}): the {name} is trained anew.", stderr=True)
        return None


def _keep(path: Path, network: nn.Module, accuracy: float, name: str) -> None:
    try:
        with atomic(path) as half:
            torch.save({"state_dict": network.state_dict(), "accuracy": accuracy}, half)
    except OSError as error:
        say(f"The {name} can't be kept for the next time: {error}", stderr=True)


def _untrained(dataset: Dataset) -> Classifier:
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global stream: put it back afterwards
        torch.default_generator.manual_seed(0)  # torch.manual_seed would seed the GPUs too
        return Classifier(dataset.shape, classes_of(dataset))


def _trained(dataset: Dataset) -> Classifier:
    """A new network, trained on the train part; the same data give the same bits on one machine and as many threads."""
    network, part = _untrained(dataset).train(), dataset.train
    size = min(TRAIN_BATCH, len(part))
    epochs = min(max(round(SAMPLES_SEEN / len(part)), EPOCHS[0]), EPOCHS[1])
    steps = len(part) // size  # the rest of an epoch is left out
    optimiser = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * steps)
    generator = make_generator(0, "evaluator")
    with tqdm(total=epochs * steps, desc="training the evaluator (once per dataset)", disable=None) as bar:
        for _ in range(epochs):
            for indices in torch.randperm(len(part), generator=generator)[: steps * size].split(size):
                logits = network(_shifted(part[indices], generator))
                F.cross_entropy(logits, part.labels_of(indices)).backward()
                optimiser.step()
                optimiser.zero_grad()
                schedule.step()
                bar.update()
    return network


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to a twelfth of its side, at least a pixel, along both axes; black moves in."""
    n, _, height, width = images.shape
    most = max(1, max(height, width) // 12)
    offsets = torch.randint(2 * most + 1, (2, n, 1), generator=generator)
    rows, columns = offsets[0] + torch.arange(height), offsets[1] + torch.arange(width)
    padded = F.pad(images, (most,) * 4)
    return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()


def accuracy_of(labels: Callable[[Tensor], Tensor], part: Samples) -> float:
    batches = torch.arange(len(part)).split(BATCH)
    return sum((labels(part[i]) == part.labels_of(i)).sum().item() for i in batches) / len(part)
