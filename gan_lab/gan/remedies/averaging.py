"""Averages of weights over the training: of G to make samples with, and of both networks to stay near."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm

from gan_lab.core.declare import declares

# Number of batches over which `AveragedNetwork` recomputes the running statistics of batch normalisation.
CALIBRATION_BATCHES = 16


@declares(
    per_sample=True,
    settings={"decay": {"type": "float", "low": 0, "below": 1, "help": "share of the old average kept at each step"}},
    weak={"decay": 0.99},
    strong={"decay": 0.9999},
)
class EMA:
    """Makes samples with an exponential moving average of G's weights.

    average ← decay · average + (1 − decay) · weights after each step (Yazıcı et al. 2019, arXiv:1806.04498; Karras et
    al. 2018, arXiv:1710.10196). Training does not use the average: D sees the samples of G itself.

    The average is over about the last 1/(1 − decay) steps, but at most over the last tenth or so of the steps so far:
    the initial weights, which make nothing, would otherwise be a part of it for several times that many steps.

    Args:
        decay: in [0, 1): 0.999 in ProGAN, 0.9999 in BigGAN.
    """

    def __init__(self, decay: float = 0.999):
        self.decay = decay

    def decay_at(self, step: int) -> float:
        """Returns the share of the old average that is kept after a step, counted from 0.

        It is min(decay, (1 + t) / (10 + t)) after t steps, the rule of TensorFlow's `ExponentialMovingAverage`.
        """
        steps = step + 1
        return min(self.decay, (1 + steps) / (10 + steps))

    def make_average(self, generator: nn.Module) -> "AveragedNetwork":
        """Returns an average that starts at the generator's present weights."""
        return AveragedNetwork(generator)


class AveragedNetwork(nn.Module):
    """An exponential moving average of a network's weights.

    Buffers are copied, not averaged. The running statistics of batch normalisation and the vectors of spectral
    normalisation therefore belong to other weights, and have to be recomputed before the average is used: see
    `recalibrate_batch_norm`.

    Args:
        network: the network that is trained; the average starts as a copy of it.

    Attributes:
        network: the network with the averaged weights.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        # In a tuple, so that the trained network is not registered as a part of this module.
        self._trained_network = (network,)
        # Collected once: searching a network for its parameters takes longer than averaging those of a small one.
        self._averages: list[Tensor] = list(self.network.parameters())
        self._weights: list[Tensor] = list(network.parameters())
        self._calibrated = False

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Includes the present weights of the trained network in the average; called after each step.

        Args:
            decay: share of the old average that is kept, see `EMA.decay_at`.
        """
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        (trained_network,) = self._trained_network
        for buffer, trained_buffer in zip(self.network.buffers(), trained_network.buffers(), strict=True):
            buffer.copy_(trained_buffer)
        self._calibrated = False

    @torch.no_grad()
    def recalibrate_batch_norm(self, sample_latents: Callable[[int], Tensor]) -> None:
        """Recomputes the running statistics of batch normalisation for the averaged weights.

        The statistics become means over batches that the averaged network generates. Spectral normalisation runs its
        power iteration on the averaged weights in the same passes. Does nothing if the network has neither layer, or
        if it was called since the last `update`.

        Args:
            sample_latents: returns the latent vectors `(…, B, latent_dim)` of batch 0, 1, ….
        """
        batch_norms = [layer for layer in self.network.modules() if isinstance(layer, _BatchNorm)]
        spectral_norms = [layer for layer in self.network.modules() if isinstance(layer, _SpectralNorm)]
        if self._calibrated or not (batch_norms or spectral_norms):
            return
        momenta = [layer.momentum for layer in batch_norms]
        self.network.train()
        for i in range(CALIBRATION_BATCHES):
            # With this momentum the running statistics are the mean over all batches so far.
            for layer in batch_norms:
                layer.momentum = 1 / (i + 1)
            self.network(sample_latents(i))
        for layer, momentum in zip(batch_norms, momenta, strict=True):
            layer.momentum = momentum
        self.network.eval()
        self._calibrated = True


@declares(
    per_sample=True,
    settings={"weight": {"type": "float", "low": 0, "help": "weight in the loss"}},
    weak={"weight": 0.1},
    strong={"weight": 10.0},
)
class HistoricalAveraging:
    """Adds weight · ‖θ − θ̄‖² to the loss of each network, θ̄ = (1/t) Σᵢ θᵢ being the mean of its weights so far.

    From Salimans et al. 2016 (arXiv:1606.03498, section 3.3). It keeps D and G from circling around the optimum.

    Args:
        weight: 1 in torchgan.
    """

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def make_anchor(self, network: nn.Module, replica_dims: Sequence[int]) -> "WeightAnchor":
        """Returns the loss term of a network; `replica_dims` are the leading axes of its weights, `(K,)` or `()`."""
        return WeightAnchor(network, self.weight, replica_dims)


class WeightAnchor(nn.Module):
    """The loss term of one network for its distance from the mean of its past weights.

    It is called once per update of the network, before the update, and first includes the present weights in the mean.

    The means are buffers: a checkpoint of the module that holds this one contains them. The network itself is not
    registered as a part of this module.

    Args:
        network: the network whose weights are averaged.
        weight: factor of the squared distance.
        replica_dims: leading axes of the network's parameters, `(K,)` with K replicas, else `()`.
    """

    calls: Tensor

    def __init__(self, network: nn.Module, weight: float, replica_dims: Sequence[int]):
        super().__init__()
        self.weight = weight
        self.replica_ndim = len(replica_dims)
        # In a tuple, so that the parameters are not registered as this module's own.
        self.network_parameters = tuple(network.parameters())
        for i, parameter in enumerate(self.network_parameters):
            self.register_buffer(f"mean_{i}", parameter.detach().clone())
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self) -> Tensor:
        """Returns weight · ‖θ − θ̄‖² for each replica, `(…)`."""
        self.calls = self.calls + 1
        squared_distances = []
        for i, parameter in enumerate(self.network_parameters):
            mean = self.get_buffer(f"mean_{i}")
            mean += (parameter.detach() - mean) / self.calls
            squares = (parameter - mean) ** 2
            # A parameter with one number for each replica has no other axis to sum over.
            if squares.ndim > self.replica_ndim:
                squares = squares.flatten(self.replica_ndim).sum(-1)
            squared_distances.append(squares)
        return self.weight * torch.stack(squared_distances).sum(0)
