"""Layers in front of D's last one through which a sample is judged beside the rest of its batch: a generator that
repeats itself can be told by that alone.

Each takes D's last hidden features, `(…, B, F)` or maps `(…, B, C, H, W)`, and appends `extra_features` features or maps to
them. They are made from the features' shape, `(F,)` or `(C, H, W)`. D's answer then depends on the batch: real samples
and fakes must not be mixed in one, and measuring gives other scores for other batch sizes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gan_lab.core.errors import LabError

BatchLayer = Callable[[Sequence[int]], "MinibatchStddev | MinibatchDiscrimination"]


class MinibatchStddev(nn.Module):
    """One more feature, or map: how much a group of samples varies (Karras et al. 2018, arXiv:1710.10196, the code's
    groups): the standard deviation over the group of each number, averaged over all of them, the same for the whole
    group. Works on features and maps.

    There are ⌊B / group⌋ groups, at least one; sample i belongs to group i modulo that number, as in the authors' code.
    Where `group` doesn't divide B some hold more; a batch smaller than that is one group.

    Args:
        shape: of the features.
        group: samples in a group: 4 in ProGAN and StyleGAN2, 32 in StyleGAN2-ADA for CIFAR-10.
    """

    extra_features = 1

    def __init__(self, shape: Sequence[int], group: int = 4):
        super().__init__()
        if group < 2:
            raise LabError(f"Groups of group={group} samples don't vary.", "Choose group=4.")
        self.shape, self.group = tuple(shape), group

    def forward(self, x: Tensor) -> Tensor:
        rank = len(self.shape)
        flat = x.flatten(-rank)  # (…, B, numbers)
        groups = max(1, flat.shape[-2] // self.group)
        member = torch.arange(flat.shape[-2], device=x.device) % groups
        sizes = member.bincount(minlength=groups)[:, None]

        def mean(values: Tensor) -> Tensor:  # (…, B, numbers) → (…, groups, numbers)
            empty = values.new_zeros(*values.shape[:-2], groups, values.shape[-1])
            return empty.index_add(-2, member, values) / sizes

        off = flat - mean(flat).index_select(-2, member)
        deviation = (mean(off.square()) + 1e-8).sqrt().mean(-1, keepdim=True)  # (…, groups, 1)
        own = deviation.index_select(-2, member)  # (…, B, 1)
        return torch.cat([x, own.view(*own.shape, *[1] * (rank - 1)).expand_as(x.narrow(-rank, 0, 1))], -rank)


class MinibatchDiscrimination(nn.Module):
    """How near a sample is to the others of its batch, by `kernels` learnt measures (Salimans et al. 2016,
    arXiv:1606.03498, section 3.2): o(xᵢ)_b = Σⱼ exp(−‖Mᵢ,b − Mⱼ,b‖₁), where M = T·f(x) are `kernels` rows of `dims`
    numbers. The sum includes j = i, which adds 1. Features `(…, B, F)` only.

    T starts with columns of length about 1, as in the authors' code. Memory grows with B² · kernels · dims.

    Args:
        shape: of the features, `(F,)`.
        kernels: how many features it adds.
        dims: numbers that a kernel compares.
    """

    def __init__(self, shape: Sequence[int], kernels: int = 100, dims: int = 5):
        super().__init__()
        if len(shape) != 1:
            raise LabError(
                f"Minibatch discrimination compares vectors, not feature maps of the shape {tuple(shape)}.",
                "Use model=mlp, or the minibatch standard deviation.",
            )
        self.extra_features, self.kernels = kernels, kernels
        self.project = nn.Linear(shape[0], kernels * dims, bias=False)
        nn.init.normal_(self.project.weight, std=shape[0] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:  # (…, B, F)
        rows = self.project(x).unflatten(-1, (self.kernels, -1))  # (…, B, kernels, dims)
        distances = (rows.unsqueeze(-3) - rows.unsqueeze(-4)).abs().sum(-1)  # (…, B, B, kernels)
        return torch.cat([x, (-distances).exp().sum(-2)], -1)
