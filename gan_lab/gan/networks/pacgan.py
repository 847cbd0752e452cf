"""PacGAN's networks for points in the plane (Lin et al. 2018, arXiv:1712.04086, section 4.1; layers as in the authors'
code): a batch-normalised G, a maxout D without normalisation (Goodfellow et al. 2013, arXiv:1302.4389).

Weights start normal with standard deviation 0.02, biases at 0.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from gan_lab.gan.networks.minibatch_layers import BatchLayer
from gan_lab.gan.networks.norms import NoNorm, init_dcgan_weights


class Maxout(nn.Module):
    """The greatest of each `pieces` neighbouring numbers: `(…, features · pieces)` → `(…, features)`."""

    def __init__(self, pieces: int):
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.pieces)).amax(-1)


class Generator(nn.Module):
    """Latent vectors to samples. Hidden layers have no bias, as the normalisation behind them has one.

    Args:
        shape: a sample's shape, e.g. `(2,)`.
        latent_dim: length of a latent vector.
        bounded: end in a sigmoid, for data in [0, 1]; else end linear.
        hidden: widths of the hidden layers, from latent vector to sample.
        activation: makes the module behind each hidden layer.
        norm: one of `gan_lab.gan.networks.norms`, put between layer and activation.
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
        layers: list[nn.Module] = []
        for i, o in pairwise([latent_dim, *hidden]):
            layers += [norm.wrap_layer(nn.Linear(i, o, bias=False)), norm.after_layer((o,)), activation()]
        layers.append(norm.wrap_layer(nn.Linear([latent_dim, *hidden][-1], math.prod(shape))))
        self.layers = nn.Sequential(*layers, nn.Sigmoid() if bounded else nn.Identity()).apply(init_dcgan_weights)

    def forward(self, z: Tensor) -> Tensor:  # (B, latent_dim)
        return self.layers(z).unflatten(-1, self.shape)  # (B, *shape)


class Discriminator(nn.Module):
    """Samples to raw scores: linear layers with maxout, then one to the score.

    Args:
        shape: a sample's shape, or a pack's.
        hidden: widths of the hidden layers, from sample to score.
        pieces: linear functions of which each hidden unit is the greatest.
        minibatch_layer: makes a layer of `gan_lab.gan.networks.minibatch_layers` in front of the last one, from the features' shape.
    """

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int], pieces: int, minibatch_layer: BatchLayer | None = None
    ):
        super().__init__()
        self.sample_axes = len(shape)
        widths = [math.prod(shape), *hidden]
        layers: list[nn.Module] = []
        for i, o in pairwise(widths):
            layers += [nn.Linear(i, o * pieces), Maxout(pieces)]
        beside = [] if minibatch_layer is None else [minibatch_layer((widths[-1],))]
        features = widths[-1] + sum(layer.extra_features for layer in beside)
        self.layers = nn.Sequential(*layers, *beside, nn.Linear(features, 1)).apply(init_dcgan_weights)

    def forward(self, x: Tensor) -> Tensor:  # (B, *shape)
        return self.layers(x.flatten(-self.sample_axes)).squeeze(-1)  # (B,)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer makes its score of: `(B, F)` for samples `(B, *shape)`."""
        return self.layers[:-1](x.flatten(-self.sample_axes))
