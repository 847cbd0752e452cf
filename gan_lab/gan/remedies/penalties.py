"""Penalties: terms added to the discriminator's loss, which keep D smooth or its scores close together.

A penalty takes D, the real samples and the fakes as D has just scored them, and random numbers; it returns one value
for each score, `(…, B)`, which depends on D's weights but not on G's. Samples can be vectors or images.

Gradients are those of the sum of D's scores with respect to its input. A layer that mixes the samples of a batch (batch
normalisation, minibatch layers) therefore mixes their gradients, too, as in the published code. With K replicas D is
called as a whole, and the gradient is taken outside of vmap.

Lengths of gradients depend on the range of the data. Pixels are in [0, 1] here and in [-1, 1] in most papers, where the
same D has half the gradient: ‖∇D‖² here is 4 times theirs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from gan_lab.core.declare import declares
from gan_lab.core.errors import LabError
from gan_lab.core.rng import StepRNG
from gan_lab.gan.remedies.input_transforms import sample_ndim

# D's input `(…, B, *shape)` to raw scores `(…, B)`.
Discriminator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ScoredBatch:
    """Real samples or fakes, and D's scores of them, from which D's loss is computed.

    Attributes:
        samples: before the input transforms, `(…, B, *shape)`; they require a gradient if `scores` can be
            differentiated with respect to them.
        inputs: D's input: the samples after the input transforms.
        scores: D's raw scores with their graph, `(…, B)`.
        score_again: gives the scores of other samples `(…, B, *shape)`, which pass the input transforms first.
    """

    samples: Tensor
    inputs: Tensor
    scores: Tensor
    score_again: Discriminator

    def gradient(self) -> Tensor:
        """Returns the gradient of D's scores with respect to the samples, through the input transforms.

        It can be differentiated with respect to D's weights. D scores the samples again if `scores` can't be
        differentiated with respect to them.

        Returns:
            One gradient for each score, `(…, B, components)`: those of a sample or, if D packs samples, of a pack.
        """
        if self.samples.requires_grad:
            return _gradient(self.scores, self.samples)
        samples = self.samples.detach().requires_grad_()
        return _gradient(self.score_again(samples), samples)


class Penalty:
    """Base of penalties.

    Attributes:
        uses_gradient: whether it takes `gradient()` of real samples or fakes: then D's scores in the loss are made so
            that they can be differentiated, where that is possible.
    """

    uses_gradient = False

    def start_step(self, step: int) -> None:
        """Prepares for a step, counted from 0."""

    def __call__(self, discriminator: Discriminator, real: ScoredBatch, fake: ScoredBatch, rng: StepRNG) -> Tensor:
        """Returns the penalty for each score, `(…, B)`.

        Args:
            discriminator: D, to score inputs other than those of `real` and `fake`.
            real: real samples.
            fake: fakes, without a graph to G.
            rng: random numbers for this step.
        """
        raise NotImplementedError


class GradientPenalty(Penalty):
    """Base of R1 and R2: γ/2 times a squared gradient, where γ may fall in the course of the training.

    From γ to `end` it changes by the same factor in each step. The smaller γ, the steeper D can be.

    Args:
        gamma: γ in the first step, ≥ 0.
        end: γ after the last step, > 0; None: it stays.
        steps: length of the training; only with `end`.

    Raises:
        LabError: if γ can't get from `gamma` to `end`.
    """

    uses_gradient = True

    def __init__(self, gamma: float = 2.5, end: float | None = None, steps: int = 10_000):
        if end is not None and not (end > 0 and gamma > 0 and steps > 0):
            raise LabError(
                f"γ can't go from gamma={gamma} to end={end} over steps={steps}.",
                "Choose gamma > 0 and end > 0, or end=null for a constant one.",
                code="invalid",
                key=f"remedy.{type(self).__name__.lower()}.end",
            )
        self.gamma = gamma
        self.end = end
        self.steps = steps
        self.present_gamma = gamma

    def gamma_at(self, step: int) -> float:
        """Returns γ in a step, counted from 0."""
        if self.end is None:
            return self.gamma
        return self.gamma * (self.end / self.gamma) ** min(1.0, step / self.steps)

    def start_step(self, step: int) -> None:
        self.present_gamma = self.gamma_at(step)

    def weigh(self, gradient: Tensor) -> Tensor:
        """Returns γ/2 · ‖gradient‖² `(…, B)` of gradients `(…, B, components)`."""
        return self.present_gamma / 2 * gradient.square().sum(-1)


@declares(
    per_sample=True,
    settings={
        "gamma": {"type": "float", "low": 0, "help": "weight of the penalty"},
        "end": {"type": "float", "low": 0, "none": True, "help": "weight after the last step; null: it stays"},
        "steps": {"type": "int", "low": 1, "high": 1_000_000_000, "help": "steps of the training"},
    },
    weak={"gamma": 0.25},
    strong={"gamma": 25.0},
)
class R1(GradientPenalty):
    """γ/2 · ‖∇D(x)‖² at real samples x, summed over the components (Mescheder et al. 2018, arXiv:1801.04406).

    The factor γ/2 is that of the paper, StyleGAN2-ADA, StudioGAN and R3GAN. The authors' own code (GAN_stability) has
    no ½: its 10 is γ = 20 in this formula.

    Papers quote γ for pixels in [-1, 1]. For the same D the squared gradient is 4 times as large with respect to pixels
    in [0, 1], so that a published γ is to be divided by 4: StyleGAN2's 10 is 2.5 here. (For points in the plane there
    is no such factor.)

    The gradient is that with respect to the sample before the input transforms, through these transforms, as in
    StyleGAN2-ADA, StudioGAN and R3GAN: D together with an augmentation is what is trained, and what D makes of a pixel
    that an augmentation blanks is not penalised. Random transforms have other random numbers than in D's loss, as they
    have in StyleGAN2-ADA where the penalty is taken only every 16 updates. With packs it is the gradient with respect
    to a whole pack.

    Without random transforms it is the gradient of the scores in D's loss, as in the code of GAN_stability and R3GAN.

    Args:
        gamma: published for [-1, 1], and here: 10, 2.5 in StyleGAN2; 0.01, 0.0025 in StyleGAN2-ADA for CIFAR-10; 0.05
            to 150, 0.0125 to 37.5 in R3GAN, depending on the dataset.
        end, steps: see `GradientPenalty`. R3GAN's γ falls, too, to a tenth.
    """

    def __call__(self, discriminator: Discriminator, real: ScoredBatch, fake: ScoredBatch, rng: StepRNG) -> Tensor:
        return self.weigh(real.gradient())


@declares(
    per_sample=True,
    settings={
        "gamma": {"type": "float", "low": 0, "help": "weight of the penalty"},
        "end": {"type": "float", "low": 0, "none": True, "help": "weight after the last step; null: it stays"},
        "steps": {"type": "int", "low": 1, "high": 1_000_000_000, "help": "steps of the training"},
    },
    weak={"gamma": 0.25},
    strong={"gamma": 25.0},
)
class R2(GradientPenalty):
    """γ/2 · ‖∇D(G(z))‖² at fakes (Mescheder et al. 2018, arXiv:1801.04406).

    R3GAN uses it together with R1, with the same γ (Huang et al. 2024, arXiv:2501.05441). Where the gradient is taken,
    and the factor of 4 between a published γ and the one here, are as for `R1`.

    Args:
        gamma: see `R1`.
        end, steps: see `GradientPenalty`.
    """

    def __call__(self, discriminator: Discriminator, real: ScoredBatch, fake: ScoredBatch, rng: StepRNG) -> Tensor:
        return self.weigh(fake.gradient())


@declares(
    settings={"weight": {"type": "float", "low": 0, "help": "weight in the loss"}},
    weak={"weight": 1.0},
    strong={"weight": 100.0},
)
class WGANGP(Penalty):
    """weight · (‖∇D(x̂)‖ − 1)² between real samples and fakes (WGAN-GP, Gulrajani et al. 2017, arXiv:1704.00028).

    x̂ = εx + (1 − ε)G(z), with ε from U[0, 1), one for each pair of a real sample and a fake. x and G(z) are D's inputs,
    after the input transforms: it is D that has to be Lipschitz continuous, whatever it sees.

    The slope 1 is for the range of the data, [0, 1]: that of MNIST in the authors' code. Their colour images are in
    [-1, 1], where a slope of 1 is one of 2 here: the scores, and with them the weight of the loss against the penalty,
    then differ by a factor of 2.

    Args:
        weight: 10 for images, 0.1 in the authors' code for points in the plane.
    """

    def __init__(self, weight: float = 10.0):
        self.weight = weight

    def __call__(self, discriminator: Discriminator, real: ScoredBatch, fake: ScoredBatch, rng: StepRNG) -> Tensor:
        x = real.inputs.detach()
        ndim = sample_ndim(x)
        one_per_sample = (*x.shape[:-ndim], *[1] * ndim)
        epsilon = rng.uniform(one_per_sample, x.dtype)
        interpolated = (epsilon * x + (1 - epsilon) * fake.inputs.detach()).requires_grad_()
        gradient = _gradient(discriminator(interpolated), interpolated)
        return self.weight * (gradient.norm(dim=-1) - 1) ** 2


@declares(
    settings={"weight": {"type": "float", "low": 0, "help": "weight in the loss"}},
    weak={"weight": 1.0},
    strong={"weight": 100.0},
)
class DRAGAN(Penalty):
    """weight · (‖∇D(x̂)‖ − 1)² around real samples (Kodali et al. 2017, arXiv:1705.07215).

    x̂ = x + α · ½ · std · u, where α from U[0, 1) is drawn for every sample, u from U[0, 1) for every component, and std
    is the standard deviation of all numbers in the batch. This is the authors' code, with MNIST's pixels in [0, 1];
    the paper's formula has x + δ with normal δ. x is D's input, as in `WGANGP`.

    Args:
        weight: 10 in the authors' code.
    """

    def __init__(self, weight: float = 10.0):
        self.weight = weight

    def __call__(self, discriminator: Discriminator, real: ScoredBatch, fake: ScoredBatch, rng: StepRNG) -> Tensor:
        x = real.inputs.detach()
        ndim = sample_ndim(x)
        # Over the batch and the sample: each replica has a standard deviation of its own.
        batch_and_sample = tuple(range(-ndim - 1, 0))
        std = x.std(batch_and_sample, correction=0, keepdim=True)
        one_per_sample = (*x.shape[:-ndim], *[1] * ndim)
        noise = rng.uniform(x.shape, x.dtype)
        alpha = rng.uniform(one_per_sample, x.dtype)
        perturbed = (x + alpha * (std / 2 * noise)).requires_grad_()
        gradient = _gradient(discriminator(perturbed), perturbed)
        return self.weight * (gradient.norm(dim=-1) - 1) ** 2


@declares(
    partial=True,
    settings={
        "weight": {"type": "float", "low": 0, "help": "weight in the loss"},
        "decay": {"type": "float", "low": 0, "below": 1, "help": "decay of the averages of D's output"},
        "warmup_steps": {
            "type": "int",
            "low": 0,
            "high": 1_000_000_000,
            "help": "updates of D before the penalty applies",
        },
    },
    weak={"weight": 0.03},
    strong={"weight": 3.0},
)
class LeCam(nn.Module, Penalty):
    """weight · (max(0, D(x) − ᾱ_F)² + max(0, ᾱ_R − D(G(z)))²), for training with little data.

    ᾱ_R and ᾱ_F are moving averages of D's mean scores on real samples and on fakes (Tseng et al. 2021,
    arXiv:2104.03310; the maxima are those of the authors' code, the paper's formula has none).

    It is called once per update of D, and first moves the averages; in evaluation mode they don't move. In the first
    `warmup_steps` calls the penalty is 0 and the averages are the mean scores of that call. They are buffers: a
    checkpoint of the module that holds this one contains them.

    Args:
        weight: 0.3 in the authors' BigGAN, 1e-6 and 3e-7 in their StyleGAN2.
        decay: of the averages at each call: 0.9 in the authors' code, 0.99 in StudioGAN.
        warmup_steps: calls before the penalty begins.
        replica_dims: axes in front of the batch: `(K,)` with K replicas, else `()`.
    """

    real_mean: Tensor
    fake_mean: Tensor
    calls: Tensor

    def __init__(
        self, weight: float = 0.3, decay: float = 0.9, warmup_steps: int = 1_000, replica_dims: Sequence[int] = ()
    ):
        super().__init__()
        self.weight = weight
        self.decay = decay
        self.warmup_steps = warmup_steps
        self.register_buffer("real_mean", torch.zeros(tuple(replica_dims)))
        self.register_buffer("fake_mean", torch.zeros(tuple(replica_dims)))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, discriminator: Discriminator, real: ScoredBatch, fake: ScoredBatch, rng: StepRNG) -> Tensor:
        # 0 or 1, as a tensor: an `if` would make the CPU wait for the device.
        active = (self.calls >= self.warmup_steps).to(self.real_mean.dtype)
        if self.training:
            decay = self.decay * active
            self.real_mean = decay * self.real_mean + (1 - decay) * real.scores.detach().mean(-1)
            self.fake_mean = decay * self.fake_mean + (1 - decay) * fake.scores.detach().mean(-1)
            self.calls = self.calls + 1
        real_penalty = relu(real.scores - self.fake_mean[..., None]).square()
        fake_penalty = relu(self.real_mean[..., None] - fake.scores).square()
        return self.weight * active * (real_penalty + fake_penalty)


def _gradient(scores: Tensor, samples: Tensor) -> Tensor:
    """Returns the gradient of D's scores `(…, B)` with respect to what they were computed from, `(…, B, components)`.

    It can be differentiated with respect to D's weights.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), samples, create_graph=True, materialize_grads=True)
    return gradient.reshape(*scores.shape, -1)
