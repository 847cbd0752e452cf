"""The GAN: two networks and the step that trains them against each other."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.optim import Optimizer

from gan_lab.core.errors import LabError
from gan_lab.core.rng import StepRNG, make_generator
from gan_lab.data.datamodule import StepBlock
from gan_lab.gan.latent import Latent
from gan_lab.gan.losses import Loss
from gan_lab.gan.networks.conditional import ConditionalDiscriminator
from gan_lab.gan.networks.replicated import Replicated
from gan_lab.gan.remedies import Remedies
from gan_lab.training.step_log import Recorder

SEEN = 64  # samples that D sees at once, at least, when it is asked for its scores
SETTLING_BATCH = 256  # latent vectors in a batch by which batch statistics are counted anew


class GANModule(Recorder):
    """Trains a generator and a discriminator in three phases a step (Goodfellow et al. 2014, algorithm 1; S4).

    A *step* is one pass through all three phases. `step` counts them; it is the x-axis of everything. Steps come in
    chunks, which end wherever a row of the log is due.

    With `Replicated` networks it trains K GANs at once, its *members*, and wherever `…` is written stands an axis K.
    Member i is what `seed + i` gives alone. One that blows up is `failed`; the others go on.

    Args:
        generator: latent vectors `(…, B, latent_dim)` to samples `(…, B, *shape)`.
        discriminator: samples, as D is shown them, to raw scores `(…, B)`.
        loss: see `gan_lab.gan.losses`.
        latent: draws latent vectors, see `gan_lab.gan.latent`.
        latent_dim: length of a latent vector, with the one-hot class in it.
        optim_d, optim_g: make an optimiser from parameters.
        steps, log_every: see `Recorder`.
        seed: of the latent vectors' stream; member i has the stream of `seed + i`.
        joint_d_update: False, as in the book: D is updated on real data, then on fakes. True: once, on the sum of both;
            so it is in any case where a part looks at both.
        n_critic, n_generator: how often D, and then G, learns in a step, D each time from another batch (S5).
        remedies: see `gan_lab.gan.remedies`.
        classes: of a conditional GAN, how many there are: the last numbers of a latent vector are one-hot, and D is
            told the class as well; 0 for others.
        flat: whether D takes vectors, see `gan_lab.gan.networks.conditional`.

    Attributes:
        joint: whether D learns once from both.
        averaged: the average of G's weights that makes samples; None: G does.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        latent: Latent,
        latent_dim: int,
        optim_d: Callable[[Iterable[nn.Parameter]], Optimizer],
        optim_g: Callable[[Iterable[nn.Parameter]], Optimizer],
        steps: int,
        seed: int,
        log_every: int,
        joint_d_update: bool = False,
        n_critic: int = 1,
        n_generator: int = 1,
        remedies: Remedies = Remedies(),  # noqa: B008, it is frozen
        classes: int = 0,
        flat: bool = False,
    ):
        super().__init__(steps, log_every, generator.replicas if isinstance(generator, Replicated) else 1)
        self.automatic_optimization = False
        self.generator, self.discriminator = generator, discriminator
        self.loss, self.latent, self.latent_dim = loss, latent, latent_dim
        self.optim_d, self.optim_g, self.seed = optim_d, optim_g, seed
        self.joint = (
            joint_d_update
            or loss.paired
            or bool(remedies.penalties or remedies.update_gate or remedies.historical_averaging)
        )
        self.n_critic, self.n_generator = n_critic, n_generator
        self.remedies, self.classes, self.flat = remedies, classes, flat
        self.averaged = remedies.ema.make_average(generator) if remedies.ema else None
        self.anchors = nn.ModuleList()  # D's, then G's
        if remedies.historical_averaging:
            for network in (discriminator, generator):
                self.anchors.append(remedies.historical_averaging.make_anchor(network, self.replica_dims))
        self.kept = nn.ModuleList(each for each in remedies.penalties if isinstance(each, nn.Module))
        self._weights_of_d = list(discriminator.parameters())
        self._latent_state: Tensor | None = None

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        return [self.optim_d(self.discriminator.parameters()), self.optim_g(self.generator.parameters())], []

    def training_step(self, chunk: StepBlock) -> None:
        generator, discriminator, loss, remedies = self.generator, self.discriminator, self.loss, self.remedies
        opt_d, opt_g = self.optimizers(use_pl_optimizer=False)  # type: ignore[misc]
        batches, labels = (chunk, [None] * len(chunk)) if isinstance(chunk, Tensor) else chunk
        for turn, (batch, label) in enumerate(zip(batches, labels, strict=True), 1):
            if remedies.lr_decay:
                remedies.lr_decay.apply(self.step, opt_d, opt_g)
            draws = self.draws(self.step * self.n_critic + turn % self.n_critic)
            told = None if label is None else one_hot(label, self.classes).to(batch.dtype)
            critic = discriminator if told is None else ConditionalDiscriminator(discriminator, told, self.flat)
            size = batch.shape[len(self.replica_dims)]

            # (1) D sees real data, target 1: the error updates D.
            real = remedies.transform(batch, self.step, draws)
            real_scores = critic(real)
            if not self.joint:
                d_real = self._optimize(opt_d, loss.d_real(real_scores).mean(-1))

            # (2) D sees G's fakes, target 0: the error updates D. G made them without a graph, so nothing reaches it.
            with torch.no_grad():
                fake = remedies.transform(generator(self.draw(size, told)), self.step, draws)
            fake_scores = critic(fake)
            if not self.joint:
                d_fake = self._optimize(opt_d, loss.d_fake(fake_scores).mean(-1))
            else:
                d_real, d_fake = (term.mean(-1) for term in loss.d(real_scores, fake_scores))
                if not remedies.update_gate or remedies.update_gate.should_update(real_scores, fake_scores):
                    paid = [penalty(critic, real, fake, draws).mean(-1) for penalty in remedies.penalties]
                    self._optimize(opt_d, sum([*paid, *(anchor() for anchor in self.anchors[:1])], d_real + d_fake))
            if turn % self.n_critic:
                continue  # D's turn again

            # (3) D, frozen, judges fresh fakes, target 1: the error passes through D and updates only G.
            self._set_requires_grad(True)
            for _ in range(self.n_generator):
                z = self.draw(size, told)
                fake_samples = generator(z)
                d_input = remedies.transform(fake_samples, self.step, draws)
                unrolled_critic = remedies.unrolled(critic, loss, real, d_input) if remedies.unrolled else critic
                values = loss.g(unrolled_critic(d_input), unrolled_critic(real) if loss.paired else None)
                g = self._generator_loss(values, critic, z, fake_samples, d_input, real)
                self._optimize(opt_g, g + sum(anchor() for anchor in self.anchors[1:]))
            self._set_requires_grad(False)
            if self.averaged is not None:
                self.averaged.update()
            self.record(real_scores, fake_scores, d_real, d_fake, g)
        self.end_chunk(len(batches) // self.n_critic)

    def _generator_loss(self, values: Tensor, *seen: Any) -> Tensor:
        """What G pays `(…)`: the mean of its loss's values `(…, B)`, and what its aims say of what they have seen."""
        if self.remedies.top_k:
            values = self.remedies.top_k.select(values, self.step)
        own = values.mean(-1)
        for generator_loss in self.remedies.generator_losses:
            own = generator_loss(*seen) + (0 if generator_loss.replaces_adversarial else own)
        return own

    def _optimize(self, optimizer: Optimizer, loss: Tensor) -> Tensor:
        """One update by the sum of the members' losses `(…)`, which it gives back."""
        self.manual_backward(loss.sum() if self.replica_dims else loss)
        optimizer.step()
        for group in optimizer.param_groups:  # zero_grad, without what it does for profilers
            for parameter in group["params"]:
                parameter.grad = None
        return loss

    def _set_requires_grad(self, frozen: bool) -> None:
        """Whether D's weights get no gradients; Module.requires_grad_ looks through all of its layers each time."""
        for parameter in self._weights_of_d:
            parameter.requires_grad = not frozen

    def manual_backward(self, loss: Tensor, *_: Any, **__: Any) -> None:
        """Lightning's own, but for asking every callback before and after, three times a step: none of ours listens."""
        self.trainer.strategy.pre_backward(loss)  # what several processes agree on first
        loss.backward()

    def draws(self, number: int, purpose: str = "remedies") -> StepRNG:
        """What remedies draw in D's turn of that number."""
        seeds = range(self.seed, self.seed + self.replicas)
        return StepRNG(seeds, self.replica_dims, purpose, number, self.device)

    def draw(self, n: int, told: Tensor | None = None) -> Tensor:
        """The training stream's next n latent vectors, `(…, n, latent_dim)`; of several processes each draws all.

        Args:
            told: the classes `(…, n, classes)`, one-hot, that they shall have.
        """
        drawn = [self.latent((n * self._ranks, self.latent_dim), each) for each in self._latent_streams]
        z = torch.stack(drawn) if self.replica_dims else drawn[0][self._rank :: self._ranks]
        return z if told is None else torch.cat([z[..., : -self.classes], told], -1)

    @torch.no_grad()
    def sample(self, z: Tensor) -> Tensor:
        """G's samples `(…, B, *shape)` for latent vectors `(…, B, latent_dim)`, with batch statistics as for use; those
        of the average of its weights, if there is one.

        Changes nothing that training sees.
        """
        generator = self.generator if self.averaged is None else self.averaged.network
        was_training, settling = generator.training, (*self.replica_dims, SETTLING_BATCH, self.latent_dim)
        generator.eval()
        try:
            if self.averaged is not None:
                self.averaged.recalibrate_batch_norm(lambda i: self.draws(i, "ema").draw(self.latent, settling))
            return generator(z.to(self.device))
        finally:
            generator.train(was_training)

    @torch.no_grad()
    def scores(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """D's raw scores `(n,)` of one GAN's samples `(n, *shape)`, on the CPU, as training asks it: in batches, with
        their own statistics, of samples as D is shown them. Of packs there are fewer than n.

        Pitfall: running statistics are of real data and fakes together; with them norm=batch answers about 0.5 to both.

        Args:
            labels: their classes `(n,)`, of a conditional GAN.
        """
        discriminator = copy.deepcopy(self.discriminator).train()  # the statistics that it counts are thrown away
        packs = torch.arange(len(samples) // self.remedies.pack_size * self.remedies.pack_size).view(
            -1, self.remedies.pack_size
        )
        found = []
        for chosen in packs.tensor_split(max(1, len(packs) // max(2, SEEN // self.remedies.pack_size))):
            own = None if labels is None else labels[chosen.flatten()]
            found.append(self.judged(samples[chosen.flatten()], own, discriminator).float().cpu())
        return torch.cat(found)

    def judged(self, samples: Tensor, labels: Tensor | None = None, discriminator: nn.Module | None = None) -> Tensor:
        """Scores of samples `(…, B, *shape)` as D, or a copy of it, is shown them; draws are none of the training's."""
        critic, samples = discriminator or self.discriminator, samples.to(self.device)
        if self.classes and labels is not None:
            told = one_hot(labels.to(self.device), self.classes).to(samples.dtype)
            critic = ConditionalDiscriminator(critic, told, self.flat)
        return critic(self.remedies.transform(samples, self.step, self.draws(self.step, "scores")))

    def labels_of(self, z: Tensor) -> Tensor | None:
        """The classes `(…)` that latent vectors `(…, latent_dim)` ask for; None without classes."""
        return z[..., -self.classes :].argmax(-1) if self.classes else None

    def member(self, i: int) -> "GANModule":
        """GAN i alone, as it is now, a copy; where there is one only, itself.

        Raises:
            LabError: if there is no such member.
        """
        if not 0 <= i < self.replicas:
            among = f"0 to {self.replicas - 1}" if self.replica_dims else "0 alone"
            raise LabError(f"There is no member {i}: the run has replicas={self.replicas}.", f"Name one of {among}.")
        if not (isinstance(self.generator, Replicated) and isinstance(self.discriminator, Replicated)):
            return self
        known = "loss latent latent_dim optim_d optim_g steps log_every n_critic n_generator classes flat"
        rest: dict[str, Any] = {name: getattr(self, name) for name in known.split()}
        rest |= {"joint_d_update": self.joint, "remedies": copy.deepcopy(self.remedies)}
        alone = GANModule(self.generator.member(i), self.discriminator.member(i), seed=self.seed + i, **rest)
        for own, whole in zip([*alone.anchors, *alone.kept], [*self.anchors, *self.kept], strict=True):
            for name, buffer in whole.named_buffers():
                setattr(own, name, (buffer if name == "calls" else buffer[i]).clone())
        if self.averaged is None:
            alone.averaged = None
        else:
            alone.averaged.network = self.averaged.network.member(i)  # type: ignore[union-attr, operator]
        alone.step = self.step
        return alone.to(self.device)

    def members(self) -> "Iterator[tuple[int, GANModule]]":
        """Each member alone that hasn't failed, with its number, one after the other."""
        return ((i, self.member(i)) for i in range(self.replicas) if i not in self.failed)

    # What a checkpoint needs beside weights and optimisers so that training goes on as if nothing had happened.

    def on_train_start(self) -> None:
        super().on_train_start()
        self._weights_of_d = list(self.discriminator.parameters())
        self._latent_streams = self.latent_streams(self._latent_state, self.device)

    def latent_streams(self, state: Tensor | None, device: torch.device) -> list[torch.Generator]:
        """Each member's stream of latent vectors, from its beginning or as a checkpoint has it."""
        streams = [make_generator(self.seed + i, "latent", device=device) for i in range(self.replicas)]
        if state is not None:
            for each, own in zip(streams, state.view(self.replicas, -1), strict=True):
                each.set_state(own.clone())  # torch crashes on a view
        return streams

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["gan_lab"] = self.records() | {
            "latent_stream": torch.stack([each.get_state() for each in self._latent_streams]).squeeze(0),
            "torch_rng": torch.get_rng_state(),
            "optimizers": [type(optimizer).__name__ for optimizer in self.optimizers(use_pl_optimizer=False)],  # type: ignore[union-attr]
        }
        checkpoint.pop("loops", None)  # Lightning's own position in the data; ours is `step`

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["gan_lab"]
        self.take_over(state)
        self._latent_state = state["latent_stream"]
        torch.set_rng_state(state["torch_rng"])
        for kept, was, new in zip(
            checkpoint["optimizer_states"], state["optimizers"], self.configure_optimizers()[0], strict=True
        ):
            kept["param_groups"] = new.state_dict()["param_groups"]  # the configuration's, should it have been changed
            if was != type(new).__name__:  # another optimiser can't use what this one remembers
                kept["state"] = {}
