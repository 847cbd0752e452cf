"""Keeping what was trained, and stopping in a place from which one can go on."""

import io
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_lab.core.checkpoint_file import refuse_invalid_rng_state
from gan_lab.core.errors import LabError
from gan_lab.core.run_folder import Run
from gan_lab.core.terminal import say
from gan_lab.training.callbacks.nan_guard import NaNGuard, not_finite
from gan_lab.training.gan_module import GANModule
from gan_lab.training.step_log import NotFiniteError

KEPT = ("state_dict", "optimizer_states", "callbacks", "gan_lab")


class CheckpointFile(TorchCheckpointIO):
    """Writes straight to the path that it is given; Lightning's own makes a copy in the system's temporary folder.

    Of what it reads only what is KEPT counts: Lightning's own position says nothing here.

    Args:
        checked: the checkpoint to go on from, which `check_form` has checked; the file, which could be another one by
            then, isn't read again.
    """

    def __init__(self, checked: dict[str, Any] | None = None):
        super().__init__()
        self.checked = checked

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(content.getbuffer())

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        found, self.checked = self.checked, None  # its memory is free once training has taken it over
        assert found is not None, f"{path} wasn't read"
        position = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": pl.__version__, "lr_schedulers": []}
        return {**{key: found[key] for key in KEPT}, **position}


def check_form(
    checkpoint: dict[str, Any],
    module: GANModule,
    callbacks: Sequence[pl.Callback],
    shape: Sequence[int],
    device: torch.device,
) -> None:
    """Puts a checkpoint's content where training is going to put it, and looks whether it can be used there.

    An optimiser's memory of other shapes would let torch's fused kernels write where they must not.

    Args:
        shape: a sample's, of replicas with their axis before it.
        device: of the training.

    Raises:
        LabError: where something is missing or of another form. What else a stranger's content raises has many types.
    """
    state = checkpoint["gan_lab"]
    refuse_invalid_rng_state(state["torch_rng"])
    if device.type == "cpu":
        for rng in state["latent_stream"].view(module.replicas, -1):
            refuse_invalid_rng_state(rng)
    module.on_load_checkpoint(checkpoint)
    module.latent_streams(checkpoint["gan_lab"]["latent_stream"], device)
    networks = (module.discriminator, module.generator)
    for network, make, kept in zip(
        networks, (module.optim_d, module.optim_g), checkpoint["optimizer_states"], strict=True
    ):
        if kept["state"] != {} and not _fits(kept["state"], memory_of_a_step(make, network.parameters())):
            raise LabError("what an optimiser remembers isn't of these networks and this optimiser")
    for callback in callbacks:
        if callback.state_key in checkpoint["callbacks"]:
            callback.load_state_dict(checkpoint["callbacks"][callback.state_key])
        if isinstance(callback, Timer) and not 0 <= callback.time_elapsed("train") < math.inf:
            raise LabError("its clock says nothing")
    if any(tensor.shape != tuple(shape) for tensor in _tensors(checkpoint["callbacks"])):
        raise LabError("the samples in it aren't of these data")


def fill(module: GANModule, checkpoint: dict[str, Any], run: Run) -> None:
    """Puts a checkpoint's weights into the networks.

    Raises:
        LabError: if they are of other networks.
    """
    found = checkpoint["state_dict"]
    try:
        for name, tensor in module.state_dict().items():
            if name in found and found[name].dtype != tensor.dtype:  # a copy would convert it
                raise TypeError(f"{name} is of {found[name].dtype}, not {tensor.dtype}")
        module.load_state_dict(found)
        module.note_failed(checkpoint["gan_lab"])
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        first = str(error).splitlines()[:2][-1].strip()
        raise LabError(
            f"{run.folder}: its checkpoint is of other networks than its {run.config.name}: {first}"
        ) from error


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


def _fits(kept: dict[int, dict[str, Any]], memory: dict[int, dict[str, Any]]) -> bool:
    """Tells whether what a checkpoint has of an optimiser is of the form that the optimiser itself makes."""
    if kept.keys() != memory.keys():
        return False
    return all(_same_form(kept[which], values) for which, values in memory.items())


def _same_form(found: dict[str, Any], values: dict[str, Any]) -> bool:
    for name, value in values.items():
        other = found[name]
        if type(other) is not type(value):
            return False
        if isinstance(value, Tensor) and (other.shape, other.dtype) != (value.shape, value.dtype):
            return False
        if name == "step" and not 1 <= float(other) < math.inf:
            return False
    return True


def _tensors(node: Any) -> Iterator[Tensor]:
    if isinstance(node, Tensor):
        yield node
    elif isinstance(node, (dict, list, tuple)):
        for each in node.values() if isinstance(node, dict) else node:
            yield from _tensors(each)


class Checkpoint(pl.Callback):
    """Keeps `checkpoints/last.ckpt`, and metrics.csv up to it: every so many steps, and when training ends or stops.

    It has to stand behind the callbacks that look at the same step, so that what they saw is kept as well.

    Args:
        every: steps between two checkpoints.

    Raises:
        NotFiniteError: in the place of keeping weights that aren't finite, unless other replicas' are.
    """

    def __init__(self, run: Run, every: int):
        self.run, self.every = run, every

    def on_train_batch_end(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        if module.step % self.every == 0 or module.step == module.steps or trainer.should_stop:
            self._save(trainer, module)

    def _save(self, trainer: pl.Trainer, module: GANModule) -> None:
        if what := not_finite(module.state_dict().items()):
            watch = next((each for each in trainer.callbacks if isinstance(each, NaNGuard)), None)  # type: ignore[attr-defined]
            if watch is None or not module.replica_dims:
                raise NotFiniteError(module.step, what)
            watch.freeze_broken(module)
        if not trainer.is_global_zero:  # all take part, one writes
            trainer.save_checkpoint(self.run.checkpoint)
            return
        for logger in trainer.loggers:
            logger.save()
        with self.run.new_checkpoint() as path:
            trainer.save_checkpoint(path)


class StopOnSignal(pl.Callback):
    """Ctrl-C or SIGTERM (as Slurm sends it) lets the chunk in progress end and then stops the training in good order.

    A second Ctrl-C stops at once, wherever training is; then the last regular checkpoint counts.

    Attributes:
        signal: the signal that stopped the training, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():  # Lightning puts the old handlers back at the end
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        say("\nStopping after this step; Ctrl-C again stops at once.", stderr=True)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.strategy.reduce_boolean_decision(self.signal is not None, all=False):  # whichever process got it
            trainer.should_stop = True
