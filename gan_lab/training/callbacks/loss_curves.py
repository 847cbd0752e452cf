"""Curves of losses, scores and modes, with their ideal values."""

import pytorch_lightning as pl

from gan_lab.core.csv_table import read_step_table
from gan_lab.core.run_folder import Run
from gan_lab.plotting.curves import loss_curves, mode_curves, score_curves
from gan_lab.training.callbacks.base import GANCallback, save_figure, tensorboards
from gan_lab.training.gan_module import GANModule
from gan_lab.training.step_log import NotFiniteError

# TensorBoard's Custom Scalars tab: the curves that one chart shows, in this order.
CHARTS = {
    "losses and their ideal": {
        "D": ["Multiline", ["loss/d_real$", "loss/d_fake$", "loss/ideal$"]],
        "G": ["Multiline", ["loss/g$", "loss/ideal_g$"]],
    },
    "modes and coverage": {
        "modes made": ["Multiline", ["metric/modes_valid$", "verdict/modes_total$"]],
        "coverage at the end": ["Multiline", ["metric/coverage$"]],
    },
    "D's mean answer": {"real and fake": ["Multiline", ["score/real$", "score/fake$", "score/ideal$"]]},
}


class LossCurves(GANCallback):
    """Draws `plots/losses.png`, `scores.png` and `modes.png` when training ends or fails, and logs the ideal values to
    TensorBoard, whose Custom Scalars tab shows each curve and its ideal in one chart."""

    def __init__(self, run: Run):
        self.run = run
        self._row: dict[str, float] = {}  # the last one that ideal values were logged beside

    def on_training_start(self, trainer: pl.Trainer, module: GANModule) -> None:
        for logger in tensorboards(trainer):
            logger.experiment.add_custom_scalars(CHARTS)

    def on_block_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        if module.step_log.last_row is not self._row:
            self._row = module.step_log.last_row
            self._log_ideals(trainer, module)

    def on_training_failure(self, trainer: pl.Trainer, module: GANModule, exception: BaseException) -> None:
        # The curves show what led to it.
        if isinstance(exception, NotFiniteError):
            self.on_training_end(trainer, module)

    def on_training_end(self, trainer: pl.Trainer, module: GANModule) -> None:
        for logger in trainer.loggers:
            logger.save()
        if not self.run.metrics.is_file():
            return
        metrics = read_step_table(self.run.metrics)
        figures = {
            "losses.png": loss_curves(metrics, module.loss),
            "scores.png": score_curves(metrics, module.loss),
            "modes.png": mode_curves(metrics),
        }
        for name, figure in figures.items():
            if figure is not None:
                save_figure(self.run, figure, self.run.plots / name)

    @staticmethod
    def _log_ideals(trainer: pl.Trainer, module: GANModule) -> None:
        """Logs the values at the optimum; a loss without an ideal has none."""
        loss = module.loss
        candidates = {
            "loss/ideal": loss.loss_at_optimum,
            "loss/ideal_g": loss.g_loss_at_optimum,
            "score/ideal": loss.d_output_at_optimum,
        }
        ideals = {name: value for name, value in candidates.items() if value is not None}
        for logger in tensorboards(trainer):
            logger.log_metrics(ideals, module.step)
