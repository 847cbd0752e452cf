"""A progress bar in GAN steps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from gan_lab.core.terminal import progress_bar
from gan_lab.training.callbacks.base import GANCallback
from gan_lab.training.gan_module import GANModule

if TYPE_CHECKING:
    from tqdm import tqdm

LOSSES = {"D real": "loss/d_real", "D fake": "loss/d_fake", "G": "loss/g"}


class Progress(GANCallback):
    """Shows steps done and left, steps per second, and the losses of the last row; nothing if there is no terminal.

    Args:
        description: what the steps are for, in a word or two.
        losses: the columns of the row to show, by the name to show them under.
    """

    def __init__(self, description: str = "training", losses: Mapping[str, str] = LOSSES):
        self.description = description
        self.losses = losses
        self._bar: tqdm[Any] | None = None

    def on_training_start(self, trainer: pl.Trainer, module: GANModule) -> None:
        self._bar = progress_bar(self.description, module.steps, " steps", module.step)

    def on_block_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        if self._bar is None:
            return
        row = module.step_log.last_row
        if row:
            losses = ", ".join(f"{name} {row[column]:.3f}" for name, column in self.losses.items())
            self._bar.set_postfix_str(losses, refresh=False)
        self._bar.update(module.step - self._bar.n)

    def on_training_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        self._close()

    def on_training_failure(self, trainer: pl.Trainer, module: GANModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
