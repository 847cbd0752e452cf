"""Finds where NaN or infinity arose: in which phase and which tensor. With replicas it freezes that member."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from gan_lab.core.terminal import say
from gan_lab.data.datamodule import StepBlock
from gan_lab.training import resume_state
from gan_lab.training.callbacks.base import GANCallback, datamodule_of
from gan_lab.training.gan_module import GANModule
from gan_lab.training.members import member_tensors
from gan_lab.training.phases import PHASE_D_FAKE, PHASE_D_JOINT, PHASE_D_REAL, PHASE_G
from gan_lab.training.step_context import Cost
from gan_lab.training.step_log import RECORDED, NotFiniteError

SNAPSHOT_EVERY = 200  # steps between two copies of the GAN in memory, and so the most that are played again

HELP = """What usually helps: a smaller learning rate (optim.lr), loss=bce instead of mse or the other way round,
norm=layer or norm=spectral, optim=adam. Data that contain NaN cannot be trained on."""


def not_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """Describes the first of the named tensors that holds NaN or inf; None if there is none."""
    for name, tensor in tensors:
        if tensor is None:
            continue
        finite = tensor.isfinite()
        if not finite.all():
            count = f"{(~finite).sum():,} of {tensor.numel():,} values"
            return f"{name} holds {tensor[~finite][0].item()} ({count})"
    return None


def copy_of_state(optimizer: Optimizer) -> dict[str, Any]:
    """Returns a copy of an optimizer's `state_dict`; cloning tensors takes a tenth of the time of `copy.deepcopy`."""
    state = optimizer.state_dict()
    copies = {}
    for number, values in state["state"].items():
        copies[number] = {
            name: value.clone() if isinstance(value, Tensor) else copy.deepcopy(value) for name, value in values.items()
        }
    return {**state, "state": copies, "param_groups": copy.deepcopy(state["param_groups"])}


class NaNGuard(GANCallback):
    """Explains where a training produced NaN or infinity.

    The step itself only checks its losses and scores, once per block, which costs next to nothing. This callback keeps
    a snapshot of the GAN in memory. When a value is not finite, it restores the snapshot and plays the steps since then
    again, checking every score, cost, gradient and weight.

    A member with NaN or infinity is set back to the snapshot and stays so; the others continue unaffected.

    Attributes:
        explanation: the message for the user once a training has failed, before that "".
    """

    def __init__(self) -> None:
        self.explanation = ""
        self._snapshot: dict[str, Any] = {}
        self._frozen: dict[int, dict[str, Tensor]] = {}  # the weights of members that have failed

    def on_training_start(self, trainer: pl.Trainer, module: GANModule) -> None:
        # Members that had failed before the run was interrupted.
        for i in module.step_log.failed:
            self._frozen[i] = {name: tensor[i].clone() for name, tensor in member_tensors(module).items()}
        if self._frozen:
            self._keep_frozen(module)

    def on_block_start(self, trainer: pl.Trainer, module: GANModule) -> None:
        if self._snapshot and module.step - self._snapshot[resume_state.KEY]["step"] < SNAPSHOT_EVERY:
            return
        weights = module.state_dict()
        if not_finite(weights.items()):
            # Broken by the last update, which no loss has shown yet: the older snapshot is needed to explain it.
            return
        self._snapshot = {
            "state_dict": {name: tensor.clone() for name, tensor in weights.items()},
            "optimizer_states": [copy_of_state(optimizer) for optimizer in trainer.optimizers],
        }
        resume_state.save(module, self._snapshot)

    def on_block_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        self._freeze_failed(module)

    def freeze_broken(self, module: GANModule) -> None:
        """Freezes the members whose weights are not finite, even if no loss has shown it yet.

        Raises:
            NotFiniteError: if no other member is left.
        """
        for i in range(module.replicas):
            if i in module.step_log.failed:
                continue
            description = not_finite((name, tensor[i]) for name, tensor in member_tensors(module).items())
            if description:
                module.step_log.fail(i, module.step, description)
        self._freeze_failed(module)

    def _freeze_failed(self, module: GANModule) -> None:
        """Sets the members that have just failed back to the snapshot."""
        for i in sorted(module.step_log.failed.keys() - self._frozen.keys()):
            if not self._frozen:
                self._keep_frozen(module)
            weights = self._snapshot["state_dict"]
            snapshot_step = self._snapshot[resume_state.KEY]["step"]
            self._frozen[i] = {name: weights[name][i].clone() for name in member_tensors(module)}
            self._restore_frozen(module)
            step, description = module.step_log.failed[i]
            say(
                f"Member {i} (seed {module.seed + i}) produced NaN or infinity at step {step:,}: {description}. "
                f"It stays as it was at step {snapshot_step:,}; the others continue.",
                stderr=True,
            )

    def _keep_frozen(self, module: GANModule) -> None:
        """Undoes what each update from now on does to members that have failed."""
        for optimizer in module.trainer.optimizers:
            optimizer.register_step_post_hook(lambda *_: self._restore_frozen(module))

    def _restore_frozen(self, module: GANModule) -> None:
        """Undoes what an update has done to members that have failed."""
        for i, weights in self._frozen.items():
            for name, tensor in member_tensors(module).items():
                tensor[i] = weights[name]

    def on_training_failure(self, trainer: pl.Trainer, module: GANModule, exception: BaseException) -> None:
        """Explains a NotFiniteError, and sets `module.step` to the last step that was finite."""
        if not isinstance(exception, NotFiniteError) or not self._snapshot:
            return
        # Several processes would not stop at the same place.
        if trainer.world_size > 1:
            return
        log = module.step_log
        if module.replica_dims:
            failures = [f"Member {i}, step {step:,}: {description}." for i, (step, description) in log.failed.items()]
            self.explanation = "\n".join([str(exception), *failures, HELP])
            module.step = exception.step - 1
            return
        last_row = log.last_row
        row_steps = log.row_steps
        cause = self._replay(trainer, module, exception.step) or exception
        self.explanation = "\n".join([str(cause), *_last_finite_values(module, cause.step - 1), HELP])
        module.step = cause.step - 1
        log.last_row = last_row
        log.row_steps = row_steps

    def _replay(self, trainer: pl.Trainer, module: GANModule, until: int) -> NotFiniteError | None:
        """Plays the steps from the snapshot up to step `until` again, checking every value.

        Returns:
            What was not finite first; None if nothing was.
        """
        self._restore_snapshot(trainer, module)
        settings = module.settings
        # No row is logged twice.
        module.apply_settings(replace(settings, log_every=settings.steps + 1))
        probe = StepProbe(module)
        handles = probe.attach(trainer.optimizers)
        try:
            for block in datamodule_of(trainer).train_dataloader():
                if module.step >= until:
                    break
                block = _on_device(block, module)
                batches = block if isinstance(block, Tensor) else block[0]
                probe.check([("the batch of real data", batches)])
                module.training_step(block)
        except NotFiniteError as cause:
            return cause
        finally:
            probe.detach(handles)
            module.apply_settings(settings)
        return None

    def _restore_snapshot(self, trainer: pl.Trainer, module: GANModule) -> None:
        module.on_load_checkpoint(self._snapshot)
        module.load_state_dict(self._snapshot["state_dict"])
        for optimizer, state in zip(trainer.optimizers, self._snapshot["optimizer_states"], strict=True):
            optimizer.load_state_dict(state)
            optimizer.zero_grad()
        module.requires_grad_(True)
        module.on_train_start()


def _on_device(block: StepBlock, module: GANModule) -> StepBlock:
    if isinstance(block, Tensor):
        return block.to(module.device)
    batches, labels = block
    return batches.to(module.device), labels.to(module.device)


def _last_finite_values(module: GANModule, step: int) -> list[str]:
    """Returns a line with the RECORDED values of the step before; an empty list if there was none."""
    finite = [values for values in module.step_log.state()["unlogged"] if values.isfinite().all()]
    if not finite:
        return []
    pairs = zip(RECORDED, finite[-1].tolist(), strict=True)
    values = ", ".join(f"{name} {value:.4g}" for name, value in pairs)
    return [f"At step {step:,} all values were finite: {values}."]


class StepProbe:
    """Checks what the steps of a single GAN compute; raises NotFiniteError at the first NaN or inf."""

    def __init__(self, module: GANModule):
        self.module = module
        self._last_updated = ""  # the phase of the last update
        # Kept, because the unrolled D is called with other weights instead of these.
        self._d_weights = list(module.discriminator.parameters())

    def attach(self, optimizers: Sequence[Optimizer]) -> list[RemovableHandle]:
        """Registers the checks as hooks of the module, of D and of the optimizers."""
        self.module.cost_hooks.append(self.check_costs)
        handles = [self.module.discriminator.register_forward_hook(self.check_scores)]
        for optimizer in optimizers:
            handles.append(optimizer.register_step_pre_hook(self.check_gradients))
            handles.append(optimizer.register_step_post_hook(self.check_weights))
        return handles

    def detach(self, handles: Sequence[RemovableHandle]) -> None:
        """Removes the hooks again."""
        self.module.cost_hooks.remove(self.check_costs)
        for handle in handles:
            handle.remove()

    def current_phase(self) -> str:
        """Tells in which phase the step is. Phase 3 freezes D; phase 2 follows D's update on real data."""
        d_is_frozen = not self._d_weights[0].requires_grad
        if d_is_frozen:
            return PHASE_G
        if self.module.joint:
            return PHASE_D_JOINT
        return PHASE_D_FAKE if self._last_updated == PHASE_D_REAL else PHASE_D_REAL

    def check_scores(self, _: nn.Module, __: tuple[Any, ...], scores: Tensor) -> None:
        """Checks the scores of each call of D."""
        phase = self.current_phase()
        is_unrolled = phase == PHASE_G and self.module.remedies.unrolled is not None
        name = "the score of the unrolled D" if is_unrolled else "D's score"
        self.check([(f"in {phase}, {name}", scores)])

    def check_costs(self, costs: Sequence[Cost]) -> None:
        """Checks each part of what a network is about to be updated by."""
        phase = self.current_phase()
        self.check((f"in {phase}, {name}", cost) for name, cost in costs)

    def check_gradients(self, optimizer: Optimizer, *_: Any) -> None:
        """Checks the gradients before an update."""
        phase = self.current_phase()
        self.check((f"in {phase}, the gradient of {name}", p.grad) for name, p in self._parameters(optimizer))

    def check_weights(self, optimizer: Optimizer, *_: Any) -> None:
        """Checks the weights after an update."""
        phase = self.current_phase()
        self.check((f"in {phase}, {name}", p) for name, p in self._parameters(optimizer))
        self._last_updated = phase

    def check(self, tensors: Iterable[tuple[str, Tensor | None]]) -> None:
        """Checks named tensors.

        Raises:
            NotFiniteError: for the first that holds NaN or inf.
        """
        description = not_finite(tensors)
        if description:
            raise NotFiniteError(self.module.step + 1, description)

    def _parameters(self, optimizer: Optimizer) -> Iterator[tuple[str, nn.Parameter]]:
        """Yields the parameters that an optimizer updates, with their names in the module."""
        updated = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        for name, parameter in self.module.named_parameters():
            if parameter in updated:
                yield name, parameter
