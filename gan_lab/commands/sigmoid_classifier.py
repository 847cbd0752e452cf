"""The network that backquery runs backwards: the book's classifier, with a sigmoid after each layer."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gan_lab.core.rng import make_generator
from gan_lab.core.terminal import progress_bar, say
from gan_lab.data.dataset import Dataset
from gan_lab.evaluation.classifier import accuracy_on, cache_key, load_or_train, number_of_classes, require_labels

# How the network is trained. Raise VERSION if the training changes, so that networks on disk are trained anew.
# Squared errors are summed over a batch: one step moves the weights about as far as ten steps of one sample at the
# book's rate. A network that is trained for longer is more accurate, but its backqueries are less like averages.
VERSION = 1
HIDDEN = 200  # units of the hidden layer
TRAIN_BATCH = 10
RATE = 0.1
SAMPLES_SEEN = 50_000  # about how many samples are trained on
EPOCHS = (1, 10)  # at least, at most
# The targets: 1 and 0 are values that a sigmoid never reaches.
ON = 0.99
OFF = 0.01


class SigmoidNetwork(nn.Module):
    """Pixels to 200 hidden units to classes, a sigmoid after each layer and no biases.

    The book's classifier (Rashid, *Make Your Own Neural Network*). Weights start as N(0, 1/n) for a layer of n inputs.

    Args:
        pixels: how many values an image has.
        classes: how many there are.
        hidden: units of the hidden layer.
    """

    def __init__(self, pixels: int, classes: int, hidden: int = HIDDEN):
        super().__init__()
        generator = make_generator(0, "sigmoid network/weights")
        first = torch.randn(hidden, pixels, generator=generator)
        second = torch.randn(classes, hidden, generator=generator)
        self.first = nn.Parameter(first / pixels**0.5)
        self.second = nn.Parameter(second / hidden**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Returns outputs `(B, classes)` in (0, 1) for images `(B, C, H, W)` in [0, 1], scaled to [0.01, 1] first."""
        hidden = ((OFF + ON * x.flatten(1)) @ self.first.T).sigmoid()
        return (hidden @ self.second.T).sigmoid()


def sigmoid_network(dataset: Dataset, cache_dir: str | Path) -> tuple[SigmoidNetwork, float]:
    """Trains the network that backquery inverts, or loads it from an earlier training.

    Args:
        dataset: images with labels.
        cache_dir: where trained networks are stored.

    Returns:
        The frozen network and its accuracy on held-out images, 0 to 1.

    Raises:
        LabError: if the data aren't images with labels.
    """
    require_labels(dataset)
    settings = (VERSION, HIDDEN, TRAIN_BATCH, RATE, SAMPLES_SEEN, EPOCHS, ON, OFF)
    path = Path(cache_dir) / f"sigmoid_{cache_key(dataset, settings)}.pt"

    def train() -> tuple[SigmoidNetwork, float]:
        network = train_network(dataset)

        @torch.no_grad()
        def predict(images: Tensor) -> Tensor:
            return network(images).argmax(1)

        return network, accuracy_on(predict, dataset.heldout)

    untrained = SigmoidNetwork(math.prod(dataset.shape), number_of_classes(dataset))
    network, accuracy = load_or_train(path, untrained, train, "sigmoid network")
    return network.requires_grad_(False), accuracy


def train_network(dataset: Dataset) -> SigmoidNetwork:
    """Trains a new network by plain gradient descent on the squared error from the targets 0.01 and 0.99."""
    classes = number_of_classes(dataset)
    network = SigmoidNetwork(math.prod(dataset.shape), classes)
    part = dataset.train
    min_epochs, max_epochs = EPOCHS
    epochs = min(max(round(SAMPLES_SEEN / len(part)), min_epochs), max_epochs)
    optimizer = torch.optim.SGD(network.parameters(), RATE)
    generator = make_generator(0, "sigmoid network")
    steps = epochs * math.ceil(len(part) / TRAIN_BATCH)
    description = "training the sigmoid network (once per dataset)"
    with progress_bar(description, steps, "batch") as bar:
        if bar.disable:
            say(f"{description.capitalize()}: {steps:,} steps.", stderr=True, flush=True)
        for _ in range(epochs):
            order = torch.randperm(len(part), generator=generator)
            for indices in order.split(TRAIN_BATCH):
                error = network(part[indices]) - targets(part.labels_of(indices), classes)
                (error.square().sum() / 2).backward()
                optimizer.step()
                optimizer.zero_grad()
                bar.update()
    return network


def targets(labels: Tensor, classes: int) -> Tensor:
    """Returns one-hot rows `(n, classes)` with 0.99 for 1 and 0.01 for 0, for labels `(n,)`."""
    return OFF + (ON - OFF) * F.one_hot(labels, classes)
