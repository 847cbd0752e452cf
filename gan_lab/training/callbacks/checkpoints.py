"""Stores what was trained, and stops a training where it can be resumed."""

import inspect
import io
import math
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from gan_lab.core.checkpoint_file import refuse_invalid_rng_state
from gan_lab.core.errors import LabError
from gan_lab.core.interrupts import Handling, interrupt
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import say
from gan_lab.training import resume_state
from gan_lab.training.callbacks.base import GANCallback, find_callback
from gan_lab.training.callbacks.clock import Clock
from gan_lab.training.callbacks.nan_guard import NaNGuard, not_finite
from gan_lab.training.gan_module import GANModule
from gan_lab.training.settings import MakeOptimizer
from gan_lab.training.step_log import NotFiniteError

USED_KEYS = ("state_dict", "optimizer_states", "callbacks", resume_state.KEY)  # what is read from a checkpoint

OptimizerState = Mapping[int, Mapping[str, Any]]  # by the number of the parameter


class CheckpointFile(TorchCheckpointIO):
    """Writes directly to the given path; Lightning's own makes a copy in the system's temporary folder first.

    Of what it reads only USED_KEYS count: Lightning's own position in the data means nothing here.

    Args:
        checked: the checkpoint to resume from, already checked by `check_form`; the file, which may have been replaced
            since, is not read again.
    """

    def __init__(self, checked: dict[str, Any] | None = None):
        super().__init__()
        self.checked = checked

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(content.getbuffer())

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        checkpoint = self.checked
        assert checkpoint is not None, f"{path} was not read"
        # Its memory is free once training has taken it over.
        self.checked = None
        position = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": pl.__version__, "lr_schedulers": []}
        return {**{key: checkpoint[key] for key in USED_KEYS}, **position}


def check_form(
    checkpoint: dict[str, Any],
    module: GANModule,
    callbacks: Sequence[pl.Callback],
    shape: Sequence[int],
    device: torch.device,
) -> None:
    """Puts a checkpoint's content where training will put it, and checks that it can be used there.

    Optimizer states of other shapes would let torch's fused kernels write outside their memory.

    Args:
        shape: of a sample, with replicas `(K, *shape)`.
        device: of the training.

    Raises:
        LabError: if something is missing or has another form.
        Exception: of many types, whatever else the content of a damaged or foreign file causes.
    """
    state = checkpoint[resume_state.KEY]
    refuse_invalid_rng_state(state["torch_rng"])
    if device.type == "cpu":
        for rng_state in state["latent_stream"].view(module.replicas, -1):
            refuse_invalid_rng_state(rng_state)
    module.on_load_checkpoint(checkpoint)
    module.latents.start(device)
    state_d, state_g = checkpoint["optimizer_states"]
    _check_optimizer(state_d["state"], module.settings.optim_d, module.discriminator)
    _check_optimizer(state_g["state"], module.settings.optim_g, module.generator)
    for callback in callbacks:
        if callback.state_key in checkpoint["callbacks"]:
            callback.load_state_dict(checkpoint["callbacks"][callback.state_key])
        if isinstance(callback, Clock) and not callback.is_valid():
            raise LabError("its clock shows no valid time", code="damaged", key="last.ckpt")
    for tensor in _tensors(checkpoint["callbacks"]):
        if tensor.shape != tuple(shape):
            raise LabError("the samples in it do not have the shape of this dataset", code="damaged", key="last.ckpt")


def load_weights(module: GANModule, checkpoint: dict[str, Any], run: Run) -> None:
    """Loads a checkpoint's weights into the networks.

    Raises:
        LabError: if they belong to other networks.
    """
    state_dict = checkpoint["state_dict"]
    try:
        for name, tensor in module.state_dict().items():
            # Loading would convert it silently.
            if name in state_dict and state_dict[name].dtype != tensor.dtype:
                raise TypeError(f"{name} is of {state_dict[name].dtype}, not {tensor.dtype}")
        module.load_state_dict(state_dict)
        module.step_log.load_failed(checkpoint[resume_state.KEY].get("failed", {}))
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        # torch's first line only says that there are errors.
        reason = str(error).splitlines()[:2][-1].strip()
        raise LabError(
            f"{run.folder}: its checkpoint is of other networks than its {run.config.name}: {reason}",
            code="damaged",
            key=run.checkpoint.name,
        ) from error


def state_after_one_step(make_optimizer: MakeOptimizer, parameters: Iterable[nn.Parameter]) -> OptimizerState:
    """Returns an optimizer's state after one step with gradient 0, on copies of the parameters' shapes."""
    copies = [nn.Parameter(torch.zeros_like(parameter)) for parameter in parameters]
    for parameter in copies:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = make_optimizer(copies)
    step = type(optimizer).step
    if step.__module__.startswith("torch.optim."):
        # For torch's optimizers `optimizer.step()` first imports torch's compiler, which takes a second.
        step = inspect.unwrap(step)
    with torch.no_grad():
        step(optimizer)
    return optimizer.state_dict()["state"]


def _check_optimizer(stored: OptimizerState, make_optimizer: MakeOptimizer, network: nn.Module) -> None:
    """Raises LabError if an optimizer's stored state does not fit the optimizer and the network."""
    if stored == {}:
        return
    expected = state_after_one_step(make_optimizer, network.parameters())
    fits = stored.keys() == expected.keys()
    if not fits or not all(_has_form(stored[number], state) for number, state in expected.items()):
        raise LabError("its optimizer states do not fit these networks and optimizers", code="damaged", key="last.ckpt")


def _has_form(stored: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Tells whether stored values have the types and shapes of the expected ones."""
    for name, value in expected.items():
        stored_value = stored[name]
        if type(stored_value) is not type(value):
            return False
        if isinstance(value, Tensor) and (stored_value.shape, stored_value.dtype) != (value.shape, value.dtype):
            return False
        if name == "step" and not 1 <= float(stored_value) < math.inf:
            return False
    return True


def _tensors(node: Any) -> Iterator[Tensor]:
    """Yields all tensors in nested dicts, lists and tuples."""
    if isinstance(node, Tensor):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _tensors(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _tensors(value)


class Checkpoint(GANCallback):
    """Writes `checkpoints/last.ckpt`, and metrics.csv up to it: every so many steps, and when training ends or stops.

    It must come after the callbacks that act at the same step, so that the checkpoint contains what they have stored.

    Args:
        every: steps between two checkpoints.

    Raises:
        NotFiniteError: instead of storing weights that are not finite, unless those of other replicas are.
        RemovedError: after the first block of steps that finds the run folder or its checkpoints removed.
    """

    def __init__(self, run: Run, every: int):
        self.run = run
        self.every: int = every

    def on_block_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        self.run.refuse_if_removed()
        if module.step % self.every == 0 or module.step == module.steps or trainer.should_stop:
            self.save(trainer, module)

    def save(self, trainer: pl.Trainer, module: GANModule) -> None:
        """Writes a checkpoint of the present step. With several processes all take part and rank 0 writes."""
        broken = not_finite(module.state_dict().items())
        if broken:
            guard = find_callback(trainer, NaNGuard)
            if guard is None or not module.replica_dims:
                raise NotFiniteError(module.step, broken)
            guard.freeze_broken(module)
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.run.checkpoint)
            return
        for logger in trainer.loggers:
            logger.save()
        with self.run.new_checkpoint() as path:
            trainer.save_checkpoint(path)


class StopOnSignal(pl.Callback):
    """Stops a training after the present block of steps on Ctrl-C, SIGTERM, which Slurm sends, or a closed terminal.

    A second signal stops immediately, in the middle of a step; then the last regular checkpoint counts. This holds from
    `start` to `end`: a training that is about to begin does its first block of steps.

    Attributes:
        signal: the signal that stopped the training, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._handling = Handling(self._on_signal)

    def start(self) -> None:
        """Handles signals from now on."""
        self._handling.start()

    def end(self) -> None:
        """Leaves signals to whoever handled them before."""
        self._handling.end()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has put its own in the place of ours.
        self.start()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            interrupt(number)
            return
        self.signal = signal.Signals(number)
        say("\nStopping after this step; Ctrl-C again stops immediately.", stderr=True)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # All processes stop after the same step, whichever of them got the signal.
        if trainer.strategy.reduce_boolean_decision(self.signal is not None, all=False):
            trainer.should_stop = True
