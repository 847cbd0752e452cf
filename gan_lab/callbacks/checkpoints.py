"""Keeping what was trained, and stopping in a place from which one can go on."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from gan_lab.gan import GANModule
from gan_lab.runs import Run, atomic


class Checkpoint(pl.Callback):
    """Keeps `checkpoints/last.ckpt`, and metrics.csv up to it: every so many steps, and when training ends or stops.

    It has to stand behind the callbacks that look at the same step, so that what they saw is kept as well.

    Args:
        every: steps between two checkpoints.
    """

    def __init__(self, run: Run, every: int):
        self.run, self.every = run, every

    def on_train_batch_end(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        if module.step % self.every == 0 or module.step == module.steps or trainer.should_stop:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()
        with atomic(self.run.checkpoint) as path:
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
