"""A progress bar in GAN steps."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from gan_lab.training.gan_module import GANModule

LOSSES = {"D real": "loss/d_real", "D fake": "loss/d_fake", "G": "loss/g"}


class Progress(pl.Callback):
    """Steps done and left, steps per second, and the losses of the last row; nothing where no terminal looks on.

    Args:
        doing: what the steps are for, in a word or two.
        losses: which values of the row to show, by the name to show them under.
    """

    def __init__(self, doing: str = "training", losses: Mapping[str, str] = LOSSES):
        self.doing, self.losses = doing, losses

    def on_train_start(self, trainer: pl.Trainer, module: GANModule) -> None:  # type: ignore[override]
        self.bar = tqdm(
            total=module.steps, initial=module.step, unit=" steps", desc=self.doing, mininterval=0.5, disable=None
        )

    def on_train_batch_end(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        row = module.last_row
        if row:
            told = ", ".join(f"{name} {row[column]:.3f}" for name, column in self.losses.items())
            self.bar.set_postfix_str(told, refresh=False)
        self.bar.update(module.step - self.bar.n)

    def on_train_end(self, *_: Any) -> None:
        self.bar.close()

    def on_exception(self, *_: Any) -> None:
        if hasattr(self, "bar"):
            self.bar.close()
