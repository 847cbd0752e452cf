"""Fully connected networks: the book's `Linear → activation → normalisation → Linear`, of any depth."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from gan_lab.gan.networks.minibatch_layers import BatchLayer
from gan_lab.gan.networks.norms import NoNorm


def _hidden(widths: Sequence[int], activation: Callable[[], nn.Module], norm: NoNorm) -> list[nn.Module]:
    """Linear → activation → norm (or norm → activation) from one width to the next; widths[0] is the input's."""
    layers: list[nn.Module] = []
    for i, o in pairwise(widths):
        behind = [activation(), norm.after_layer((o,))]
        layers += [norm.wrap_layer(nn.Linear(i, o)), *(reversed(behind) if norm.before_activation else behind)]
    return layers


class Generator(nn.Module):
    """Latent vectors to samples.

    Args:
        shape: a sample's shape, e.g. `(1, 28, 28)` or `(2,)`.
        latent_dim: length of a latent vector.
        bounded: end in a sigmoid, for data in [0, 1]; else end linear.
        hidden: widths of the hidden layers, from latent vector to sample.
        activation: makes the module behind each hidden layer.
        norm: one of `gan_lab.gan.networks.norms`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        bounded: bool,
        hidden: Sequence[int],
        activation: Callable[[], nn.Module],
        norm: NoNorm,
    ):
        super().__init__()
        self.shape = tuple(shape)
        self.layers = nn.Sequential(
            *_hidden([latent_dim, *hidden], activation, norm),
            norm.wrap_layer(nn.Linear([latent_dim, *hidden][-1], math.prod(shape))),
            nn.Sigmoid() if bounded else nn.Identity(),
        )

    def forward(self, z: Tensor) -> Tensor:  # (…, B, latent_dim)
        return self.layers(z).unflatten(-1, self.shape)  # (…, B, *shape)


class Discriminator(nn.Module):
    """Samples to raw scores; arguments as for `Generator`, `hidden` from sample to score.

    Args:
        minibatch_layer: makes a layer of `gan_lab.gan.networks.minibatch_layers` in front of the last one, from the features' shape.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        activation: Callable[[], nn.Module],
        norm: NoNorm,
        minibatch_layer: BatchLayer | None = None,
    ):
        super().__init__()
        self.sample_axes = len(shape)
        widths = [math.prod(shape), *hidden]
        beside = [] if minibatch_layer is None else [minibatch_layer((widths[-1],))]
        features = widths[-1] + sum(layer.extra_features for layer in beside)
        self.layers = nn.Sequential(
            *_hidden(widths, activation, norm), *beside, norm.wrap_layer(nn.Linear(features, 1))
        )

    def forward(self, x: Tensor) -> Tensor:  # (…, B, *shape)
        return self.layers(x.flatten(-self.sample_axes)).squeeze(-1)  # (…, B)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer makes its score of: `(…, B, F)` for samples `(…, B, *shape)`."""
        return self.layers[:-1](x.flatten(-self.sample_axes))
