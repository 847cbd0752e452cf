"""What is added to the discriminator's loss to keep it smooth, or its answers near each other.

A penalty takes the discriminator, real samples and fakes `(…, B, *shape)`, as D is shown them (after any view), and a
source of random numbers; it gives per-sample values `(…, B)`, which depend on D's weights alone, not on
G's. It works on data of any rank. Gradients are of the sum of D's scores: a layer that mixes the batch (batch
normalisation, minibatch layers) mixes the samples' gradients too, as in the published code. A discriminator of K
replicas under vmap is called as a whole, the gradient is taken outside.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from gan_lab.core.rng import StepRNG
from gan_lab.gan.remedies.input_transforms import sample_axes

Discriminator = Callable[[Tensor], Tensor]


class Penalty:
    """What is called with the discriminator, `real`, `fake` and `rng`, and gives what D pays, per sample `(…, B)`."""

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor, rng: StepRNG) -> Tensor:
        raise NotImplementedError


class R1(Penalty):
    """γ/2 · ‖∇D(x)‖² at real samples (Mescheder et al. 2018, arXiv:1801.04406), the norm summed over the sample.

    γ/2 as in the paper, StyleGAN2-ADA, StudioGAN and R3GAN; the authors' own code (GAN_stability) has no half, its 10
    is γ = 20 here.

    Args:
        gamma: 10 in StyleGAN2, 0.01 in StyleGAN2-ADA for CIFAR-10; R3GAN goes from 0.05 to 150 by dataset.
    """

    def __init__(self, gamma: float = 10.0):
        self.gamma = gamma

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor, rng: StepRNG) -> Tensor:
        return self.gamma / 2 * _slope(discriminator, real).square().sum(-1)


class R2(Penalty):
    """γ/2 · ‖∇D(G(z))‖² at fakes (Mescheder et al. 2018, arXiv:1801.04406); with R1 in R3GAN (Huang et al. 2024,
    arXiv:2501.05441), with the same γ.

    Args:
        gamma: see `R1`.
    """

    def __init__(self, gamma: float = 10.0):
        self.gamma = gamma

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor, rng: StepRNG) -> Tensor:
        return self.gamma / 2 * _slope(discriminator, fake).square().sum(-1)


class WGANGP(Penalty):
    """weight · (‖∇D(x̂)‖ − 1)² at points x̂ = εx + (1 − ε)G(z) between real samples and fakes, one ε from U[0, 1] each
    (Gulrajani et al. 2017, arXiv:1704.00028).

    Args:
        weight: 10 for images; 0.1 in the authors' code for toy data in the plane.
    """

    def __init__(self, weight: float = 10.0):
        self.weight = weight

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor, rng: StepRNG) -> Tensor:
        shape = (*real.shape[: -sample_axes(real)], *[1] * sample_axes(real))
        share = rng.uniform(shape, real.dtype)
        between = share * real.detach() + (1 - share) * fake.detach()
        return self.weight * (_slope(discriminator, between).norm(dim=-1) - 1) ** 2


class DRAGAN(Penalty):
    """weight · (‖∇D(x̂)‖ − 1)² around the real samples: x̂ = x + ½ · std · u with u from U[0, 1] for every number, std
    being that of all numbers in the batch (Kodali et al. 2017, arXiv:1705.07215; the noise of the published code, which
    goes only a random share of that way).

    Args:
        weight: 10.
    """

    def __init__(self, weight: float = 10.0):
        self.weight = weight

    def __call__(self, discriminator: Discriminator, real: Tensor, fake: Tensor, rng: StepRNG) -> Tensor:
        axes = tuple(range(-sample_axes(real) - 1, 0))
        std = real.detach().std(axes, correction=0, keepdim=True)  # a replica's own
        noise = rng.uniform(real.shape, real.dtype)
        return self.weight * (_slope(discriminator, real + std / 2 * noise).norm(dim=-1) - 1) ** 2


class LeCam(nn.Module, Penalty):
    """weight · (relu(D(x) − ᾱ_F)² + relu(ᾱ_R − D(G(z)))²), where ᾱ_R and ᾱ_F are moving averages of D's mean scores
    on real samples and on fakes (Tseng et al. 2021, arXiv:2104.03310; the relu of the authors' code). For little data.

    Called like the other penalties, once a step: it asks D itself and moves its averages first. In the first `warmup_steps`
    calls it is 0 and the averages are the scores of that call. They are buffers, so that a checkpoint of the module
    that holds this one keeps them; `replica_dims` says their shape beforehand. In evaluation mode nothing moves.

    Args:
        weight: 0.3 in the authors' BigGAN, 1e-6 and 3e-7 in their StyleGAN2.
        decay: of the averages a call: 0.9 in the authors' code, 0.99 in StudioGAN.
        warmup_steps: calls before it counts.
        replica_dims: shape of what stands before B, `(K,)` with K replicas.
    """

    real_mean: Tensor
    fake_mean: Tensor
    calls: Tensor

    def __init__(
        self, weight: float = 0.3, decay: float = 0.9, warmup_steps: int = 1_000, replica_dims: Sequence[int] = ()
    ):
        super().__init__()
        self.weight, self.decay, self.warmup_steps = weight, decay, warmup_steps
        self.register_buffer("real_mean", torch.zeros(tuple(replica_dims)))
        self.register_buffer("fake_mean", torch.zeros(tuple(replica_dims)))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, discriminator: Discriminator, real: Tensor, fake: Tensor, rng: StepRNG) -> Tensor:
        real_scores, fake_scores = discriminator(real.detach()), discriminator(fake.detach())
        counts = self.calls >= self.warmup_steps  # a tensor: nothing has to wait for the device
        if self.training:
            decay = self.decay * counts
            self.real_mean = decay * self.real_mean + (1 - decay) * real_scores.detach().mean(-1)
            self.fake_mean = decay * self.fake_mean + (1 - decay) * fake_scores.detach().mean(-1)
            self.calls = self.calls + 1
        on_real = relu(real_scores - self.fake_mean[..., None]).square()
        on_fake = relu(self.real_mean[..., None] - fake_scores).square()
        return self.weight * counts * (on_real + on_fake)


def _slope(discriminator: Discriminator, samples: Tensor) -> Tensor:
    """The gradient of D's score in each sample, `(…, B, numbers of a sample)`, as a function of D's weights."""
    places = samples.detach().requires_grad_()
    scores = discriminator(places)
    (slope,) = torch.autograd.grad(scores.sum(), places, create_graph=True, materialize_grads=True)
    return slope.flatten(scores.ndim)
