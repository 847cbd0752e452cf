"""Fully connected networks of any depth: the book's `Linear → activation → normalisation → … → Linear`."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from gan_lab.core.declare import declares
from gan_lab.gan.networks.minibatch_layers import MinibatchLayerFactory, is_before_last_hidden
from gan_lab.gan.networks.norms import NoNorm


@declares(vectors=True)
class Generator(nn.Module):
    """Turns latent vectors into samples.

    Args:
        shape: of a sample, e.g. `(1, 28, 28)` or `(2,)`.
        latent_dim: length of a latent vector.
        bounded: whether data are in [0, 1]; if so, the last layer is a sigmoid, else it is linear.
        hidden: widths of the hidden layers, in order; None: `depth` layers of `width` units.
        activation: makes the activation of a hidden layer.
        norm: see `gan_lab.gan.networks.norms`.
        depth: number of hidden layers; None: 2.
        width: units in a hidden layer.
        he_init: whether the hidden layers start with He's weights, see `_hidden_layers`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        bounded: bool,
        hidden: Sequence[int] | None,
        activation: Callable[[], nn.Module],
        norm: NoNorm,
        depth: int | None = None,
        width: int = 256,
        he_init: bool = False,
    ):
        super().__init__()
        self.shape = tuple(shape)
        if hidden is None:
            hidden = [width] * (2 if depth is None else depth)
        widths = [latent_dim, *hidden]
        layers = _hidden_layers(widths, activation, norm, he_init)
        layers.append(norm.wrap_layer(nn.Linear(widths[-1], math.prod(shape))))
        layers.append(nn.Sigmoid() if bounded else nn.Identity())
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:  # (…, B, latent_dim)
        return self.layers(z).unflatten(-1, self.shape)  # (…, B, *shape)


@declares(vectors=True)
class Discriminator(nn.Module):
    """Turns samples into raw scores.

    Args:
        shape: of D's input without the batch axis.
        hidden: widths of the hidden layers, in order; None: `depth` layers of `width` units.
        activation: makes the activation of a hidden layer.
        norm: see `gan_lab.gan.networks.norms`.
        minibatch_layer: makes a layer of `gan_lab.gan.networks.minibatch_layers`; None: no layer.
        depth: number of hidden layers; None: 1, because on small data a discriminator as deep as the generator wins.
        width: units in a hidden layer.
        he_init: whether the hidden layers start with He's weights, see `_hidden_layers`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int] | None,
        activation: Callable[[], nn.Module],
        norm: NoNorm,
        minibatch_layer: MinibatchLayerFactory | None = None,
        depth: int | None = None,
        width: int = 256,
        he_init: bool = False,
    ):
        super().__init__()
        self.sample_ndim = len(shape)
        if hidden is None:
            hidden = [width] * (1 if depth is None else depth)
        widths = [math.prod(shape), *hidden]
        # How many hidden layers are before the minibatch layer.
        before = len(hidden)
        if is_before_last_hidden(minibatch_layer):
            before = max(0, before - 1)
        batch_layers: list[nn.Module] = []
        if minibatch_layer is not None:
            # Made before the hidden layers: the initial weights of a seed depend on the order in which layers are made.
            layer = minibatch_layer((widths[before],))
            batch_layers.append(layer)
        layers = _hidden_layers(widths[: before + 1], activation, norm, he_init)
        layers += batch_layers
        if minibatch_layer is not None:
            widths[before] += layer.extra_features
        layers += _hidden_layers(widths[before:], activation, norm, he_init)
        layers.append(norm.wrap_layer(nn.Linear(widths[-1], 1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:  # (…, B, *shape)
        return self.layers(x.flatten(-self.sample_ndim)).squeeze(-1)  # (…, B)

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the last layer, `(…, B, F)`, for samples `(…, B, *shape)`."""
        return self.layers[:-1](x.flatten(-self.sample_ndim))


def _hidden_layers(
    widths: Sequence[int], activation: Callable[[], nn.Module], norm: NoNorm, he_init: bool
) -> list[nn.Module]:
    """Returns a linear layer, an activation and a normalisation from each width to the next.

    With `he_init` the weights start uniform with variance 2 / inputs, which keeps the size of what passes rectifiers
    (He et al. 2015, arXiv:1502.01852); torch's own have a sixth of that variance, and networks begin smoother.
    """
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        linear = nn.Linear(width_in, width_out)
        if he_init:
            nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
        linear = norm.wrap_layer(linear)
        normalisation = norm.after_layer((width_out,))
        if norm.before_activation:
            layers += [linear, normalisation, activation()]
        else:
            layers += [linear, activation(), normalisation]
    return layers
