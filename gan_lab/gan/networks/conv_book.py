"""The book's convolutional networks for faces (notebooks 14 and 15), there for 128×128 colour images.

Each has three layers with 8×8 kernels of stride 2. For 128×128 the sides of the maps are 11 → 28 → 62 → 128 in G and
128 → 61 → 27 → 10 in D.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from gan_lab.core.declare import declares
from gan_lab.gan.networks.norms import NoNorm
from gan_lab.gan.networks.shape_checks import book_generator_sides

KERNEL = 8
STRIDE = 2
LAYERS = 3


@declares(shape_check="conv_book")
class Generator(nn.Module):
    """Turns latent vectors into images.

    Args:
        shape: of an image, `(C, H, W)`.
        latent_dim: length of a latent vector.
        bounded: whether data are in [0, 1]; if so, the last layer is a sigmoid, else it is linear.
        channels: feature maps of the hidden layers, 256 in the book.
        activation: makes the activation of a hidden layer.
        norm: see `gan_lab.gan.networks.norms`; it is before each activation and, as in the book, the last sigmoid.

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
    ):
        super().__init__()
        first_sides, sides, crop = book_generator_sides(shape)
        image_channels = shape[0]
        layers: list[nn.Module] = [
            norm.wrap_layer(nn.Linear(latent_dim, image_channels * first_sides[0] * first_sides[1])),
            activation(),
            nn.Unflatten(1, (image_channels, *first_sides)),
        ]
        widths = [image_channels, channels, channels, image_channels]
        for i in range(LAYERS):
            is_last = i == LAYERS - 1
            padding = crop if is_last else (0, 0)
            convolution = nn.ConvTranspose2d(widths[i], widths[i + 1], KERNEL, STRIDE, padding)
            layers += [norm.wrap_layer(convolution), norm.after_layer((widths[i + 1], *sides[i]))]
            if not is_last:
                layers.append(activation())
        layers.append(nn.Sigmoid() if bounded else nn.Identity())
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:  # (B, latent_dim)
        return self.layers(z)  # (B, C, H, W)


@declares(shape_check="conv_book")
class Discriminator(nn.Module):
    """Turns images into raw scores. The last feature maps have no normalisation, as in the book.

    Args:
        shape: of an image, `(C, H, W)`.
        channels: feature maps of the hidden layers, 256 in the book.
        activation: makes the activation of a hidden layer.
        norm: see `gan_lab.gan.networks.norms`; it is before the activation.

    Raises:
        LabError: for images of an unsuitable size.
    """

    def __init__(self, shape: Sequence[int], channels: int, activation: Callable[[], nn.Module], norm: NoNorm):
        super().__init__()
        book_generator_sides(shape)  # D takes the images that G can make
        height, width = shape[1:]
        layers: list[nn.Module] = []
        widths = [shape[0], channels, channels, shape[0]]
        for i in range(LAYERS):
            height = (height - KERNEL) // STRIDE + 1
            width = (width - KERNEL) // STRIDE + 1
            layers.append(norm.wrap_layer(nn.Conv2d(widths[i], widths[i + 1], KERNEL, STRIDE)))
            is_last = i == LAYERS - 1
            if not is_last:
                layers.append(norm.after_layer((widths[i + 1], height, width)))
            layers.append(activation())
        layers.append(nn.Flatten())
        layers.append(norm.wrap_layer(nn.Linear(shape[0] * height * width, 1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return self.layers(x).squeeze(-1)  # (B,)

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the last layer, `(B, F)`, for images `(B, C, H, W)`."""
        return self.layers[:-1](x)
