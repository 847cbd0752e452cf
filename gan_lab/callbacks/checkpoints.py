"""Keeping what was trained, and stopping in a place from which one can go on."""

import io
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from gan_lab.callbacks.finite import not_finite
from gan_lab.gan import GANModule, NotFiniteError
from gan_lab.runs import Run


class CheckpointFile(TorchCheckpointIO):
    """Writes straight to the path that it is given; Lightning's own makes a copy in the system's temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(content.getbuffer())


class Checkpoint(pl.Callback):
    """Keeps `checkpoints/last.ckpt`, and metrics.csv up to it: every so many steps, and when training ends or stops.

    It has to stand behind the callbacks that look at the same step, so that what they saw is kept as well.

    Args:
        every: steps between two checkpoints.

    Raises:
        NotFiniteError: in the place of keeping weights that aren't finite.
    """

    def __init__(self, run: Run, every: int):
        self.run, self.every = run, every

    def on_train_batch_end(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        if module.step % self.every == 0 or module.step == module.steps or trainer.should_stop:
            self._save(trainer, module)

    def _save(self, trainer: pl.Trainer, module: GANModule) -> None:
        if what := not_finite(module.state_dict().items()):
            raise NotFiniteError(module.step, what)
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
        if self.signal is not None:
            trainer.should_stop = True
