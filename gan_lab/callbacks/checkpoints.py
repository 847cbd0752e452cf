"""Keeping what was trained, and stopping in a place from which one can go on."""

import io
import math
import signal
import sys
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

from gan_lab.callbacks.finite import Finite, not_finite
from gan_lab.errors import LabError
from gan_lab.gan import GANModule
from gan_lab.record import NotFiniteError
from gan_lab.runs import Run

KEPT = ("state_dict", "optimizer_states", "callbacks", "gan_lab")


class CheckpointFile(TorchCheckpointIO):
    """Writes straight to the path that it is given; Lightning's own makes a copy in the system's temporary folder.

    Of what it reads only what is KEPT counts: Lightning's own position says nothing here.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(content.getbuffer())

    def load_checkpoint(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        found = super().load_checkpoint(*arguments, **options)
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
    if not isinstance(checkpoint["callbacks"], dict):
        raise LabError("it says nothing of the callbacks")
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
    for which, own in memory.items():
        for name, value in own.items():
            found = kept[which][name]
            if isinstance(value, Tensor):
                if not isinstance(found, Tensor) or (found.shape, found.dtype) != (value.shape, value.dtype):
                    return False
                if name == "step" and not found >= 1:
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
            watch = next((each for each in trainer.callbacks if isinstance(each, Finite)), None)  # type: ignore[attr-defined]
            if watch is None or not module.lead:
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
        print("\nStopping after this step; Ctrl-C again stops at once.", file=sys.stderr)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.strategy.reduce_boolean_decision(self.signal is not None, all=False):  # whichever process got it
            trainer.should_stop = True
