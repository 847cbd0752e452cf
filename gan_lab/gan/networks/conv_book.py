"""The book's convolutional networks for faces (notebooks 14 and 15), there for 128×128 colour images.

Three layers each with 8×8 kernels of stride 2. On 128×128: G goes 11 → 28 → 62 → 128, D 128 → 61 → 27 → 10.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from gan_lab.gan.networks.norms import NoNorm
from gan_lab.gan.networks.shape_checks import book_generator_sides

KERNEL, STRIDE = 8, 2


class Generator(nn.Module):
    """Latent vectors to images.

    Args:
        shape: an image's shape (C, H, W).
        latent_dim: length of a latent vector.
        bounded: end in a sigmoid, for data in [0, 1]; else end linear.
        channels: feature maps of the hidden layers; the book's 256.
        activation: makes the module behind each hidden layer.
        norm: one of `gan_lab.gan.networks.norms`, in front of the activation and, as in the book, of the last sigmoid.

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
    ):
        super().__init__()
        first, maps, surplus = book_generator_sides(shape)
        layers: list[nn.Module] = [
            norm.wrap_layer(nn.Linear(latent_dim, shape[0] * first[0] * first[1])),
            activation(),
            nn.Unflatten(1, (shape[0], *first)),
        ]
        widths, surpluses = [shape[0], channels, channels], [(0, 0), (0, 0), surplus]
        for i, o, sides, padding in zip(widths, [*widths[1:], shape[0]], maps, surpluses, strict=True):
            up = nn.ConvTranspose2d(i, o, KERNEL, STRIDE, padding)
            layers += [norm.wrap_layer(up), norm.after_layer((o, *sides)), activation()]
        layers[-1] = nn.Sigmoid() if bounded else nn.Identity()
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:  # (B, latent_dim)
        return self.layers(z)  # (B, C, H, W)


class Discriminator(nn.Module):
    """Images to raw scores; arguments as for `Generator`. No normalisation of the last feature maps, as in the book."""

    def __init__(self, shape: Sequence[int], channels: int, activation: Callable[[], nn.Module], norm: NoNorm):
        super().__init__()
        book_generator_sides(shape)
        layers: list[nn.Module] = []
        sides, widths = tuple(shape[1:]), [shape[0], channels, channels]
        for i, o in zip(widths, [*widths[1:], shape[0]], strict=True):
            sides = tuple((side - KERNEL) // STRIDE + 1 for side in sides)
            down = norm.wrap_layer(nn.Conv2d(i, o, KERNEL, STRIDE))
            layers += [down, *([norm.after_layer((o, *sides))] if len(layers) < 6 else []), activation()]
        flat = shape[0] * sides[0] * sides[1]
        self.layers = nn.Sequential(*layers, nn.Flatten(), norm.wrap_layer(nn.Linear(flat, 1)))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return self.layers(x).squeeze(-1)  # (B,)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer makes its score of: `(B, F)` for images `(B, C, H, W)`."""
        return self.layers[:-1](x)
