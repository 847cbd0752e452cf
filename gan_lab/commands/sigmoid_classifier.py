"""The network that backquery runs backwards: the book's classifier, sigmoid after sigmoid."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from tqdm import tqdm

from gan_lab.core.rng import make_generator
from gan_lab.data.dataset import Dataset
from gan_lab.evaluation.classifier import accuracy_of, classes_of, kept, key_of, refuse_without_labels

# How the network is trained; whoever changes it raises VERSION. Squared errors are summed: a step moves the weights
# about as far as ten steps of one sample at the book's rate do. Trained for longer it reads better, but its backqueries
# are less like averages.
VERSION = 1
HIDDEN = 200
TRAIN_BATCH = 10
RATE = 0.1
SAMPLES_SEEN = 50_000
EPOCHS = (1, 10)
ON, OFF = 0.99, 0.01  # what a sigmoid can answer: 1 and 0 it never reaches


class SigmoidNetwork(nn.Module):
    """Pixels to 200 to classes, a sigmoid after each layer and no biases (Rashid, *Make Your Own Neural Network*).

    Weights start as N(0, 1/n), n being a layer's inputs.

    Args:
        pixels: how many values an image has.
        classes: how many there are.
    """

    def __init__(self, pixels: int, classes: int, hidden: int = HIDDEN):
        super().__init__()
        generator = make_generator(0, "sigmoid network/weights")
        first = torch.randn(hidden, pixels, generator=generator)
        second = torch.randn(classes, hidden, generator=generator)
        self.first, self.second = nn.Parameter(first / pixels**0.5), nn.Parameter(second / hidden**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Answers `(B, classes)` in (0, 1) to images `(B, C, H, W)` in [0, 1], which it sees in [0.01, 1]."""
        hidden = ((OFF + ON * x.flatten(1)) @ self.first.T).sigmoid()
        return (hidden @ self.second.T).sigmoid()


def sigmoid_network(dataset: Dataset, cache_dir: str | Path) -> tuple[SigmoidNetwork, float]:
    """The network that backquery inverts, frozen, and its accuracy on held-out images; kept like the evaluator.

    Raises:
        LabError: if the data aren't images with labels.
    """
    refuse_without_labels(dataset)
    settings = (VERSION, HIDDEN, TRAIN_BATCH, RATE, SAMPLES_SEEN, EPOCHS, ON, OFF)
    path = Path(cache_dir) / f"sigmoid_{key_of(dataset, settings)}.pt"

    def train() -> tuple[SigmoidNetwork, float]:
        network = _trained(dataset)
        return network, accuracy_of(torch.no_grad()(lambda images: network(images).argmax(1)), dataset.heldout)

    untrained = SigmoidNetwork(math.prod(dataset.shape), classes_of(dataset))
    network, accuracy = kept(path, untrained, train, "sigmoid network")
    return network.requires_grad_(False), accuracy


def _trained(dataset: Dataset) -> SigmoidNetwork:
    """A new network, trained by plain gradient descent on the squared error from targets of 0.01 and 0.99."""
    network, part = SigmoidNetwork(math.prod(dataset.shape), classes_of(dataset)), dataset.train
    epochs = min(max(round(SAMPLES_SEEN / len(part)), EPOCHS[0]), EPOCHS[1])
    optimiser = torch.optim.SGD(network.parameters(), RATE)
    generator = make_generator(0, "sigmoid network")
    steps = epochs * -(-len(part) // TRAIN_BATCH)
    with tqdm(total=steps, desc="training the sigmoid network (once per dataset)", disable=None) as bar:
        for _ in range(epochs):
            for indices in torch.randperm(len(part), generator=generator).split(TRAIN_BATCH):
                error = network(part[indices]) - targets(part.labels_of(indices), classes_of(dataset))
                (error.square().sum() / 2).backward()
                optimiser.step()
                optimiser.zero_grad()
                bar.update()
    return network


def targets(labels: Tensor, classes: int) -> Tensor:
    """One-hot rows `(n, classes)` within a sigmoid's reach, 0.99 and 0.01, for labels `(n,)`."""
    return OFF + (ON - OFF) * F.one_hot(labels, classes)
