"""Losses and scores beside their ideal values (S10)."""

from typing import Any

import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from gan_lab.core.io import atomic
from gan_lab.core.run_folder import Run
from gan_lab.plotting import plots
from gan_lab.training.gan_module import GANModule
from gan_lab.training.step_log import NotFiniteError

CHARTS = {
    "loss and ideal": {
        "D": ["Multiline", ["loss/d_real$", "loss/d_fake$", "ideal/loss$"]],
        "G": ["Multiline", ["loss/g$", "ideal/g$"]],
    },
    "D's mean answer": {"real and fake": ["Multiline", ["score/real$", "score/fake$", "ideal/score$"]]},
}


class LossCurves(pl.Callback):
    """Draws `plots/losses.png` and `plots/scores.png` when training ends or blows up, and puts the ideal values into
    TensorBoard, whose Custom Scalars tab shows each curve and its ideal on one chart."""

    def __init__(self, run: Run):
        self.run = run

    def on_train_start(self, trainer: pl.Trainer, module: GANModule) -> None:  # type: ignore[override]
        self._board(trainer, module, first=True)

    def on_train_batch_end(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        if module.step % module.log_every == 0 or module.step == module.steps:
            self._board(trainer, module)

    def on_exception(self, trainer: pl.Trainer, module: GANModule, exception: BaseException) -> None:  # type: ignore[override]
        if isinstance(exception, NotFiniteError):  # how it came to that
            self.on_train_end(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: GANModule) -> None:  # type: ignore[override]
        for logger in trainer.loggers:
            logger.save()
        if not self.run.metrics.is_file():
            return
        metrics = pd.read_csv(self.run.metrics)
        for name, draw in {"losses.png": plots.losses, "scores.png": plots.scores}.items():
            with atomic(self.run.plots / name) as path:
                draw(metrics, module.loss).savefig(path)

    @staticmethod
    def _board(trainer: pl.Trainer, module: GANModule, first: bool = False) -> None:
        loss = module.loss
        ideals = {
            "ideal/loss": loss.loss_at_optimum,
            "ideal/g": loss.g_loss_at_optimum,
            "ideal/score": loss.d_output_at_optimum,
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                if first:
                    logger.experiment.add_custom_scalars(CHARTS)
                else:
                    logger.log_metrics({k: v for k, v in ideals.items() if v is not None}, module.step)
