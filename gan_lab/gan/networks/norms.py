"""Normalisations of hidden layers, and DCGAN's initial weights.

A normalisation either follows a layer or changes its weight, so it has two methods. `after_layer(shape)` returns a
module for the output of a hidden layer, which has this shape without the batch axis, `(F,)` or `(C, H, W)`.
`wrap_layer(layer)` returns the layer with its weight reparametrised. Most normalisations do the first, spectral
normalisation does the second.
"""

from collections.abc import Sequence
from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from gan_lab.core.declare import declares
from gan_lab.gan.networks.shape_checks import check_norm

WeightLayer = TypeVar("WeightLayer", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class NoNorm:
    """No normalisation, and the base of the others.

    Attributes:
        before_activation: whether fully connected layers have it before the activation; the book has it after.
    """

    before_activation = False

    def after_layer(self, shape: Sequence[int]) -> nn.Module:
        """Returns the module for the output of a layer, `(B, *shape)` → `(B, *shape)`.

        Raises:
            LabError: if the normalisation of this shape would be constant or is impossible.
        """
        return nn.Identity()

    def wrap_layer(self, layer: WeightLayer) -> WeightLayer:
        """Returns the layer with its weight normalised."""
        return layer


class LayerNorm(NoNorm):
    """Normalises each sample over all of its features to mean 0 and variance 1 (Ba et al. 2016, arXiv:1607.06450).

    For feature maps the statistics are over C, H and W, with one learnt scale and shift for each channel.
    """

    def after_layer(self, shape: Sequence[int]) -> nn.Module:
        check_norm("LayerNorm", shape)
        if len(shape) == 1:
            return nn.LayerNorm(shape[0])
        return nn.GroupNorm(1, shape[0])


@declares(
    conflicts={
        "one_vector": (
            "the statistics of a batch of one are the sample itself",
            "Take batch_size=2 or more, or norm=layer, which normalises each sample by itself.",
        ),
        "ddp": (
            "each process would have other statistics, those of its share of a batch",
            "norm=layer, group or instance normalise each sample by itself.",
        ),
    },
)
class BatchNorm(NoNorm):
    """Normalises each feature over the batch to mean 0 and variance 1 (Ioffe & Szegedy 2015, arXiv:1502.03167).

    Training uses the statistics of the batch, sampling the running ones. A fully connected layer needs a batch of at
    least 2 samples. In fully connected networks it is before the activation: directly before D's last linear layer it
    would give every batch the same mean score.
    """

    before_activation = True

    def after_layer(self, shape: Sequence[int]) -> nn.Module:
        if len(shape) == 1:
            return nn.BatchNorm1d(shape[0])
        return nn.BatchNorm2d(shape[0])


class GroupNorm(NoNorm):
    """Normalises each sample over groups of its features or channels (Wu & He 2018, arXiv:1803.08494).

    Args:
        groups: number of groups; has to divide the number of features or channels.
    """

    def __init__(self, groups: int = 8):
        self.groups = groups

    def after_layer(self, shape: Sequence[int]) -> nn.Module:
        check_norm("GroupNorm", shape, self.groups)
        return nn.GroupNorm(self.groups, shape[0])


class InstanceNorm(NoNorm):
    """Normalises each channel of each image to mean 0 and variance 1 (Ulyanov et al. 2016, arXiv:1607.08022).

    Each channel has a learnt scale and shift.
    """

    def after_layer(self, shape: Sequence[int]) -> nn.Module:
        check_norm("InstanceNorm", shape)
        return nn.InstanceNorm2d(shape[0], affine=True)


@declares(
    conflicts={
        "replicas": ("its power iteration is for one network", "Train seeds one by one instead: -m seed=0,1,2"),
    },
)
class SpectralNorm(NoNorm):
    """Divides each weight matrix by its spectral norm (Miyato et al. 2018, arXiv:1802.05957).

    The norm is estimated by one power iteration in each forward pass. Both D and G are normalised, as in SAGAN (Zhang
    et al. 2019, arXiv:1805.08318), including D's last layer.
    """

    def wrap_layer(self, layer: WeightLayer) -> WeightLayer:
        spectral_norm(layer)  # in place
        return layer


def init_dcgan_weights(layer: nn.Module) -> None:
    """Initialises a layer as DCGAN does (Radford et al. 2016, arXiv:1511.06434, section 3); for `nn.Module.apply`.

    Weights of linear layers and convolutions are normal with standard deviation 0.02, biases 0. Layers that spectral
    normalisation has reparametrised keep their own initial weights, and all other layers are left as they are.
    """
    if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) or is_parametrized(layer):
        return
    nn.init.normal_(layer.weight, 0, 0.02)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
