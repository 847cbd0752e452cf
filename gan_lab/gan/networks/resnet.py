"""Residual networks without normalisation after R3GAN (Huang et al. 2024, arXiv:2501.05441), for images of 8 to 128 px.

A stage is a number of residual blocks at one resolution; between stages the feature maps are resampled bilinearly. The
smallest maps, with a side of 4 to 7 pixels, are linear combinations of learnt patterns in G, and are reduced to one
number per channel in D.

Deep networks without normalisation need suitable initial weights: Fixup (Zhang et al. 2019, arXiv:1901.09321), with
which every block is the identity at first.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.parametrize import is_parametrized

from gan_lab.core.declare import declares
from gan_lab.gan.networks.minibatch_layers import MinibatchLayerFactory, is_before_last_hidden
from gan_lab.gan.networks.norms import NoNorm, WeightLayer
from gan_lab.gan.networks.shape_checks import halved_sides

# R3GAN's sizes, with which its networks have the published 20.7 million weights: channels inside a block relative to
# those outside, channels that one 3×3 kernel sees, and the largest number of channels of a stage.
EXPANSION = 2
GROUP_WIDTH = 16
MAX_CHANNELS = 768

# Keeps the variance through a leaky ReLU of slope 0.2 (He et al. 2015, arXiv:1502.01852).
LEAKY_RELU_GAIN = math.sqrt(2 / (1 + 0.2**2))


def _init_weights(layer: WeightLayer, gain: float = 1.0) -> WeightLayer:
    """Draws the layer's weights with variance gain² / fan-in and sets its bias to 0.

    Layers that spectral normalisation has reparametrised keep their own initial weights.
    """
    if not is_parametrized(layer):
        fan_in = layer.weight[0].numel()
        nn.init.normal_(layer.weight, 0, gain / math.sqrt(fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """A residual block: x + a 1×1, a grouped 3×3 and a 1×1 convolution of x. Initially the identity.

    The last convolution starts at 0 and the other two smaller than usual by L^(−1/(2m − 2)), where L is the number of
    blocks of the network and m = 3 the number of layers of a block (Fixup).

    Args:
        channels: of its input and output, `(B, channels, side, side)`.
        side: of the feature maps.
        total_blocks: L.
        activation: makes the activation between two layers.
        norm: see `gan_lab.gan.networks.norms`; it is between layer and activation.
    """

    def __init__(self, channels: int, side: int, total_blocks: int, activation: Callable[[], nn.Module], norm: NoNorm):
        super().__init__()
        inner = EXPANSION * channels
        # As many groups as give kernels of GROUP_WIDTH channels, or of fewer if that doesn't divide `inner`.
        groups = inner // math.gcd(inner, GROUP_WIDTH)
        gain = LEAKY_RELU_GAIN * total_blocks**-0.25
        self.layers = nn.Sequential(
            _init_weights(norm.wrap_layer(nn.Conv2d(channels, inner, 1)), gain),
            norm.after_layer((inner, side, side)),
            activation(),
            _init_weights(norm.wrap_layer(nn.Conv2d(inner, inner, 3, padding=1, groups=groups)), gain),
            norm.after_layer((inner, side, side)),
            activation(),
            _init_weights(norm.wrap_layer(nn.Conv2d(inner, channels, 1, bias=False)), 0),
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, channels, side, side)
        return x + self.layers(x)


class Basis(nn.Module):
    """Turns latent vectors into the smallest feature maps: a learnt pattern for each channel, times a number.

    Args:
        latent_dim: length of a latent vector.
        channels: number of feature maps.
        side: of the feature maps.
        norm: see `gan_lab.gan.networks.norms`.
    """

    def __init__(self, latent_dim: int, channels: int, side: int, norm: NoNorm):
        super().__init__()
        self.patterns = nn.Parameter(torch.randn(channels, side, side))
        self.scale = _init_weights(norm.wrap_layer(nn.Linear(latent_dim, channels, bias=False)))

    def forward(self, z: Tensor) -> Tensor:  # (B, latent_dim)
        return self.scale(z)[..., None, None] * self.patterns  # (B, channels, side, side)


class Resample(nn.Module):
    """Resamples feature maps bilinearly and changes the number of channels by a 1×1 convolution.

    The convolution is applied where the maps are smaller, and left out if the numbers of channels are equal.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        factor: 2 doubles the side, ½ halves it.
        norm: see `gan_lab.gan.networks.norms`.
    """

    def __init__(self, channels_in: int, channels_out: int, factor: float, norm: NoNorm):
        super().__init__()
        self.factor = factor
        self.channels: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.channels = _pointwise(channels_in, channels_out, norm)

    def forward(self, x: Tensor) -> Tensor:  # (B, channels_in, side, side)
        if self.factor > 1:
            return interpolate(self.channels(x), scale_factor=self.factor, mode="bilinear")
        # With a factor of ½, bilinear interpolation is the mean of 2×2 pixels.
        return self.channels(interpolate(x, scale_factor=self.factor, mode="bilinear"))


def _pointwise(channels_in: int, channels_out: int, norm: NoNorm) -> nn.Module:
    """Returns a 1×1 convolution."""
    return _init_weights(norm.wrap_layer(nn.Conv2d(channels_in, channels_out, 1, bias=False)))


class Stage(NamedTuple):
    """The feature maps at one resolution."""

    side: int
    channels: int


def _stages(shape: Sequence[int], channels: int) -> list[Stage]:
    """Returns the stages from the image down; channels double at each halving, up to MAX_CHANNELS."""
    sides = halved_sides(shape, "resnet", 8)
    return [Stage(side, min(channels * 2**i, MAX_CHANNELS)) for i, side in enumerate(sides)]


def _blocks_of_stages(
    starts: Sequence[nn.Module],
    stages: Sequence[Stage],
    blocks: int,
    activation: Callable[[], nn.Module],
    norm: NoNorm,
) -> list[nn.Module]:
    """Returns the layers of all stages: in each, its start and then its blocks."""
    total_blocks = blocks * len(stages)
    layers: list[nn.Module] = []
    for start, stage in zip(starts, stages, strict=True):
        layers.append(start)
        for _ in range(blocks):
            layers.append(Block(stage.channels, stage.side, total_blocks, activation, norm))
    return layers


@declares(shape_check="resnet")
class Generator(nn.Module):
    """Turns latent vectors into images.

    Args:
        shape: of an image, `(C, H, W)`.
        latent_dim: length of a latent vector.
        bounded: whether data are in [0, 1]; if so, the last layer is a sigmoid, else it is linear.
        channels: feature maps at the resolution of the image, at most 768; twice as many at each halving, up to 768.
        blocks: residual blocks of each stage.
        activation: makes the activation between two layers of a block.
        norm: see `gan_lab.gan.networks.norms`; it is between layer and activation. R3GAN has none.

    Raises:
        LabError: for images of an unsuitable size.
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
        smallest = stages[0]
        starts: list[nn.Module] = [Basis(latent_dim, smallest.channels, smallest.side, norm)]
        for before, after in pairwise(stages):
            starts.append(Resample(before.channels, after.channels, 2.0, norm))
        layers = _blocks_of_stages(starts, stages, blocks, activation, norm)
        layers.append(_pointwise(stages[-1].channels, shape[0], norm))
        layers.append(nn.Sigmoid() if bounded else nn.Identity())
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:  # (B, latent_dim)
        return self.layers(z)  # (B, C, H, W)


@declares(shape_check="resnet")
class Discriminator(nn.Module):
    """Turns images into raw scores.

    Args:
        shape: of D's input without the batch axis, `(C, H, W)`.
        channels, blocks, activation, norm: as for `Generator`.
        minibatch_layer: makes a layer of `gan_lab.gan.networks.minibatch_layers`; None: no layer.

    Raises:
        LabError: for images of an unsuitable size.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: int,
        blocks: int,
        activation: Callable[[], nn.Module],
        norm: NoNorm,
        minibatch_layer: MinibatchLayerFactory | None = None,
    ):
        super().__init__()
        stages = _stages(shape, channels)
        starts: list[nn.Module] = [_pointwise(shape[0], stages[0].channels, norm)]
        for before, after in pairwise(stages):
            starts.append(Resample(before.channels, after.channels, 0.5, norm))
        maps = stages[-1].channels
        side = stages[-1].side
        behind: list[nn.Module] = []
        if minibatch_layer is not None and is_before_last_hidden(minibatch_layer):
            # Before the last stage: there are at least two.
            before = stages[-2]
            layer = minibatch_layer((before.channels, before.side, before.side))
            resample = Resample(before.channels + layer.extra_features, maps, 0.5, norm)
            starts[-1] = nn.Sequential(layer, resample)
        elif minibatch_layer is not None:
            layer = minibatch_layer((maps, side, side))
            maps += layer.extra_features
            behind.append(layer)
        layers = [*_blocks_of_stages(starts, stages, blocks, activation, norm), *behind]
        # One pattern for each map, to which the map is compared: (B, maps, side, side) → (B, maps, 1, 1).
        layers.append(_init_weights(norm.wrap_layer(nn.Conv2d(maps, maps, side, groups=maps, bias=False))))
        layers.append(nn.Flatten())
        layers.append(_init_weights(norm.wrap_layer(nn.Linear(maps, 1, bias=False))))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return self.layers(x).squeeze(-1)  # (B,)

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the last layer, `(B, F)`, for images `(B, C, H, W)`."""
        return self.layers[:-1](x)
