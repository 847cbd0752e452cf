"""What G makes, seen again and again from the same latent vectors."""

from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from gan_lab import plots
from gan_lab.data import choose
from gan_lab.files import atomic
from gan_lab.gan import GANModule
from gan_lab.runs import Run
from gan_lab.streams import stream

ROW = 12  # images of one of several replicas
MEMBERS = 15  # replicas in a picture, at most


class Pictures(pl.Callback):
    """Draws G's samples for one fixed set of latent vectors beside real samples, in `images/` and in TensorBoard.

    For vectors that are neither images nor points in the plane, a heat map shows, at the end, G's first output at every
    picture step (the book's picture of the 1010 pattern, S9).

    Of replicas each has a row of ROW images, or a panel, with samples of the latent vectors that it would have alone.

    Args:
        every: steps between two pictures; there is one at step 0 and one at the end as well.
        images: how many samples a grid of images shows.
        points: how many samples a scatter shows.
    """

    def __init__(self, run: Run, every: int, images: int, points: int):
        self.run, self.every = run, every
        self.images, self.points = images, points
        self._history: dict[int, Tensor] = {}  # step → G's first output, of each replica, for the heat map

    def on_train_start(self, trainer: pl.Trainer, module: GANModule) -> None:  # type: ignore[override]
        dataset = trainer.datamodule.dataset  # type: ignore[attr-defined]
        number = self.points if dataset.shape == (2,) else self.images
        z = [
            module.latent((number, module.latent_dim), stream(module.seed + i, "pictures/latent"))
            for i in range(module.replicas)
        ]
        chosen = choose(dataset.train, number, stream(module.seed, "pictures/real"))
        self._real, self._dataset = dataset.train[chosen], dataset
        self._z = torch.stack(z) if module.lead else z[0]
        if module.lead and len(dataset.shape) == 3:
            self._z, self._real = self._z[:, :ROW], self._real[:ROW]
        if module.step == 0:
            if len(dataset.shape) == 3:
                for board in _boards(trainer):
                    board.add_image("real", plots.tile(self._real), 0)
            self._draw(trainer, module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: GANModule, *_: Any) -> None:  # type: ignore[override]
        if module.step % self.every == 0 or module.step == module.steps:
            self._draw(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: GANModule) -> None:  # type: ignore[override]
        if self._history:
            outputs = torch.stack(list(self._history.values()))  # (pictures, …, dims)
            shown = {"": outputs} if not module.lead else {f"_{i}": outputs[:, i] for i in self._members(module)}
            for which, of_one in shown.items():
                heatmap = plots.heatmap(list(self._history), of_one)
                self._save(heatmap, f"heatmap{which}.png")
                for board in _boards(trainer):
                    board.add_figure(f"G's output over the steps{which}", heatmap, module.step)

    def _draw(self, trainer: pl.Trainer, module: GANModule) -> None:
        fake = module.sample(self._z).float().cpu()
        title = f"generated, step {module.step:,}"
        if module.lead:
            shown = self._members(module)
            names = [f"member {i}{' (blown up)' * (i in module.failed)}" for i in shown]
            figure = plots.members([fake[i] for i in shown], names, self._real, self._dataset, title)
        else:
            figure = plots.samples(fake, self._real, self._dataset, title)
        self._save(figure, f"samples_{module.step:07d}.png")
        for board in _boards(trainer):
            if len(self._dataset.shape) == 3 and not module.lead:
                board.add_image("samples", plots.tile(fake), module.step)
            else:
                board.add_figure("samples", figure, module.step)
        if len(self._dataset.shape) == 1 and self._dataset.shape != (2,):
            self._history[module.step] = fake[..., 0, :]

    @staticmethod
    def _members(module: GANModule) -> range:
        return range(min(module.replicas, MEMBERS))

    def _save(self, figure: Figure, name: str) -> None:
        with atomic(self.run.images / name) as path:
            figure.savefig(path)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self._history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._history = {int(step): output.float() for step, output in state["history"].items()}


def _boards(trainer: pl.Trainer) -> list[Any]:
    """TensorBoard's writers, if any."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
