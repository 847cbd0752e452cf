"""PacGAN's networks for points in the plane (Lin et al. 2018, arXiv:1712.04086, section 4.1).

Layers are those of the authors' code: a batch-normalised G, and a D of maxout layers without normalisation. Initial
weights are normal with standard deviation 0.02, biases 0.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from gan_lab.core.declare import declares
from gan_lab.gan.networks.minibatch_layers import MinibatchLayerFactory, is_before_last_hidden
from gan_lab.gan.networks.norms import NoNorm, init_dcgan_weights


class Maxout(nn.Module):
    """Maxout activation (Goodfellow et al. 2013, arXiv:1302.4389).

    The maximum of each `pieces` neighbouring features: `(…, features · pieces)` → `(…, features)`.
    """

    def __init__(self, pieces: int):
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.pieces)).amax(-1)


@declares(vectors=True)
class Generator(nn.Module):
    """Turns latent vectors into samples. Hidden layers have no bias, as the normalisation after them has one.

    Args:
        shape: of a sample, e.g. `(2,)`.
        latent_dim: length of a latent vector.
        bounded: whether data are in [0, 1]; if so, the last layer is a sigmoid, else it is linear.
        hidden: widths of the hidden layers, in order.
        activation: makes the activation of a hidden layer.
        norm: see `gan_lab.gan.networks.norms`; it is between layer and activation.
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
        widths = [latent_dim, *hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            linear = norm.wrap_layer(nn.Linear(width_in, width_out, bias=False))
            layers += [linear, norm.after_layer((width_out,)), activation()]
        layers.append(norm.wrap_layer(nn.Linear(widths[-1], math.prod(shape))))
        layers.append(nn.Sigmoid() if bounded else nn.Identity())
        self.layers = nn.Sequential(*layers).apply(init_dcgan_weights)

    def forward(self, z: Tensor) -> Tensor:  # (B, latent_dim)
        return self.layers(z).unflatten(-1, self.shape)  # (B, *shape)


@declares(vectors=True)
class Discriminator(nn.Module):
    """Turns samples into raw scores: linear layers with maxout activations, then one linear layer.

    Args:
        shape: of D's input without the batch axis: of a sample or of a pack.
        hidden: widths of the hidden layers, in order.
        pieces: number of linear functions of which a hidden unit is the maximum.
        minibatch_layer: makes a layer of `gan_lab.gan.networks.minibatch_layers`; None: no layer.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        pieces: int,
        minibatch_layer: MinibatchLayerFactory | None = None,
    ):
        super().__init__()
        self.sample_ndim = len(shape)
        # How many hidden layers are before the minibatch layer.
        before = len(hidden)
        if is_before_last_hidden(minibatch_layer):
            before = max(0, before - 1)
        features = math.prod(shape)
        layers: list[nn.Module] = []
        for i in range(len(hidden) + 1):
            if minibatch_layer is not None and i == before:
                layer = minibatch_layer((features,))
                layers.append(layer)
                features += layer.extra_features
            if i < len(hidden):
                layers += [nn.Linear(features, hidden[i] * pieces), Maxout(pieces)]
                features = hidden[i]
        layers.append(nn.Linear(features, 1))
        self.layers = nn.Sequential(*layers).apply(init_dcgan_weights)

    def forward(self, x: Tensor) -> Tensor:  # (B, *shape)
        return self.layers(x.flatten(-self.sample_ndim)).squeeze(-1)  # (B,)

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the last layer, `(B, F)`, for samples `(B, *shape)`."""
        return self.layers[:-1](x.flatten(-self.sample_ndim))
