"""Averages of weights over the steps: one that makes the samples, one that the weights are held to."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm

SETTLING = 16  # batches from which batch statistics are counted anew


class EMA:
    """Samples are made by an exponential moving average of G's weights (Yazıcı et al. 2019, arXiv:1806.04498; ProGAN,
    Karras et al. 2018): after each step, average ← decay · average + (1 − decay) · weights. Training itself, D
    included, never sees it.

    Args:
        decay: in [0, 1): 0.999 in ProGAN, 0.9999 in BigGAN. An average over about 1/(1 − decay) steps.
    """

    def __init__(self, decay: float = 0.999):
        self.decay = decay

    def make_average(self, generator: nn.Module) -> "AveragedNetwork":
        return AveragedNetwork(generator, self.decay)


class AveragedNetwork(nn.Module):
    """The average of a network's weights, from those that it has now onwards.

    Buffers are copied, not averaged; running batch statistics and spectral norm's vectors, which belong to other
    weights, are found anew before the average is used: see `recalibrate_batch_norm`.

    Attributes:
        network: has the averaged weights.
    """

    def __init__(self, of: nn.Module, decay: float):
        super().__init__()
        self.decay = decay
        self.network = copy.deepcopy(of).requires_grad_(False)
        self._of = (of,)  # in a tuple: not registered as its own
        self._weights: tuple[list[Tensor], list[Tensor]] = list(self.network.parameters()), list(of.parameters())
        self._settled = False

    @torch.no_grad()
    def update(self) -> None:
        """Goes on by a step."""
        mine, newest = self._weights
        torch._foreach_lerp_(mine, newest, 1 - self.decay)
        for own, other in zip(self.network.buffers(), self._of[0].buffers(), strict=True):
            own.copy_(other)
        self._settled = False

    @torch.no_grad()
    def recalibrate_batch_norm(self, draw: Callable[[int], Tensor]) -> None:
        """Counts running batch statistics anew, once a step at most, from batches that the average makes; spectral
        norm's power iteration goes on meanwhile.

        Args:
            draw: gives latent vectors `(…, B, latent_dim)` for the batches 0, 1, ….
        """
        layers = [layer for layer in self.network.modules() if isinstance(layer, _BatchNorm)]
        if self._settled or not (layers or any(isinstance(each, _SpectralNorm) for each in self.network.modules())):
            return
        usual = [layer.momentum for layer in layers]
        self.network.train()
        for i in range(SETTLING):
            for layer in layers:
                layer.momentum = 1 / (i + 1)  # the mean of all batches so far
            self.network(draw(i))
        for layer, momentum in zip(layers, usual, strict=True):
            layer.momentum = momentum
        self.network.eval()
        self._settled = True


class HistoricalAveraging:
    """weight · ‖θ − (1/t) Σᵢ θᵢ‖² for each network, the mean being over all its turns so far (Salimans et al. 2016,
    arXiv:1606.03498, section 3.3): keeps the players from circling.

    Args:
        weight: 1 in torchgan.
    """

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def make_anchor(self, network: nn.Module, replica_dims: Sequence[int]) -> "WeightAnchor":
        return WeightAnchor(network, self.weight, replica_dims)


class WeightAnchor(nn.Module):
    """What a network pays for being away from the mean of its past: `(…)`, for each replica its own.

    Called once a turn, before the update. The means are buffers, so that a checkpoint of the module that holds this one
    keeps them; the network itself is not part of it.

    Args:
        lead: the leading axes of its parameters, `(K,)` with K replicas.
    """

    calls: Tensor

    def __init__(self, network: nn.Module, weight: float, replica_dims: Sequence[int]):
        super().__init__()
        self.weight, self.replica_dims = weight, len(replica_dims)
        self.parameters_of_network = tuple(network.parameters())  # in a tuple: not registered as its own
        for i, parameter in enumerate(self.parameters_of_network):
            self.register_buffer(f"mean_{i}", parameter.detach().clone())
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self) -> Tensor:
        self.calls = self.calls + 1
        paid = []
        for mean, now in zip(self._means(), self.parameters_of_network, strict=True):
            mean += (now.detach() - mean) / self.calls
            paid.append(
                (now - mean).square().flatten(self.replica_dims).sum(-1)
                if now.ndim > self.replica_dims
                else (now - mean) ** 2
            )
        return self.weight * torch.stack(paid).sum(0)

    def _means(self) -> list[Tensor]:
        return [self.get_buffer(f"mean_{i}") for i in range(len(self.parameters_of_network))]
