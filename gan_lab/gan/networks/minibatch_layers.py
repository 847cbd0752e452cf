"""Layers that let D compare a sample with the rest of its batch, so that it notices a generator that repeats itself.

Each takes hidden features of D, `(…, B, F)` or maps `(…, B, C, H, W)`, and appends `extra_features` features or maps to
them. It is constructed from the shape of the features, `(F,)` or `(C, H, W)`. `before_last_hidden` says where in D it
belongs: before the last hidden layer, or behind it.

D's scores then depend on the batch: real samples and fakes are never mixed in one, and scores of batches of different
sizes can't be compared.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gan_lab.core.declare import declares
from gan_lab.core.errors import LabError


@declares(
    partial=True,
    conflicts={
        "conv_book.Discriminator": ("the book's D has no place for one more layer", "Take model=conv or model=mlp."),
    },
    settings={"group": {"type": "int", "low": 2, "high": 1_000_000, "help": "samples in a group"}},
    weak={"group": 2},
    strong={"group": 32},
)
class MinibatchStddev(nn.Module):
    """Appends the standard deviation within groups of samples as one feature or map (Karras et al. 2018).

    The standard deviation of each number over the group, averaged over all numbers: one value for a group, appended to
    each of its samples (arXiv:1710.10196, with the groups of the authors' code). Works on features and on maps.

    It stands before D's last hidden layer (of a residual network: the last stage), so that D can combine its value with
    the features of the sample, as in ProGAN, where a convolution and a hidden linear layer follow. Directly before the
    output layer it could only shift all scores of a group alike. No layer is added: a D with a single hidden layer gets
    the standard deviation of its input.

    There are ⌊B / group⌋ groups, at least one; sample i belongs to group i modulo that number, as in the authors' code.
    If `group` doesn't divide B, some groups have more samples; a batch smaller than `group` is one group.

    Args:
        shape: of the features, without the batch axis.
        group: number of samples in a group, ≥ 2: 4 in ProGAN and StyleGAN2, 32 in StyleGAN2-ADA for CIFAR-10.

    Raises:
        LabError: if `group` is too small.
    """

    extra_features = 1
    before_last_hidden = True

    def __init__(self, shape: Sequence[int], group: int = 4):
        super().__init__()
        if group < 2:
            raise LabError(
                f"The standard deviation of group={group} samples is always 0.",
                "Choose group=4.",
                code="invalid",
                key="remedy.minibatch_stddev.group",
            )
        self.shape = tuple(shape)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:  # (…, B, *shape)
        ndim = len(self.shape)
        flat = x.flatten(-ndim)  # (…, B, numbers)
        batch_size = flat.shape[-2]
        groups = max(1, batch_size // self.group)
        group_of_sample = torch.arange(batch_size, device=x.device) % groups  # (B,)
        group_sizes = group_of_sample.bincount(minlength=groups)[:, None]  # (groups, 1)

        def group_mean(values: Tensor) -> Tensor:  # (…, B, numbers) → (…, groups, numbers)
            zeros = values.new_zeros(*values.shape[:-2], groups, values.shape[-1])
            return zeros.index_add(-2, group_of_sample, values) / group_sizes

        deviations = flat - group_mean(flat).index_select(-2, group_of_sample)
        # 1e-8 keeps the gradient of the root finite where all samples of a group are equal.
        stddev = (group_mean(deviations.square()) + 1e-8).sqrt()
        group_stddev = stddev.mean(-1, keepdim=True)  # (…, groups, 1)
        sample_stddev = group_stddev.index_select(-2, group_of_sample)  # (…, B, 1)
        for _ in range(ndim - 1):
            sample_stddev = sample_stddev[..., None]
        new_feature = sample_stddev.expand_as(x.narrow(-ndim, 0, 1))  # (…, B, 1) or (…, B, 1, H, W)
        return torch.cat([x, new_feature], -ndim)


@declares(
    partial=True,
    conflicts={
        "MinibatchStddev": ("D has one layer that looks at the whole batch", "Leave one of them out."),
        "conv_book.Discriminator": ("the book's D has no place for one more layer", "Take model=conv or model=mlp."),
    },
    settings={
        "kernels": {
            "type": "int",
            "low": 1,
            "high": 10_000,
            "help": "number of kernels, each a feature added to D's last layer",
        },
        "dims": {"type": "int", "low": 1, "high": 10_000, "help": "dimensions of a kernel"},
    },
    weak={"kernels": 25},
    strong={"kernels": 200},
)
class MinibatchDiscrimination(nn.Module):
    """Appends how close a sample is to the others of its batch, by learnt distances (Salimans et al. 2016).

    o(xᵢ)_b = Σⱼ exp(−‖Mᵢ,b − Mⱼ,b‖₁) for b = 1 … kernels, where Mᵢ = T·f(xᵢ) are `kernels` rows of `dims` numbers
    (arXiv:1606.03498, section 3.2). The sum includes j = i, as in the paper's formula; the authors' code leaves this
    constant 1 out. As in that code D's output layer follows. Only for features `(…, B, F)`.

    The columns of T have initial lengths of about 1, as in the authors' code. Memory grows with B² · kernels · dims.

    Args:
        shape: of the features, `(F,)`.
        kernels: number of features to append.
        dims: numbers that one kernel compares.

    Raises:
        LabError: for feature maps.
    """

    before_last_hidden = False

    def __init__(self, shape: Sequence[int], kernels: int = 100, dims: int = 5):
        super().__init__()
        if len(shape) != 1:
            raise LabError(
                f"Minibatch discrimination compares vectors, not feature maps of the shape {tuple(shape)}.",
                "Use model=mlp, or the minibatch standard deviation.",
                code="conflict",
                key="remedy.minibatch_discrimination",
            )
        self.extra_features = kernels
        self.kernels = kernels
        self.project = nn.Linear(shape[0], kernels * dims, bias=False)
        nn.init.normal_(self.project.weight, std=shape[0] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:  # (…, B, F)
        rows = self.project(x).unflatten(-1, (self.kernels, -1))  # (…, B, kernels, dims)
        # One dimension after the other is two to three times as fast as all at once, whose last axis is short.
        distances = x.new_zeros(())
        for coordinates in rows.unbind(-1):
            distances = distances + (coordinates.unsqueeze(-2) - coordinates.unsqueeze(-3)).abs()  # (…, B, B, kernels)
        closeness = (-distances).exp().sum(-2)  # (…, B, kernels)
        return torch.cat([x, closeness], -1)


# Makes a layer for features of a shape, `(F,)` or `(C, H, W)`.
MinibatchLayerFactory = Callable[[Sequence[int]], MinibatchStddev | MinibatchDiscrimination]


def is_before_last_hidden(minibatch_layer: MinibatchLayerFactory | None) -> bool:
    """Tells whether the layer belongs before D's last hidden layer; else it belongs behind that."""
    # With its settings, a class is a `functools.partial`.
    layer_class = getattr(minibatch_layer, "func", minibatch_layer)
    return bool(getattr(layer_class, "before_last_hidden", False))
