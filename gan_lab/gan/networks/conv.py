"""Convolutional networks after DCGAN (Radford et al. 2016, arXiv:1511.06434), for images of 28 to 128 pixels.

Weights start as DCGAN's: normal, with standard deviation 0.02; biases at 0. Each step doubles (G) or
halves (D) the picture by a 4×4 kernel of stride 2, down to a side of 4 to 7 pixels. With a number of `stages` the
networks are those that mode-collapse papers call DCGAN, after its widespread TensorFlow code: 5×5 kernels, as many
halvings, odd sides halved upwards.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from gan_lab.gan.networks.minibatch_layers import BatchLayer
from gan_lab.gan.networks.norms import NoNorm, init_dcgan_weights
from gan_lab.gan.networks.shape_checks import halved_sides, halved_sides_rounded_up


def _sides(shape: Sequence[int], stages: int | None) -> tuple[list[int], tuple[int, int, int]]:
    """The maps' sides, from the picture down; its convolutions' kernel, stride and padding."""
    return (halved_sides(shape), (4, 2, 1)) if stages is None else (halved_sides_rounded_up(shape, stages), (5, 2, 2))


class Generator(nn.Module):
    """Latent vectors to images.

    Args:
        shape: an image's shape (C, H, W).
        latent_dim: length of a latent vector.
        bounded: end in a sigmoid, for data in [0, 1]; else end linear.
        channels: feature maps next to the picture; twice as many at each halving.
        activation: makes the module behind each hidden layer.
        norm: one of `gan_lab.gan.networks.norms`, put between layer and activation as in DCGAN.
        stages: halvings by 5×5 kernels; None: by 4×4 ones, down to a side of 4 to 7.

    Raises:
        LabError: for images of a size that it can't make.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        bounded: bool,
        channels: int,
        activation: Callable[[], nn.Module],
        norm: NoNorm,
        stages: int | None = None,
    ):
        super().__init__()
        sides, kind = _sides(shape, stages)
        sides = sides[::-1]  # smallest first, the picture's last: 7, 14, 28
        widths = [channels * 2**i for i in reversed(range(len(sides) - 1))]
        side, width = sides[0], widths[0]
        layers: list[nn.Module] = [
            norm.wrap_layer(nn.Linear(latent_dim, width * side * side)),
            nn.Unflatten(1, (width, side, side)),
            norm.after_layer((width, side, side)),
            activation(),
        ]
        for i, o, (small, s) in zip(widths, [*widths[1:], shape[0]], pairwise(sides), strict=True):
            more = s - 2 * small + kind[0] % 2  # rows and columns: a 5×5 kernel gives 2·small − 1
            layers.append(norm.wrap_layer(nn.ConvTranspose2d(i, o, *kind, more)))
            layers += [norm.after_layer((o, s, s)), activation()] if s < sides[-1] else []
        self.layers = nn.Sequential(*layers, nn.Sigmoid() if bounded else nn.Identity()).apply(init_dcgan_weights)

    def forward(self, z: Tensor) -> Tensor:  # (B, latent_dim)
        return self.layers(z)  # (B, C, H, W)


class Discriminator(nn.Module):
    """Images to raw scores; arguments as for `Generator`. No normalisation behind the first layer, as in DCGAN.

    Args:
        minibatch_layer: makes a layer of `gan_lab.gan.networks.minibatch_layers` behind the last maps, from their shape.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: int,
        activation: Callable[[], nn.Module],
        norm: NoNorm,
        minibatch_layer: BatchLayer | None = None,
        stages: int | None = None,
    ):
        super().__init__()
        sides, kind = _sides(shape, stages)
        sides = sides[1:]  # 14, 7
        widths = [channels * 2**i for i in range(len(sides))]
        layers: list[nn.Module] = [norm.wrap_layer(nn.Conv2d(shape[0], widths[0], *kind)), activation()]
        for i, o, s in zip(widths, widths[1:], sides[1:], strict=False):
            down = norm.wrap_layer(nn.Conv2d(i, o, *kind))
            layers += [down, norm.after_layer((o, s, s)), activation()]
        beside = [] if minibatch_layer is None else [minibatch_layer((widths[-1], sides[-1], sides[-1]))]
        maps = widths[-1] + sum(layer.extra_features for layer in beside)
        last = norm.wrap_layer(nn.Linear(maps * sides[-1] ** 2, 1))
        self.layers = nn.Sequential(*layers, *beside, nn.Flatten(), last).apply(init_dcgan_weights)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return self.layers(x).squeeze(-1)  # (B,)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer makes its score of, flattened: `(B, F)` for images `(B, C, H, W)`."""
        return self.layers[:-1](x)
