"""A GAN apart from its step: two networks, their settings, samples, members, and what a checkpoint stores."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import Self

from gan_lab.core.rng import StepRNG
from gan_lab.gan.networks.replicated import Replicated
from gan_lab.training import members, resume_state, sampling
from gan_lab.training.settings import GANSettings
from gan_lab.training.step_log import StepLog


class GANState(pl.LightningModule):
    """Two networks and everything about them that is not the step; `GANModule` adds the step.

    A *step* is one pass through all three phases; `step` counts them and is the x-axis of every curve. With
    `Replicated` networks K GANs, the *members*, are trained together, and `…` in a shape stands for an axis K. Member i
    is the GAN that `seed + i` gives by itself. A member with NaN or inf is marked as failed and frozen.

    Args:
        generator: maps latent vectors `(…, B, latent_dim)` to samples `(…, B, *shape)`.
        discriminator: maps samples, after the input transforms, to raw scores `(…, B)`.
        settings: everything else. Frequently used settings are also attributes of the module.

    Attributes:
        joint: whether D is updated once on real data and fakes together.
        share_scores: whether penalties take their gradient from the scores of which D's loss is computed.
        averaged: the average of G's weights, which makes the samples; None: G itself makes them.
        engine: what plays the steps: autograd, or compiled, which `gan_lab.training.compiled.coverage` has to cover.
        member_threads: how many members the compiled step trains at once, each in a thread of its own.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, settings: GANSettings):
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.replicas = generator.replicas if isinstance(generator, Replicated) else 1
        self.replica_dims = (self.replicas,) if self.replicas > 1 else ()
        self.step = 0
        self.engine = "autograd"
        self.member_threads = 1
        self.step_log = StepLog(settings.loss, self.replicas)
        self.latents = sampling.LatentSampler(settings, self.replicas)
        self.apply_settings(settings)
        # Modules, so that their buffers are part of a checkpoint.
        remedies = settings.remedies
        self.averaged = remedies.ema.make_average(generator) if remedies.ema else None
        averaging = remedies.historical_averaging
        self.anchor_d = averaging.make_anchor(discriminator, self.replica_dims) if averaging else None
        self.anchor_g = averaging.make_anchor(generator, self.replica_dims) if averaging else None
        self.stateful_penalties = nn.ModuleList(p for p in remedies.penalties if isinstance(p, nn.Module))

    def apply_settings(self, settings: GANSettings) -> None:
        """Uses other settings from now on; the networks and what the remedies have stored stay."""
        self.settings = settings
        self.step_log.loss = settings.loss
        self.latents.settings = settings
        self.loss = settings.loss
        self.latent = settings.latent
        self.latent_dim = settings.latent_dim
        self.steps = settings.steps
        self.seed = settings.seed
        self.joint = settings.updates_d_jointly
        self.n_critic = settings.n_critic
        self.n_generator = settings.n_generator
        self.remedies = settings.remedies
        self.share_scores = settings.remedies.share_scores(self.discriminator)
        self.classes = settings.classes

    @property
    def trains_members_apart(self) -> bool:
        """Tells whether each member is trained by itself, so that threads can share the members among them."""
        return self.engine == "compiled" and self.replicas > 1

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        optimizer_d = self.settings.optim_d(self.discriminator.parameters())
        if self.remedies.ttur:
            self.remedies.ttur.apply(optimizer_d)
        optimizer_g = self.settings.optim_g(self.generator.parameters())
        return [optimizer_d, optimizer_g], []

    def step_rng(self, index: int, purpose: str = "remedies") -> StepRNG:
        """Returns the random numbers for one purpose at one step or turn, of all members."""
        seeds = range(self.seed, self.seed + self.replicas)
        return StepRNG(seeds, self.replica_dims, purpose, index, self.device)

    def sample(self, z: Tensor) -> Tensor:
        """Returns G's samples `(…, B, *shape)` for latent vectors `(…, B, latent_dim)`; leaves training untouched."""
        return sampling.sample(self, z)

    def target_labels(self, z: Tensor) -> Tensor | None:
        """Returns the labels `(…)` that latent vectors `(…, latent_dim)` ask for; None without classes."""
        return z[..., -self.classes :].argmax(-1) if self.classes else None

    def member(self, i: int) -> Self:
        """Returns member i as a GAN of its own, see `gan_lab.training.members.member`."""
        return members.member(self, i)

    def members(self) -> Iterator[tuple[int, Self]]:
        """Yields the number of each member that has not failed, and the member as a GAN of its own."""
        for i in range(self.replicas):
            if i not in self.step_log.failed:
                yield i, members.member(self, i)

    def on_train_start(self) -> None:
        self.step_log.move_to(self.device)
        self.latents.start(self.device, self.trainer.global_rank, self.trainer.world_size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        resume_state.save(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        resume_state.load(self, checkpoint)
