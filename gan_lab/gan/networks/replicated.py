"""K networks of one architecture as one module: their tensors stacked, a leading axis K before the batch.

Fully connected networks become batched matrix products, anything else goes through `torch.func.vmap`, which is slower.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import layer_norm

from gan_lab.gan.networks import mlp

CONTAINERS = (nn.Sequential, mlp.Generator, mlp.Discriminator)  # whose forward takes any axes before the batch
ELEMENTWISE_LAYERS = (
    *(nn.Identity, nn.Sigmoid, nn.Tanh, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish),
    *(nn.Tanhshrink, nn.Threshold, nn.LogSigmoid),
)


class Replicated(nn.Module):
    """Takes `(K, B, …)`, gives `(K, B, …)`: what member i makes of its own batch `[i]`, as it would alone.

    Parameters and buffers are those of one network, by the same names behind `networks.`, with a leading K.

    Args:
        networks: K ≥ 1 of the same architecture; they are copied.

    Attributes:
        batched: whether the members share batched matrix products; else `vmap` plays them.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.replicas = len(networks)
        self.batched = _fully_connected(networks[0])
        self._one = [copy.deepcopy(networks[0])]  # in a list: its parameters aren't ours
        self.networks = copy.deepcopy(networks[0])
        for (path, layer), *others in zip(*(network.named_modules() for network in networks), strict=True):
            own = self.networks.get_submodule(path)
            for name, parameter in layer.named_parameters(recurse=False):
                stacked = torch.stack([parameter.detach(), *(getattr(other, name).detach() for _, other in others)])
                own.register_parameter(name, nn.Parameter(stacked, parameter.requires_grad))
            for name, buffer in layer.named_buffers(recurse=False):
                setattr(own, name, torch.stack([buffer, *(getattr(other, name) for _, other in others)]))
        if self.batched:
            for layer in self.networks.modules():
                layer.__class__ = {nn.Linear: _Linears, nn.LayerNorm: _LayerNorms}.get(type(layer), type(layer))

    def forward(self, x: Tensor) -> Tensor:  # (K, B, …)
        return self.networks(x) if self.batched else self._each(self.networks, x)

    def features(self, x: Tensor) -> Tensor:
        """Those of each discriminator, `(K, B, F)`."""
        return self.networks.features(x) if self.batched else self._each(_Features(self.networks), x)  # type: ignore[operator]

    @staticmethod
    def _each(network: nn.Module, x: Tensor) -> Tensor:
        def play(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(network, (parameters, buffers), (x,))

        return vmap(play)(dict(network.named_parameters()), dict(network.named_buffers()), x)

    def member(self, i: int) -> nn.Module:
        """Network i as a plain module, a copy: `(B, …) → (B, …)`."""
        network = copy.deepcopy(self._one[0]).to(next(self.networks.parameters()))
        network.load_state_dict({name: tensor[i] for name, tensor in self.networks.state_dict().items()})
        return network.train(self.training)


def _fully_connected(network: nn.Module) -> bool:
    """Whether a leading axis passes through all of its layers once the linear ones know of it."""
    plain = (*CONTAINERS, *ELEMENTWISE_LAYERS, nn.Linear)
    return all(
        type(layer) in plain or (type(layer) is nn.LayerNorm and len(layer.normalized_shape) == 1)
        for layer in network.modules()
    )


class _Features(nn.Module):
    """A discriminator that gives its features."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.features(x)  # type: ignore[operator]


class _Linears(nn.Linear):
    """K linear layers: weight `(K, out, in)`, bias `(K, out)`."""

    def forward(self, x: Tensor) -> Tensor:  # (K, B, in) → (K, B, out)
        return _Affine.apply(x, self.weight, self.bias)


class _Affine(torch.autograd.Function):
    """x Wᵀ + b for each member, b may be None.

    Torch's own gradient of a batched product comes with W's axes swapped, and copying it into place takes a third of
    the time that the product takes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if of_x else None,
            torch.bmm(gradient.mT, x) if of_weight else None,
            gradient.sum(1) if of_bias else None,
        )


class _LayerNorms(nn.LayerNorm):
    """K layer normalisations over the last axis: weight and bias `(K, F)`."""

    def forward(self, x: Tensor) -> Tensor:  # (K, B, F)
        x = layer_norm(x, self.normalized_shape, eps=self.eps)
        if self.weight is None:
            return x
        weight = self.weight.unsqueeze(1)
        return x * weight if self.bias is None else torch.addcmul(self.bias.unsqueeze(1), x, weight)
