"""The step of a GAN: how the discriminator and the generator are trained against each other."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lab.data.datamodule import StepBlock
from gan_lab.gan.remedies.penalties import ScoredBatch
from gan_lab.training.gan_state import GANState
from gan_lab.training.phases import PHASE_D_FAKE, PHASE_D_JOINT, PHASE_D_REAL, PHASE_G
from gan_lab.training.settings import GANSettings
from gan_lab.training.step_context import Cost, StepContext, batches_by_step, step_context, step_optimizer, sum_of

if TYPE_CHECKING:
    from gan_lab.training.compiled.engine import CompiledEngine

Pair = tuple[Tensor, Tensor]


class GANModule(GANState):
    """Trains a generator G and a discriminator D in three phases per step (Goodfellow et al. 2014, algorithm 1).

    In the book's words:

        phase 1   D.train(real, 1.0)            D learns that real samples are real
        phase 2   D.train(G(z).detach(), 0.0)   D learns that G's samples are fake; G gets no gradient
        phase 3   G.train(D, z, 1.0)            G learns to make D say "real"; D is frozen

    This class is the step and nothing else: networks, settings, sampling and members are in `GANState`. In shapes, B is
    the batch size, and `…` is empty for one GAN and K for K replicas.

    Attributes:
        cost_hooks: called before each update with the named costs; used to find where a NaN comes from.
        phase_hooks: called with its name after each phase; used to look at a training phase by phase.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, settings: GANSettings):
        super().__init__(generator, discriminator, settings)
        self.automatic_optimization = False
        self.cost_hooks: list[Callable[[Sequence[Cost]], None]] = []
        self.phase_hooks: list[Callable[[str], None]] = []
        self._d_weights = list(discriminator.parameters())
        self._compiled: CompiledEngine | None = None

    def on_fit_start(self) -> None:
        if self.engine == "compiled":
            # Imported here, as numba takes half a second; before the progress bar of the training.
            from gan_lab.training.compiled.engine import compile_step

            compile_step(next(self.parameters()).dtype)

    def on_train_start(self) -> None:
        super().on_train_start()
        self._d_weights = list(self.discriminator.parameters())
        if self.engine == "compiled":
            from gan_lab.training.compiled.engine import CompiledEngine

            self._compiled = CompiledEngine(self, self.trainer.optimizers)

    def on_train_end(self) -> None:
        if self._compiled is not None:
            self._compiled.close()

    def training_step(self, block: StepBlock) -> None:
        """Trains for the steps of a block, which is what Lightning calls a batch: the batches of consecutive steps.

        Pictures and checkpoints are due only at the end of a block.
        """
        first_step = self.step
        # The compiled step has no costs and no single phases to show to a hook.
        if self._compiled is not None and not self.cost_hooks and not self.phase_hooks:
            values = self._compiled.play(block)
            self.step += len(values)
            self.step_log.unlogged += values.unbind()
        else:
            self._play(block)
        self.step_log.end_block(self.trainer, self.step - first_step, self.step, self.settings.log_every)
        if self.step == self.steps:
            self.step_log.log_row(self.trainer, self.step, len(self.step_log.unlogged))

    def _play(self, block: StepBlock) -> None:
        """Plays the steps of a block by autograd."""
        optimizer_d, optimizer_g = self.trainer.optimizers
        for batches in batches_by_step(block, self.n_critic):
            if self.remedies.lr_decay:
                self.remedies.lr_decay.apply(self.step, optimizer_d, optimizer_g)
            for penalty in self.remedies.penalties:
                penalty.start_step(self.step)
            # D is updated n_critic times, each time on another batch; G uses the last of them.
            for turn, (batch, labels) in enumerate(batches, 1):
                context = step_context(self, turn, batch, labels)
                real, scores, losses_d = self._update_d(optimizer_d, batch, context)
            loss_g = self._update_g(optimizer_g, real, context)
            if self.averaged is not None and self.remedies.ema is not None:
                self.averaged.update(self.remedies.ema.decay_at(self.step))
            self.step += 1
            self.step_log.record(*scores, *losses_d, loss_g)

    def _update_d(self, optimizer: Optimizer, batch: Tensor, context: StepContext) -> tuple[Tensor, Pair, Pair]:
        """Phases 1 and 2: D learns to tell real samples from fakes. Returns D's real input, scores and losses."""
        # Phase 1: D scores real samples; with BCE and MSE its target is 1.
        real = self._score(batch, context)
        if not self.joint:
            loss_real = self.loss.d_real(real.scores).mean(-1)
            self._optimize(optimizer, [("the loss on real data", loss_real)])
            self._end_phase(PHASE_D_REAL)

        # Phase 2: D scores fakes; its target is 0. As with the book's .detach(), no gradient reaches G.
        with torch.no_grad():
            samples = self.generator(self.latents.sample(context.batch_size, context.labels_onehot))
        fake = self._score(samples, context)
        if not self.joint:
            loss_fake = self.loss.d_fake(fake.scores).mean(-1)
            self._optimize(optimizer, [("the loss on fakes", loss_fake)])
        else:
            values_real, values_fake = self.loss.d(real.scores, fake.scores)  # (…, B) each
            loss_real = values_real.mean(-1)
            loss_fake = values_fake.mean(-1)
            if not self.remedies.update_gate or self.remedies.update_gate.should_update(real.scores, fake.scores):
                losses = [("the loss on real data", loss_real), ("the loss on fakes", loss_fake)]
                self._optimize(optimizer, losses + self._d_penalties(real, fake, context))
        self._end_phase(PHASE_D_JOINT if self.joint else PHASE_D_FAKE)
        return real.inputs.detach(), (real.scores, fake.scores), (loss_real, loss_fake)

    def _score(self, samples: Tensor, context: StepContext) -> ScoredBatch:
        """Lets D score real samples or fakes `(…, B, *shape)`, so that penalties can use the scores as well."""
        return self.remedies.score(context.critic, samples, self.step, context.rng, self.share_scores)

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
            real_scores = critic(real) if self.loss.paired else None
            if self.remedies.top_k:
                fake_scores, real_scores = self.remedies.top_k.select(fake_scores, real_scores, self.step)
            values = self.loss.g(fake_scores, real_scores)  # (…, B)
            costs = [("the adversarial loss", values.mean(-1))]
            for generator_loss in self.remedies.generator_losses:
                if generator_loss.replaces_adversarial:  # such a loss is the first in the list
                    costs.clear()
                cost = generator_loss(context.critic, z, samples, fake, real)
                costs.append((type(generator_loss).__name__, cost))
            loss_g = sum_of(costs)
            if self.anchor_g is not None:
                costs.append(("historical averaging", self.anchor_g()))
            self._optimize(optimizer, costs)
        self._set_requires_grad(True)
        self._end_phase(PHASE_G)
        return loss_g

    def _end_phase(self, name: str) -> None:
        for hook in self.phase_hooks:
            hook(name)

    def _d_penalties(self, real: ScoredBatch, fake: ScoredBatch, context: StepContext) -> list[Cost]:
        """Returns the terms that remedies add to D's losses."""
        costs = []
        for penalty in self.remedies.penalties:
            values = penalty(context.critic, real, fake, context.rng)  # (…, B)
            costs.append((type(penalty).__name__, values.mean(-1)))
        if self.anchor_d is not None:
            costs.append(("historical averaging", self.anchor_d()))
        return costs

    def _optimize(self, optimizer: Optimizer, costs: Sequence[Cost]) -> None:
        """Takes one optimizer step on the sum of all costs, of all members: backward, step, zero_grad."""
        for hook in self.cost_hooks:
            hook(costs)
        loss = sum_of(costs)
        if self.replica_dims:
            loss = loss.sum()
        # Lightning's manual_backward also calls two hooks of every callback, three times a step; ours have none.
        self.trainer.strategy.pre_backward(loss)
        weights = [w for group in optimizer.param_groups for w in group["params"] if w.requires_grad]
        # Samples that penalties differentiate with respect to get no gradient.
        loss.backward(inputs=weights if self.share_scores else None)
        step_optimizer(optimizer)
        # As zero_grad does, without its preparations for profilers.
        for weight in weights:
            weight.grad = None

    def _set_requires_grad(self, trainable: bool) -> None:
        """Freezes or unfreezes D's weights; faster than Module.requires_grad_, which walks through all layers."""
        for parameter in self._d_weights:
            parameter.requires_grad = trainable
