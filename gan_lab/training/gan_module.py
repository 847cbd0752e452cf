"""The GAN: two networks and the step that trains them against each other."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lab.core.rng import StepRNG
from gan_lab.data.datamodule import StepBlock
from gan_lab.gan.networks.replicated import Replicated
from gan_lab.training import members, resume_state, sampling
from gan_lab.training.settings import GANSettings
from gan_lab.training.step_context import Cost, StepContext, batches_by_step, step_context, sum_of
from gan_lab.training.step_log import StepLog

Pair = tuple[Tensor, Tensor]


class GANModule(pl.LightningModule):
    """Trains a generator G and a discriminator D in three phases per step (Goodfellow et al. 2014, algorithm 1).

    A *step* is one pass through all three phases; `step` counts them and is the x-axis of every curve. With
    `Replicated` networks K GANs, the *members*, are trained together, and `…` in a shape stands for an axis K. Member i
    is the GAN that `seed + i` gives by itself. A member with NaN or inf is marked as failed and frozen.

    Args:
        generator: maps latent vectors `(…, B, latent_dim)` to samples `(…, B, *shape)`.
        discriminator: maps samples, as `remedies.transform` gives them, to raw scores `(…, B)`.
        settings: everything else. What others ask for often is an attribute of the module as well.

    Attributes:
        joint: whether D is updated once on real data and fakes together.
        averaged: the average of G's weights, which makes the samples; None: G itself makes them.
        cost_hooks: called before each update with the named costs; used to find where a NaN comes from.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, settings: GANSettings):
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.replicas = generator.replicas if isinstance(generator, Replicated) else 1
        self.replica_dims = (self.replicas,) if self.replicas > 1 else ()
        self.step = 0
        self.step_log = StepLog(settings.loss, self.replicas)
        self.latents = sampling.LatentSampler(settings, self.replicas)
        self.cost_hooks: list[Callable[[Sequence[Cost]], None]] = []
        self.apply_settings(settings)
        # Modules, so that their buffers are part of a checkpoint.
        remedies = settings.remedies
        self.averaged = remedies.ema.make_average(generator) if remedies.ema else None
        averaging = remedies.historical_averaging
        self.anchor_d = averaging.make_anchor(discriminator, self.replica_dims) if averaging else None
        self.anchor_g = averaging.make_anchor(generator, self.replica_dims) if averaging else None
        self.stateful_penalties = nn.ModuleList(p for p in remedies.penalties if isinstance(p, nn.Module))
        self._d_weights = list(discriminator.parameters())

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
        self.classes = settings.classes

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        optimizer_d = self.settings.optim_d(self.discriminator.parameters())
        optimizer_g = self.settings.optim_g(self.generator.parameters())
        return [optimizer_d, optimizer_g], []

    def training_step(self, block: StepBlock) -> None:
        """Plays the steps of a block; `log_every` and other periods never end inside a block."""
        optimizer_d, optimizer_g = self.trainer.optimizers
        steps = batches_by_step(block, self.n_critic)
        for batches in steps:
            if self.remedies.lr_decay:
                self.remedies.lr_decay.apply(self.step, optimizer_d, optimizer_g)
            for turn, (batch, labels) in enumerate(batches, 1):
                context = step_context(self, turn, batch, labels)
                real, scores, losses_d = self._update_d(optimizer_d, batch, context)
            loss_g = self._update_g(optimizer_g, real, context)
            if self.averaged is not None:
                self.averaged.update()
            self.step += 1
            self.step_log.record(*scores, *losses_d, loss_g)
        row_is_due = self.step % self.settings.log_every == 0 or self.step == self.steps
        self.step_log.end_block(self.trainer, len(steps), self.step, row_is_due)

    def _update_d(self, optimizer: Optimizer, batch: Tensor, context: StepContext) -> tuple[Tensor, Pair, Pair]:
        """Phases 1 and 2: D learns to tell real samples from fakes. Returns D's real input, its scores, its losses."""
        # Phase 1: D scores real samples; its target is 1.
        real = self.remedies.transform(batch, self.step, context.rng)
        real_scores = context.critic(real)
        if not self.joint:
            loss_real = self.loss.d_real(real_scores).mean(-1)
            self._optimize(optimizer, [("the loss on real data", loss_real)])

        # Phase 2: D scores fakes; its target is 0. They are made without a graph, so no gradient reaches G.
        with torch.no_grad():
            samples = self.generator(self.latents.sample(context.batch_size, context.labels_onehot))
            fake = self.remedies.transform(samples, self.step, context.rng)
        fake_scores = context.critic(fake)
        if not self.joint:
            loss_fake = self.loss.d_fake(fake_scores).mean(-1)
            self._optimize(optimizer, [("the loss on fakes", loss_fake)])
        else:
            values_real, values_fake = self.loss.d(real_scores, fake_scores)  # (…, B) each
            loss_real = values_real.mean(-1)
            loss_fake = values_fake.mean(-1)
            gate = self.remedies.update_gate
            if gate is None or gate.should_update(real_scores, fake_scores):
                costs = [("the loss on real data", loss_real), ("the loss on fakes", loss_fake)]
                costs += self._d_penalties(real, fake, context)
                self._optimize(optimizer, costs)
        return real, (real_scores, fake_scores), (loss_real, loss_fake)

    def _update_g(self, optimizer: Optimizer, real: Tensor, context: StepContext) -> Tensor:
        """Phase 3: D, frozen, scores fresh fakes; G's target is 1. The gradient passes through D. Returns G's loss."""
        self._set_requires_grad(False)
        for _ in range(self.n_generator):
            z = self.latents.sample(context.batch_size, context.labels_onehot)
            samples = self.generator(z)
            fake = self.remedies.transform(samples, self.step, context.rng)
            critic = context.critic
            if self.remedies.unrolled:
                critic = self.remedies.unrolled(critic, self.loss, real, fake)
            fake_scores = critic(fake)
            values = self.loss.g(fake_scores, critic(real) if self.loss.paired else None)  # (…, B)
            if self.remedies.top_k:
                values = self.remedies.top_k.select(values, self.step)
            costs = [("the adversarial loss", values.mean(-1))]
            for generator_loss in self.remedies.generator_losses:
                if generator_loss.replaces_adversarial:
                    costs.clear()
                cost = generator_loss(context.critic, z, samples, fake, real)
                costs.append((type(generator_loss).__name__, cost))
            loss_g = sum_of(costs)
            if self.anchor_g is not None:
                costs.append(("historical averaging", self.anchor_g()))
            self._optimize(optimizer, costs)
        self._set_requires_grad(True)
        return loss_g

    def _d_penalties(self, real: Tensor, fake: Tensor, context: StepContext) -> Iterator[Cost]:
        """Yields what remedies add to D's losses."""
        for penalty in self.remedies.penalties:
            yield type(penalty).__name__, penalty(context.critic, real, fake, context.rng).mean(-1)
        if self.anchor_d is not None:
            yield "historical averaging", self.anchor_d()

    def _optimize(self, optimizer: Optimizer, costs: Sequence[Cost]) -> None:
        """Updates a network once by the sum of its costs, and of the members."""
        for hook in self.cost_hooks:
            hook(costs)
        loss = sum_of(costs)
        if self.replica_dims:
            loss = loss.sum()
        # Lightning's manual_backward asks every callback before and after, three times a step; none of ours listens.
        self.trainer.strategy.pre_backward(loss)
        loss.backward()
        optimizer.step()
        # As zero_grad does, without its preparations for profilers.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _set_requires_grad(self, trainable: bool) -> None:
        """Freezes or unfreezes D's weights; faster than Module.requires_grad_, which walks through all layers."""
        for parameter in self._d_weights:
            parameter.requires_grad = trainable

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

    def member(self, i: int) -> "GANModule":
        """Returns member i as a GAN of its own, see `gan_lab.training.members.member`."""
        return members.member(self, i)

    def members(self) -> "Iterator[tuple[int, GANModule]]":
        """Yields the number of each member that has not failed, and the member as a GAN of its own."""
        for i in range(self.replicas):
            if i not in self.step_log.failed:
                yield i, members.member(self, i)

    def on_train_start(self) -> None:
        self._d_weights = list(self.discriminator.parameters())
        self.step_log.move_to(self.device)
        self.latents.start(self.device, self.trainer.global_rank, self.trainer.world_size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        resume_state.save(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        resume_state.load(self, checkpoint)
