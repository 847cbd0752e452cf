"""Latent vectors of the training, samples of G, and scores that D gives to samples."""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gan_lab.core.rng import make_generator
from gan_lab.gan.latent import Latent
from gan_lab.gan.networks.conditional import ConditionalDiscriminator
from gan_lab.training.settings import GANSettings

if TYPE_CHECKING:
    from gan_lab.training.gan_state import GANState

SAMPLING_BATCH = 1_000  # samples that G makes per forward pass
SCORING_BATCH = 64  # minimum batch size for scoring
RECALIBRATION_BATCH = 256  # batch size for recalibrating BatchNorm


class LatentSampler:
    """Draws the latent vectors that a training uses, for each member from a random stream of its own.

    Args:
        settings: of the training.
        replicas: number of members.
    """

    def __init__(self, settings: GANSettings, replicas: int):
        self.settings = settings
        self.replicas = replicas
        self.stored_state: Tensor | None = None
        self._rngs: list[torch.Generator] = []
        self._rank = 0
        self._world_size = 1

    def start(self, device: torch.device, rank: int = 0, world_size: int = 1) -> None:
        """Creates the random streams, at their beginning or, if there is one, in the stored state.

        Args:
            device: where latent vectors are drawn.
            rank, world_size: of the processes that train together: each draws the vectors of all and keeps its slice.
        """
        self._rank = rank
        self._world_size = world_size
        seeds = range(self.settings.seed, self.settings.seed + self.replicas)
        self._rngs = [make_generator(seed, "latent", device=device) for seed in seeds]
        if self.stored_state is None:
            return
        for rng, state in zip(self._rngs, self.stored_state.view(self.replicas, -1), strict=True):
            rng.set_state(state.clone())  # torch crashes on a view

    def state(self) -> Tensor:
        """Returns the state of the random streams, of several members along a first axis."""
        return torch.stack([rng.get_state() for rng in self._rngs]).squeeze(0)

    def sample(self, n: int, labels_onehot: Tensor | None = None) -> Tensor:
        """Draws the next n latent vectors `(…, n, latent_dim)`.

        Args:
            labels_onehot: labels `(…, n, classes)` that replace the drawn ones; None keeps these.
        """
        latent = self.settings.latent
        shape = (n * self._world_size, self.settings.latent_dim)
        if self.replicas > 1:
            z = torch.stack([latent(shape, rng) for rng in self._rngs])
        else:
            z = latent(shape, self._rngs[0])[self._rank :: self._world_size]
        if labels_onehot is None:
            return z
        return torch.cat([z[..., : -self.settings.classes], labels_onehot], -1)


@torch.no_grad()
def sample(module: "GANState", z: Tensor) -> Tensor:
    """Makes samples with G or, if there is one, with the average of its weights; leaves training untouched.

    Args:
        z: latent vectors `(…, B, latent_dim)`.

    Returns:
        Samples `(…, B, *shape)`; BatchNorm uses its running statistics.
    """
    generator = sampling_network(module)
    was_training = generator.training
    generator.eval()
    try:
        return generator(z.to(module.device))
    finally:
        generator.train(was_training)


def sampling_network(module: "GANState") -> nn.Module:
    """Returns what makes samples: G or, if there is one, the average of its weights, ready for that."""
    averaged = module.averaged
    if averaged is None:
        return module.generator
    shape = (*module.replica_dims, RECALIBRATION_BATCH, module.latent_dim)
    averaged.recalibrate_batch_norm(lambda i: module.step_rng(i, "ema").draw(module.latent, shape))
    return averaged.network


def fresh_latents(
    module: "GANState", n: int, purpose: str, index: int = 0, latent: Latent | None = None
) -> Iterator[Tensor]:
    """Yields n latent vectors of one GAN in batches `(b, latent_dim)`.

    Args:
        purpose, index: name the random stream, see `gan_lab.core.rng.make_generator`.
        latent: another distribution than that of the training.
    """
    latent = latent or module.latent
    rng = make_generator(module.seed, purpose, index)
    for start in range(0, n, SAMPLING_BATCH):
        batch_size = min(SAMPLING_BATCH, n - start)
        yield latent((batch_size, module.latent_dim), rng)


def fresh_samples(module: "GANState", n: int, purpose: str, index: int = 0) -> Tensor:
    """Returns G's samples `(n, *shape)`, on the CPU, for the latent vectors of `fresh_latents`."""
    batches = [module.sample(z).float().cpu() for z in fresh_latents(module, n, purpose, index)]
    return torch.cat(batches)


def fresh_labels(module: "GANState", n: int, purpose: str, index: int = 0) -> Tensor | None:
    """Returns the labels `(n,)` that the latent vectors of `fresh_latents` ask for; None without classes."""
    batches = [module.target_labels(z) for z in fresh_latents(module, n, purpose, index)]
    labels = [batch for batch in batches if batch is not None]
    return torch.cat(labels) if labels else None


def score_batch(
    module: "GANState", samples: Tensor, labels: Tensor | None = None, discriminator: nn.Module | None = None
) -> Tensor:
    """Returns D's raw scores `(…, B)` of a batch of samples.

    The remedies transform the samples as in training, with random numbers that training does not use.

    Args:
        samples: `(…, B, *shape)`.
        labels: `(…, B)`, for a conditional GAN.
        discriminator: a copy of D to use instead of D.
    """
    critic = module.discriminator if discriminator is None else discriminator
    samples = samples.to(module.device)
    if module.classes and labels is not None:
        labels_onehot = one_hot(labels.to(module.device), module.classes).to(samples.dtype)
        critic = ConditionalDiscriminator(critic, labels_onehot, module.settings.flat)
    rng = module.step_rng(module.step, "scores")
    return critic(module.remedies.transform(samples, module.step, rng))


@torch.no_grad()
def score_samples(module: "GANState", samples: Tensor, labels: Tensor | None = None) -> Tensor:
    """Returns D's raw scores of one GAN's samples, on the CPU, as D gives them in training: BatchNorm uses the
    statistics of each batch.

    Running statistics would mix real data and fakes; with them, norm=batch scores both about the same.

    Args:
        samples: `(n, *shape)`, all real or all fake.
        labels: `(n,)`, for a conditional GAN.

    Returns:
        Scores `(n,)`; with `remedy=[pac]` one for each pack, and samples that do not fill a pack are left out.
    """
    discriminator = copy.deepcopy(module.discriminator).train()  # a copy: its running statistics change
    pack = module.remedies.pack_size
    packs = torch.arange(len(samples) // pack * pack).view(-1, pack)
    packs_per_batch = max(2, SCORING_BATCH // pack)
    batches = packs.tensor_split(max(1, len(packs) // packs_per_batch))
    scores = []
    for batch in batches:
        indices = batch.flatten()
        batch_labels = None if labels is None else labels[indices]
        scores.append(score_batch(module, samples[indices], batch_labels, discriminator).float().cpu())
    return torch.cat(scores)
