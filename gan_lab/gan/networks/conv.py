"""Convolutional networks after DCGAN (Radford et al. 2016, arXiv:1511.06434), for images of 28 to 128 pixels.

Each layer doubles (G) or halves (D) the side of the feature maps with a 4×4 kernel of stride 2, between the image and
maps with a side of 4 to 7 pixels. Initial weights are DCGAN's: normal with standard deviation 0.02, biases 0.

With a number of `stages` they are the networks that papers on mode collapse call DCGAN, after its widespread TensorFlow
code: 5×5 kernels, as many halvings as stages, and odd sides are rounded up.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from gan_lab.core.declare import declares
from gan_lab.gan.networks.minibatch_layers import MinibatchLayerFactory, is_before_last_hidden
from gan_lab.gan.networks.norms import NoNorm, init_dcgan_weights
from gan_lab.gan.networks.shape_checks import halved_sides, halved_sides_rounded_up


def _sides(shape: Sequence[int], stages: int | None) -> list[int]:
    """Returns the sides of the feature maps, from the image down."""
    if stages is None:
        return halved_sides(shape)
    return halved_sides_rounded_up(shape, stages)


def _convolution(stages: int | None) -> tuple[int, int, int]:
    """Returns kernel size, stride and padding."""
    if stages is None:
        return 4, 2, 1
    return 5, 2, 2


@declares(shape_check="conv")
class Generator(nn.Module):
    """Turns latent vectors into images.

    Args:
        shape: of an image, `(C, H, W)`.
        latent_dim: length of a latent vector.
        bounded: whether data are in [0, 1]; if so, the last layer is a sigmoid, else it is linear.
        channels: feature maps next to the image; there are twice as many at each halving.
        activation: makes the activation of a hidden layer.
        norm: see `gan_lab.gan.networks.norms`; it is between layer and activation, as in DCGAN.
        stages: number of layers with 5×5 kernels; None: 4×4 kernels, up from a side of 4 to 7.

    Raises:
        LabError: for images of an unsuitable size.
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
        kernel, stride, padding = _convolution(stages)
        sides = _sides(shape, stages)[::-1]  # from the smallest map to the image, e.g. 7, 14, 28
        halvings = len(sides) - 1
        widths = [channels * 2**i for i in reversed(range(halvings))]  # of the maps before the image
        widths.append(shape[0])
        first = (widths[0], sides[0], sides[0])
        layers: list[nn.Module] = [
            norm.wrap_layer(nn.Linear(latent_dim, widths[0] * sides[0] ** 2)),
            nn.Unflatten(1, first),
            norm.after_layer(first),
            activation(),
        ]
        for i in range(halvings):
            side_out = sides[i + 1]
            # Without output padding a 4×4 kernel doubles the side, and a 5×5 kernel gives 2 · side − 1.
            output_padding = side_out - 2 * sides[i] + kernel % 2
            convolution = nn.ConvTranspose2d(widths[i], widths[i + 1], kernel, stride, padding, output_padding)
            layers.append(norm.wrap_layer(convolution))
            is_last = i == halvings - 1
            if not is_last:
                layers += [norm.after_layer((widths[i + 1], side_out, side_out)), activation()]
        layers.append(nn.Sigmoid() if bounded else nn.Identity())
        self.layers = nn.Sequential(*layers).apply(init_dcgan_weights)

    def forward(self, z: Tensor) -> Tensor:  # (B, latent_dim)
        return self.layers(z)  # (B, C, H, W)


@declares(shape_check="conv")
class Discriminator(nn.Module):
    """Turns images into raw scores. The first layer has no normalisation, as in DCGAN.

    Args:
        shape: of D's input without the batch axis, `(C, H, W)`.
        channels: feature maps of the first layer; there are twice as many at each further halving.
        activation: makes the activation of a hidden layer.
        norm: see `gan_lab.gan.networks.norms`.
        minibatch_layer: makes a layer of `gan_lab.gan.networks.minibatch_layers`; None: no layer.
        stages: as for `Generator`.

    Raises:
        LabError: for images of an unsuitable size.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: int,
        activation: Callable[[], nn.Module],
        norm: NoNorm,
        minibatch_layer: MinibatchLayerFactory | None = None,
        stages: int | None = None,
    ):
        super().__init__()
        kernel, stride, padding = _convolution(stages)
        sides = _sides(shape, stages)  # of the image and of the maps after each convolution, e.g. 28, 14, 7
        convolutions = len(sides) - 1
        # How many convolutions are before the minibatch layer.
        before = convolutions
        if is_before_last_hidden(minibatch_layer):
            before -= 1
        maps = shape[0]
        layers: list[nn.Module] = []
        for i, side in enumerate(sides):
            if minibatch_layer is not None and i == before:
                layer = minibatch_layer((maps, side, side))
                layers.append(layer)
                maps += layer.extra_features
            if i < convolutions:
                maps_out = channels * 2**i
                layers.append(norm.wrap_layer(nn.Conv2d(maps, maps_out, kernel, stride, padding)))
                if i > 0:
                    layers.append(norm.after_layer((maps_out, sides[i + 1], sides[i + 1])))
                layers.append(activation())
                maps = maps_out
        layers.append(nn.Flatten())
        layers.append(norm.wrap_layer(nn.Linear(maps * sides[-1] ** 2, 1)))
        self.layers = nn.Sequential(*layers).apply(init_dcgan_weights)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return self.layers(x).squeeze(-1)  # (B,)

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the last layer, `(B, F)`, for images `(B, C, H, W)`."""
        return self.layers[:-1](x)
