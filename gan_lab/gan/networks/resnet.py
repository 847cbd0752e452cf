"""Residual networks without normalisation after R3GAN (Huang et al. 2024, arXiv:2501.05441), for images of 8 to 128
pixels.

A stage has residual blocks at one size of the picture; between stages it is resampled bilinearly. The smallest maps, of
a side of 4 to 7 pixels, are made (G) or judged (D) by a basis: one pattern per channel. Weights start by fix-up (Zhang
et al. 2019, arXiv:1901.09321), without which deep networks need normalisation: each block is the identity at first.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.parametrize import is_parametrized

from gan_lab.gan.networks.minibatch_layers import BatchLayer
from gan_lab.gan.networks.norms import NoNorm
from gan_lab.gan.networks.shape_checks import halved_sides

EXPANSION = 2  # of the channels within a block
GROUP = 16  # channels that a 3×3 kernel sees: with these two R3GAN's networks have their 20.7 million weights
MOST = 768  # channels of a stage, R3GAN's
GAIN = math.sqrt(2 / (1 + 0.2**2))  # a leaky ReLU of slope 0.2 keeps the variance by it (He et al. 2015)


def _started(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    """The layer with weights of variance gain² / fan-in and biases of 0; spectral normalisation has its own start."""
    if not is_parametrized(layer):
        nn.init.normal_(layer.weight, 0, gain / math.sqrt(layer.weight[0].numel()))  # type: ignore[index, arg-type]
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class Block(nn.Module):
    """x + a 1×1 → 3×3 → 1×1 convolution of it, wider within, the 3×3 in groups; starts as the identity.

    Args:
        channels: of x `(B, channels, side, side)`, and of what comes out.
        blocks: how many the network has, L: the first two layers start smaller by L^(−1/(2m−2)), m = 3 layers.
    """

    def __init__(self, channels: int, side: int, blocks: int, activation: Callable[[], nn.Module], norm: NoNorm):
        super().__init__()
        wide = EXPANSION * channels
        gain, groups = GAIN * blocks**-0.25, wide // math.gcd(wide, GROUP)
        self.layers = nn.Sequential(
            _started(norm.wrap_layer(nn.Conv2d(channels, wide, 1)), gain),
            norm.after_layer((wide, side, side)),
            activation(),
            _started(norm.wrap_layer(nn.Conv2d(wide, wide, 3, padding=1, groups=groups)), gain),
            norm.after_layer((wide, side, side)),
            activation(),
            _started(norm.wrap_layer(nn.Conv2d(wide, channels, 1, bias=False)), 0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Basis(nn.Module):
    """Latent vectors `(B, latent_dim)` to maps `(B, channels, side, side)`: a learnt pattern per channel, scaled."""

    def __init__(self, latent_dim: int, channels: int, side: int, norm: NoNorm):
        super().__init__()
        self.patterns = nn.Parameter(torch.randn(channels, side, side))
        self.scale = _started(norm.wrap_layer(nn.Linear(latent_dim, channels, bias=False)))

    def forward(self, z: Tensor) -> Tensor:
        return self.scale(z)[..., None, None] * self.patterns


class Resample(nn.Module):
    """Maps to another side, bilinearly, and by a 1×1 convolution to another number of channels where it differs. The
    convolution works on the smaller maps."""

    def __init__(self, before: int, after: int, factor: float, norm: NoNorm):
        super().__init__()
        self.factor, self.channels = factor, nn.Identity() if before == after else _pointwise(before, after, norm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channels(x) if self.factor > 1 else x
        x = interpolate(x, scale_factor=self.factor, mode="bilinear")  # halving is the mean of 2×2
        return x if self.factor > 1 else self.channels(x)


def _pointwise(before: int, after: int, norm: NoNorm) -> nn.Module:
    return _started(norm.wrap_layer(nn.Conv2d(before, after, 1, bias=False)))


def _stages(shape: Sequence[int], channels: int) -> list[tuple[int, int]]:
    """Side and channels of each stage, from the picture down."""
    return [(side, min(channels * 2**i, MOST)) for i, side in enumerate(halved_sides(shape, "resnet", 8))]


class Generator(nn.Module):
    """Latent vectors to images.

    Args:
        shape: an image's shape (C, H, W).
        latent_dim: length of a latent vector.
        bounded: end in a sigmoid, for data in [0, 1]; else end linear.
        channels: feature maps of the picture's size, at most 768; twice as many at each halving, up to that.
        blocks: residual blocks of each size.
        activation: makes the module between the layers of a block.
        norm: one of `gan_lab.gan.networks.norms`, put between layer and activation; R3GAN has none.

    Raises:
        LabError: for images of a size that it can't make.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        bounded: bool,
        channels: int,
        blocks: int,
        activation: Callable[[], nn.Module],
        norm: NoNorm,
    ):
        super().__init__()
        stages = _stages(shape, channels)[::-1]
        starts: list[nn.Module] = [Basis(latent_dim, stages[0][1], stages[0][0], norm)]
        starts += [Resample(before, after, 2.0, norm) for (_, before), (_, after) in pairwise(stages)]
        layers: list[nn.Module] = []
        for start, (side, width) in zip(starts, stages, strict=True):
            layers += [start, *(Block(width, side, blocks * len(stages), activation, norm) for _ in range(blocks))]
        layers.append(_pointwise(stages[-1][1], shape[0], norm))
        self.layers = nn.Sequential(*layers, nn.Sigmoid() if bounded else nn.Identity())

    def forward(self, z: Tensor) -> Tensor:  # (B, latent_dim)
        return self.layers(z)  # (B, C, H, W)


class Discriminator(nn.Module):
    """Images to raw scores; arguments as for `Generator`.

    Args:
        minibatch_layer: makes a layer of `gan_lab.gan.networks.minibatch_layers` behind the last maps, from their shape.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: int,
        blocks: int,
        activation: Callable[[], nn.Module],
        norm: NoNorm,
        minibatch_layer: BatchLayer | None = None,
    ):
        super().__init__()
        stages = _stages(shape, channels)
        starts = [_pointwise(shape[0], stages[0][1], norm)]
        starts += [Resample(before, after, 0.5, norm) for (_, before), (_, after) in pairwise(stages)]
        layers: list[nn.Module] = []
        for start, (side, width) in zip(starts, stages, strict=True):
            layers += [start, *(Block(width, side, blocks * len(stages), activation, norm) for _ in range(blocks))]
        side, width = stages[-1]
        beside = [] if minibatch_layer is None else [minibatch_layer((width, side, side))]
        maps = width + sum(layer.extra_features for layer in beside)
        basis = _started(norm.wrap_layer(nn.Conv2d(maps, maps, side, groups=maps, bias=False)))
        last = _started(norm.wrap_layer(nn.Linear(maps, 1, bias=False)))
        self.layers = nn.Sequential(*layers, *beside, basis, nn.Flatten(), last)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return self.layers(x).squeeze(-1)  # (B,)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer makes its score of: `(B, F)` for images `(B, C, H, W)`."""
        return self.layers[:-1](x)
