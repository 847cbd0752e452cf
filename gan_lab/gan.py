"""The GAN: two networks and the step that trains them against each other."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lab.errors import LabError, RunError
from gan_lab.latent import Latent
from gan_lab.losses import Loss
from gan_lab.models.replicated import Replicated
from gan_lab.streams import stream

RECORDED = ("loss/d_real", "loss/d_fake", "loss/g", "score/real", "score/fake")


class NotFiniteError(RunError):
    """NaN or infinity, in one of the RECORDED values or elsewhere.

    Attributes:
        step: the step in which it was noticed.
    """

    def __init__(self, step: int, what: str):
        super().__init__(f"The numbers blew up at step {step:,}: {what}.")
        self.step = step


def memory_of_a_step(
    make: Callable[[Iterable[nn.Parameter]], Optimizer], parameters: Iterable[nn.Parameter]
) -> dict[int, dict[str, Any]]:
    """What an optimiser remembers of each parameter after a step, on others of the same shapes, with gradient 0."""
    others = [nn.Parameter(torch.zeros_like(parameter)) for parameter in parameters]
    for other in others:
        other.grad = torch.zeros_like(other)
    optimizer = make(others)
    optimizer.step()
    return optimizer.state_dict()["state"]


class GANModule(pl.LightningModule):
    """Trains a generator and a discriminator in three phases a step (Goodfellow et al. 2014, algorithm 1; S4).

    A *step* is one pass through all three phases on one batch. `step` counts them; it is the x-axis of everything.
    Steps come in chunks, which end wherever a row of the log is due.

    With `Replicated` networks it trains K GANs at once, its *members*, and wherever `…` is written stands an axis K.
    Member i is what `seed + i` gives alone. One that blows up is `failed`; the others go on.

    Args:
        generator: latent vectors `(…, B, latent_dim)` to samples `(…, B, *shape)`.
        discriminator: samples `(…, B, *shape)` to raw scores `(…, B)`.
        loss: see `gan_lab.losses`.
        latent: draws latent vectors, see `gan_lab.latent`.
        latent_dim: length of a latent vector.
        optim_d, optim_g: make an optimiser from parameters.
        steps: length of the training; the last step is logged, whatever `log_every`.
        seed: of the latent vectors' stream; member i has the stream of `seed + i`.
        log_every: each row of the log is the mean over this many steps.
        joint_d_update: False, as in the book: D is updated on real data, then on fakes. True: once, on the sum of both.

    Attributes:
        replicas: K, 1 for networks that aren't `Replicated`.
        lead: the axes that stand before the batch: `(K,)`, or `()` for one GAN.
        failed: the members whose numbers blew up: in which step, and what showed it.
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
    ):
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = generator, discriminator
        self.loss, self.latent, self.latent_dim = loss, latent, latent_dim
        self.optim_d, self.optim_g = optim_d, optim_g
        self.steps, self.seed, self.log_every = steps, seed, log_every
        self.joint_d_update = joint_d_update
        self.replicas: int = generator.replicas if isinstance(generator, Replicated) else 1
        self.lead = (self.replicas,) if self.replicas > 1 else ()
        self.failed: dict[int, tuple[int, str]] = {}
        self.step = 0
        self.last_row: dict[str, float] = {}
        self.row_steps = 0  # over how many steps last_row is the mean
        self.unlogged: list[Tensor] = []  # the RECORDED values `(5, …)` of each step since the last row
        self._latent_state: Tensor | None = None
        self._rank, self._ranks = 0, 1  # of the processes that train it together

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        return [self.optim_d(self.discriminator.parameters()), self.optim_g(self.generator.parameters())], []

    def training_step(self, chunk: Tensor) -> None:  # (S, …, B, *shape): the batches of S steps
        generator, discriminator, loss = self.generator, self.discriminator, self.loss
        opt_d, opt_g = self.optimizers(use_pl_optimizer=False)  # type: ignore[misc]
        for real in chunk:
            # (1) D sees real data, target 1: the error updates D.
            real_scores = discriminator(real)
            batch_size = real_scores.shape[-1]
            d_real = loss.d_real(real_scores).mean(-1)
            self.manual_backward(d_real.sum())
            if not self.joint_d_update:
                self._update(opt_d)

            # (2) D sees G's fakes, target 0: the error updates D. G made them without a graph, so nothing reaches it.
            with torch.no_grad():
                fake = generator(self.draw(batch_size))
            fake_scores = discriminator(fake)
            d_fake = loss.d_fake(fake_scores).mean(-1)
            self.manual_backward(d_fake.sum())
            self._update(opt_d)

            # (3) D, frozen, judges fresh fakes, target 1: the error passes through D and updates only G.
            discriminator.requires_grad_(False)
            g = loss.g(discriminator(generator(self.draw(batch_size)))).mean(-1)
            self.manual_backward(g.sum())
            self._update(opt_g)
            discriminator.requires_grad_(True)

            self.step += 1
            values = (d_real, d_fake, g, loss.answer(real_scores).mean(-1), loss.answer(fake_scores).mean(-1))
            self.unlogged.append(torch.stack([value.detach() for value in values]))
        self._end_chunk(len(chunk))

    def manual_backward(self, loss: Tensor, *_: Any, **__: Any) -> None:
        """Lightning's own, but for asking every callback before and after, three times a step: none of ours listens."""
        self.trainer.strategy.pre_backward(loss)  # what several processes agree on first
        loss.backward()

    def draw(self, n: int) -> Tensor:
        """The training stream's next n latent vectors, `(…, n, latent_dim)`; of several processes each draws all."""
        drawn = [self.latent((n * self._ranks, self.latent_dim), each) for each in self._latent_streams]
        return torch.stack(drawn) if self.lead else drawn[0][self._rank :: self._ranks]

    @torch.no_grad()
    def sample(self, z: Tensor) -> Tensor:
        """G's samples `(…, B, *shape)` for latent vectors `(…, B, latent_dim)`, with batch statistics as for use.

        Changes nothing that training sees.
        """
        was_training = self.generator.training
        self.generator.eval()
        try:
            return self.generator(z.to(self.device))
        finally:
            self.generator.train(was_training)

    def member(self, i: int) -> "GANModule":
        """GAN i alone, as it is now, a copy; where there is one only, itself.

        Raises:
            LabError: if there is no such member.
        """
        if not 0 <= i < self.replicas:
            among = f"0 to {self.replicas - 1}" if self.lead else "0 alone"
            raise LabError(f"There is no member {i}: the run has replicas={self.replicas}.", f"Name one of {among}.")
        if not (isinstance(self.generator, Replicated) and isinstance(self.discriminator, Replicated)):
            return self
        alone = GANModule(
            self.generator.member(i),
            self.discriminator.member(i),
            self.loss,
            self.latent,
            self.latent_dim,
            self.optim_d,
            self.optim_g,
            self.steps,
            self.seed + i,
            self.log_every,
            self.joint_d_update,
        )
        alone.step = self.step
        return alone.to(self.device)

    def members(self) -> "Iterator[tuple[int, GANModule]]":
        """Each member alone that hasn't failed, with its number, one after the other."""
        return ((i, self.member(i)) for i in range(self.replicas) if i not in self.failed)

    @staticmethod
    def _update(optimizer: Optimizer) -> None:
        optimizer.step()
        optimizer.zero_grad()

    def _end_chunk(self, steps: int) -> None:
        """Looks at the RECORDED values of these steps and writes a row when it is due: no sooner does anything wait."""
        values = self.trainer.strategy.reduce(torch.stack(self.unlogged[-steps:]), reduce_op="mean")  # (S, 5, …)
        if self._ranks > 1:  # what all processes saw together
            self.unlogged[-steps:] = values.unbind()
        if not values.isfinite().all():
            self._find_failed(values.view(steps, len(RECORDED), self.replicas))
        if self.step % self.log_every == 0 or self.step == self.steps:
            self.row_steps = len(self.unlogged)
            row = self._row(torch.stack(self.unlogged).mean(0))
            self.unlogged.clear()
            for logger in self.loggers:
                logger.log_metrics(row, self.step)

    def _row(self, means: Tensor) -> dict[str, float]:
        """A row of the log, and `last_row` of it; of replicas their mean, and behind it `<name>/<i>` for each."""
        if not self.lead:
            self.last_row = dict(zip(RECORDED, means.tolist(), strict=True))
            return self.last_row
        means[:, list(self.failed)] = torch.nan
        self.last_row = dict(zip(RECORDED, means.nanmean(-1).tolist(), strict=True))
        each = zip(RECORDED, means.tolist(), strict=True)
        return self.last_row | {f"{name}/{i}": value for name, values in each for i, value in enumerate(values)}

    def _find_failed(self, values: Tensor) -> None:  # (S, 5, K)
        for i in range(self.replicas):
            broken = (~values[..., i].isfinite()).nonzero()
            if len(broken) and i not in self.failed:
                which, what = broken[0].tolist()
                step = self.step - len(values) + 1 + which
                self.fail(i, step, f"{RECORDED[what]} is {values[which, what, i].item()}")

    def fail(self, member: int, step: int, what: str) -> None:
        """Notes that a member's numbers blew up.

        Raises:
            NotFiniteError: if none is left whose didn't.
        """
        self.failed[member] = (step, what)
        if len(self.failed) == self.replicas:
            raise NotFiniteError(step, f"{what}{', in the last of the replicas' if self.lead else ''}")

    # What a checkpoint needs beside weights and optimisers so that training goes on as if nothing had happened.

    def on_train_start(self) -> None:
        self._rank, self._ranks = self.trainer.global_rank, self.trainer.world_size
        self.unlogged = [values.to(self.device) for values in self.unlogged]
        self._latent_streams = self.latent_streams(self._latent_state, self.device)

    def latent_streams(self, state: Tensor | None, device: torch.device) -> list[torch.Generator]:
        """Each member's stream of latent vectors, from its beginning or as a checkpoint has it."""
        streams = [stream(self.seed + i, "latent", device=device) for i in range(self.replicas)]
        if state is not None:
            for each, own in zip(streams, state.view(self.replicas, -1), strict=True):
                each.set_state(own.clone())  # torch crashes on a view
        return streams

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["gan_lab"] = {
            "step": self.step,
            "latent_stream": torch.stack([each.get_state() for each in self._latent_streams]).squeeze(0),
            "torch_rng": torch.get_rng_state(),
            "unlogged": [values.cpu() for values in self.unlogged],
            "last_row": self.last_row,
            "row_steps": self.row_steps,
            "failed": {i: list(how) for i, how in self.failed.items()},
            "optimizers": [type(optimizer).__name__ for optimizer in self.optimizers(use_pl_optimizer=False)],  # type: ignore[union-attr]
        }
        checkpoint.pop("loops", None)  # Lightning's own position in the data; ours is `step`

    def note_failed(self, state: dict[str, Any]) -> None:
        """Takes over which members had failed when a checkpoint was made."""
        self.failed = {int(i): (int(step), str(what)) for i, (step, what) in state.get("failed", {}).items()}
        if not self.failed.keys() <= set(range(self.replicas)):
            raise ValueError("it has other members")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["gan_lab"]
        self.step, self.row_steps = int(state["step"]), int(state["row_steps"])
        self.last_row = {name: float(state["last_row"][name]) for name in RECORDED if state["last_row"]}
        self.unlogged = [values.float().view(len(RECORDED), *self.lead) for values in state["unlogged"]]
        self.note_failed(state)
        self._latent_state = state["latent_stream"]
        torch.set_rng_state(state["torch_rng"])
        for kept, was, new in zip(
            checkpoint["optimizer_states"], state["optimizers"], self.configure_optimizers()[0], strict=True
        ):
            kept["param_groups"] = new.state_dict()["param_groups"]  # the configuration's, should it have been changed
            if was != type(new).__name__:  # another optimiser can't use what this one remembers
                kept["state"] = {}
