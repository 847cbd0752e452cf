"""What networks share: normalisations, and the start of DCGAN's weights.

A normalisation offers two things: `after_layer(shape)`, a module put behind a hidden layer whose output has that shape
(without the batch axis: `(F,)` or `(C, H, W)`), and `wrap_layer(layer)`, the layer itself with its weight
reparametrised. Most do only the first, spectral normalisation only the second.
"""

from collections.abc import Sequence

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from gan_lab.gan.networks.shape_checks import check_norm


class NoNorm:
    """No normalisation.

    Attributes:
        before_activation: in a fully connected layer it stands before the activation, not behind it as in the book.
    """

    before_activation = False

    def after_layer(self, shape: Sequence[int]) -> nn.Module:
        return nn.Identity()

    def wrap_layer(self, layer: nn.Module) -> nn.Module:
        return layer


class LayerNorm(NoNorm):
    """Each sample's features to mean 0 and variance 1 (Ba et al. 2016, arXiv:1607.06450); images over C, H and W,
    with one scale and shift per channel."""

    def after_layer(self, shape: Sequence[int]) -> nn.Module:
        check_norm("LayerNorm", shape)
        return nn.LayerNorm(shape[0]) if len(shape) == 1 else nn.GroupNorm(1, shape[0])


class BatchNorm(NoNorm):
    """Each feature to mean 0 and variance 1 over the batch (Ioffe & Szegedy 2015, arXiv:1502.03167).

    Training uses the batch's own statistics, sampling the running ones. Fully connected layers need at least 2 samples
    in a batch. It stands before the activation: right before D's last linear layer it would give every batch the same
    mean score.
    """

    before_activation = True

    def after_layer(self, shape: Sequence[int]) -> nn.Module:
        return nn.BatchNorm1d(shape[0]) if len(shape) == 1 else nn.BatchNorm2d(shape[0])


class GroupNorm(NoNorm):
    """Like layer normalisation, over groups of features or channels (Wu & He 2018, arXiv:1803.08494)."""

    def __init__(self, groups: int = 8):
        self.groups = groups

    def after_layer(self, shape: Sequence[int]) -> nn.Module:
        check_norm("GroupNorm", shape, self.groups)
        return nn.GroupNorm(self.groups, shape[0])


class InstanceNorm(NoNorm):
    """Each channel of each image to mean 0 and variance 1 (Ulyanov et al. 2016, arXiv:1607.08022), learnt scale."""

    def after_layer(self, shape: Sequence[int]) -> nn.Module:
        check_norm("InstanceNorm", shape)
        return nn.InstanceNorm2d(shape[0], affine=True)


class SpectralNorm(NoNorm):
    """Every weight matrix to spectral norm 1 by one power iteration a pass (Miyato et al. 2018, arXiv:1802.05957).

    Applied to D and G alike (as SAGAN does, arXiv:1805.08318), D's last layer included.
    """

    def wrap_layer(self, layer: nn.Module) -> nn.Module:
        return spectral_norm(layer)


def init_dcgan_weights(layer: nn.Module) -> None:
    """Weights of a linear layer or convolution drawn with standard deviation 0.02, biases 0 (Radford et al. 2016,
    arXiv:1511.06434, section 3); weights that a normalisation reparametrises have their own start."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and not is_parametrized(layer):
        nn.init.normal_(layer.weight, 0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
