"""K networks of the same architecture as one module, so that K GANs are trained together.

Every tensor has a leading axis K: a parameter of shape `(out, in)` becomes `(K, out, in)`, a batch `(B, …)` becomes
`(K, B, …)`. Entry i along this axis belongs to network i; the networks share nothing. Parameters and buffers keep the
names that they have in one network, after the prefix `networks.`.

There are two ways to compute this. Fully connected networks become batched matrix products, which are fast: their
linear layers and layer normalisations are replaced by `BatchedLinear` and `BatchedLayerNorm`, and all of their other
layers work on any leading axes as they are. For any other network `torch.func.vmap` computes one network for all K sets
of weights, which is slower.
"""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import layer_norm

from gan_lab.gan.networks import mlp
from gan_lab.gan.networks.conditional import FeatureDiscriminator

# Modules whose forward method takes any axes in front of the batch if their layers do.
CONTAINERS = (nn.Sequential, mlp.Generator, mlp.Discriminator)

# Layers that look at each number by itself and have no parameters.
ELEMENTWISE_LAYERS = (
    nn.Identity,
    nn.Sigmoid,
    nn.Tanh,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Softsign,
    nn.Softshrink,
    nn.Hardshrink,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Tanhshrink,
    nn.Threshold,
    nn.LogSigmoid,
)


class Replicated(nn.Module):
    """K networks as one module, `(K, B, …)` → `(K, B, …)`.

    Network i computes from its batch `[i]` what it would compute by itself.

    Args:
        networks: K ≥ 1 networks of the same architecture; they are copied.

    Attributes:
        networks: one network whose parameters and buffers are those of all K, stacked.
        replicas: K.
        batched: whether the networks are computed by batched matrix products; else by `vmap`.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.replicas = len(networks)
        self.batched = _is_fully_connected(networks[0])
        # The architecture of one network, for `member`. In a tuple, so that it isn't registered as a part of this one.
        self._architecture = (copy.deepcopy(networks[0]),)
        stacked = _stack(networks)
        self.networks = _batch_layers(stacked) if self.batched else stacked

    def forward(self, x: Tensor) -> Tensor:  # (K, B, …)
        if self.batched:
            return self.networks(x)
        return _vmap_networks(self.networks, x)

    def features(self, x: Tensor) -> Tensor:
        """Returns the last hidden features of K discriminators, `(K, B, F)`."""
        extractor = _FeatureExtractor(self.networks)
        if self.batched:
            return extractor(x)
        return _vmap_networks(extractor, x)

    def member(self, i: int) -> nn.Module:
        """Returns a copy of network i as a plain module, `(B, …)` → `(B, …)`."""
        (architecture,) = self._architecture
        network = copy.deepcopy(architecture).to(next(self.networks.parameters()))
        network.load_state_dict({name: tensor[i] for name, tensor in self.networks.state_dict().items()})
        return network.train(self.training)


def _stack(networks: Sequence[nn.Module]) -> nn.Module:
    """Returns a copy of the first network, with the parameters and buffers of all networks stacked along a new axis."""
    stacked = copy.deepcopy(networks[0])
    for parameter, *parameters in zip(stacked.parameters(), *(n.parameters() for n in networks), strict=True):
        parameter.data = torch.stack([p.detach() for p in parameters])
    for buffer, *buffers in zip(stacked.buffers(), *(n.buffers() for n in networks), strict=True):
        buffer.data = torch.stack(buffers)
    return stacked


def _vmap_networks(networks: nn.Module, x: Tensor) -> Tensor:
    """Calls a module with stacked parameters and buffers once for each entry along their leading axis."""

    def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(networks, (parameters, buffers), (x,))

    return vmap(call)(dict(networks.named_parameters()), dict(networks.named_buffers()), x)


class _FeatureExtractor(nn.Module):
    """A discriminator that returns its last hidden features instead of scores."""

    def __init__(self, discriminator: nn.Module):
        super().__init__()
        self.discriminator = discriminator

    def forward(self, x: Tensor) -> Tensor:
        return cast(FeatureDiscriminator, self.discriminator).features(x)


def _is_fully_connected(network: nn.Module) -> bool:
    """Returns whether `_batch_layers` makes the network compute K networks together."""
    for layer in network.modules():
        # By exact type: a class derived from one of these can do anything.
        if type(layer) is nn.LayerNorm and len(layer.normalized_shape) == 1:
            continue
        if type(layer) not in (*CONTAINERS, *ELEMENTWISE_LAYERS, nn.Linear):
            return False
    return True


def _batch_layers(network: nn.Module) -> nn.Module:
    """Replaces the layers of a fully connected network whose parameters are stacked by their batched counterparts.

    Returns:
        The network, changed in place; or the new layer, if the network is a single layer.
    """
    batched: dict[nn.Module, nn.Module] = {}
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            batched[layer] = BatchedLinear(layer)
        elif isinstance(layer, nn.LayerNorm):
            batched[layer] = BatchedLayerNorm(layer)
    if network in batched:
        return batched[network]
    # A layer can be used at several places: with its duplicates, so that all of them are replaced.
    for path, layer in list(network.named_modules(remove_duplicate=False)):
        if layer in batched:
            parent_path, _, name = path.rpartition(".")
            network.get_submodule(parent_path).register_module(name, batched[layer])
    return network


class BatchedLinear(nn.Module):
    """K linear layers, `(K, B, in)` → `(K, B, out)`.

    Args:
        linear: a layer whose parameters are stacked: weight `(K, out, in)`, bias `(K, out)` or None.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return _BatchedAffine.apply(x, self.weight, self.bias)


class _BatchedAffine(torch.autograd.Function):
    """x Wᵀ + b for each of K layers; b can be None.

    Faster than autograd's own derivative of a batched product: that has the axes of W swapped, and copying it into
    place takes a third of the time of the product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        if bias is None:
            return torch.bmm(x, weight.mT)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # (K, B, out)
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        x_gradient = torch.bmm(gradient, weight) if needs_x else None
        weight_gradient = torch.bmm(gradient.mT, x) if needs_weight else None
        bias_gradient = gradient.sum(1) if needs_bias else None
        return x_gradient, weight_gradient, bias_gradient


class BatchedLayerNorm(nn.Module):
    """K layer normalisations over the last axis, `(K, B, F)` → `(K, B, F)`.

    Args:
        norm: a layer whose parameters are stacked: weight and bias `(K, F)`, either of them can be None.
    """

    def __init__(self, norm: nn.LayerNorm):
        super().__init__()
        self.normalized_shape = norm.normalized_shape
        self.eps = norm.eps
        self.weight: nn.Parameter | None = norm.weight
        self.bias: nn.Parameter | None = norm.bias

    def forward(self, x: Tensor) -> Tensor:
        x = layer_norm(x, self.normalized_shape, eps=self.eps)
        if self.weight is None:
            return x
        # One scale and shift for all samples of a batch: (K, 1, F).
        scale = self.weight.unsqueeze(1)
        if self.bias is None:
            return x * scale
        return torch.addcmul(self.bias.unsqueeze(1), x, scale)
