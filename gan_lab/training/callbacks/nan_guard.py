"""Where numbers blew up: which phase, which tensor; of replicas, which member, and how the others go on."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lab.core.terminal import say
from gan_lab.training.gan_module import GANModule
from gan_lab.training.step_log import RECORDED, NotFiniteError

KEPT_EVERY = 200  # steps between two copies of the GAN in memory: at most so many are played again

HELP = """What usually helps: a smaller learning rate (optim.lr), loss=bce in the place of mse or the other way round,
norm=layer or norm=spectral, optim=adam. Data with NaN in them can't be trained on."""


def not_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """The first of the named tensors that holds NaN or infinity, in words; None if there is none."""
    for name, tensor in tensors:
        if tensor is not None and not (finite := tensor.isfinite()).all():
            few = f"{(~finite).sum():,} of {tensor.numel():,} values"
            return f"{name} holds {tensor[~finite][0].item()} ({few})"
    return None


class NaNGuard(pl.Callback):
    """When a training's numbers blow up, finds out where.

    The step itself only looks at its losses and scores, every few steps, which costs nothing. This callback keeps a
    copy of the GAN in memory; when something isn't finite, it goes back to the copy and plays the steps since then
    once more, looking at every score, loss, gradient and weight. What it finds becomes the error's message.

    A member of replicas that blows up gets the copy's weights and keeps them; the others go on as they would have.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}
        self._frozen: dict[int, dict[str, Tensor]] = {}  # what failed members stay at

    def on_train_start(self, trainer: pl.Trainer, module: GANModule) -> None:  # type: ignore[override]
        for i in module.failed:  # before the run was interrupted
            self._frozen[i] = {name: tensor[i].clone() for name, tensor in module.stacked().items()}
        for optimizer in trainer.optimizers if module.replica_dims else []:
            optimizer.register_step_post_hook(lambda *_: self._hold(module))

    def on_train_batch_start(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        if self._kept and module.step - self._kept["gan_lab"]["step"] < KEPT_EVERY:
            return
        weights = module.state_dict()
        if not not_finite(weights.items()):  # broken by the last update, unseen as yet: the older copy shows how
            self._kept = {
                "state_dict": {name: tensor.clone() for name, tensor in weights.items()},
                "optimizer_states": [copy.deepcopy(optimizer.state_dict()) for optimizer in trainer.optimizers],
            }
            module.on_save_checkpoint(self._kept)

    def on_train_batch_end(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        self._set_requires_grad(module)

    def freeze_broken(self, module: GANModule) -> None:
        """Freezes the members whose weights aren't finite, which no loss has shown as yet.

        Raises:
            NotFiniteError: if no other is left.
        """
        for i in set(range(module.replicas)) - module.failed.keys():
            if what := not_finite((name, tensor[i]) for name, tensor in module.stacked().items()):
                module.fail(i, module.step, what)
        self._set_requires_grad(module)

    def _set_requires_grad(self, module: GANModule) -> None:
        """Brings the members that have just failed back to the copy."""
        for i in sorted(module.failed.keys() - self._frozen.keys()):
            self._frozen[i] = {name: self._kept["state_dict"][name][i].clone() for name in module.stacked()}
            self._hold(module)
            (step, what), at = module.failed[i], self._kept["gan_lab"]["step"]
            told = f"Member {i} (seed {module.seed + i}) blew up at step {step:,}: {what}."
            say(f"{told} It stays as it was at step {at:,}; the others go on.", stderr=True)

    def _hold(self, module: GANModule) -> None:
        for i, own in self._frozen.items():
            for name, tensor in module.stacked().items():
                tensor[i] = own[name]

    def on_exception(self, trainer: pl.Trainer, module: GANModule, exception: BaseException) -> None:  # type: ignore[override]
        if not isinstance(exception, NotFiniteError) or not self._kept or trainer.world_size > 1:
            return  # several processes wouldn't stop at the same place
        if module.replica_dims:
            each = [f"Member {i}, step {step:,}: {what}." for i, (step, what) in module.failed.items()]
            exception.args = ("\n".join([str(exception), *each, HELP]),)
            module.step = exception.step - 1
            return
        found, row = exception, (module.last_row, module.row_steps)
        try:
            self._play_again(trainer, module, until=exception.step)
        except NotFiniteError as cause:
            found = cause
        exception.args = ("\n".join([str(found), *_last_finite(module, found.step - 1), HELP]),)
        module.step, module.last_row, module.row_steps = found.step - 1, *row  # the last step that was whole

    def _play_again(self, trainer: pl.Trainer, module: GANModule, until: int) -> None:
        """Raises NotFiniteError at the first thing that isn't finite; comes back if all is, up to the step `until`."""
        module.on_load_checkpoint(self._kept)
        module.load_state_dict(self._kept["state_dict"])
        for optimizer, state in zip(trainer.optimizers, self._kept["optimizer_states"], strict=True):
            optimizer.load_state_dict(state)
            optimizer.zero_grad()
        module.requires_grad_(True).on_train_start()
        module.log_every = module.steps + 1  # no row is written twice
        module.loss = watched = LossProbe(module)
        for optimizer in trainer.optimizers:
            optimizer.register_step_pre_hook(watched.gradients)
            optimizer.register_step_post_hook(watched.weights)
        try:
            for chunk in trainer.datamodule.train_dataloader():  # type: ignore[attr-defined]
                if module.step >= until:
                    break
                alone = isinstance(chunk, Tensor)  # else classes come with it
                parts = [part.to(module.device) for part in ([chunk] if alone else chunk)]
                if what := not_finite([("the batch of real data", parts[0])]):
                    raise NotFiniteError(module.step + 1, what)
                module.training_step(parts[0] if alone else tuple(parts))
        finally:
            module.loss = watched.loss


def _last_finite(module: GANModule, step: int) -> list[str]:
    """A line that tells the RECORDED values of the step before, [] if there was none."""
    finite = [values for values in module.records()["unlogged"] if values.isfinite().all()]
    if not finite:
        return []
    told = ", ".join(f"{name} {value:.4g}" for name, value in zip(RECORDED, finite[-1].tolist(), strict=True))
    return [f"At step {step:,} all was finite: {told}."]


class LossProbe:
    """A loss that looks at what goes through it, and so knows the phase; hooks of the optimisers."""

    def __init__(self, module: GANModule):
        self.module, self.loss, self.phase = module, module.loss, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loss, name)

    def d_real(self, scores: Tensor) -> Tensor:
        return self._look("phase (1), D on real data", self.loss.d_real, scores)

    def d_fake(self, scores: Tensor) -> Tensor:
        return self._look("phase (2), D on fakes", self.loss.d_fake, scores)

    def d(self, real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
        learning = any(p.requires_grad for p in self.module.discriminator.parameters())
        self.phase = "phases (1) and (2), D on real data and on fakes" if learning else "phase (3), G, looking ahead"
        terms = self.loss.d(real_scores, fake_scores)
        names = ("D's score on real data", "D's score on fakes", "the loss on real data", "the loss on fakes")
        self._refuse(zip(names, (real_scores, fake_scores, *terms), strict=True))
        return terms

    def g(self, scores: Tensor, *rest: Any) -> Tensor:
        return self._look("phase (3), G", self.loss.g, scores, *rest)

    def _look(self, phase: str, term: Callable[..., Tensor], scores: Tensor, *rest: Any) -> Tensor:
        self.phase = phase
        values = term(scores, *rest)
        self._refuse([("D's score", scores), ("the loss", values)])
        return values

    def gradients(self, optimizer: Optimizer, *_: Any) -> None:
        self._refuse((f"the gradient of {name}", p.grad) for name, p in self._parameters(optimizer))

    def weights(self, optimizer: Optimizer, *_: Any) -> None:
        self._refuse(self._parameters(optimizer))

    def _parameters(self, optimizer: Optimizer) -> Iterator[tuple[str, nn.Parameter]]:
        own = {p for group in optimizer.param_groups for p in group["params"]}
        return ((name, p) for name, p in self.module.named_parameters() if p in own)

    def _refuse(self, tensors: Iterable[tuple[str, Tensor | None]]) -> None:
        if what := not_finite(tensors):
            raise NotFiniteError(self.module.step + 1, f"in {self.phase}, {what}")
